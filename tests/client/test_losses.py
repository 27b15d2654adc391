"""After any loss the next connection works, and nothing is left of the one before."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.frames import Opcode

from client.common import DATA, SUBSCRIBED
from client.scripted import CHUNK, Gone, Peer, answer, frame
from conftest import PATIENCE, SCRIPT, THOROUGH, Client, Process

LOSSES = 2000 if THOROUGH else 60
# The client without the waits between connections, of which the exchange allows only a few.
AT_ONCE = """
import krakenws
krakenws.next_delay = lambda *_: 0.0
raise SystemExit(krakenws.main())
"""
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"  # of TLS: fatal, handshake failure
NO_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)  # in TLS's form, but deciphered it is nonsense

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system has none")


def half_close(peer: Peer) -> None:
    """Send no more, and go on reading."""
    socket.socket.shutdown(peer.sock, socket.SHUT_WR)
    peer.wait()


def end_tls(peer: Peer) -> None:
    """Say by TLS that nothing more comes, and go on reading."""
    peer.sock.unwrap()


def alert(peer: Peer) -> None:
    """Send a TLS alert, as a server does that can't decipher what it has received."""
    inner, outer = socket.socketpair()
    with inner, outer, socket.socket(fileno=os.dup(peer.sock.fileno())) as client:
        os.dup2(inner.fileno(), peer.sock.fileno())
        outer.sendall(NO_RECORD)
        with contextlib.suppress(ssl.SSLError):
            peer.sock.recv(1)
        client.sendall(outer.recv(CHUNK))
        while client.recv(CHUNK):
            pass


def nonsense(peer: Peer) -> None:
    """Send what the client can't decipher, to which it answers with an alert of its own."""
    socket.socket.send(peer.sock, NO_RECORD)
    peer.wait()


def reset_unnoticed(peer: Peer, process: Process, last: bytes) -> None:
    """Reset the connection behind LAST while the client stands still: what it sends is lost."""
    process.freeze()
    peer.sock.sendall(last)
    peer.reset()
    process.thaw()


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda peer, _: peer.reset(), id="reset"),
        pytest.param(lambda peer, _: peer.close(1001, "bye"), id="close"),
        pytest.param(lambda peer, _: peer.sock.close(), id="no close frame"),
        pytest.param(lambda peer, _: peer.wait(), id="silence"),
        pytest.param(lambda peer, _: half_close(peer), id="half-close"),
        pytest.param(lambda peer, _: end_tls(peer), id="TLS's end"),
        pytest.param(lambda peer, _: alert(peer), id="TLS alert"),
        pytest.param(lambda peer, _: nonsense(peer), id="TLS alert of the client"),
        pytest.param(
            lambda peer, process: reset_unnoticed(peer, process, frame(b"", Opcode.PING)),
            id="pong not written",
        ),
        pytest.param(
            lambda peer, process: reset_unnoticed(peer, process, frame("", Opcode.CLOSE)),
            id="close not answered",
        ),
    ],
)
def test_twice(
    client: Client, lose: Callable[[Peer, Process], object], request: pytest.FixtureRequest
) -> None:
    """After a loss, and another behind it, the next connection works."""

    def then(peer: Peer) -> None:
        peer.sync()
        if len(client.exchange.dialled) <= 2:
            lose(peer, client.running())
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    idle = "2" if "silence" in request.node.name else "60"
    result = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0", "--idle-timeout", idle)
    assert (result.status, result.out) == (0, f"{DATA}\n")
    assert result.err.count("Connecting again in ") == 2
    assert len(client.exchange.dialled) == 3


