"""Where the output goes."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.common import ACCEPTED, DATA, FATE, PONG, SUBSCRIBED, hang, request_failed, silence
from client.scripted import HEARTBEAT, Peer, Refusal, answer
from conftest import PATIENCE, Client


def test_head(client: Client) -> None:
    """A reader that goes away ends a feed quietly."""
    client.exchange.script = answer(SUBSCRIBED, *[DATA] * 10_000)
    process = client.start("ticker", "XBT/USD")
    process.read_until(DATA)
    process.stop_reading()
    assert process.end() == (0, "", "")


def quiet(client: Client, peer: Peer) -> None:
    """Let the reader leave a feed that says no more."""

    def leave(peer: Peer) -> None:
        peer.sync()
        client.barrier.wait()

    answer(SUBSCRIBED, HEARTBEAT, then=leave)(peer)


def unanswered(client: Client, peer: Peer) -> None:
    """Let the reader leave while the subscription is unanswered."""

    def leave(peer: Peer) -> None:
        peer.sync()
        client.barrier.wait()

    answer(then=leave)(peer)


def ungreeted(client: Client, peer: Peer) -> None:
    """Let the reader leave before the greeting."""
    client.barrier.wait()
    peer.wait()


def pipe() -> tuple[Any, Any]:
    """Return both ends of a pipe."""
    reading, writing = os.pipe()
    return open(reading, "rb", 0), open(writing, "wb", 0)


both_kinds = pytest.mark.parametrize("kind", [pipe, socket.socketpair], ids=["pipe", "socket"])


@both_kinds
@pytest.mark.parametrize("script", [quiet, unanswered, ungreeted])
def test_reader_leaves(
    client: Client,
    script: Callable[[Client, Peer], None],
    kind: Callable[[], tuple[Any, Any]],
) -> None:
    """A reader that leaves ends a feed at once, also if there is nothing to write."""
    client.exchange.script = functools.partial(script, client)
    ours, its = kind()
    with ours, its:
        process = client.start("ticker", "XBT/USD", "-rq", "--idle-timeout", "0", stdout=its)
        its.close()
        client.barrier.wait()
        ours.close()
        assert process.end() == (0, "", "")


@both_kinds
@pytest.mark.parametrize("stage", ["proxy", "tls", "http"])
def test_reader_leaves_while_connecting(
    client: Client, stage: str, kind: Callable[[], tuple[Any, Any]]
) -> None:
    """While a handshake is awaited, too."""

    def stall(sock: socket.socket) -> None:
        client.barrier.wait()
        hang(sock)

    client.exchange.faults[stage] = stall
    ours, its = kind()
    with ours, its:
        process = client.start("ticker", "XBT/USD", "-rq", "--idle-timeout", "0", stdout=its)
        its.close()
        client.barrier.wait()
        ours.close()
        assert process.end() == (0, "", "")


@pytest.mark.parametrize("hangs", [True, False], ids=["look-up", "address"])
def test_reader_leaves_before_a_connection(client: Client, hangs: bool) -> None:
    """While the name is looked up, or the address doesn't answer, too."""
    with silence() as address:
        found = (socket.AF_INET.value, socket.SOCK_STREAM.value, 0, "", address)
        client.patch(
            "import os\ndef getaddrinfo(*_, **__):\n"
            "    os.write(2, b'looking\\n')\n"
            f"    {'time.sleep(1000)' if hangs else f'return [{found}]'}"
        )
        process = client.start("ticker", "XBT/USD", "--idle-timeout", "0")
        assert process.process.stderr
        assert process.process.stderr.readline() == b"looking\n"
        process.stop_reading()
        status, out, err = process.end()
    assert (status, out, err.replace("looking\n", "")) == (0, "", "")


@both_kinds
def test_reader_leaves_between_attempts(
    client: Client, kind: Callable[[], tuple[Any, Any]]
) -> None:
    """While the next attempt is awaited, too."""
    client.exchange.refusals = iter([Refusal(503)])
    ours, its = kind()
    with ours, its:
        process = client.start("ticker", "XBT/USD", "-rq", "--reconnect", "1000", stdout=its)
        its.close()
        assert process.process.stderr
        assert b"503" in process.process.stderr.readline()
        assert b"Connecting again" in process.process.stderr.readline()
        ours.close()
        assert process.end() == (0, "", "")


