"""The options --count and --max-time."""

from __future__ import annotations

import signal

import pytest

from client.common import (
    DATA,
    FATE,
    SUBSCRIBED,
    TIMED_OUT,
    connection_failed,
    hang,
    request_failed,
)
from client.scripted import HEARTBEAT, answer
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