def test_request_not_written(client: Client) -> None:
    """The next connection works after resets that came just before the request, too."""

    def script(peer: Peer) -> None:
        process = client.running()
        if len(client.exchange.dialled) <= 2:
            process.freeze()
            peer.greet()
            peer.reset()
            process.thaw()
        answer(SUBSCRIBED, DATA)(peer)

    client.exchange.script = script
    result = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0")
    assert (result.status, result.out) == (0, f"{DATA}\n")
    assert result.err.count("Connecting again in ") == 2
    assert len(client.exchange.received) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("stage", "last"),
    [
        pytest.param("proxy", b"", id="the proxy disappears"),
        pytest.param("proxy", b"HTTP/1.1 200", id="half an answer of the proxy"),
        pytest.param("tls", b"", id="no TLS"),
        pytest.param("tls", ALERT, id="TLS alert"),
        pytest.param("http", b"", id="no HTTP"),
        pytest.param("http", b"HTTP/1.1 101 Switching Protocols\r\n", id="half an answer"),
    ],
)
def test_twice_while_connecting(client: Client, stage: str, last: bytes, reset: bool) -> None:
    """After two losses in a handshake the next one works."""

    def lose(sock: socket.socket) -> None:
        if len(client.exchange.dialled) == 2:
            client.exchange.faults.clear()
        if last:
            sock.sendall(last)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    client.exchange.faults[stage] = lose
    client.exchange.script = answer(SUBSCRIBED, DATA)
    result = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0")
    assert (result.status, result.out) == (0, f"{DATA}\n")
    assert result.err.count("Connecting again in ") == 2
    assert len(client.exchange.dialled) == 3


def test_proxy_comes_back(client: Client) -> None:
    """A proxy that isn't there for a while, and then is again, is found."""
    client.exchange.script = answer(SUBSCRIBED, DATA)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        client.environment["https_proxy"] = f"http://127.0.0.1:{door.getsockname()[1]}"
        process = client.start("ticker", "XBT/USD", "-C1", "--reconnect", "0")
        for _ in range(2):
            assert "Connection refused" in process.read_until("Connecting again")
        door.listen()
        client.exchange.process_request(*door.accept())
        assert process.end().status == 0


def losing(client: Client, *kinds: Callable[[Peer], object]) -> list[tuple[int, int]]:
    """Give every connection a loss of the next kind. Return the list of what the client then has.

    Each is the number of its threads and of its descriptors, from the midst of a connection.
    """
    counts: list[tuple[int, int]] = []
    kind = itertools.cycle(kinds)

    def then(peer: Peer) -> None:
        peer.sync()
        process = client.running()
        counts.append((process.count("task"), process.count("fd")))
        if len(counts) < LOSSES:
            next(kind)(peer)
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    return counts


def start_at_once(client: Client, *argv: str) -> Process:
    """Start a client that doesn't wait between its connections."""
    client.environment["PYTHONPATH"] = str(SCRIPT.parent)
    program = (sys.executable, "-c", AT_ONCE)
    return client.start("ticker", "XBT/USD", "--reconnect", "0", *argv, program=program)


@needs_proc
def test_many(client: Client) -> None:
    """However many connections were lost, no thread and no descriptor is left of them."""
    counts = losing(client, Peer.reset, lambda peer: peer.close(1001, "bye"), half_close, alert)
    process = start_at_once(client, "-rqC1")
    out, err = process.process.communicate(timeout=60 * PATIENCE)
    assert (process.process.returncode, out) == (0, f"{DATA}\n".encode())
    assert err.count(b"Connecting again in ") == LOSSES - 1
    assert max(threads for threads, _ in counts) <= 2
    assert len({descriptors for _, descriptors in counts}) == 1


@needs_proc
@pytest.mark.parametrize("stage", ["proxy", "http"])
@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK" + b"x" * 100_000, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000],
    ids=["an endless line", "headers without end"],
)
def test_trickle(client: Client, stage: str, answer: bytes) -> None:
    """An HTTP answer that comes a byte at a time is given up, and leaves no thread behind."""
    counts: list[tuple[int, int]] = []

    def trickle(sock: socket.socket) -> None:
        process = client.running()
        counts.append((process.count("task"), process.count("fd")))
        if len(counts) == 8:
            client.barrier.wait()
        for byte in answer:
            if select.select([sock], [], [], 0.01)[0] and not sock.recv(CHUNK):
                raise Gone
            sock.sendall(bytes([byte]))

    client.exchange.faults[stage] = trickle
    process = start_at_once(client, "--idle-timeout", "0.2")
    client.barrier.wait()
    assert process.signal(signal.SIGTERM).end().status == 1
    assert max(threads for threads, _ in counts) <= 2
    assert len({descriptors for _, descriptors in counts}) == 1
