"""Subscriptions that the exchange refuses, or ends."""

from __future__ import annotations

import re
from typing import Any

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
        pytest.param(
            ["ticker", "A/B", "C/D"],
            ['{"Error":"Exceeded msg rate"}'],
            "Exceeded msg rate",
            id="an error without an event",
        ),
        pytest.param(
            ["ticker", "A/B"],
            ['{"event":"subscriptionStatus","pair":"A/B","status":"error"}'],
            "null",
            id="without a word",
        ),
        pytest.param(
            ["ticker", "A/B", "reqid=42"],
            [REFUSED[:-1] + ',"reqid":42}'],
            "Currency pair not supported A/B",
            id="with the reqid",
        ),
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


def status(pair: str, what: str, words: str = "", **members: Any) -> dict[str, Any]:
    """Return a subscriptionStatus: of a pair, or of all if PAIR is empty."""
    event = {"event": "subscriptionStatus", "status": what, **members}
    event.update({"pair": pair} if pair else {})
    event.update({"errorMessage": words} if words else {})
    return event


UNSUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"unsubscribed"}'
LATER = REFUSED.replace("A/B", "XBT/USD")  # a refusal of what was accepted
A, B = "XBT/USD", "ETH/USD"
BOTH = [status(A, "subscribed"), status(B, "subscribed")]
PRIVATE = status("", "subscribed", channelName="openOrders")


@pytest.mark.parametrize("message", [UNSUBSCRIBED, "no JSON", "{}", "[]", "null", '"Error"', ""])
def test_never_acknowledged(client: Client, message: str) -> None:
    """A feed that has brought neither an acceptance nor data has failed."""
    result = client.time_out("ticker", "XBT/USD", "-rq", say=[message])
    assert result == (1, f"{message}\n", messages_failed(TIMED_OUT))


def test_refused_to_another(client: Client) -> None:
    """A refusal with another reqid refuses nothing here."""
    client.exchange.script = answer(REFUSED[:-1] + ',"reqid":7}', SUBSCRIBED, DATA)
    result = client.run("ticker", "XBT/USD", "reqid=42", "-rqC1")
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize(
    ("argv", "replies", "words"),
    [
        pytest.param(
            ["ticker", A], [SUBSCRIBED, UNSUBSCRIBED], f"{A}: unsubscribed", id="unsubscribed"
        ),
        pytest.param(
            ["ticker", A], [SUBSCRIBED, DATA, UNSUBSCRIBED], f"{A}: unsubscribed", id="behind data"
        ),
        pytest.param(
            ["ticker", A],
            [SUBSCRIBED, LATER],
            f"{A}: Currency pair not supported {A}",
            id="an error",
        ),
        pytest.param(
            ["ticker", A],
            [SUBSCRIBED, status(A, "error", "Something new")],
            f"{A}: Something new",
            id="an error that nobody knows",
        ),
        pytest.param(
            ["ticker", A], [SUBSCRIBED, status(A, "error")], f"{A}: null", id="an error in silence"
        ),
        pytest.param(
            ["ticker", A],
            [SUBSCRIBED, REFUSED_WHOLE],
            "Subscription name invalid",
            id="an error without the pair",
        ),
        pytest.param(
            ["openOrders"], [PRIVATE, status("", "unsubscribed")], "unsubscribed", id="private"
        ),
        pytest.param(
            ["openOrders"],
            [PRIVATE, status("", "error", "ESession:Invalid session")],
            "ESession:Invalid session",
            id="a private error",
        ),
        pytest.param(
            ["ticker", A, B],
            [*BOTH, status("", "unsubscribed")],
            "unsubscribed",
            id="both pairs at once",
        ),
        pytest.param(
            ["ticker", "BTC/USD"],
            [SUBSCRIBED, UNSUBSCRIBED],
            f"{A}: unsubscribed",
            id="the exchange's name of the pair, not the user's",
        ),
        pytest.param(
            ["ticker", "A/B", A],
            [REFUSED, SUBSCRIBED, UNSUBSCRIBED],
            f"Currency pair not supported A/B; {A}: unsubscribed",
            id="the other was refused before",
        ),
        pytest.param(
            ["ticker", A, A],
            [SUBSCRIBED, status(A, "error", "Already subscribed"), UNSUBSCRIBED],
            f"Already subscribed; {A}: unsubscribed",
            id="a pair that was given twice",
        ),
        pytest.param(
            ["openOrders"],
            [
                '{"event":"subscriptionStatus","status":"subscribed"}',
                '{"event":"subscriptionStatus","pair":null,"status":"unsubscribed"}',
            ],
            "unsubscribed",
            id="a private feed, with a pair that is null",
        ),
        pytest.param(
            ["ticker", A, "reqid=42"],
            [SUBSCRIBED, status(A, "unsubscribed", reqid=42)],
            f"{A}: unsubscribed",
            id="with our reqid",
        ),
    ],
)
def test_ended(client: Client, argv: list[str], replies: list[object], words: str) -> None:
    """A feed of which no subscription is left ends at once with 1, in the exchange's words."""
    client.exchange.script = answer(*replies)
    result = client.run(*argv, "-W0")
    assert (result.status, result.err) == (1, "")
    assert result.out.endswith(messages_failed(words))


