"""The exit status, and the sentence that goes with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from websockets.frames import Opcode

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
    got,
    messages_failed,
    request_failed,
    sent,
)
from client.scripted import GREETING, HEARTBEAT, Peer, answer, frame
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
        pytest.param(
            ["addOrder", "reqid=-1"],
            ['{"errorMessage":"Reqid field must be x","event":"pingStatus","status":"error"}'],
            1,
            "",
            id="refused by the status of a ping",
        ),
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


def test_refused_and_then_broken(client: Client) -> None:
    """A service that fails behind a refusal leaves the fate unknown: one of them was not ours."""
    broken = ERROR.replace("EOrder:Insufficient funds", "EService:Busy")
    result = client.time_out("addOrder", "-rq", say=[ERROR, broken])
    words = "EOrder:Insufficient funds; EService:Busy"
    assert result == (3, f"{ERROR}\n{broken}\n", request_failed(words) + FATE)


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
                "EDatabase:Anything else",
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


def refusal(words: object) -> dict[str, object]:
    """Return a reply that refuses an order, with these words."""
    return {"event": "addOrderStatus", "status": "error", "errorMessage": words}


# https://docs.kraken.com/api/docs/guides/spot-errors, and what v1 was seen to say.
KNOWN = {
    "EGeneral": "Invalid arguments|Invalid arguments:volume|Invalid arguments:close[price]"
    "|Invalid arguments:timeout"
    "|Permission denied|Temporary lockout|Too many requests",
    "EService": "Market in cancel_only mode|Market in post_only mode",
    "EAPI": "Invalid key|Invalid signature|Invalid nonce|Invalid token|Rate limit exceeded",
    "ESession": "Invalid session",
    "EAccount": "Invalid permissions|Invalid permissions:ASSET trading restricted for NL.",
    "EQuery": "Unknown asset pair",
    "EOrder": "Cannot open position|Cannot open opposing position|Margin allowance exceeded"
    "|Margin level too low|Margin position size exceeded|Insufficient margin|Insufficient funds"
    "|Order minimum not met|Cost minimum not met|Tick size check failed|Orders limit exceeded"
    "|Rate limit exceeded|Domain rate limit exceeded|Invalid price|Positions limit exceeded"
    "|Reduce only:Non-PC|Reduce only:No position exists|Reduce only:Position is closed"
    "|Scheduled orders limit exceeded|Unknown position|Unknown order|Invalid order",
}


@pytest.mark.parametrize(
    "family",
    [
        *[family for family in KNOWN if family != "EOrder"],
        pytest.param("EOrder"),
    ],
)
def test_known_refusals(client: Client, family: str) -> None:
    """Every error that Kraken documents as a refusal refuses, with or without a blank."""
    texts = [f"{family}:{blank}{text}" for text in KNOWN[family].split("|") for blank in ("", " ")]
    replies = [{**refusal(text), "event": "cancelOrderStatus"} for text in texts]
    client.exchange.script = answer(*replies)
    ids = ",".join("A" * len(texts))
    status, _, err = client.run("cancelOrder", f"txid={ids}", "-rqC1", "-W0")
    assert (status, err) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        "Exceeded msg rate",
        "Malformed request",
        "Event(s) not found",
        "Unsupported event",
        "Currency pair not supported A/B",
        "Currency pair not in ISO 4217-A3 format AB",
        "Reqid field must be a positive integer less than 18446744073709551616",
    ],
)
def test_known_refusals_of_the_parser(client: Client, words: str) -> None:
    """What the exchange's parser says of a request has refused it, too."""
    client.exchange.script = answer({"errorMessage": words, "event": "error"})
    status, _, err = client.run("addOrder", "-rqC1", "-W0")
    assert (status, err) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("EOrder:Something new", id="a new error of a known family"),
        pytest.param("ENew:Insufficient funds", id="a known error of a new family"),
        pytest.param("Something new", id="a new error without a family"),
        pytest.param("EOrder:Insufficient funds twice", id="a known error, and more behind it"),
        pytest.param("Not EOrder:Insufficient funds", id="a known error, and more before it"),
        pytest.param(" EOrder:Insufficient funds", id="a leading blank"),
        pytest.param("EOrder:Insufficient funds ", id="a blank at the end"),
        pytest.param("EGeneral:Unknown error", id="unknown to Kraken itself"),
        pytest.param("EOrder:", id="a family alone"),
        pytest.param("EService:Market in maintenance mode", id="a new mode of the market"),
        pytest.param("Internal error", id="an internal error without a family"),
        pytest.param("EGeneral:internal error", id="a service, in lower case"),
        pytest.param("EGENERAL:INTERNAL ERROR", id="a service, in upper case"),
        pytest.param("eservice:unavailable", id="a service, all in lower case"),
        pytest.param(" EService:Unavailable", id="a service, behind a blank"),
        pytest.param("EOrder:Invalid order EService:Busy", id="a service, at the end"),
        pytest.param(
            "EGeneral:Invalid arguments:EService:Busy", id="a service, in a text that varies"
        ),
        pytest.param(
            "Currency pair not known (INTERNAL ERROR)", id="a service, in other letters there"
        ),
        pytest.param("EGeneral:Invalid arguments:a eservice:busy b", id="a service, in the middle"),
        pytest.param("EService:Busy, EOrder:Insufficient funds", id="a service and a refusal"),
        pytest.param("EOrder:Insufficient funds, EService:Busy", id="a refusal and a service"),
        pytest.param(
            "EService:Market in post_only mode, EService:Busy", id="the market and a service"
        ),
        pytest.param("EOrder:Insufficient funds, EOrder:New", id="a refusal and a new error"),
        pytest.param(
            "EGeneral:Invalid arguments:volume, EOrder:New",
            id="a refusal that varies and a new error",
        ),
        pytest.param("addOrder is currently unavailable", id="an endpoint that is unavailable"),
    ],
)
def test_not_certainly_refused(client: Client, words: str) -> None:
    """An error that isn't known as a refusal, word for word, leaves the fate unknown."""
    client.exchange.script = answer(refusal(words))
    status, _, err = client.run("addOrder", "-rqC1", "-W0")
    assert (status, err) == (3, request_failed(words) + FATE)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        pytest.param({"event": "addOrderStatus", "status": "error"}, "null", id="no text"),
        pytest.param(refusal(None), "null", id="null"),
        pytest.param(refusal(""), "", id="an empty string"),
        pytest.param(refusal([]), "[]", id="an empty list"),
        pytest.param(refusal(["EService:Busy"]), '["EService:Busy"]', id="a list"),
        pytest.param(
            refusal(["EOrder:Invalid order"]), '["EOrder:Invalid order"]', id="a list of a refusal"
        ),
        pytest.param(refusal({"a": "b"}), '{"a": "b"}', id="an object"),
        pytest.param(refusal(0), "0", id="a number"),
        pytest.param(refusal(False), "false", id="a boolean"),
        pytest.param({"event": "error"}, "null", id="an error event without a text"),
        pytest.param({"event": "error", "errorMessage": ""}, "", id="an empty error event"),
        pytest.param({"Error": None}, "null", id="null without an event"),
        pytest.param({"Error": ["Exceeded msg rate"]}, '["Exceeded msg rate"]', id="a bare list"),
        pytest.param({"Error": "EService:Busy"}, "EService:Busy", id="a service without an event"),
        pytest.param({"Error": "Something new"}, "Something new", id="new without an event"),
    ],
)
def test_no_text(client: Client, reply: object, words: str) -> None:
    """An error that says nothing, or not in plain text, leaves the fate unknown."""
    client.exchange.script = answer(reply)
    status, _, err = client.run("addOrder", "-rqC1", "-W0")
    assert (status, err) == (3, request_failed(words) + FATE)


