"""What the tests of the pages share: the blocks of a page, and a shell to run them in."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

from client.scripted import ScriptedExchange
from conftest import SCRIPT, Client, Process

ROOT = SCRIPT.parent
SUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
TRADE = '[337,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]'


def read_blocks(page: str) -> dict[str, str]:
    """Return the blocks of code of a page, by the names behind their languages."""
    pattern = r"^```[a-z]+ ([a-z-]+)\n(.*?)^```$"
    return dict(re.findall(pattern, page, re.DOTALL | re.MULTILINE))


class Shell(Client):
    """A directory with the client and a virtual environment, as the README leaves one."""

    def __init__(self, exchange: ScriptedExchange, folder: Path) -> None:
        super().__init__(exchange, folder)
        for name in ("krakenws.py", "tests", "WS_Token.example"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv" / "bin").mkdir(parents=True)
        for name in ("python", "python3"):
            self.stub(f".venv/bin/{name}", f'exec "{sys.executable}" "$@"')
        (folder / "bin").mkdir()
        self.environment["HOME"] = str(folder)
        path = f"{folder}/bin:{folder}/.venv/bin:{self.environment['PATH']}"
        self.environment["PATH"] = path

    def stub(self, name: str, command: str) -> None:
        """Put a program there that isn't on every machine."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    def shell(self, script: str) -> Process:
        """Start a script in Bash, in a process group of its own."""
        return self.start(program=["bash", "-c", script], start_new_session=True)


def end(process: Process) -> None:
    """End a process and all that it has started, as Ctrl-C does."""
    os.killpg(process.process.pid, signal.SIGTERM)
    process.end()


def shape(text: str) -> str:
    """Return a text without what is another one each time: numbers, ids, the words for a loss."""
    text = re.sub(r"failed \([^{}]*?\)$", "failed (...)", text, flags=re.MULTILINE)
    text = re.sub(r"\b[OT][A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{6}\b", "ID", text)
    return re.sub(r"[0-9]+", "0", text)


def sessions(block: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what it printed."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2]))


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def practise(shell: Shell, block: str) -> str:
    """Type what a console block shows: a shell on the practice exchange. Return what is printed.

    What is printed must be what the block shows, but for numbers and ids.
    """
    (start, _), *typed, (_, left) = sessions(block)
    (shell.folder / "typed").write_text("".join(f"{command}\n" for command, _ in typed))
    with (shell.folder / "typed").open() as stdin:
        out = shell.start(program=["bash", "-c", f"{start} 2>&1"], stdin=stdin).end().out
    _, _, printed = re.split("(API_Private_Key in .*\n)", out)  # the last line of the banner
    assert shape(printed) == shape("".join(words for _, words in typed) + left)
    return printed
