"""kraken_token.py: the key, the call, and what it says when there is no token."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.scripted import Gone
from conftest import Client, Process
from examples import kraken_token
from examples_tests.common import EXAMPLES, program
from practice.common import compact
from practice.credentials import API_KEY, API_SECRET

PUBLIC, PRIVATE = "API_Public_Key", "API_Private_Key"
EXAMPLE_KEY = (
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
)
CALL = ["api.kraken.com:443"]


def leave_key(folder: Path, public: str = API_KEY, secret: str = API_SECRET) -> None:
    """Put the key files into a folder."""
    (folder / PUBLIC).write_text(f"{public}\n")
    (folder / PRIVATE).write_text(f"{secret}\n")


@pytest.fixture
def keyed(client: Client) -> Client:
    """Return a client with a key in its folder."""
    leave_key(client.folder)
    return client


def check_failure(
    client: Client, status: int, words: str, command: list[str] | None = None
) -> None:
    """Check that there is no token, and that one line says why."""
    result = client.run(program=command or program("kraken_token"))
    assert (result.status, result.out) == (status, "")
    assert re.fullmatch(f"No token: {words}\n", result.err), result.err


def test_token(keyed: Client) -> None:
    """A feed is opened with a token that did not exist before."""
    (keyed.folder / "WS_Token").unlink()
    command = str(EXAMPLES / "kraken_token.py")
    status, out, err = keyed.run("-rqC1", "--token-command", command, "openOrders")
    assert (status, err) == (0, "")
    assert '"openOrders",{"sequence":1}]' in out
    assert keyed.exchange.dialled == [*CALL, "ws-auth.kraken.com:443"]


@pytest.mark.parametrize(
    ("path", "body", "signature"),
    [
        (
            "/0/private/AddOrder",
            "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25",
            "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ==",
        ),
        (
            kraken_token.PATH,
            "nonce=1616492376594",
            "+mRDmY9Ks0Moc1zjv/BjfvYa98buO0x1yHChZR5onlfAzAUbfIYlLggUZzdQ0RsmXm4Sh+Q8iAIZdo2wSeHeiA==",
        ),
    ],
    ids=["Kraken's own example", "a token"],
)
def test_signature(path: str, body: str, signature: str) -> None:
    """The signature is the one that Kraken publishes for its example."""
    assert kraken_token.sign(EXAMPLE_KEY, path, 1616492376594, body) == signature


def test_shared_key(keyed: Client) -> None:
    """Many programs at once share a key, and each gets a token of its own."""
    running = [keyed.start(program=program("kraken_token")) for _ in range(6)]
    results = [process.end() for process in running]
    assert [(result.status, result.err) for result in results] == [(0, "")] * 6
    assert len({result.out for result in results}) == 6


def test_lock(keyed: Client) -> None:
    """A second program waits with its call until the first one has its reply."""
    (keyed.folder / "sitecustomize.py").write_text(
        "import fcntl, os\n"
        "real = fcntl.flock\n"
        "def flock(*words):\n"
        "    os.write(1, b'locking\\n')\n"
        "    real(*words)\n"
        "    os.write(1, b'locked\\n')\n"
        "fcntl.flock = flock\n"
    )
    keyed.environment["PYTHONPATH"] = str(keyed.folder)
    calls: list[int] = []
    reply = responding(http("200 OK", '{"error":[],"result":{"token":"A"}}'))

    def wait_and_reply(sock: socket.socket) -> None:
        if not calls:
            keyed.barrier.wait()
        calls.append(len(keyed.exchange.dialled))
        reply(sock)

    keyed.exchange.faults["http"] = wait_and_reply
    first = keyed.start(program=program("kraken_token"))
    first.read_until("locked")
    second = keyed.start(program=program("kraken_token"))
    second.read_until("locking")
    keyed.barrier.wait()
    assert first.end().out == "A\n"
    assert second.end().out == "locked\nA\n"
    assert calls == [1, 2]


def test_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls in the same millisecond have different nonces: the second waits for its end."""
    clock = iter([5_000_000, 5_300_000, 5_999_999, 6_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    assert kraken_token.new_nonce() == 6


def copy_program(folder: Path) -> list[str]:
    """Return the command of a copy of the program, which has the practice key beside it."""
    home = folder / "home"
    home.mkdir()
    leave_key(home)
    command = program("kraken_token")
    return [command[0], shutil.copy(command[1], str(home))]


def test_beside(client: Client) -> None:
    """The key is taken from beside the program where the current directory has none."""
    result = client.run(program=copy_program(client.folder))
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize("name", [PUBLIC, PRIVATE])
def test_other_account(client: Client, name: str) -> None:
    """A key file in the current directory is never passed over, and never half a pair with it."""
    (client.folder / name).symlink_to("nowhere")
    words = rf"the API key can't be read \(.* '\./{PUBLIC}'\)"
    check_failure(client, 1, words, copy_program(client.folder))


@pytest.mark.parametrize(
    ("public", "secret", "words"),
    [
        ("", API_SECRET, rf"the first line of \./{PUBLIC} is no API key"),
        ("abcd efgh", API_SECRET, rf"the first line of \./{PUBLIC} is no API key"),
        (API_KEY, "\n \n", rf"the first line of \./{PRIVATE} is no API key"),
        (API_KEY, "abc", rf"the first line of \./{PRIVATE} is no API key"),
        (API_KEY, "Ünicode", rf"the first line of \./{PRIVATE} is no API key"),
    ],
)
def test_no_key(client: Client, public: str, secret: str, words: str) -> None:
    """What can be no key is not sent to anybody."""
    leave_key(client.folder, public, secret)
    check_failure(client, 1, words)
    assert client.exchange.dialled == []


@pytest.mark.parametrize(
    ("public", "secret", "words"),
    [
        ("d3Jvbmc=", API_SECRET, "Kraken says EAPI:Invalid key"),
        (API_KEY, "d3Jvbmc=", "Kraken says EAPI:Invalid signature"),
        (f"\ufeff\n  {API_KEY}  \nmore", EXAMPLE_KEY, "Kraken says EAPI:Invalid signature"),
    ],
)
def test_refused(client: Client, public: str, secret: str, words: str) -> None:
    """Kraken's words are said, and the status is 1."""
    leave_key(client.folder, public, secret)
    check_failure(client, 1, words)


def responding(reply: bytes) -> Callable[[socket.socket], None]:
    """Return what takes a request, sends a reply, and closes the connection as TLS has it."""

    def respond(sock: Any) -> None:
        while b"nonce=" not in sock.recv(65536):
            pass
        sock.sendall(reply)
        with contextlib.suppress(OSError):
            sock.unwrap()

    return respond


def http(status: str, body: str, header: str = "X: y") -> bytes:
    """Return an HTTP response."""
    return f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


NO_ANSWER = "there is none in Kraken's reply"


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (http("503 Unavailable", "later"), 75, r"Kraken can't be asked \(HTTP Error 503: .*\)"),
        (http("200 OK", "<html>"), 75, NO_ANSWER),
        (http("200 OK", "[]"), 75, NO_ANSWER),
        (http("200 OK", '{"error":[],"result":{}}'), 75, NO_ANSWER),
        (http("200 OK", compact({"error": ["EA:b", "EC:d"]})), 1, "Kraken says EA:b, EC:d"),
        (b"", 75, r"Kraken can't be asked \(.*\)"),
        (b"nonsense\r\n\r\n", 75, r"Kraken can't be asked \(BadStatusLine\)"),
        (http("200 OK", "x" * 9)[:-3], 75, NO_ANSWER),
    ],
)
def test_replies(keyed: Client, reply: bytes, status: int, words: str) -> None:
    """Only what Kraken says against the key has the status 1; all else may work later."""
    keyed.exchange.faults["http"] = responding(reply)
    check_failure(keyed, status, words)