@pytest.mark.parametrize("words", ["EService:Unavailable", "Something new", None])
def test_ping_fails(client: Client, words: object) -> None:
    """A ping changes nothing at the exchange, so that every error is a plain failure."""
    client.exchange.script = answer({**refusal(words), "event": "pingStatus"})
    status, _, err = client.run("ping", "-rqC1", "-W0")
    assert (status, err) == (1, "")


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["ping"], id="ping"),
        pytest.param(["addOrder"], id="an order"),
        pytest.param(["addOrder", "reqid=42"], id="an order with a reqid"),
        pytest.param(["cancelOrder", "txid=A,B,C"], id="three orders"),
        pytest.param(["cancelAllOrdersAfter", "timeout=60"], id="a switch"),
    ],
)
def test_error_without_an_event(client: Client, argv: list[str]) -> None:
    """An error without an event refuses a request at once, like the event error."""
    error = '{"Error":"Exceeded msg rate"}'
    client.exchange.script = answer(error)
    assert client.run(*argv, "-rqC1", "-W0") == (1, f"{error}\n", "")


@pytest.mark.parametrize(
    "error",
    [
        '{"errorMessage":"Exceeded msg rate"}',
        '{"errorMessage":"Malformed request","status":"error"}',
        '{"error":"Exceeded msg rate"}',
        '{"event":null,"Error":"Exceeded msg rate"}',
        '{"event":"error","Error":null,"errorMessage":"Malformed request"}',
    ],
)
def test_other_errors_without_an_event(client: Client, error: str) -> None:
    """An error without an event may also be called as those with one are."""
    client.exchange.script = answer(error)
    assert client.run("addOrder", "-rqC1") == (1, f"{error}\n", "")


