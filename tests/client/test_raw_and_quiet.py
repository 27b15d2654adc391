"""The options --raw and --quiet."""

from __future__ import annotations

import itertools

import pytest

from client.common import (
    DATA,
    GREETED,
    PONG,
    REFUSED,
    SUBSCRIBED,
    TICKER,
    got,
    request_failed,
    sent,
)
from client.scripted import GREETING, HEARTBEAT, Peer, answer
from conftest import Client

ALL = (SUBSCRIBED, HEARTBEAT, REFUSED, DATA)


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ("-C1", GREETED + sent(TICKER.replace("]", ',"A/B"]')) + got(*ALL)),
        ("-qC1", got(REFUSED, DATA)),
        ("-rC1", "\n".join([GREETED[len("WebSocket -> Client: ") : -1], *ALL, ""])),
        ("-rqC1", f"{REFUSED}\n{DATA}\n"),
    ],
)
def test_housekeeping(client: Client, options: str, out: str) -> None:
    """-r leaves only messages, -q no housekeeping; refusals stay."""
    client.exchange.script = answer(*ALL)
    assert client.run(options, "ticker", "XBT/USD", "A/B") == (0, out, "")


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ("-qC1", got(PONG)),
        ("-rC1", f"{GREETED[len('WebSocket -> Client: ') : -1]}\n{PONG}\n"),
        ("-rqC1", f"{PONG}\n"),
    ],
)
def test_ping(client: Client, options: str, out: str) -> None:
    """Replies stay."""
    client.exchange.script = answer(PONG)
    assert client.run(options) == (0, out, "")


@pytest.mark.parametrize("status", ["maintenance", "cancel_only", "post_only", "?"])
def test_not_online(client: Client, status: str) -> None:
    """-q shows a status of the system that isn't online, first or later, and the end of it."""
    bad = GREETING.replace("online", status)

    def script(peer: Peer) -> None:
        peer.send(bad)
        peer.receive()
        peer.send(SUBSCRIBED, GREETING, bad, GREETING, DATA)
        peer.wait()

    client.exchange.script = script
    result = client.run("-rqC1", "ticker", "XBT/USD")
    assert result == (0, f"{bad}\n{GREETING}\n{bad}\n{GREETING}\n{DATA}\n", "")


@pytest.mark.parametrize(
    ("argv", "reply"), [(["ticker", "XBT/USD"], DATA), (["ping"], PONG)], ids=["feed", "request"]
)
def test_online_again(client: Client, argv: list[str], reply: str) -> None:
    """-q leaves out only the greeting's online, even where another comes right behind it."""

    def script(peer: Peer) -> None:
        peer.send(GREETING, GREETING)
        peer.receive()
        peer.send(SUBSCRIBED, HEARTBEAT, GREETING, reply)
        peer.wait()

    client.exchange.script = script
    code, out, err = client.run("-rqC1", *argv)
    shown = [line for line in out.splitlines() if line != SUBSCRIBED]
    assert (code, shown, err) == (0, [GREETING, GREETING, reply], "")


def test_online_after_a_loss(client: Client) -> None:
    """-q leaves out each connection's greeting, and shows what ends a maintenance in each."""
    connections = itertools.count(1)

    def script(peer: Peer) -> None:
        number = next(connections)
        peer.greet()
        peer.receive()
        peer.send(SUBSCRIBED, GREETING.replace("1.9.6", f"online again {number}"), DATA)
        if number == 1:
            peer.close(1001, "bye")
        peer.wait()

    client.exchange.script = script
    code, out, _ = client.run("-rqC2", "ticker", "XBT/USD", "--reconnect", "0.01")
    shown = [GREETING.replace("1.9.6", f"online again {number}") for number in (1, 2)]
    assert (code, out) == (0, f"{shown[0]}\n{DATA}\n{shown[1]}\n{DATA}\n")


@pytest.mark.parametrize("options", ["-r", "-rq"])
def test_sentences(client: Client, options: str) -> None:
    """With -r every sentence goes to stderr."""
    client.exchange.script = answer(REFUSED)
    result = client.run(options, "ticker", "A/B")
    assert result.out.endswith(f"{REFUSED}\n")
    assert result.err == request_failed("Currency pair not supported A/B")
    usage = client.run(options, "ticker")
    assert (usage.status, usage.out) == (1, "")
    assert usage.err.startswith("Usage: ")
    assert client.run(options, "--nosuch").out == ""