@both_kinds
def test_reader_leaves_unread(client: Client, kind: Callable[[], tuple[Any, Any]]) -> None:
    """A reader that leaves lines unread has left like another."""
    client.exchange.script = answer(SUBSCRIBED, *[DATA] * 10_000)
    ours, its = kind()
    with ours, its:
        process = client.start("ticker", "XBT/USD", "-rq", stdout=its)
        its.close()
        assert select.select([ours], [], [], PATIENCE)[0]
        ours.close()
        assert process.end() == (0, "", "")


def test_order_and_reset(client: Client) -> None:
    """A reader behind TCP that leaves lines unread resets: it has left, as behind a pipe."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        client.barrier.wait()
        peer.send(ACCEPTED)

    client.exchange.script = answer(then=then)
    with socket.create_server(("127.0.0.1", 0)) as server:
        its = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, its:
        process = client.start("addOrder", "-W0", stdout=its)
        its.close()
        client.barrier.wait()  # both lines before the reply are written
        ours.close()
        client.barrier.wait()
        assert process.end() == (3, "", FATE)


def test_stdin_is_the_same_socket(client: Client) -> None:
    """A reader that only sends no more, as a socket can, hasn't left."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.sync()
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    ours, its = socket.socketpair()
    with ours, its:
        process = client.start("ticker", "XBT/USD", "-rqC1", stdin=its, stdout=its)
        its.close()
        ours.shutdown(socket.SHUT_WR)
        client.barrier.wait()
        assert ours.makefile().read() == f"{DATA}\n"
        assert process.end() == (0, "", "")


@both_kinds
@pytest.mark.parametrize("name", ["addOrder", "ping"])
def test_no_request_is_cut_short(
    client: Client, name: str, kind: Callable[[], tuple[Any, Any]]
) -> None:
    """A reader that leaves doesn't end a request: its reply is awaited."""
    waited = []

    def then(peer: Peer) -> None:
        client.barrier.wait()
        for _ in range(3):
            peer.sync()
        waited.append(True)
        peer.send({"addOrder": ACCEPTED, "ping": PONG}[name])

    client.exchange.script = answer(then=then)
    ours, its = kind()
    with ours, its:
        process = client.start(name, "-rq", "-W0", stdout=its)
        its.close()
        ours.close()
        client.barrier.wait()
        status, _, err = process.end()
    assert waited == [True]
    assert (status, err) == ((3, FATE) if name == "addOrder" else (1, ""))


