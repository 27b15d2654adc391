"""websocket-client missing or too old, or a file that gets in the way of an import."""

from __future__ import annotations

import re
import sys

import pytest

from client.common import DATA, ORDER, PONG, SUBSCRIBED
from client.scripted import Peer, answer
from conftest import SCRIPT, TOKEN, Client

ADVICE = (
    "on Debian 13, apt install python3-websocket; elsewhere, in a virtual environment, "
    f"{sys.executable} -m pip install 'websocket-client>=1.8'\n"
)


LATE = {"random", "secrets", "base64", "ssl", "subprocess", "hashlib", "struct", "http", "queue"}


def test_missing(client: Client) -> None:
    """Where the package is missing, one sentence says what this very Python needs."""
    program = (sys.executable, "-S", str(SCRIPT))  # -S: without the folders of packages
    result = client.run("ticker", "XBT/USD", program=program)
    assert result == (1, f"websocket-client is missing: {ADVICE}", "")
    assert client.exchange.dialled == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param(
            "raise ImportError('no way')", "can't be imported (ImportError: no way)", id="broken"
        ),
        pytest.param(
            "import no_such_module",
            "can't be imported (ModuleNotFoundError: No module named 'no_such_module')",
            id="without what it needs",
        ),
        pytest.param(
            "class WebSocket: pass",
            "can't be imported (ImportError: cannot import name 'WebSocketTimeoutException' "
            "from 'websocket' (HERE/websocket.py))",
            id="another package of the name",
        ),
        pytest.param(
            "print 'Python 2'",
            "can't be imported (SyntaxError: Missing parentheses",
            id="a package for Python 2",
        ),
        pytest.param(
            "__version__, WebSocketTimeoutException = '1.2.3', OSError",
            "1.2.3 is too old",
            id="old",
        ),
        pytest.param(
            "__version__, WebSocketTimeoutException = '1.7rc1', OSError",
            "1.7rc1 is too old",
            id="old, and not a number",
        ),
    ],
)
def test_sentence(client: Client, source: str, problem: str) -> None:
    """One sentence says what the import said, and what this very Python needs."""
    (client.folder / "websocket.py").write_text(source)
    client.environment["PYTHONPATH"] = str(client.folder)
    status, out, err = client.run("ticker", "XBT/USD")
    assert (status, err) == (1, "")
    assert out.startswith(f"websocket-client {problem}".replace("HERE", str(client.folder)))
    assert out.endswith(f": {ADVICE}")
    assert out.count("\n") == 1
    assert client.exchange.dialled == []


@pytest.mark.parametrize("version", ["1.8.0", "1.10", "2.0rc1"])
def test_new_enough(client: Client, version: str) -> None:
    """Version 1.8 is new enough, and so is a later one, by its numbers and not by its letters."""
    client.patch(
        f"import websocket\nwebsocket.__version__ = {version!r}\ngetaddrinfo = socket.getaddrinfo"
    )
    client.exchange.script = answer(PONG)
    assert client.run("ping", "-rqC1") == (0, f"{PONG}\n", "")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("TOKEN = 'mine'", "token.py", id="another module"),
        pytest.param("raise ValueError('in my own file')", "in my own file", id="an error"),
        pytest.param("import no_such_module", "'no_such_module'", id="an import"),
        pytest.param("this is no Python", "token.py, line 1", id="no Python"),
    ],
)
def test_file_beside(client: Client, source: str, words: str) -> None:
    """A file beside the script that breaks websocket-client's imports is said as Python says it."""
    (client.copy_script() / "token.py").write_text(source)
    for name in [name for name in client.environment if name.startswith("COVERAGE_")]:
        del client.environment[name]  # coverage needs that module, too, and hangs
    status, out, err = client.run("ticker", "XBT/USD")
    assert (status, err) == (1, "")
    # From Python 3.14 on, argparse is the first that needs it.
    assert re.match(r"(websocket-client can't be imported \()?\w+: ", out)
    assert words in out
    assert client.exchange.dialled == []


@pytest.mark.parametrize("name", ["random", "secrets", "base64", "ssl", "hashlib", "queue", "uuid"])
def test_no_import_ends_a_feed(client: Client, name: str) -> None:
    """A file beside the script ends a run before anything is dialled, or never, at no loss."""
    (client.copy_script() / f"{name}.py").write_text("raise RuntimeError('in my own file')")

    def close(peer: Peer) -> None:
        if len(client.exchange.dialled) == 1:
            peer.close(1001, "bye")
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=close)
    argv = ["openOrders", "-rqC1", "--reconnect", "0"]
    status, out, err = client.run(*argv, "--token-command", f"echo '{TOKEN}'")
    if client.exchange.dialled:
        assert (status, out, err.count("Connecting again in ")) == (0, f"{DATA}\n", 1)
    else:
        assert status == 1
        assert "in my own file" in err


def test_all_is_imported_before_the_first_connection(client: Client) -> None:
    """What appears beside the script while a feed runs isn't imported at its losses."""
    home = client.copy_script()

    def close(peer: Peer) -> None:
        if len(client.exchange.dialled) == 1:
            for name in sorted(sys.stdlib_module_names if sys.version_info >= (3, 10) else LATE):
                (home / f"{name}.py").write_text("raise RuntimeError('in my own file')")
            peer.close(1001, "bye")
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=close)
    argv = ["openOrders", "-rqC1", "--reconnect", "0"]
    status, out, err = client.run(*argv, "--token-command", f"echo '{TOKEN}'")
    assert (status, out) == (0, f"{DATA}\n")
    assert err.count("Connecting again in ") == 1


@pytest.mark.parametrize("argv", [["-rq"], ["-rq", "--token-file", "WS_Token"]])
def test_no_file(client: Client, argv: list[str]) -> None:
    """The script as the text of python -c has no __file__, and finds the token that is here."""
    program = (sys.executable, "-c", SCRIPT.read_text())
    assert client.run("addOrder", "pair=XBT/USD", "-C1", *argv, program=program).status in (0, 1)
    assert client.exchange.received == [ORDER]


def test_no_file_and_no_token(client: Client) -> None:
    """Where there is no token, either, that is said."""
    (client.folder / "WS_Token").unlink()
    program = (sys.executable, "-c", SCRIPT.read_text())
    result = client.run("openOrders", program=program)
    assert result == (1, "WebSocket authentication token missing (WS_Token)\n", "")