def test_redirect(keyed: Client) -> None:
    """No redirect is followed: the key and the signature go to one host only."""
    reply = http("302 Found", "", "Location: https://ws.kraken.com/0/private/GetWebSocketsToken")
    keyed.exchange.faults["http"] = responding(reply)
    check_failure(keyed, 75, r"Kraken can't be asked \(HTTP Error 302: Found\)")
    assert keyed.exchange.dialled == CALL


def test_certificate(keyed: Client) -> None:
    """A host without a certificate from a known authority is not asked."""
    keyed.environment["SSL_CERT_FILE"] = str(keyed.folder / PUBLIC)
    check_failure(keyed, 75, r"Kraken can't be asked \(.*CERTIFICATE_VERIFY_FAILED.*\)")


def test_proxy_password(keyed: Client) -> None:
    """The password of a proxy is not shown."""
    keyed.environment["https_proxy"] = "http://user:pass/word@127.0.0.1:1"
    check_failure(keyed, 75, r"Kraken can't be asked \((?!.*(pass|word)).*\)")


def test_too_late(keyed: Client) -> None:
    """All of it has a time limit."""
    status, out, err = hung(keyed, "it.LIMIT_SECONDS = 1").end()
    assert (status, out) == (75, "")
    assert err == "No token: Kraken can't be asked (there is no reply after 1 seconds)\n"


