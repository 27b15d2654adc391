"""The page of the programs for users (tests/examples/README.md): every example on it is run."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from client.scripted import Refusal, answer
from conftest import needs
from examples_tests.common import stub, wait_until
from examples_tests.test_example_check_books import SNAPSHOT, STATUS, UPDATE, recording
from krakenws import TABLE
from pages.common import ROOT, SUBSCRIBED, TRADE, Shell, end, read_blocks, sessions, shape
from practice.credentials import API_KEY, API_SECRET

EXAMPLES = ROOT / "tests" / "examples"
PAGE = (EXAMPLES / "README.md").read_text()
BLOCKS = read_blocks(PAGE)


@pytest.fixture
def keyed(shell: Shell) -> Shell:
    """Return a shell with the practice account's key, and without a token."""
    (shell.folder / "API_Public_Key").write_text(API_KEY)
    (shell.folder / "API_Private_Key").write_text(API_SECRET)
    (shell.folder / "WS_Token").unlink()
    return shell


def test_every_example_is_run() -> None:
    """No block of code is without a name, and none without a test."""
    assert PAGE.count("\n```") == 2 * len(BLOCKS)
    assert [name for name in BLOCKS if f'"{name}"' not in Path(__file__).read_text()] == []


def test_every_program_is_told_of() -> None:
    """Each program has a section, a row in the table, and can be run by its name."""
    programs = [path for path in EXAMPLES.iterdir() if path.suffix in (".py", ".bash")]
    assert len(programs) == 5
    for path in programs:
        assert f"\n## {path.name}: " in PAGE
        assert f"\n| [{path.name}](#" in PAGE
        assert path.stat().st_mode & 0o111
        assert path.read_text().startswith("#!/usr/bin/env ")