def test_error_within_a_reply(client: Client) -> None:
    """A member called Error makes no error of an event that is another."""
    accepted = ACCEPTED[:-1] + ',"Error":"none"}'
    client.exchange.script = answer('{"event":"heartbeat","Error":"none"}', accepted)
    assert client.run("addOrder", "-rqC1", "-W0").status == 0


def numbered(reply: str, reqid: object) -> str:
    """Return a reply with a reqid."""
    return f'{reply[:-1]},"reqid":{reqid}}}'


@pytest.mark.parametrize(
    ("argv", "replies", "status"),
    [
        pytest.param(
            ["addOrder", "reqid=42"],
            [numbered(ERROR, 7), numbered(ACCEPTED, 42)],
            0,
            id="another's error, then our ok",
        ),
        pytest.param(
            ["addOrder", "reqid=42"],
            [numbered(ACCEPTED, 7), numbered(ERROR, 42)],
            1,
            id="another's ok, then our error",
        ),
        pytest.param(
            ["addOrder", "reqid=42"],
            [numbered(MALFORMED, 7), numbered(ACCEPTED, 42)],
            0,
            id="the parser's error of another, then our ok",
        ),
        pytest.param(
            ["addOrder", "reqid=42"],
            ['{"Error":"Exceeded msg rate","reqid":7}', numbered(ACCEPTED, 42)],
            0,
            id="another's error without an event, then our ok",
        ),
        pytest.param(["addOrder", "reqid=42"], [numbered(MALFORMED, 42)], 1, id="our own error"),
        pytest.param(["addOrder", "reqid=42"], [MALFORMED], 1, id="an error without a reqid"),
        pytest.param(["addOrder", "reqid=42"], [ACCEPTED], 0, id="an ok without a reqid"),
        pytest.param(
            ["addOrder", "reqid=42"], [numbered(ACCEPTED, "null")], 0, id="an ok with a null reqid"
        ),
        pytest.param(
            ["addOrder", "reqid=42"], [numbered(ACCEPTED, '"42"')], 0, id="the reqid as text"
        ),
        pytest.param(
            ["addOrder", "reqid=4"],
            [numbered(ERROR, 42), numbered(ACCEPTED, 4)],
            0,
            id="one reqid begins the other",
        ),
        pytest.param(
            ["addOrder", "reqid=0"],
            [numbered(ERROR, 7), numbered(ACCEPTED, 0)],
            0,
            id="our reqid is 0",
        ),
        pytest.param(
            ["addOrder", "reqid=42"],
            [numbered(ERROR, 0), numbered(ACCEPTED, 42)],
            0,
            id="another's reqid is 0",
        ),
        pytest.param(
            ["addOrder", "reqid=18446744073709551615"],
            [numbered(ERROR, 18446744073709551614), numbered(ACCEPTED, 18446744073709551615)],
            0,
            id="reqids that are one number to a double",
        ),
        pytest.param(
            ["ping", "reqid=42"],
            [
                '{"event":"pingStatus","status":"error","errorMessage":"Reqid","reqid":7}',
                numbered(PONG, 42),
            ],
            0,
            id="ping",
        ),
        pytest.param(
            ["cancelOrder", "txid=A,B", "reqid=42"],
            [numbered(NOT_CANCELLED, 7), numbered(CANCELLED, 42), numbered(CANCELLED, 42)],
            0,
            id="two of ours, and another's",
        ),
        pytest.param(["addOrder"], [numbered(ACCEPTED, 7)], 0, id="no reqid, so any reply counts"),
    ],
)
def test_reqid(client: Client, argv: list[str], replies: list[str], status: int) -> None:
    """A reply to another reqid is nobody's of ours; one without a reqid may be, and counts."""
    client.exchange.script = answer(*replies)
    out = "".join(f"{reply}\n" for reply in replies)
    assert client.run(*argv, "-rqC1", "-W0") == (status, out, "")


@pytest.mark.parametrize(
    ("argv", "replies", "status"),
    [
        (["addOrder", "reqid=42"], [numbered(ACCEPTED, 7)], 3),
        (["addOrder", "reqid=42"], [numbered(ERROR, 7)], 3),
        (["ping", "reqid=42"], [numbered(PONG, 7)], 1),
        (["cancelOrder", "txid=A,B", "reqid=42"], [numbered(CANCELLED, at) for at in (7, 42)], 3),
    ],
    ids=["ok", "error", "pong", "one of two"],
)
def test_reqid_of_another(client: Client, argv: list[str], replies: list[str], status: int) -> None:
    """Where only another request was answered, ours was not."""
    assert client.time_out(*argv, "-rq", say=replies).status == status


