"""How the client is stopped."""

from __future__ import annotations

import contextlib
import json
import signal
import socket

import pytest
from websockets.frames import Opcode

from client.common import (
    ACCEPTED,
    DATA,
    FATE,
    SUBSCRIBED,
    TIMED_OUT,
    connection_failed,
    cut,
    hang,
    messages_failed,
    request_failed,
)
from client.scripted import HEARTBEAT, Peer, answer, frame
from conftest import PATIENCE, Client
from tools.stops import stop_orders


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_feed(client: Client, number: signal.Signals) -> None:
    """A feed that ran until it was stopped is done, and says goodbye."""
    client.exchange.script = answer(SUBSCRIBED)
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    assert process.signal(number).end() == (0, "", "")
    assert client.exchange.closed.get(timeout=PATIENCE) == 1000


def test_before_the_reply(client: Client) -> None:
    """A feed that was stopped before its first reply has failed."""
    client.exchange.script = answer(HEARTBEAT)
    process = client.start("ticker", "XBT/USD")
    process.read_until(HEARTBEAT)
    assert process.signal(signal.SIGINT).end() == (1, messages_failed("stopped by SIGINT"), "")


def test_while_connecting(client: Client) -> None:
    """A handshake that never comes doesn't delay the end."""

    def script(sock: socket.socket) -> None:
        client.barrier.wait()
        hang(sock)

    client.exchange.faults["tls"] = script
    process = client.start("ticker", "XBT/USD")
    client.barrier.wait()
    assert process.signal(signal.SIGINT).end() == (1, connection_failed("stopped by SIGINT"), "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored(client: Client, number: signal.Signals) -> None:
    """A signal that was ignored at the start, as by nohup, stays ignored."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    process = client.start(
        "ticker", "XBT/USD", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)
    )
    process.read_until(SUBSCRIBED)
    process.signal(number)
    client.barrier.wait()
    process.read_until(DATA)
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def test_blocked(client: Client) -> None:
    """Signals that the parent's thread blocks are unblocked: the time limit holds."""
    client.exchange.script = answer()
    blocked = {signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    result = client.run(
        "addOrder",
        "-rq",
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked),
    )
    assert result == (3, "", request_failed(TIMED_OUT) + FATE)


def test_pongs_that_nobody_reads(client: Client) -> None:
    """A pong that is stuck, for the exchange reads nothing, doesn't delay the end."""

    def flood(peer: Peer) -> None:
        peer.sock.settimeout(0.2)
        pings = frame(b"x" * 125, Opcode.PING) * 100
        with contextlib.suppress(socket.timeout):
            while True:
                peer.sock.sendall(pings)
        client.barrier.wait()
        client.barrier.wait()

    client.exchange.script = answer(SUBSCRIBED, DATA, then=flood)
    process = client.start("ticker", "XBT/USD", "-rq", "--idle-timeout", "0")
    process.read_until(DATA)
    client.barrier.wait()
    assert process.signal(signal.SIGTERM).end() == (0, "", "")
    client.barrier.wait()


def test_in_a_flood(client: Client) -> None:
    """In a flood, what was written ends with a whole line."""

    def flood(peer: Peer) -> None:
        while True:
            peer.sock.sendall(frame(large) * 10)

    large = json.dumps(["x" * 20_000])
    client.exchange.script = answer(SUBSCRIBED, then=flood)
    process = client.start("ticker", "XBT/USD", "-rq")
    process.read_until("x")
    status, out, err = process.signal(signal.SIGTERM).end()
    assert (status, err) == (0, "")
    assert [len(line) for line in out.split("\n")] == [len(large)] * out.count("\n") + [0]


def test_trickle(client: Client) -> None:
    """A frame that never ends doesn't delay the end, with or without a signal."""

    def trickle(peer: Peer) -> None:
        peer.sock.sendall(frame("x" * 1_000_000)[:20])
        while peer.receive(timeout=0.01) is None:
            peer.sock.sendall(b"x")

    client.exchange.script = answer(SUBSCRIBED, DATA, then=trickle)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


def test_while_nobody_reads(client: Client) -> None:
    """A pipe that is full and that nobody empties doesn't delay the end, which tells of it."""
    client.exchange.script = answer(SUBSCRIBED, json.dumps(["x" * 1_000_000]))
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    process.wait_for_output()  # the beginning of a line that is longer than any pipe
    process.signal(signal.SIGTERM)
    assert process.process.wait(PATIENCE) == 1
    assert process.end().err == cut("SIGTERM")


def test_order_while_nobody_reads(client: Client) -> None:
    """A reply that is stuck in the pipe leaves an unknown fate, which stderr tells."""
    client.exchange.script = answer(ACCEPTED[:-1] + f',"x":"{"x" * 1_000_000}"}}')
    process = client.start("addOrder", "-rq", "-W0")
    process.wait_for_output()
    process.signal(signal.SIGALRM)
    assert process.process.wait(PATIENCE) == 3
    assert process.end().err == cut("the time limit") + FATE


def test_random_stops() -> None:
    """An order that is stopped at any moment ends with no status that the exchange belies."""
    results = stop_orders(40, seed=7, workers=2)
    assert [result for result in results if not result[2]] == []


def test_twice(client: Client) -> None:
    """A second signal changes nothing, and neither does one during the close."""

    def interrupt(peer: Peer) -> None:
        while peer.next_event().opcode is not Opcode.CLOSE:
            pass
        process.signal(signal.SIGINT).signal(signal.SIGTERM)

    client.exchange.script = answer(SUBSCRIBED, then=interrupt)
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    process.signal(signal.SIGINT).signal(signal.SIGINT)
    assert process.end() == (0, "", "")