def test_order_and_head(client: Client) -> None:
    """A reply that nobody reads leaves an unknown fate, and stderr says so."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.send(ACCEPTED)

    client.exchange.script = answer(then=then)
    process = client.start("addOrder", "-W0")
    process.read_until("Client ->")
    process.stop_reading()
    client.barrier.wait()
    assert process.end() == (3, "", FATE)


def test_sentence_that_nobody_reads(client: Client) -> None:
    """The last sentence of an order goes to stderr where nobody reads it on stdout."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.close(1001, "bye")

    client.exchange.script = answer(then=then)
    process = client.start("addOrder", "-W0")
    process.read_until("Client ->")
    process.stop_reading()
    client.barrier.wait()
    assert process.end() == (3, "", request_failed("1001 bye") + FATE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_sentence_into_a_full_disk(client: Client) -> None:
    """A sentence that is all there is to write is said on stderr where stdout takes nothing."""
    with open("/dev/full", "w") as full:
        result = client.run("addOrder", "price", stdout=full)
    assert result == (1, "", "Parameter price is not of the form name=value\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    ("argv", "status", "fate", "received"),
    [
        pytest.param(["ticker", "XBT/USD"], 1, "", 0, id="feed"),
        pytest.param(["addOrder"], 1, "", 0, id="an order that is not sent"),
        pytest.param(["addOrder", "-rq"], 3, FATE, 1, id="an order whose reply is lost"),
        pytest.param(["--help"], 1, "", 0, id="help"),
    ],
)
def test_full(
    client: Client,
    argv: list[str],
    status: int,
    fate: str,
    received: int,
) -> None:
    """A disk that is full is said on stderr, and nothing is sent after it was noticed."""
    client.exchange.script = answer(ACCEPTED)
    with open("/dev/full", "w") as full:
        result = client.run(*argv, stdout=full)
    words = f"stdout can't be written ([Errno 28] {os.strerror(28)})\n"
    assert result == (status, "", words + fate)
    assert len(client.exchange.received) == received


def test_closed(client: Client) -> None:
    """A closed stdout is said on stderr, and nothing is dialled."""
    result = client.run("addOrder", "-rq", preexec_fn=lambda: os.close(1))
    assert result == (1, "", "stdout is closed\n")
    assert client.exchange.dialled == []


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_closed_for_help(client: Client, option: str) -> None:
    """What can't be printed because stdout is closed has failed, whatever it is."""
    result = client.run(option, preexec_fn=lambda: os.close(1))
    assert result == (1, "", "stdout is closed\n")


def test_stderr_closed(client: Client) -> None:
    """What has the number of a stderr that was closed is something else, and stays untouched."""
    client.patch(
        "import os\ngetaddrinfo = socket.getaddrinfo\n"
        "assert os.open('ledger', os.O_WRONLY | os.O_CREAT) == 2"
    )
    client.exchange.script = answer(then=lambda peer: peer.close(1001, "bye"))
    assert client.run("addOrder", "-rq", preexec_fn=lambda: os.close(2)) == (3, "", "")
    assert (client.folder / "ledger").read_text() == ""


def test_all_closed(client: Client) -> None:
    """Without any stream there is still the exit status."""
    result = client.run("ping", preexec_fn=lambda: os.closerange(0, 3))
    assert result == (1, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_stderr_full(client: Client) -> None:
    """A stderr that can't be written doesn't change the exit status."""
    with open("/dev/full", "w") as full:
        assert client.time_out("addOrder", "-rq", stderr=full) == (3, "", "")


def test_non_blocking(client: Client) -> None:
    """A pipe that was left non-blocking loses no line."""
    data = json.dumps(["x" * 100_000])
    client.exchange.script = answer(SUBSCRIBED, *[data] * 20)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = client.start("ticker", "XBT/USD", "-rqC20", stdout=writing)
    os.close(writing)
    with open(reading) as lines:
        assert list(lines) == [f"{data}\n"] * 20
    assert process.end() == (0, "", "")


def test_non_blocking_later(client: Client) -> None:
    """Nor does one that another program makes so while the client runs."""
    data = [json.dumps([number] * 5000) for number in range(300)]

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.send(*data)

    client.exchange.script = answer(SUBSCRIBED, DATA, then=then)
    reading, writing = os.pipe()
    process = client.start("ticker", "XBT/USD", "-rqC301", stdout=writing)
    with open(reading) as lines:
        assert lines.readline() == f"{DATA}\n"
        os.set_blocking(writing, False)
        os.close(writing)
        client.barrier.wait()
        assert list(lines) == [f"{line}\n" for line in data]
    assert process.end() == (0, "", "")


def test_unbuffered(client: Client) -> None:
    """With PYTHONUNBUFFERED, too, lines are whole."""
    client.environment["PYTHONUNBUFFERED"] = "1"
    data = json.dumps(["x" * 1_000_000])
    client.exchange.script = answer(SUBSCRIBED, *[data] * 3)
    assert client.run("ticker", "XBT/USD", "-rqC3") == (0, f"{data}\n" * 3, "")


def test_slow_reader(client: Client) -> None:
    """A reader that takes its time gets every line."""
    client.exchange.script = answer(SUBSCRIBED, *[json.dumps([n] * 5000) for n in range(50)])
    process = client.start("ticker", "XBT/USD", "-rqC50")
    for number in range(50):
        assert process.read_until("]") == json.dumps([number] * 5000) + "\n"
    assert process.end() == (0, "", "")


def test_closed_stdin(client: Client) -> None:
    """A closed stdin is of no interest."""
    client.exchange.script = answer(SUBSCRIBED, DATA)
    result = client.run("ticker", "XBT/USD", "-rqC1", preexec_fn=lambda: os.close(0))
    assert result == (0, f"{DATA}\n", "")


def test_writes_nothing(client: Client) -> None:
    """Nothing is ever written into the current directory."""
    before = sorted(client.folder.iterdir())
    assert client.run("-rqC1", "cancelAll").status == 0
    assert sorted(client.folder.iterdir()) == before


def test_file(client: Client) -> None:
    """Into a file, SIGTERM leaves every line that came."""

    def then(peer: Peer) -> None:
        peer.sync()
        client.barrier.wait()

    client.exchange.script = answer(SUBSCRIBED, DATA, HEARTBEAT, then=then)
    path = client.folder / "out"
    with path.open("w") as file:
        process = client.start("ticker", "XBT/USD", "-r", stdout=file)
        client.barrier.wait()
        assert process.signal(signal.SIGTERM).end().status == 0
    assert path.read_text().splitlines()[1:] == [SUBSCRIBED, DATA, HEARTBEAT]