@pytest.mark.parametrize(
    "early",
    [[ACCEPTED], [ERROR], [MALFORMED], [HEARTBEAT, PONG, ACCEPTED]],
    ids=["an ok", "an error", "the parser's error", "an ok, behind others"],
)
def test_early(client: Client, early: list[str]) -> None:
    """A reply in one TLS record with the greeting came before the request: it is only shown."""

    def script(peer: Peer) -> None:
        peer.send(GREETING, *early)
        peer.receive()
        peer.sync()
        client.barrier.wait()
        peer.wait()

    client.exchange.script = script
    process = client.start("addOrder", "pair=XBT/USD", "-W0")
    client.barrier.wait()
    status, out, _ = process.signal(signal.SIGALRM).end()
    assert status == 3
    assert out.startswith(GREETED + sent(ORDER_SHOWN) + got(*early))


@pytest.mark.parametrize(
    ("early", "reply", "status"),
    [(ERROR, ACCEPTED, 0), (ACCEPTED, ERROR, 1), (PONG, ACCEPTED, 0)],
    ids=["an error, then ok", "an ok, then an error", "a pong, then ok"],
)
def test_early_and_then(client: Client, early: str, reply: str, status: int) -> None:
    """The reply that comes after the request decides, whatever came before it."""

    def script(peer: Peer) -> None:
        peer.send(GREETING, early)
        peer.receive()
        peer.send(reply)
        peer.wait()

    client.exchange.script = script
    result = client.run("addOrder", "pair=XBT/USD", "-C1", "-W0")
    assert result == (status, GREETED + sent(ORDER_SHOWN) + got(early, reply), "")


@pytest.mark.parametrize(("reply", "status"), [(ACCEPTED, 0), (ERROR, 1)])
def test_greeted_with_an_error(client: Client, reply: str, status: int) -> None:
    """An error in place of the greeting came before the request, too: the reply decides."""

    def script(peer: Peer) -> None:
        peer.send(MALFORMED)
        peer.receive()
        peer.send(reply)
        peer.wait()

    client.exchange.script = script
    assert client.run("addOrder", "-rqC1", "-W0") == (status, f"{MALFORMED}\n{reply}\n", "")


def test_early_pong(client: Client) -> None:
    """A pong from before the ping is no answer to it."""

    def script(peer: Peer) -> None:
        peer.send(GREETING, PONG)
        peer.receive()
        peer.close(1001, "bye")

    client.exchange.script = script
    assert client.run("ping", "-rqC1", "-W0") == (1, f"{PONG}\n", request_failed("1001 bye"))


def test_early_in_a_record_of_its_own(client: Client) -> None:
    """A reply that arrived before the request doesn't count, whatever TLS made of it.

    The client is stopped meanwhile, so that all is there before it reads the greeting.
    """

    def script(peer: Peer) -> None:
        client.barrier.wait()
        client.barrier.wait()
        for message in (GREETING, HEARTBEAT, ACCEPTED):
            peer.send(message)
        client.barrier.wait()
        peer.receive()
        peer.send(ERROR)
        peer.wait()

    client.exchange.script = script
    process = client.start("addOrder", "pair=XBT/USD", "-C1", "-W0")
    client.barrier.wait()
    process.signal(signal.SIGSTOP)
    os.waitpid(process.process.pid, os.WUNTRACED)
    client.barrier.wait()
    client.barrier.wait()
    out = GREETED + sent(ORDER_SHOWN) + got(HEARTBEAT, ACCEPTED, ERROR)
    assert process.signal(signal.SIGCONT).end() == (1, out, "")


@pytest.mark.parametrize("cut", [1, 3, 60, len(frame(ACCEPTED)) - 1])
def test_early_in_part(client: Client, cut: int) -> None:
    """A reply whose first bytes came before the request can't be an answer to it, either."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(frame(GREETING) + frame(ACCEPTED)[:cut])
        peer.receive()
        peer.sock.sendall(frame(ACCEPTED)[cut:])
        peer.send(ERROR)
        peer.wait()

    client.exchange.script = script
    result = client.run("addOrder", "-rqC1", "-W0")
    assert result == (1, f"{ACCEPTED}\n{ERROR}\n", "")


@pytest.mark.parametrize("cut", [0, 1])
def test_early_protocol_ping(client: Client, cut: int) -> None:
    """A protocol ping behind the greeting neither delays the request nor hides its answer.

    Where it is cut, its other half comes with the answer.
    """
    ping = frame(b"hello", Opcode.PING)
    cut = cut or len(ping)

    def script(peer: Peer) -> None:
        peer.sock.sendall(frame(GREETING) + ping[:cut])
        peer.receive()
        peer.sock.sendall(ping[cut:] + frame(ACCEPTED))
        peer.wait()

    client.exchange.script = script
    assert client.run("addOrder", "-rqC1", "-W0") == (0, f"{ACCEPTED}\n", "")


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
