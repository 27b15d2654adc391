"""The options --count and --max-time."""

from __future__ import annotations

import functools
import signal

import pytest

from client.common import (
    ACCEPTED,
    DATA,
    FATE,
    PONG,
    SUBSCRIBED,
    TIMED_OUT,
    connection_failed,
    hang,
    request_failed,
)
from client.scripted import HEARTBEAT, Peer, answer
from conftest import PATIENCE, TOKEN, Client


@pytest.mark.parametrize("count", [1, 2, 5])
def test_count(client: Client, count: int) -> None:
    """-C counts messages of data, and nothing else."""
    client.exchange.script = answer("{}", SUBSCRIBED, "no JSON", *[HEARTBEAT, DATA] * 5)
    result = client.run("ticker", "XBT/USD", "-rq", f"-C{count}")
    assert result == (0, "{}\nno JSON\n" + f"{DATA}\n" * count, "")
    assert client.exchange.closed.get(timeout=PATIENCE) == 1000


@pytest.mark.parametrize(
    ("argv", "replies", "status"),
    [
        pytest.param(["ticker", "XBT/USD"], [SUBSCRIBED, DATA], 0, id="no count"),
        pytest.param(["-C9", "ticker", "XBT/USD"], [SUBSCRIBED, DATA], 124, id="count"),
        pytest.param(["-C9", "ticker", "XBT/USD"], [], 124, id="no reply, count"),
        pytest.param(["ticker", "XBT/USD"], [], 1, id="no reply"),
        pytest.param(["-C1", "ping"], [], 124, id="ping, count"),
        pytest.param(["-C1", "addOrder"], [], 3, id="an order, count"),
    ],
)
def test_time_limit(client: Client, argv: list[str], replies: list[str], status: int) -> None:
    """What the time limit means depends on what was still to come."""
    result = client.time_out(*argv, "-rq", say=replies)
    sentence = "" if replies else request_failed(TIMED_OUT)
    out = "".join(f"{reply}\n" for reply in replies if reply != SUBSCRIBED)
    assert result == (status, out, sentence + (FATE if status == 3 else ""))


@pytest.mark.parametrize("limit", ["0.5", "0.000001"])
def test_alarm(client: Client, limit: str) -> None:
    """The time limit needs no help, even where it is shorter than the system's clock ticks."""
    client.exchange.script = answer(SUBSCRIBED)
    assert client.run("ticker", "XBT/USD", "-C9", "-W", limit).status == 124


def test_longest_limits(client: Client) -> None:
    """The longest times that are taken are not too long for the system."""
    argv = ["-W", "1e6", "--idle-timeout", "1e6", "--token-command", f"echo '{TOKEN}'"]
    assert client.run("cancelAll", "-rqC1", *argv).status == 0


def test_no_limit(client: Client) -> None:
    """-W 0 lets requests wait for longer than their three seconds."""

    def then(peer: Peer) -> None:
        assert peer.receive(timeout=3.5) is None
        peer.send(PONG if peer.host == "ws.kraken.com" else ACCEPTED)

    client.exchange.script = answer(then=then)
    processes = [client.start(name, "-rqC1", "-W0") for name in ("ping", "addOrder")]
    ends = [process.end() for process in processes]
    assert ends == [(0, f"{PONG}\n", ""), (0, f"{ACCEPTED}\n", "")]


def test_order_not_even_begun(client: Client) -> None:
    """An order that the time limit ends while its token is awaited is not in effect."""
    argv = ["addOrder", "-C1", "-W0.2", "--token-command", "exec sleep 60"]
    assert client.run(*argv) == (1, connection_failed(TIMED_OUT), "")


def test_order_never_sent(client: Client) -> None:
    """An order that the time limit kept from being sent is certainly not in effect."""
    client.exchange.faults["tls"] = hang
    assert client.run("addOrder", "-C1", "-W0.2") == (1, connection_failed(TIMED_OUT), "")


def test_ctrl_c_with_a_count(client: Client) -> None:
    """Ctrl-C before the count is reached is still what was asked for."""
    client.exchange.script = answer(SUBSCRIBED)
    process = client.start("ticker", "XBT/USD", "-C5")
    process.read_until(SUBSCRIBED)
    assert process.signal(signal.SIGINT).end() == (0, "", "")


@pytest.mark.parametrize("argv", [[], ["-W", "1000"]], ids=["alone", "the shorter one"])
def test_inherited_alarm(client: Client, argv: list[str]) -> None:
    """An alarm that the parent set counts on, as perl -e 'alarm shift; exec @ARGV' has it."""
    client.exchange.script = answer(SUBSCRIBED)
    argv = ["ticker", "XBT/USD", "-rq", "-C9", *argv]
    result = client.run(*argv, preexec_fn=lambda: signal.alarm(3))
    assert result == (124, "", "")


@pytest.mark.parametrize("argv", [["-W", "1000"], []], ids=["feed", "order"])
def test_inherited_timer(client: Client, argv: list[str]) -> None:
    """So does a timer, and of the two limits the shorter one ends the run: here the parent's."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.wait()

    client.exchange.script = answer(then=then)
    request = ["ticker", "XBT/USD"] if argv else ["addOrder", "-W", "1000"]
    limit = functools.partial(signal.setitimer, signal.ITIMER_REAL, 3.5)
    process = client.start(*request, *argv, "-rqC1", preexec_fn=limit)
    client.barrier.wait()
    status = 124 if argv else 3
    assert process.end() == (status, "", request_failed(TIMED_OUT) + (FATE if status == 3 else ""))


def test_longer_inherited_alarm(client: Client) -> None:
    """Here the shorter one is the client's own, of an option or of the request."""
    client.exchange.script = answer()
    long = functools.partial(signal.alarm, 1000)
    assert client.run("ticker", "XBT/USD", "-C9", "-W0.2", preexec_fn=long).status == 124
    assert client.run("addOrder", "-C9", "-W0.2", preexec_fn=long).status in (1, 3)
    assert client.run("ping", "-C9", preexec_fn=long).status == 124


def test_ignored_alarm(client: Client) -> None:
    """A parent that ignores SIGALRM takes no limit away."""
    client.exchange.script = answer(SUBSCRIBED)
    ignore = functools.partial(signal.signal, signal.SIGALRM, signal.SIG_IGN)
    assert client.run("ticker", "XBT/USD", "-C9", "-W0.2", preexec_fn=ignore).status == 124