def test_ended_one_by_one(client: Client) -> None:
    """Each subscription that ends is said on stderr while others are left; the last is a loss."""
    client.exchange.script = answer(*BOTH, status(B, "unsubscribed"), DATA, UNSUBSCRIBED)
    code, out, err = client.run("ticker", A, B, "-rq", "-W0")
    assert (code, out.splitlines()[1:]) == (1, [DATA, UNSUBSCRIBED])
    said, last = err.splitlines(keepends=True)
    assert re.fullmatch(r"\S{10}T\S{8}Z Subscription ended: ETH/USD: unsubscribed\n", said)
    assert last == messages_failed("ETH/USD: unsubscribed; XBT/USD: unsubscribed")


@pytest.mark.parametrize("options", ["-C1", "-rqC1"])
@pytest.mark.parametrize(
    ("event", "words"),
    [
        pytest.param(status(B, "unsubscribed"), "unsubscribed", id="unsubscribed"),
        pytest.param(status(B, "error", "Something new"), "Something new", id="an error"),
        pytest.param(status(B, "error", "EService:Busy"), "EService:Busy", id="a service"),
        pytest.param(
            status(B, "error", "Exceeded msg rate"), "Exceeded msg rate", id="the rate limit"
        ),
    ],
)
def test_ended_in_part(client: Client, options: str, event: dict[str, Any], words: str) -> None:
    """Where one of two subscriptions ends the other goes on, and stderr says which is gone."""
    client.exchange.script = answer(*BOTH, event, DATA)
    code, out, err = client.run("ticker", A, B, options)
    assert (code, out.endswith(f"{DATA}\n")) == (0, True)
    assert re.fullmatch(rf"\S+T\S+Z Subscription ended: ETH/USD: {words}\n", err)


def test_ended_twice(client: Client) -> None:
    """What has ended already can't end again, and is said once."""
    client.exchange.script = answer(*BOTH, *[status(B, "unsubscribed")] * 3, DATA)
    code, _, err = client.run("ticker", A, B, "-rqC1")
    assert (code, err.count("ended"), err.count("\n")) == (0, 1, 1)


def test_subscribed_again(client: Client) -> None:
    """A subscription that the exchange takes up again is there, and can end again."""
    again = [status(B, "unsubscribed"), status(B, "subscribed")]
    client.exchange.script = answer(*BOTH, *again, UNSUBSCRIBED, DATA)
    code, _, err = client.run("ticker", A, B, "-rqC1")
    assert (code, [line.split(" ", 1)[1] for line in err.splitlines()]) == (
        0,
        [f"Subscription ended: {pair}: unsubscribed" for pair in (B, A)],
    )


@pytest.mark.parametrize(
    ("argv", "replies"),
    [
        pytest.param(
            ["ticker", A, A],
            [SUBSCRIBED, status(A, "error", "Already subscribed")],
            id="a pair that was given twice",
        ),
        pytest.param(
            ["ticker", A],
            [SUBSCRIBED, status(A, "error", "Already subscribed")],
            id="a pair that was not given twice",
        ),
        pytest.param(["ticker", A], [SUBSCRIBED, REFUSED], id="an error of another pair"),
        pytest.param(
            ["ticker", A], [SUBSCRIBED, status(B, "unsubscribed")], id="another pair's end"
        ),
        pytest.param(["ticker", A], [SUBSCRIBED, status(A, "?")], id="an unknown status"),
        pytest.param(["ticker", A], [SUBSCRIBED, status(A, "subscribed")], id="accepted twice"),
        pytest.param(["ticker", A], [SUBSCRIBED, MALFORMED], id="an error event"),
        pytest.param(
            ["ticker", A], [SUBSCRIBED, '{"Error":"Exceeded msg rate"}'], id="without an event"
        ),
        pytest.param(
            ["ticker", A],
            [SUBSCRIBED, '{"event":"pingStatus","status":"error","errorMessage":"Reqid"}'],
            id="an error of another kind",
        ),
        pytest.param(
            ["ticker", A, "reqid=42"],
            [SUBSCRIBED, status(A, "unsubscribed", reqid=7)],
            id="an end with another reqid",
        ),
        pytest.param(
            ["ticker", A], [SUBSCRIBED, '["unsubscribed",{"status":"error"}]'], id="data like it"
        ),
    ],
)
@pytest.mark.parametrize("options", [[], ["--reconnect", "0"]], ids=["once", "reconnecting"])
def test_not_ended(
    client: Client, options: list[str], argv: list[str], replies: list[object]
) -> None:
    """What concerns no subscription that was accepted ends none, and nothing is said."""
    client.exchange.script = answer(*replies, *[DATA] * 2)
    code, out, err = client.run(*argv, *options, "-rqC2")
    assert (code, err) == (0, "")
    assert DATA in out
    assert len(client.exchange.received) == 1
