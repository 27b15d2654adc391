"""Where the token comes from."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from client.common import ALL_CANCELLED, TIMED_OUT, connection_failed
from client.scripted import answer
from conftest import TOKEN, Client

MISSING = "WebSocket authentication token missing (WS_Token)\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"{TOKEN}", id="no newline"),
        pytest.param(f"{TOKEN}\r\n", id="CRLF"),
        pytest.param(f"\ufeff{TOKEN}\n", id="byte-order mark"),
        pytest.param(f"\n \t\n  {TOKEN}  \nmore\n", id="the first line with text"),
    ],
)
def test_file(client: Client, content: str) -> None:
    """The token is the first line with text."""
    (client.folder / "WS_Token").write_bytes(content.encode())
    assert client.run("cancelAll", "-C1").status == 0
    assert client.exchange.received == [f'{{"event":"cancelAll", "token":"{TOKEN}"}}']


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_text(""), id="empty"),
        pytest.param(lambda path: path.write_text(" \n\n"), id="blank"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), id="not text"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a directory"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to(path)), id="a loop of links"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to("gone")), id="a dead link"),
    ],
)
def test_missing(client: Client, break_it: Callable[[Path], None]) -> None:
    """Without a token nothing is dialled."""
    break_it(client.folder / "WS_Token")
    if not os.path.lexists(client.folder / "WS_Token"):
        client.copy_script()
    assert client.run("addOrder") == (1, MISSING, "")
    assert client.exchange.dialled == []


@pytest.mark.parametrize(
    ("here", "status"), [(None, 0), ("", 1)], ids=["no file here", "an empty file here"]
)
@pytest.mark.parametrize("link", [False, True], ids=["script", "a link to the script"])
def test_beside(client: Client, here: str | None, status: int, link: bool) -> None:
    """Where there is no file here, the one beside the script counts; but only then."""
    home = client.copy_script()
    (client.folder / "WS_Token").rename(home / "WS_Token")
    if here is not None:
        (client.folder / "WS_Token").write_text(here)
    if link:
        client.script = client.folder / "kraken"
        client.script.symlink_to(home / "krakenws.py")
    assert client.run("cancelAll", "-C1").status == status


@pytest.mark.parametrize("to", ["gone", "WS_Token"], ids=["a dead link", "a loop of links"])
def test_broken_link_here(client: Client, to: str) -> None:
    """A link here that leads nowhere isn't passed over for a good file beside the script."""
    home = client.copy_script()
    (client.folder / "WS_Token").rename(home / "WS_Token")
    (client.folder / "WS_Token").symlink_to(to)
    assert client.run("cancelAll", "-C1") == (1, MISSING, "")
    assert client.exchange.dialled == []


def test_out_of_sight(client: Client) -> None:
    """Where it can't be seen whether one is here, the one beside the script doesn't count."""

    def shut() -> None:
        os.chmod(os.curdir, 0)
        if os.getuid() == 0:  # who would see it, but for these
            for capability in (1, 2):
                ctypes.CDLL(None).prctl(24, capability)

    home, here = client.copy_script(), client.folder / "here"
    (client.folder / "WS_Token").rename(home / "WS_Token")
    here.mkdir()
    result = client.run("cancelAll", "-C1", cwd=here, preexec_fn=shut)
    here.chmod(0o700)
    assert result == (1, MISSING, "")
    assert client.exchange.dialled == []


def test_public(client: Client) -> None:
    """A public name doesn't touch the file: a pipe in its place would hang."""
    (client.folder / "WS_Token").unlink()
    os.mkfifo(client.folder / "WS_Token")
    assert client.run("ping", "-C1", "-W0").status == 0


def test_stopped_while_reading(client: Client) -> None:
    """The time limit holds also while the token is awaited."""
    (client.folder / "WS_Token").unlink()
    os.mkfifo(client.folder / "WS_Token")
    assert client.run("cancelAll", "-W0.2") == (1, connection_failed(TIMED_OUT), "")


def test_token_file(client: Client) -> None:
    """--token-file names another file."""
    (client.folder / "other").write_text(TOKEN)
    (client.folder / "WS_Token").write_text("another account's")
    assert client.run("cancelAll", "-C1", "--token-file", "other").status == 0
    for name in ("nowhere", ""):  # which a script may have from a variable that isn't set
        missing = client.run("cancelAll", "--token-file", name)
        assert missing == (1, f"WebSocket authentication token missing ({name})\n", "")


def test_token_from_stdin(client: Client) -> None:
    """--token-file takes what isn't a file, too."""
    with (client.folder / "WS_Token").open() as stdin:
        argv = ["cancelAll", "-C1", "--token-file", "/dev/stdin"]
        assert client.run(*argv, stdin=stdin).status == 0


def test_token_command(client: Client) -> None:
    """--token-command takes what a shell command prints."""
    client.exchange.script = answer(ALL_CANCELLED)
    (client.folder / "WS_Token").rename(client.folder / "other")
    command = "echo; cat other; echo working >&2"
    result = client.run("cancelAll", "-rqC1", "--token-command", command)
    assert result == (0, f"{ALL_CANCELLED}\n", "working\n")
    assert client.exchange.received == [f'{{"event":"cancelAll", "token":"{TOKEN}"}}']


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo x; exit 7", "ended with status 7"),
        ("true", "printed no token within 30 seconds"),
        (r"printf '\377\n'", "printed no token within 30 seconds"),
        ("exec sleep 60", "printed no token within 0.2 seconds"),
    ],
)
def test_no_token_from_the_command(client: Client, command: str, words: str) -> None:
    """A command that brings no token is said, and nothing is dialled."""
    limit = "0.2" if "sleep" in command else "30"
    argv = ["openOrders", "--token-command", command, "--idle-timeout", limit]
    sentence = f"WebSocket authentication token missing (--token-command {words})\n"
    assert client.run(*argv) == (1, sentence, "")
    assert client.exchange.dialled == []


@pytest.mark.parametrize("command", ["echo x; exit 7", "kill -9 $$"])
def test_children_ignored(client: Client, command: str) -> None:
    """Where the parent ignores SIGCHLD, a command that fails is still a failure."""
    status = {"echo x; exit 7": 7, "kill -9 $$": -9}[command]
    result = client.run(
        "addOrder",
        "--token-command",
        command,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    words = f"WebSocket authentication token missing (--token-command ended with status {status})\n"
    assert result == (1, words, "")
    assert client.exchange.dialled == []


def test_stdin_of_the_command(client: Client) -> None:
    """The command's stdin is empty: it can't take what is meant for others, nor wait for it."""
    reading, writing = os.pipe()
    os.write(writing, b"for somebody else\n")
    argv = ["cancelAll", "-rqC1", "--token-command", f"cat; echo '{TOKEN}'"]
    assert client.run(*argv, stdin=reading).status == 0
    assert json.loads(client.exchange.received[0])["token"] == TOKEN
    assert os.read(reading, 100) == b"for somebody else\n"
    os.close(reading)
    os.close(writing)
