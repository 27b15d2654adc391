"""The option --reconnect."""

from __future__ import annotations

import functools
import itertools
import json
import re
import signal
from collections.abc import Callable

import pytest

from client.common import (
    DATA,
    GREETED,
    REFUSED,
    SUBSCRIBED,
    TICKER,
    connection_failed,
    got,
    messages_failed,
    request_failed,
    sent,
)
from client.scripted import Peer, Refusal, answer
from conftest import TOKEN, Client
from krakenws import STEADY_SECONDS, next_delay


def scripts(client: Client, *scripts: Callable[[Peer], None]) -> None:
    """Let each connection meet the next script."""
    rest = list(scripts)

    def script(peer: Peer) -> None:
        rest.pop(0)(peer)

    client.exchange.script = script


def closing(*replies: str) -> Callable[[Peer], None]:
    """Return a script that closes after these messages."""
    return answer(*replies, then=lambda peer: peer.close(1001, "bye"))


def lines(text: str) -> list[str]:
    """Return lines without the time of a loss and the seconds to wait."""
    text = re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?=WebSocket)", "Z ", text, flags=re.M)
    return re.sub(r"(?<=^Connecting again in ).*", "", text, flags=re.M).splitlines()


def test_transcript(client: Client) -> None:
    """After a loss: its sentence, the wait, and the transcript of the next connection."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-C2", "--reconnect", "0.01")
    connected = (GREETED + sent(TICKER) + got(SUBSCRIBED, DATA)).splitlines()
    lost = ["Z " + messages_failed("1001 bye").rstrip(), "Connecting again in "]
    assert (status, err) == (0, "")
    assert lines(out) == [*connected, *lost, *connected]


def test_raw(client: Client) -> None:
    """With -r both sentences go to stderr; -q hides the second greeting, too."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-rqC2", "--reconnect", "0")
    assert (status, out) == (0, f"{DATA}\n{DATA}\n")
    assert lines(err) == ["Z " + messages_failed("1001 bye").rstrip(), "Connecting again in "]


def test_cannot_connect(client: Client) -> None:
    """A connection that can't be made is tried again, the first one as well."""
    client.exchange.refusals = iter([Refusal(503), Refusal(429)])
    client.exchange.script = answer(SUBSCRIBED, DATA)
    status, out, err = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0.01")
    assert (status, out) == (0, f"{DATA}\n")
    again = "Connecting again in "
    words = ["HTTP 503 Service Unavailable", "HTTP 429 Too Many Requests"]
    assert lines(err) == [
        line for why in words for line in ("Z " + connection_failed(why).rstrip(), again)
    ]


def test_refused_at_first(client: Client) -> None:
    """A subscription that is refused at the first connection ends it."""
    client.exchange.script = answer(REFUSED)
    result = client.run("ticker", "A/B", "-rq", "--reconnect", "0")
    assert result == (1, f"{REFUSED}\n", request_failed("Currency pair not supported A/B"))


def test_refused_later(client: Client) -> None:
    """A subscription that is refused as a whole ends it after a connection that worked, too."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(REFUSED))
    status, out, err = client.run("ticker", "A/B", "-rqC2", "--reconnect", "0.01")
    assert (status, out) == (1, f"{DATA}\n{REFUSED}\n")
    assert lines(err)[2:] == [request_failed("Currency pair not supported A/B").rstrip()]


def test_service_broken(client: Client) -> None:
    """A subscription at which a service failed was not refused: it is tried again."""
    broken = '{"errorMessage":"EService:Unavailable","event":"subscriptionStatus","status":"error"}'
    scripts(client, answer(broken), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("openOrders", "-rqC1", "--reconnect", "0.01")
    assert (status, out) == (0, f"{broken}\n{DATA}\n")
    assert lines(err)[0] == "Z " + request_failed("EService:Unavailable").rstrip()


def test_dead(client: Client) -> None:
    """A dead connection is a lost one."""
    scripts(client, answer(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    argv = ["ticker", "XBT/USD", "-rqC2", "--reconnect", "0", "--idle-timeout", "2"]
    status, out, err = client.run(*argv)
    assert (status, out) == (0, f"{DATA}\n{DATA}\n")
    assert lines(err)[0] == "Z " + messages_failed("nothing received for 2 seconds").rstrip()


def test_token_file_again(client: Client) -> None:
    """The token's file is read again for each connection, and its token masked as before."""
    echo = f'[["{TOKEN}"],"openOrders",{{"sequence":1}}]'
    scripts(client, closing(SUBSCRIBED, echo), answer(SUBSCRIBED, echo))
    status, out, _ = client.run("openOrders", "-rqC2", "--reconnect", "0.01")
    assert (status, out) == (0, f"{echo}\n{echo}\n".replace(TOKEN, "***"))