def test_fates() -> None:
    """The table of what place.py prints has what its help has."""
    told = (EXAMPLES / "place.py").read_text()
    rows = re.findall(r"^\| `(.*?)` \| ([013]) \| ", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for words, status in rows:
        assert re.search(rf"^  {words} +status {status}: ", told, re.MULTILINE)


def test_token(keyed: Shell) -> None:
    """A feed is opened with a token that kraken_token.py has fetched."""
    process = keyed.shell("exec " + BLOCKS["token"])
    process.read_until('"status":"subscribed"')
    end(process)
    assert keyed.exchange.dialled == ["api.kraken.com:443", "ws-auth.kraken.com:443"]


def test_place(keyed: Shell) -> None:
    """An order is placed, and the program says what happened to it."""
    status, out, err = keyed.shell(BLOCKS["place"]).end()
    assert (status, shape(out)) == (0, "accepted: ID\n")
    assert shape(err) == "userref 0, deadline 0-0-0T0:0:0Z\n"


def test_place_in_bash(keyed: Shell) -> None:
    """A Bash script can tell all fates apart."""
    block = f"set -euo pipefail\n{BLOCKS['place-bash']}echo and on"
    assert shape(keyed.shell(block).end().out) == "placed: ID\nand on\n"
    keyed.exchange.refusals = iter([Refusal(503)])
    result = keyed.shell(block).end()
    assert (result.status, result.out) == (0, "and on\n")
    assert result.err.endswith("\nnot placed: never sent\n")
    stub(keyed.folder / "place", "echo not known: look for userref 5; exit 3")
    result = keyed.shell(block.replace("tests/examples/place.py", "./place")).end()
    assert result == (3, "", "not known: look for userref 5\n")


def test_place_in_a_loop(shell: Shell) -> None:
    """With the trap that the page tells of, Ctrl-C ends a loop once the fate is told."""
    (trap,) = re.findall(r"begin it with `(trap .*?)`", PAGE)
    stub(shell.folder / "place", "kill -INT $script; echo accepted: O")
    block = BLOCKS["place-bash"].replace("tests/examples/place.py", "./place")
    script = f"export script=$$\n{trap}\nuntil [ $stop ]; do\n{block}done\necho ended"
    assert shell.shell(script).end() == (0, "placed: O\nended\n", "")


def test_switch(keyed: Shell) -> None:
    """The switch is armed, and disarmed by a signal."""
    process = keyed.shell("exec " + BLOCKS["switch"])
    process.read_until('"triggerTime":"2')
    assert '"triggerTime":"0"' in process.signal(signal.SIGTERM).end().out
    timeouts = [json.loads(text)["timeout"] for text in keyed.exchange.received]
    assert timeouts == [60, 0]


def test_record(shell: Shell) -> None:
    """A book is recorded, and its checksums hold."""
    process = shell.shell("exec " + BLOCKS["record"])
    books = shell.folder / "books"
    wait_until(lambda: any('"c":"' in path.read_text() for path in books.glob("book-*.jsonl")))
    process.signal(signal.SIGTERM)
    assert process.end() == (0, "", "")
    command, _ = sessions(BLOCKS["check"])[-1]
    status, out, err = shell.shell(command).end()
    assert (status, err) == (0, "")
    assert out.endswith(" checksums hold, 0 don't\n")


def test_check(shell: Shell) -> None:
    """The gaps are printed as the page shows it."""
    (shell.folder / "books").mkdir()
    start = 1795391999.0
    messages = [json.loads(json.dumps(each).replace("-10", "-1000")) for each in (SNAPSHOT, UPDATE)]
    lines = [
        (start + 10 * number + place, message)
        for number in range(3)
        for place, message in enumerate([STATUS, *messages])
    ]
    (shell.folder / "books" / "book-2026-11-23.jsonl").write_text(recording(lines))
    ((command, printed),) = sessions(BLOCKS["check"])
    status, out, err = shell.shell(command).end()
    assert (status, shape(out), err) == (0, shape(printed), "")


@needs("systemd-analyze")
def test_unit(shell: Shell) -> None:
    """The commands put everything in its place, and systemd finds nothing wrong with the unit."""
    root = shell.folder / "root"
    root.mkdir()
    unit = (EXAMPLES / "record.service").read_text().replace("/opt/", f"{root}/")
    shell.stub("bin/sudo", '[ "$1" = install ] && exec "$@" || echo "$*"')
    commands = re.sub("/opt/|/etc/systemd/system/", f"{root}/", BLOCKS["enable"])
    status, out, err = shell.shell(f"set -e; {commands}").end()
    assert (status, err) == (0, "")
    (user,) = re.findall("^User=(.*)$", unit, re.MULTILINE)
    assert out.startswith(f"useradd --system {user}\n")
    assert out.endswith("systemctl enable --now krakenws-record\n")
    (root / "krakenws-record.service").write_text(unit)  # whose place is another one here
    stub(root / "krakenws" / ".venv" / "bin" / "python", "")
    verify = ["systemd-analyze", "verify", str(root / "krakenws-record.service")]
    assert shell.start(program=verify).end() == (0, "", "")


@pytest.mark.parametrize("name", ["complete-bash", "complete-zsh"])
def test_completion(name: str) -> None:
    """The completion has every name, and no other."""
    assert re.findall(r"\w+", BLOCKS[name].split('"')[1]) == list(TABLE)


@pytest.mark.parametrize("name", ["bash", pytest.param("zsh", marks=needs("zsh"))])
def test_tab(shell: Shell, name: str) -> None:
    """With this line in the file that it is meant for, Tab completes a name."""
    rest = "PS1='ready> '; krakenws() { echo \"<$*>\"; }\n"
    (shell.folder / f".{name}rc").write_text(BLOCKS[f"complete-{name}"] + rest)
    keyboard, terminal = os.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = shell.start(program=[name, "-i"], start_new_session=True, **streams)
    os.close(terminal)
    screen = b""
    for awaited, typed in ((b"ready> ", b"krakenws own\t\n"), (b"<ownTrades>", b"exit\n")):
        while awaited not in screen:
            screen += os.read(keyboard, 1000)
        os.write(keyboard, typed)
    process.end()
    os.close(keyboard)


@needs("ts")
def test_ts(shell: Shell) -> None:
    """Each message gets its time at once."""
    shell.exchange.script = answer(SUBSCRIBED, TRADE)
    process = shell.shell(BLOCKS["ts"])
    time, _, message = process.read_until(TRADE).partition(" ")
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z", time)
    assert message == f"{TRADE}\n"
    end(process)


@needs("jq")
def test_received(shell: Shell) -> None:
    """Each message gets its time at once, and stays as it came."""
    message = '[337,[["5541.20","0.10"],18446744073709551615,1.50],"trade","XBT/USD"]'
    shell.exchange.script = answer(SUBSCRIBED, message)
    process = shell.shell(BLOCKS["received"])
    time, _, rest = process.read_until("trade").partition(",")
    assert time.startswith("[")
    assert float(time[1:]) > 1.7e9
    assert rest == f"{message}]\n"
    end(process)