def test_ctrl_c(keyed: Client) -> None:
    """Ctrl-C ends it without a word."""
    assert hung(keyed).signal(signal.SIGINT).end() == (-signal.SIGINT, "", "")


def test_ignored(keyed: Client) -> None:
    """Where the parent ignores Ctrl-C, it stays ignored."""
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    process = hung(keyed, ignore, "it.LIMIT_SECONDS = 1")
    assert process.signal(signal.SIGINT).end().status == 75


def hung(client: Client, *changes: str) -> Process:
    """Return the program while it waits for a reply that doesn't come."""

    def hang(sock: socket.socket) -> None:
        while b"nonce=" not in sock.recv(65536):
            pass
        client.barrier.wait()
        sock.recv(1)
        raise Gone

    client.exchange.faults["http"] = hang
    process = client.start(program=program("kraken_token", *changes))
    client.barrier.wait()
    return process


def closed(descriptor: int, name: str = "kraken_token") -> list[str]:
    """Return the command of a program that is started with a descriptor closed."""
    return ["sh", "-c", f'exec "$@" {descriptor}>&-', "sh", *program(name)]


def test_stdout(keyed: Client) -> None:
    """A token that can't be printed is a failure; nobody is asked where stdout is closed."""
    with open("/dev/full", "wb") as full:
        result = keyed.run(program=program("kraken_token"), stdout=full)
    assert (result.status, "No space left" in result.err) == (1, True)
    keyed.exchange.dialled.clear()
    check_failure(keyed, 1, "stdout is closed", closed(1))
    assert keyed.exchange.dialled == []


def test_stderr(client: Client) -> None:
    """Nothing else goes wrong where stderr is closed, or full."""
    assert client.run(program=closed(2)) == (1, "", "")
    with open("/dev/full", "wb") as full:
        assert client.run(program=program("kraken_token"), stderr=full).status == 1


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help(client: Client, word: str) -> None:
    """The help says what it needs and what each status means."""
    status, out, err = client.run(word, program=program("kraken_token"))
    assert (status, err) == (0, "")
    assert all(word in out for word in (PUBLIC, PRIVATE, "exit status", "75"))


def test_usage(client: Client) -> None:
    """Words are refused, with the usage."""
    assert client.run("XBT/USD", program=program("kraken_token")) == (
        1,
        "",
        "usage: kraken_token.py [--help]\n",
    )