def test_fresh_token(client: Client) -> None:
    """Every connection has a token of its own; one that can't be had is a lost connection."""
    command = (
        "n=$(cat n 2>/dev/null); echo $((n + 1)) > n; "
        f'if [ "$n" = 1 ]; then exit 1; fi; echo "{TOKEN}$n"'
    )
    update = '[["***"],"openOrders",{"sequence":1}]'
    echoes = [update.replace("***", token) for token in (TOKEN, f"{TOKEN}2")]
    scripts(client, *[closing(SUBSCRIBED, echo) for echo in echoes])
    argv = ["openOrders", "-rqC2", "--reconnect", "0.01", "--token-command", command]
    status, out, err = client.run(*argv)
    assert (status, out) == (0, f"{update}\n{update}\n")
    assert lines(err)[2:] == [
        "Z WebSocket authentication token missing (--token-command ended with status 1)",
        "Connecting again in ",
    ]
    tokens = [json.loads(text)["subscription"]["token"] for text in client.exchange.received]
    assert tokens == [TOKEN, f"{TOKEN}2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_waiting(client: Client, number: signal.Signals) -> None:
    """The wait ends at once on a signal."""
    client.exchange.script = closing(SUBSCRIBED, DATA)
    process = client.start("ticker", "XBT/USD", "--reconnect", "1000")
    process.read_until("Connecting again")
    assert process.signal(number).end() == (0, "", "")


def test_time_limit_while_waiting(client: Client) -> None:
    """The wait ends at the time limit, which goes over all connections together."""
    client.exchange.script = closing(SUBSCRIBED, DATA)
    process = client.start("ticker", "XBT/USD", "--reconnect", "1000", "-C2")
    process.read_until("Connecting again")
    assert process.signal(signal.SIGALRM).end() == (124, "", "")


@pytest.mark.parametrize("reconnect", [0, 0.1, 0.5, 1, 2, 5])
def test_not_too_often(reconnect: float) -> None:
    """Three processes may share an address, whatever lives how long: 150 in ten minutes."""

    @functools.lru_cache(None)
    def most(delay: float | None, left: float) -> int:
        """Return how many connections there can be in the seconds left, after such a wait."""
        if left < 0:
            return 0
        waits = [(lived, next_delay(reconnect, delay, lived)) for lived in (0, STEADY_SECONDS)]
        return 1 + max(most(wait, left - lived - 0.8 * wait) for lived, wait in waits)

    delays: list[float | None] = [None]
    while len(delays) < 10:
        delays.append(next_delay(reconnect, delays[-1], 0))
    assert 3 * max(most(delay, 600) for delay in delays) < 150


def test_waits() -> None:
    """The wait doubles up to a minute, and begins again after a connection that lived long."""
    waits: list[float] = []
    for lived in [*[0] * 9, STEADY_SECONDS, 0]:
        waits.append(next_delay(0.5, waits[-1] if waits else None, lived))
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0.5, 1]
    assert next_delay(1000, 1000, 0) == 1000


def test_never_connected(client: Client) -> None:
    """Stopped without ever having had a connection, it has failed."""
    client.exchange.refusals = iter([Refusal(503)])
    process = client.start("ticker", "XBT/USD", "--reconnect", "1000")
    process.read_until("Connecting again")
    result = process.signal(signal.SIGTERM).end()
    assert result == (1, connection_failed("stopped by SIGTERM"), "")


def test_nobody_reads(client: Client) -> None:
    """A reader that goes away ends it, reconnecting or not."""
    client.exchange.script = answer(SUBSCRIBED, *[DATA] * 10_000)
    process = client.start("ticker", "XBT/USD", "--reconnect", "0")
    process.read_until(DATA)
    process.stop_reading()
    assert process.end() == (0, "", "")


def test_nobody_reads_of_losses(client: Client) -> None:
    """It doesn't dial on for a reader that has left while the exchange is down."""

    def leave(peer: Peer) -> None:
        client.barrier.wait()
        peer.sock.close()

    client.exchange.script = answer(SUBSCRIBED, DATA, then=leave)
    process = client.start("ticker", "XBT/USD", "--reconnect", "0.01")
    process.read_until(DATA)
    client.exchange.refusals = itertools.repeat(Refusal(503))
    process.stop_reading()
    client.barrier.wait()
    assert process.end() == (0, "", "")
