"""Refused subscriptions."""

from __future__ import annotations

import pytest

from client.common import (
    DATA,
    MALFORMED,
    REFUSED,
    REFUSED_WHOLE,
    SUBSCRIBED,
    TIMED_OUT,
    got,
    messages_failed,
    request_failed,
)
from client.scripted import answer
from conftest import Client


@pytest.mark.parametrize(
    ("argv", "replies", "words"),
    [
        pytest.param(["ticker", "A/B"], [REFUSED], "Currency pair not supported A/B", id="one"),
        pytest.param(
            ["ticker", "A/B", "A/B"], [REFUSED] * 2, "Currency pair not supported A/B", id="two"
        ),
        pytest.param(
            ["ticker", "A/B", "C/D"],
            [REFUSED, REFUSED.replace("A/B", "C/D")],
            "Currency pair not supported A/B; Currency pair not supported C/D",
            id="two in two ways",
        ),
        pytest.param(
            ["ticker", "A/B", "C/D"], [REFUSED_WHOLE], "Subscription name invalid", id="whole"
        ),
        pytest.param(["ticker", "A/B", "C/D"], [MALFORMED], "Malformed request", id="error"),
        pytest.param(["balances"], [REFUSED_WHOLE], "Subscription name invalid", id="private"),
    ],
)
def test_refused(client: Client, argv: list[str], replies: list[str], words: str) -> None:
    """A subscription that was refused ends, in the exchange's own words."""
    client.exchange.script = answer(*replies)
    result = client.run(*argv)
    assert result.status == 1
    assert result.out.endswith(got(*replies) + request_failed(words))


def test_partly_refused(client: Client) -> None:
    """Where one pair was accepted the stream goes on."""
    client.exchange.script = answer(REFUSED, SUBSCRIBED, DATA)
    result = client.run("ticker", "A/B", "XBT/USD", "-rqC1")
    assert result == (0, f"{REFUSED}\n{DATA}\n", "")


@pytest.mark.parametrize(
    "message",
    [
        '{"Error":"Exceeded msg rate"}',
        '{"event":"subscriptionStatus","pair":"XBT/USD","status":"unsubscribed"}',
        "no JSON",
        "{}",
        "",
    ],
)
def test_never_acknowledged(client: Client, message: str) -> None:
    """A feed that has brought neither an acceptance nor data has failed."""
    result = client.time_out("ticker", "XBT/USD", "-rq", say=[message])
    assert result == (1, f"{message}\n", messages_failed(TIMED_OUT))


def test_refused_later(client: Client) -> None:
    """A refusal after the acceptance ends nothing."""
    client.exchange.script = answer(SUBSCRIBED, REFUSED_WHOLE, DATA)
    assert client.run("ticker", "XBT/USD", "-rqC1").status == 0
