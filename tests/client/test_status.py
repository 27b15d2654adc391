"""The exit status, and the sentence that goes with it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from client.common import (
    ACCEPTED,
    CANCELLED,
    ERROR,
    FATE,
    GREETED,
    MALFORMED,
    NOT_CANCELLED,
    ORDER_SHOWN,
    PONG,
    REFUSED_WHOLE,
    TIMED_OUT,
    connection_failed,
    messages_failed,
    request_failed,
    sent,
)
from client.scripted import HEARTBEAT, Peer, answer
from conftest import Client
from krakenws import TABLE


@pytest.mark.parametrize(
    ("argv", "replies", "status", "sentence"),
    [
        pytest.param(["ping"], [PONG], 0, "", id="a pong"),
        pytest.param(["ping"], [HEARTBEAT, PONG], 0, "", id="a pong, later"),
        pytest.param(["ping"], [MALFORMED], 1, "", id="ping refused"),
        pytest.param(
            ["ping", "reqid=-1"],
            ['{"errorMessage":"Reqid","event":"pingStatus","reqid":-1,"status":"error"}'],
            1,
            "",
            id="ping refused by a status",
        ),
        pytest.param(["addOrder"], [ACCEPTED], 0, "", id="accepted"),
        pytest.param(["addOrder"], [ERROR], 1, "", id="refused"),
        pytest.param(["addOrder"], [MALFORMED], 1, "", id="refused as malformed"),
        pytest.param(["addOrder"], [REFUSED_WHOLE], 1, "", id="refused as no event"),
        pytest.param(["addOrder"], [PONG, ACCEPTED], 0, "", id="accepted, after something else"),
        pytest.param(["cancelOrder", "txid=A"], [CANCELLED], 0, "", id="one cancelled"),
        pytest.param(["cancelOrder", "txid=A,B"], [CANCELLED] * 2, 0, "", id="two cancelled"),
        pytest.param(
            ["cancelOrder", "txid=A", "cl_ord_id=B,C"],
            [CANCELLED] * 3,
            0,
            "",
            id="ids of both kinds",
        ),
        pytest.param(["cancelOrder"], [NOT_CANCELLED], 1, "", id="no id to cancel"),
        pytest.param(
            ["cancelOrder", "txid=A,B,C"],
            [CANCELLED, NOT_CANCELLED, CANCELLED],
            1,
            "",
            id="two cancelled, one not",
        ),
        pytest.param(["cancelOrder", "txid=A,B,C"], [MALFORMED], 1, "", id="three refused at once"),
    ],
)
def test_answered(
    client: Client, argv: list[str], replies: list[str], status: int, sentence: str
) -> None:
    """An answered request ends by its answer; -C ends it as soon as that is complete."""
    client.exchange.script = answer(*replies)
    result = client.run(*argv, "-rqC1", "-W0")
    shown = [reply for reply in replies if reply is not HEARTBEAT]
    assert result == (status, "".join(f"{reply}\n" for reply in shown), sentence)


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda peer: peer.close(1001, "bye"), id="closed"),
        pytest.param(Peer.reset, id="reset"),
        pytest.param(Peer.wait, id="silent"),
    ],
)
@pytest.mark.parametrize(("reply", "status"), [(ACCEPTED, 0), (ERROR, 1)])
def test_answered_then(
    client: Client, reply: str, status: int, ending: Callable[[Peer], None]
) -> None:
    """Once answered, nothing that happens to the connection changes the status."""

    def then(peer: Peer) -> None:
        peer.sync()
        ending(peer)

    client.exchange.script = answer(reply, then=then)
    process = client.start("addOrder", "-rq", "-W0")
    assert process.read_until("addOrderStatus") == f"{reply}\n"
    assert process.signal(signal.SIGTERM).end() == (status, "", "")


@pytest.mark.parametrize(
    ("replies", "status"),
    [
        pytest.param([ACCEPTED, ERROR], 0, id="accepted, then an error"),
        pytest.param([ACCEPTED, MALFORMED], 0, id="accepted, then another error"),
        pytest.param([ERROR, MALFORMED], 1, id="refused, then another error"),
        pytest.param([ERROR, ACCEPTED], 3, id="refused, then accepted"),
        pytest.param([MALFORMED, ACCEPTED], 3, id="refused as a whole, then accepted"),
    ],
)
def test_contradiction(client: Client, replies: list[str], status: int) -> None:
    """A complete answer stands; but what was refused and then accepted may be live."""
    out = "".join(f"{reply}\n" for reply in replies)
    err = messages_failed(TIMED_OUT) + FATE if status == 3 else ""
    assert client.time_out("addOrder", "-rq", say=replies) == (status, out, err)


@pytest.mark.parametrize(
    ("argv", "replies", "words"),
    [
        *[
            pytest.param(["addOrder"], [words], words, id=words)
            for words in (
                "EService:Unavailable",
                "EService:Busy",
                "EService:Timeout",
                "EService:Deadline elapsed",
                "EGeneral:Internal error",
                "EGeneral:Internal error:7",
                "EService: Unavailable",
                "EService:Anything else",
                "EDatabase:Internal error",
                "EGeneral:Timeout",
                "EGeneral: Internal error",
            )
        ],
        *[
            pytest.param([name], ["EService:Unavailable"], "EService:Unavailable", id=name)
            for name, row in TABLE.items()
            if row.trading and name != "addOrder"
        ],
        pytest.param(
            ["cancelOrder", "txid=A,B"], ["", "EService:Busy"], "EService:Busy", id="one of two"
        ),
        pytest.param(
            ["cancelOrder", "txid=A,B"],
            ["EOrder:Unknown order", "EService:Busy"],
            "EOrder:Unknown order; EService:Busy",
            id="one refused",
        ),
    ],
)
def test_service_broken(client: Client, argv: list[str], replies: list[str], words: str) -> None:
    """A request at which a service failed was not refused: its fate is unknown."""
    client.exchange.script = answer(
        *[
            {"event": f"{argv[0]}Status", "status": "error", "errorMessage": reply}
            if reply
            else {"event": f"{argv[0]}Status", "status": "ok"}
            for reply in replies
        ]
    )
    status, _, err = client.run(*argv, "-rqC1", "-W0")
    assert (status, err) == (3, request_failed(words) + FATE)


def test_service_broken_in_time(client: Client) -> None:
    """Without a count, too, the exchange's words are in the sentence, not the time limit's."""
    broken = ERROR.replace("EOrder:Insufficient funds", "EService:Busy")
    result = client.time_out("addOrder", "-rq", say=[broken])
    assert result == (3, f"{broken}\n", request_failed("EService:Busy") + FATE)


@pytest.mark.parametrize("words", ["Market in cancel_only mode", " Market in post_only mode"])
def test_market_mode(client: Client, words: str) -> None:
    """A market that takes no such order has refused it."""
    refused = ERROR.replace("EOrder:Insufficient funds", f"EService:{words}")
    client.exchange.script = answer(refused)
    assert client.run("addOrder", "-rqC1", "-W0") == (1, f"{refused}\n", "")


def test_unanswered(client: Client) -> None:
    """An order without an answer ends after three seconds with status 3, and says so."""
    client.exchange.script = answer()
    result = client.run("addOrder", "pair=XBT/USD")
    assert result == (3, GREETED + sent(ORDER_SHOWN) + request_failed(TIMED_OUT) + FATE, "")


@pytest.mark.parametrize(
    ("argv", "replies"),
    [
        pytest.param(["addOrder"], [PONG], id="something else"),
        pytest.param(["addOrder"], [CANCELLED], id="another's reply"),
        pytest.param(["addOrder"], ['{"event":"addOrderStatus"}'], id="no status"),
        pytest.param(
            ["addOrder"], ['{"event":"addOrderStatus","status":"?"}'], id="an unknown status"
        ),
        pytest.param(["addOrder"], ['{"event":["addOrderStatus"]}'], id="a strange event"),
        pytest.param(["addOrder"], [f"[{ACCEPTED}]"], id="a reply within an array"),
        pytest.param(["addOrder"], [ACCEPTED[:-1]], id="half a reply"),
        pytest.param(["addOrder"], ['{"a":' * 100_000], id="nested too deeply"),
        pytest.param(["cancelOrder", "txid=A,B"], [CANCELLED], id="one of two"),
        pytest.param(["cancelOrder", "txid=A,B,C"], [CANCELLED, NOT_CANCELLED], id="two of three"),
    ],
)
def test_not_an_answer(client: Client, argv: list[str], replies: list[str]) -> None:
    """What isn't the whole answer leaves the fate unknown."""
    client.exchange.script = answer(*replies, then=lambda peer: peer.close(1001, "bye"))
    out = "".join(f"{reply}\n" for reply in replies)
    assert client.run(*argv, "-rqC1") == (3, out, messages_failed("1001 bye") + FATE)


def test_ping_unanswered(client: Client) -> None:
    """A ping without a pong has failed."""
    assert client.time_out("ping", "-rq") == (1, "", request_failed(TIMED_OUT))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_order_stopped(client: Client, number: signal.Signals) -> None:
    """An order that a signal leaves without its answer has an unknown fate."""
    client.exchange.script = answer(HEARTBEAT)
    process = client.start("addOrder", "-W0")
    process.read_until(HEARTBEAT)
    result = process.signal(number).end()
    assert result == (3, messages_failed(f"stopped by {number.name}") + FATE, "")


def test_order_not_sent(client: Client) -> None:
    """An order that was stopped before it was sent is certainly not in effect."""

    def script(peer: Peer) -> None:
        client.barrier.wait()
        peer.wait()

    client.exchange.script = script
    process = client.start("addOrder")
    client.barrier.wait()
    assert process.signal(signal.SIGTERM).end() == (1, connection_failed("stopped by SIGTERM"), "")
    assert client.exchange.received == []
