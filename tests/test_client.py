"""krakenws.py as its users meet it: a process, over TLS, against the local exchange."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import GREETED, PATIENCE, SCRIPT, TOKEN, Client, answer, got, sent
from hypothesis import example, given, settings
from hypothesis import strategies as st
from practice.authority import Authority
from scripted import GREETING, HEARTBEAT, Exchange, Peer, Refusal, frame
from stops import stop_orders
from websockets.frames import Opcode

import krakenws
from krakenws import STEADY_SECONDS, TABLE, next_delay

TICKER = '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["XBT/USD"]}'
SUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
REFUSED = (
    '{"errorMessage":"Currency pair not supported A/B","event":"subscriptionStatus",'
    '"pair":"A/B","status":"error"}'
)
REFUSED_WHOLE = (
    '{"errorMessage":"Subscription name invalid","event":"subscriptionStatus","status":"error"}'
)
DATA = '[340,["5541.2","5542.0"],"spread","XBT/USD"]'

ORDER = f'{{"event":"addOrder", "token":"{TOKEN}", "pair":"XBT/USD"}}'
ORDER_SHOWN = '{"event":"addOrder", "token":"***", "pair":"XBT/USD"}'
ACCEPTED = '{"descr":"buy","event":"addOrderStatus","status":"ok","txid":"OXXXXX-XXXXX-XXXXXX"}'
ALL_CANCELLED = '{"count":0,"event":"cancelAllStatus","status":"ok"}'
ERROR = '{"errorMessage":"EOrder:Insufficient funds","event":"addOrderStatus","status":"error"}'
MALFORMED = '{"errorMessage":"Malformed request","event":"error"}'
CANCELLED = '{"event":"cancelOrderStatus","status":"ok"}'
NOT_CANCELLED = (
    '{"errorMessage":"EOrder:Unknown order","event":"cancelOrderStatus","status":"error"}'
)
PONG = '{"event":"pong"}'

USAGE = ["Usage: ", "Example: ", "Feeds: ", "Endpoints: ", "Options: "]


def failed(stage: str, why: str) -> str:
    """Return one of the three sentences, as a line."""
    return f"WebSocket {stage} failed ({why})\n"


def connection(why: str) -> str:
    """Return the first sentence."""
    return failed("connection", why)


def request(why: str) -> str:
    """Return the second sentence."""
    return failed("subscription/request", why)


def messages(why: str) -> str:
    """Return the third sentence."""
    return failed("messages", why)


def cut(stopped_by: str) -> str:
    """Return the sentence for a line that was stuck when the run had to end."""
    stuck = "while its reader was stuck: the last line is cut or missing"
    return f"stdout can't be written (stopped by {stopped_by}, {stuck})\n"


FATE = f"{krakenws.FATE}\n"
TIMED_OUT = "stopped by the time limit"


class TestTranscript:
    """What is printed."""

    def test_ping(self, client: Client) -> None:
        """Ping prints the greeting, the request and the pong, and ends after three seconds."""
        client.exchange.script = answer(PONG)
        assert client.run() == (0, GREETED + sent('{"event":"ping"}') + got(PONG), "")
        assert client.exchange.dialled == ["ws.kraken.com:443"]
        assert client.exchange.closed.get(timeout=PATIENCE) == 1000

    def test_order(self, client: Client) -> None:
        """An order shows no token, neither sent nor received, and goes to the private host."""
        client.exchange.script = answer(ACCEPTED[:-1] + f',"token":"{TOKEN}"}}')
        shown = ACCEPTED[:-1] + ',"token":"***"}'
        result = client.run("addOrder", "pair=XBT/USD", "-C1")
        assert result == (0, GREETED + sent(ORDER_SHOWN) + got(shown), "")
        assert client.exchange.dialled == ["ws-auth.kraken.com:443"]
        assert client.exchange.received == [ORDER]

    def test_feed(self, client: Client) -> None:
        """A feed prints every message exactly as it came, each when it comes."""
        odd = ['{ "event" : "heartbeat" }', '[ 340, {"é":"\\u00e9"} ]', "", "no JSON", "[[[", "{}"]
        client.exchange.script = answer(SUBSCRIBED, *odd, DATA)
        process = client.start("ticker", "xbt/usd")
        assert process.read_until(DATA) == GREETED + sent(TICKER) + got(SUBSCRIBED, *odd, DATA)
        assert process.signal(signal.SIGINT).end() == (0, "", "")
        assert client.exchange.received == [TICKER]
        assert client.exchange.closed.get(timeout=PATIENCE) == 1000

    def test_every_line_comes_at_once(self, client: Client) -> None:
        """A line is there before the next message is sent, also in a pipe."""
        printed: list[str] = []

        def script(peer: Peer) -> None:
            peer.greet()
            for message in (SUBSCRIBED, DATA, DATA):
                peer.receive() if message is SUBSCRIBED else client.barrier.wait()
                peer.send(message)
            peer.wait()

        client.exchange.script = script
        process = client.start("ticker", "XBT/USD")
        printed.append(process.read_until(SUBSCRIBED))
        for _ in range(2):
            client.barrier.wait()
            printed.append(process.read_until(DATA))
        assert process.signal(signal.SIGTERM).end().status == 0

    @pytest.mark.parametrize("name", sorted(TABLE))
    def test_every_name(self, client: Client, name: str) -> None:
        """Every name is answered by the practice exchange, at the host where it belongs."""
        words, status = {
            "addOrder": ("pair=XBT/USD type=buy ordertype=market volume=0.01 validate=true", 0),
            "amendOrder": ("txid=OAAAAA-AAAAA-AAAAAA", 1),
            "balances": ("", 1),
            "cancelOrder": ("txid=OAAAAA-AAAAA-AAAAAA", 1),
            "cancelAllOrdersAfter": ("timeout=0", 0),
            "editOrder": ("orderid=OAAAAA-AAAAA-AAAAAA pair=XBT/USD", 1),
        }.get(name, ("XBT/USD" if "pair" in TABLE[name].each else "", 0))
        assert client.run(name, *words.split(), "-rqC1", "-W0").status == status
        assert client.exchange.dialled == [TABLE[name].url[len("wss://") : -1] + ":443"]

    @pytest.mark.parametrize("token", [TOKEN, 'a/"quoted"\\one'])
    def test_token_in_another_spelling(self, client: Client, token: str) -> None:
        """The token is masked also where JSON escapes it, with or without the slash."""
        (client.folder / "WS_Token").write_text(token)
        escaped = json.dumps(token)[1:-1]
        spellings = [token, escaped, escaped.replace("/", "\\/")]
        reply = '{"event":"addOrderStatus","status":"error","x":"%s"}'
        client.exchange.script = answer(*[reply % spelling for spelling in spellings])
        result = client.run("addOrder", "-C1", "-W0")
        assert got(reply % "***") in result.out
        assert token not in result.out
        assert escaped not in result.out
        assert client.exchange.received == [f'{{"event":"addOrder", "token":"{escaped}"}}']

    @pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
    @pytest.mark.parametrize("mode", ["0", "1"])
    @pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
    def test_locale(self, client: Client, locale: str, mode: str, encoding: str) -> None:
        """Output is UTF-8 whatever the locale."""
        settings = {"LC_ALL": locale, "PYTHONUTF8": mode, "PYTHONCOERCECLOCALE": "0"}
        client.environment.update(settings, PYTHONIOENCODING=encoding)
        client.exchange.script = answer(SUBSCRIBED, '["é","\u20bf"]')
        result = client.run("ticker", "XBT/USD", "-rqC1")
        assert result == (0, '["é","\u20bf"]\n', "")


class TestStatus:
    """The exit status."""

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
                ["addOrder"], [PONG, ACCEPTED], 0, "", id="accepted, after something else"
            ),
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
            pytest.param(
                ["cancelOrder", "txid=A,B,C"], [MALFORMED], 1, "", id="three refused at once"
            ),
        ],
    )
    def test_answered(
        self, client: Client, argv: list[str], replies: list[str], status: int, sentence: str
    ) -> None:
        """An answered request ends by its answer; -C ends it as soon as that is complete."""
        client.exchange.script = answer(*replies)
        result = client.run(*argv, "-rqC1", "-W0")
        shown = [reply for reply in replies if reply is not HEARTBEAT]
        assert result == (status, "".join(f"{reply}\n" for reply in shown), sentence)

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(lambda peer: peer.close(1001, "bye"), id="closed"),
            pytest.param(Peer.reset, id="reset"),
            pytest.param(Peer.wait, id="silent"),
        ],
    )
    @pytest.mark.parametrize(("reply", "status"), [(ACCEPTED, 0), (ERROR, 1)])
    def test_answered_then(
        self, client: Client, reply: str, status: int, script: Callable[[Peer], None]
    ) -> None:
        """Once answered, nothing that happens to the connection changes the status."""

        def whole(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(reply)
            peer.sync()
            script(peer)

        client.exchange.script = whole
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
    def test_contradiction(self, client: Client, replies: list[str], status: int) -> None:
        """A complete answer stands; but what was refused and then accepted may be live."""
        out = "".join(f"{reply}\n" for reply in replies)
        err = messages(TIMED_OUT) + FATE if status == 3 else ""
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
    def test_service_broken(
        self, client: Client, argv: list[str], replies: list[str], words: str
    ) -> None:
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
        assert (status, err) == (3, request(words) + FATE)

    def test_service_broken_in_time(self, client: Client) -> None:
        """Without a count, too, the exchange's words are in the sentence, not the time limit's."""
        broken = ERROR.replace("EOrder:Insufficient funds", "EService:Busy")
        result = client.time_out("addOrder", "-rq", say=[broken])
        assert result == (3, f"{broken}\n", request("EService:Busy") + FATE)

    @pytest.mark.parametrize("words", ["Market in cancel_only mode", " Market in post_only mode"])
    def test_market_mode(self, client: Client, words: str) -> None:
        """A market that takes no such order has refused it."""
        refused = ERROR.replace("EOrder:Insufficient funds", f"EService:{words}")
        client.exchange.script = answer(refused)
        assert client.run("addOrder", "-rqC1", "-W0") == (1, f"{refused}\n", "")

    def test_unanswered(self, client: Client) -> None:
        """An order without an answer ends after three seconds with status 3, and says so."""
        client.exchange.script = answer()
        result = client.run("addOrder", "pair=XBT/USD")
        assert result == (3, GREETED + sent(ORDER_SHOWN) + request(TIMED_OUT) + FATE, "")

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
            pytest.param(
                ["cancelOrder", "txid=A,B,C"], [CANCELLED, NOT_CANCELLED], id="two of three"
            ),
        ],
    )
    def test_not_an_answer(self, client: Client, argv: list[str], replies: list[str]) -> None:
        """What isn't the whole answer leaves the fate unknown."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(*replies)
            peer.close(1001, "bye")

        client.exchange.script = script
        out = "".join(f"{reply}\n" for reply in replies)
        assert client.run(*argv, "-rqC1") == (3, out, messages("1001 bye") + FATE)

    def test_ping_unanswered(self, client: Client) -> None:
        """A ping without a pong has failed."""
        assert client.time_out("ping", "-rq") == (1, "", request(TIMED_OUT))

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_order_stopped(self, client: Client, number: signal.Signals) -> None:
        """An order that a signal leaves without its answer has an unknown fate."""
        client.exchange.script = answer(HEARTBEAT)
        process = client.start("addOrder", "-W0")
        process.read_until(HEARTBEAT)
        result = process.signal(number).end()
        assert result == (3, messages(f"stopped by {number.name}") + FATE, "")

    def test_order_not_sent(self, client: Client) -> None:
        """An order that was stopped before it was sent is certainly not in effect."""

        def script(peer: Peer) -> None:
            client.barrier.wait()
            peer.wait()

        client.exchange.script = script
        process = client.start("addOrder")
        client.barrier.wait()
        assert process.signal(signal.SIGTERM).end() == (1, connection("stopped by SIGTERM"), "")
        assert client.exchange.received == []


class TestSubscription:
    """Refused subscriptions."""

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
    def test_refused(self, client: Client, argv: list[str], replies: list[str], words: str) -> None:
        """A subscription that was refused ends, in the exchange's own words."""
        client.exchange.script = answer(*replies)
        result = client.run(*argv)
        assert result.status == 1
        assert result.out.endswith(got(*replies) + request(words))

    def test_partly_refused(self, client: Client) -> None:
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
    def test_never_acknowledged(self, client: Client, message: str) -> None:
        """A feed that has brought neither an acceptance nor data has failed."""
        result = client.time_out("ticker", "XBT/USD", "-rq", say=[message])
        assert result == (1, f"{message}\n", messages(TIMED_OUT))

    def test_refused_later(self, client: Client) -> None:
        """A refusal after the acceptance ends nothing."""
        client.exchange.script = answer(SUBSCRIBED, REFUSED_WHOLE, DATA)
        assert client.run("ticker", "XBT/USD", "-rqC1").status == 0


def hang(sock: socket.socket) -> None:
    """Say nothing until the client goes."""
    while sock.recv(65536):
        pass


def say(data: bytes) -> Callable[[socket.socket], None]:
    """Return a fault: say DATA, and wait for the client to go."""

    def fault(sock: socket.socket) -> None:
        sock.sendall(data)
        hang(sock)

    return fault


def half_a_frame(peer: Peer) -> None:
    """Break off within a frame."""
    peer.sock.sendall(frame(DATA)[:-5])
    peer.sock.close()


class TestConnection:
    """What can be wrong with the connection."""

    @pytest.mark.parametrize("stage", ["proxy", "tls", "http"])
    def test_no_answer(self, client: Client, stage: str) -> None:
        """A handshake that never comes ends at the limit on connecting."""
        client.exchange.faults[stage] = hang
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.2")
        assert result == (1, connection("no connection within 0.2 seconds"), "")

    def test_no_greeting(self, client: Client) -> None:
        """An exchange that doesn't greet is dead."""
        client.exchange.script = Peer.wait
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "2")
        assert result == (1, connection("nothing received for 2 seconds"), "")

    @pytest.mark.parametrize(
        ("refusal", "words"),
        [
            pytest.param(Refusal(403), "HTTP 403 Forbidden", id="403"),
            pytest.param(Refusal(429, "slow down"), "HTTP 429 Too Many Requests", id="429"),
            pytest.param(Refusal(503), "HTTP 503 Service Unavailable", id="503"),
            pytest.param(
                Refusal(301, headers=(("Location", "wss://ws.kraken.com/"),)),
                "HTTP 301, and redirects are not followed",
                id="301",
            ),
            pytest.param(
                Refusal(307, headers=(("Location", "ws://127.0.0.1:9/"),)),
                "HTTP 307, and redirects are not followed",
                id="307 to another host",
            ),
            pytest.param(
                Refusal(308), "HTTP 308, and redirects are not followed", id="no Location"
            ),
            pytest.param(Refusal(200, "hello"), "HTTP 200 OK", id="200"),
        ],
    )
    def test_http_status(self, client: Client, refusal: Refusal, words: str) -> None:
        """An HTTP status instead of a WebSocket is named, and a redirect isn't followed."""
        client.exchange.refusals = iter([refusal])
        assert client.run("addOrder") == (1, connection(words), "")
        assert client.exchange.dialled == ["ws-auth.kraken.com:443"]

    def test_http_status_of_no_name(self, client: Client) -> None:
        """A status that only Cloudflare knows is named by its number."""
        client.exchange.faults["http"] = say(b"HTTP/1.1 520\r\n\r\n")
        assert client.run("ticker", "XBT/USD") == (1, connection("HTTP 520"), "")

    @pytest.mark.parametrize(
        ("hosts", "validity", "words"),
        [
            pytest.param(
                ["example.com"], {}, "certificate not accepted: Hostname mismatch", id="host"
            ),
            pytest.param(
                [],
                {"not_after": datetime.now(timezone.utc) - timedelta(days=1)},
                "certificate not accepted: certificate has expired",
                id="expired",
            ),
        ],
    )
    def test_certificate(
        self, client: Client, hosts: list[str], validity: dict[str, Any], words: str
    ) -> None:
        """A certificate for another host or time is not accepted."""
        client.exchange.context = client.exchange.authority.context(*hosts, **validity)
        result = client.run("addOrder")
        assert result.status == 1
        assert result.out.startswith(connection(words)[:-2])
        assert client.exchange.received == []

    def test_untrusted_certificate(self, client: Client) -> None:
        """A certificate from an unknown authority is not accepted."""
        del client.environment["WEBSOCKET_CLIENT_CA_BUNDLE"]
        del client.environment["SSL_CERT_FILE"]
        client.environment["SSL_CERT_DIR"] = str(client.folder)
        result = client.run("addOrder")
        assert result.status == 1
        assert result.out.startswith(connection("certificate not accepted: ")[:-2])
        assert client.exchange.received == []

    def test_refused_by_the_proxy(self, client: Client) -> None:
        """A proxy that refuses is named as such."""
        client.exchange.faults["proxy"] = say(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        result = client.run("ticker", "XBT/USD")
        assert result == (1, connection("failed CONNECT via proxy status: 403"), "")

    def test_nobody_listens(self, client: Client) -> None:
        """A port at which nobody listens is a connection refused."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            client.environment["https_proxy"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
            result = client.run("ticker", "XBT/USD")
        assert result.status == 1
        assert result.out.endswith("Connection refused)\n")

    @pytest.mark.parametrize(
        ("code", "reason", "words"),
        [
            (
                1001,
                "CloudFlare WebSocket proxy restarting",
                "1001 CloudFlare WebSocket proxy restarting",
            ),
            (1000, "", "1000"),
            (1012, "", "1012"),
            (4000, "\x1b[31m two\nlines \u20bf", "4000 \x1b[31m two lines \u20bf"),
            (None, "", "closed without a code"),
        ],
    )
    def test_closed(self, client: Client, code: int | None, reason: str, words: str) -> None:
        """The code and the reason that the exchange gave are said, on one line."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            peer.close(code, reason)

        client.exchange.script = script
        result = client.run("ticker", "XBT/USD", "-rq")
        assert result == (1, "", messages(words))

    @pytest.mark.parametrize(
        ("messages_sent", "out", "sentence"),
        [
            pytest.param(0, "", connection, id="before the greeting"),
            pytest.param(1, GREETED + sent(TICKER), request, id="before the reply"),
            pytest.param(2, GREETED + sent(TICKER) + got(SUBSCRIBED), messages, id="in the stream"),
        ],
    )
    @pytest.mark.parametrize(
        ("end", "words"),
        [
            pytest.param(lambda peer: peer.close(1001, "bye"), "1001 bye", id="closed"),
            pytest.param(
                lambda peer: peer.sock.close(), "Connection to remote host was lost.", id="dropped"
            ),
            pytest.param(Peer.reset, "[Errno 104] Connection reset by peer", id="reset"),
            pytest.param(
                half_a_frame,
                "Connection to remote host was lost.",
                id="half a frame",
            ),
            pytest.param(
                lambda peer: peer.sock.sendall(b"\xff\xff"),
                "rsv is not implemented, yet",
                id="no frame",
            ),
            pytest.param(
                lambda peer: peer.sock.sendall(frame(b"\xff", Opcode.TEXT)),
                "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
                id="not UTF-8",
            ),
        ],
    )
    def test_lost(
        self,
        client: Client,
        messages_sent: int,
        out: str,
        sentence: Callable[[str], str],
        end: Callable[[Peer], object],
        words: str,
    ) -> None:
        """A connection that is lost ends the run, with the sentence of its stage."""

        def script(peer: Peer) -> None:
            if messages_sent > 0:
                peer.greet()
                peer.receive()
            if messages_sent > 1:
                peer.send(SUBSCRIBED)
                peer.sync()
            end(peer)

        client.exchange.script = script
        result = client.run("ticker", "XBT/USD")
        if words.startswith("[Errno") or "rsv" in words:
            # The errno is the system's; of a broken frame, one part or another is noticed first.
            assert result.status == 1
            assert result.out.startswith(out + sentence("")[:-2])
        else:
            assert result == (1, out + sentence(words), "")

    def test_dead(self, client: Client) -> None:
        """A stream on which nothing arrives is dead."""
        client.exchange.script = answer(SUBSCRIBED)
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "2", "-rq")
        assert result == (1, "", messages("nothing received for 2 seconds"))

    @pytest.mark.parametrize(
        ("first", "life", "slow"),
        [
            pytest.param(b"", frame(b"", Opcode.PING), True, id="pings"),
            pytest.param(b"", frame(b"", Opcode.PONG), True, id="pongs"),
            pytest.param(frame("x" * 1_000_000)[:20], b"x", True, id="an endless frame"),
            pytest.param(
                frame("[", fin=False),
                frame(b"", Opcode.CONT, False) * 1000,
                False,
                id="an endless message",
            ),
        ],
    )
    def test_dead_but_not_silent(
        self, client: Client, first: bytes, life: bytes, slow: bool
    ) -> None:
        """Only a whole message is life: what else comes, slowly or fast, keeps no dead stream."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            peer.sock.sendall(first)
            while True:  # until the client has gone
                if slow:
                    peer.receive(timeout=0.05)
                peer.sock.sendall(life)

        client.exchange.script = script
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "2", "-rq")
        assert result == (1, "", messages("nothing received for 2 seconds"))

    def test_no_idle_timeout(self, client: Client) -> None:
        """--idle-timeout 0 waits for ever."""
        result = client.time_out(
            "ticker", "XBT/USD", "-rq", "--idle-timeout", "0", say=[SUBSCRIBED]
        )
        assert result == (0, "", "")

    def test_pings_are_answered(self, client: Client) -> None:
        """The server's pings are answered and shown to nobody."""
        pongs = []

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.sock.sendall(frame(b"are you there", Opcode.PING))
            pongs.append(peer.next_event())
            peer.send(SUBSCRIBED, DATA)
            peer.wait()

        client.exchange.script = script
        assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")
        assert [(event.opcode, bytes(event.data)) for event in pongs] == [
            (Opcode.PONG, b"are you there")
        ]

    def test_fragments(self, client: Client) -> None:
        """A message in a thousand fragments, and one of 16 MB, arrive whole."""
        parted = json.dumps(["\u20bf" * 100_000], ensure_ascii=False)
        large = json.dumps(["\u20bf" * 5_400_000], ensure_ascii=False)

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            data = parted.encode()
            parts = [data[at : at + 300] for at in range(0, len(data), 300)]
            opcodes = [Opcode.TEXT] + [Opcode.CONT] * (len(parts) - 1)
            for number, part in enumerate(parts):
                peer.sock.sendall(frame(part, opcodes[number], number == len(parts) - 1))
            peer.send(large)
            peer.wait()

        client.exchange.script = script
        assert client.run("ticker", "XBT/USD", "-rqC2") == (0, f"{parted}\n{large}\n", "")

    def test_name_not_found(self, client: Client) -> None:
        """A host that has no address is said as the system says it."""
        client.patch("def getaddrinfo(*_, **__): raise socket.gaierror(-2, 'not known')")
        result = client.run("ticker", "XBT/USD")
        assert result == (1, connection("[Errno -2] not known"), "")

    def test_name_look_up_hangs(self, client: Client) -> None:
        """A name look-up can't be interrupted, and yet doesn't delay the end.

        Nothing is cleared away under the thread that dials: within OpenSSL that was its death.
        """
        client.patch(
            "import atexit; atexit.register(print, 'cleared away')\n"
            "def getaddrinfo(*_, **__): print('looking', flush=True); time.sleep(1000)"
        )
        process = client.start("ticker", "XBT/USD")
        process.read_until("looking")
        assert process.signal(signal.SIGINT).end() == (1, connection("stopped by SIGINT"), "")
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.2")
        assert result.out.endswith(connection("no connection within 0.2 seconds"))

    def test_unreachable(self, client: Client) -> None:
        """A host that answers no packet is given up at the limit on connecting."""
        with socket.socket() as full, socket.socket() as first, socket.socket() as second:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for filling in (first, second):  # the queue: what comes next gets no answer
                filling.setblocking(False)
                filling.connect_ex(full.getsockname())
            client.environment["https_proxy"] = f"http://127.0.0.1:{full.getsockname()[1]}"
            result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.5")
        assert result == (1, connection("no connection within 0.5 seconds"), "")

    def test_binary(self, client: Client) -> None:
        """A binary message, which v1 doesn't send, is a line like any other."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            peer.sock.sendall(frame(DATA.encode(), Opcode.BINARY))
            peer.wait()

        client.exchange.script = script
        assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")

    def test_pings_in_a_flood(self, client: Client) -> None:
        """In a flood, too, every ping is answered, in its turn."""
        pongs: list[bytes] = []

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            for number in range(20):
                peer.sock.sendall(frame(DATA) * 500 + frame(b"%d" % number, Opcode.PING))
            pongs.extend(bytes(peer.next_event().data) for _ in range(20))
            peer.close()

        client.exchange.script = script
        result = client.run("ticker", "XBT/USD", "-rq")
        assert result == (1, f"{DATA}\n" * 10_000, messages("1000"))
        assert pongs == [b"%d" % number for number in range(20)]

    @settings(max_examples=10)
    @given(data=st.binary(max_size=200), opcode=st.sampled_from([None, *Opcode]))
    @example(data=b"\x88\x7e" + b"\x7f" * 200, opcode=None)
    @example(data=b"\x03", opcode=Opcode.CLOSE)
    @example(data=b"\x03\xe7\xff", opcode=Opcode.CLOSE)
    def test_any_bytes(self, authority: Authority, data: bytes, opcode: Opcode | None) -> None:
        """Whatever the exchange sends: a clean end, and UTF-8 on stdout."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.sock.sendall(data if opcode is None else frame(data, opcode))

        with Exchange(authority, script) as exchange, tempfile.TemporaryDirectory() as folder:
            result = Client(exchange, Path(folder)).run("ticker", "XBT/USD", "--idle-timeout", "5")
        assert (result.status, result.err) == (1, "")
        assert result.out.splitlines()[-1].startswith("WebSocket ")


class TestSignals:
    """How it is stopped."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_feed(self, client: Client, number: signal.Signals) -> None:
        """A feed that ran until it was stopped is done, and says goodbye."""
        client.exchange.script = answer(SUBSCRIBED)
        process = client.start("ticker", "XBT/USD")
        process.read_until(SUBSCRIBED)
        assert process.signal(number).end() == (0, "", "")
        assert client.exchange.closed.get(timeout=PATIENCE) == 1000

    def test_before_the_reply(self, client: Client) -> None:
        """A feed that was stopped before its first reply has failed."""
        client.exchange.script = answer(HEARTBEAT)
        process = client.start("ticker", "XBT/USD")
        process.read_until(HEARTBEAT)
        assert process.signal(signal.SIGINT).end() == (1, messages("stopped by SIGINT"), "")

    def test_while_connecting(self, client: Client) -> None:
        """A handshake that never comes doesn't delay the end."""

        def script(sock: socket.socket) -> None:
            client.barrier.wait()
            hang(sock)

        client.exchange.faults["tls"] = script
        process = client.start("ticker", "XBT/USD")
        client.barrier.wait()
        assert process.signal(signal.SIGINT).end() == (1, connection("stopped by SIGINT"), "")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
    def test_ignored(self, client: Client, number: signal.Signals) -> None:
        """A signal that was ignored at the start, as by nohup, stays ignored."""
        client.exchange.script = answer(SUBSCRIBED, DATA)

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            client.barrier.wait()
            peer.send(DATA)
            peer.wait()

        client.exchange.script = script
        process = client.start(
            "ticker", "XBT/USD", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)
        )
        process.read_until(SUBSCRIBED)
        process.signal(number)
        client.barrier.wait()
        process.read_until(DATA)
        assert process.signal(signal.SIGTERM).end() == (0, "", "")

    def test_blocked(self, client: Client) -> None:
        """Signals that the parent's thread blocks are unblocked: the time limit holds."""
        client.exchange.script = answer()
        blocked = {signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        result = client.run(
            "addOrder",
            "-rq",
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked),
        )
        assert result == (3, "", request(TIMED_OUT) + FATE)

    def test_pongs_that_nobody_reads(self, client: Client) -> None:
        """A pong that is stuck, for the exchange reads nothing, doesn't delay the end."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED, DATA)
            peer.sock.settimeout(0.2)
            pings = frame(b"x" * 125, Opcode.PING) * 100
            with contextlib.suppress(socket.timeout):
                while True:
                    peer.sock.sendall(pings)
            client.barrier.wait()
            client.barrier.wait()

        client.exchange.script = script
        process = client.start("ticker", "XBT/USD", "-rq", "--idle-timeout", "0")
        process.read_until(DATA)
        client.barrier.wait()
        assert process.signal(signal.SIGTERM).end() == (0, "", "")
        client.barrier.wait()

    def test_in_a_flood(self, client: Client) -> None:
        """In a flood, what was written ends with a whole line."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            while True:
                peer.sock.sendall(frame(large) * 10)

        large = json.dumps(["x" * 20_000])
        client.exchange.script = script
        process = client.start("ticker", "XBT/USD", "-rq")
        process.read_until("x")
        status, out, err = process.signal(signal.SIGTERM).end()
        assert (status, err) == (0, "")
        assert [len(line) for line in out.split("\n")] == [len(large)] * out.count("\n") + [0]

    def test_trickle(self, client: Client) -> None:
        """A frame that never ends doesn't delay the end, with or without a signal."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED, DATA)
            peer.sock.sendall(frame("x" * 1_000_000)[:20])
            while peer.receive(timeout=0.01) is None:
                peer.sock.sendall(b"x")

        client.exchange.script = script
        assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")

    def test_while_nobody_reads(self, client: Client) -> None:
        """A pipe that is full and that nobody empties doesn't delay the end, which tells of it."""
        client.exchange.script = answer(SUBSCRIBED, json.dumps(["x" * 1_000_000]))
        process = client.start("ticker", "XBT/USD")
        process.read_until(SUBSCRIBED)
        process.wait_for_output()  # the beginning of a line that is longer than any pipe
        process.signal(signal.SIGTERM)
        assert process.process.wait(PATIENCE) == 1
        assert process.end().err == cut("SIGTERM")

    def test_order_while_nobody_reads(self, client: Client) -> None:
        """A reply that is stuck in the pipe leaves an unknown fate, which stderr tells."""
        client.exchange.script = answer(ACCEPTED[:-1] + f',"x":"{"x" * 1_000_000}"}}')
        process = client.start("addOrder", "-rq", "-W0")
        process.wait_for_output()
        process.signal(signal.SIGALRM)
        assert process.process.wait(PATIENCE) == 3
        assert process.end().err == cut("the time limit") + FATE

    def test_random_stops(self) -> None:
        """An order that is stopped at any moment ends with no status that the exchange belies."""
        results = stop_orders(40, seed=7, workers=2)
        assert [result for result in results if not result[2]] == []

    def test_twice(self, client: Client) -> None:
        """A second signal changes nothing, and neither does one during the close."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED)
            while peer.next_event().opcode is not Opcode.CLOSE:
                pass
            process.signal(signal.SIGINT).signal(signal.SIGTERM)

        client.exchange.script = script
        process = client.start("ticker", "XBT/USD")
        process.read_until(SUBSCRIBED)
        process.signal(signal.SIGINT).signal(signal.SIGINT)
        assert process.end() == (0, "", "")


class TestOutput:
    """Where the output goes."""

    def test_head(self, client: Client) -> None:
        """A reader that goes away ends a feed quietly."""
        client.exchange.script = answer(SUBSCRIBED, *[DATA] * 10_000)
        process = client.start("ticker", "XBT/USD")
        process.read_until(DATA)
        process.stop_reading()
        assert process.end() == (0, "", "")

    def test_head_before_the_reply(self, client: Client) -> None:
        """A reader that goes before the subscription is answered has what it wanted."""

        def script(peer: Peer) -> None:
            peer.greet()
            client.barrier.wait()
            peer.receive()
            peer.send(SUBSCRIBED)
            peer.wait()

        client.exchange.script = script
        process = client.start("ticker", "XBT/USD")
        process.read_until("Client ->")
        process.stop_reading()
        client.barrier.wait()
        assert process.end() == (0, "", "")

    def test_order_and_head(self, client: Client) -> None:
        """A reply that nobody reads leaves an unknown fate, and stderr says so."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            client.barrier.wait()
            peer.send(ACCEPTED)
            peer.wait()

        client.exchange.script = script
        process = client.start("addOrder", "-W0")
        process.read_until("Client ->")
        process.stop_reading()
        client.barrier.wait()
        assert process.end() == (3, "", FATE)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
    @pytest.mark.parametrize(
        ("argv", "status", "fate", "received"),
        [
            pytest.param(["ticker", "XBT/USD"], 1, "", 0, id="feed"),
            pytest.param(["addOrder"], 1, "", 0, id="an order that is not sent"),
            pytest.param(["addOrder", "-rq"], 3, FATE, 1, id="an order whose reply is lost"),
            pytest.param(["--help"], 1, "", 0, id="help"),
        ],
    )
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_full(
        self,
        client: Client,
        argv: list[str],
        status: int,
        fate: str,
        received: int,
        unbuffered: str,
    ) -> None:
        """A disk that is full is said on stderr, and nothing is sent after it was noticed."""
        client.exchange.script = answer(ACCEPTED)
        client.environment["PYTHONUNBUFFERED"] = unbuffered
        with open("/dev/full", "w") as full:
            result = client.run(*argv, stdout=full)
        words = f"stdout can't be written ([Errno 28] {os.strerror(28)})\n"
        assert result == (status, "", words + fate)
        assert len(client.exchange.received) == received

    def test_closed(self, client: Client) -> None:
        """A closed stdout is said on stderr, and nothing is dialled."""
        result = client.run("addOrder", "-rq", preexec_fn=lambda: os.close(1))
        assert result == (1, "", "stdout is closed\n")
        assert client.exchange.dialled == []

    def test_all_closed(self, client: Client) -> None:
        """Without any stream there is still the exit status."""
        result = client.run("ping", preexec_fn=lambda: os.closerange(0, 3))
        assert result == (1, "", "")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
    def test_stderr_full(self, client: Client) -> None:
        """A stderr that can't be written doesn't change the exit status."""
        with open("/dev/full", "w") as full:
            assert client.time_out("addOrder", "-rq", stderr=full) == (3, "", "")

    def test_non_blocking(self, client: Client) -> None:
        """A pipe that was left non-blocking loses no line."""
        data = json.dumps(["x" * 100_000])
        client.exchange.script = answer(SUBSCRIBED, *[data] * 20)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        process = client.start("ticker", "XBT/USD", "-rqC20", stdout=writing)
        os.close(writing)
        with open(reading) as lines:
            assert list(lines) == [f"{data}\n"] * 20
        assert process.end() == (0, "", "")

    def test_non_blocking_later(self, client: Client) -> None:
        """Nor does one that another program makes so while the client runs."""
        data = [json.dumps([number] * 5000) for number in range(300)]

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED, DATA)
            client.barrier.wait()
            peer.send(*data)
            peer.wait()

        client.exchange.script = script
        reading, writing = os.pipe()
        process = client.start("ticker", "XBT/USD", "-rqC301", stdout=writing)
        with open(reading) as lines:
            assert lines.readline() == f"{DATA}\n"
            os.set_blocking(writing, False)
            os.close(writing)
            client.barrier.wait()
            assert list(lines) == [f"{line}\n" for line in data]
        assert process.end() == (0, "", "")

    def test_unbuffered(self, client: Client) -> None:
        """With PYTHONUNBUFFERED, too, lines are whole."""
        client.environment["PYTHONUNBUFFERED"] = "1"
        data = json.dumps(["x" * 1_000_000])
        client.exchange.script = answer(SUBSCRIBED, *[data] * 3)
        assert client.run("ticker", "XBT/USD", "-rqC3") == (0, f"{data}\n" * 3, "")

    def test_slow_reader(self, client: Client) -> None:
        """A reader that takes its time gets every line."""
        client.exchange.script = answer(SUBSCRIBED, *[json.dumps([n] * 5000) for n in range(50)])
        process = client.start("ticker", "XBT/USD", "-rqC50")
        for number in range(50):
            assert process.read_until("]") == json.dumps([number] * 5000) + "\n"
        assert process.end() == (0, "", "")

    def test_closed_stdin(self, client: Client) -> None:
        """A closed stdin is of no interest."""
        client.exchange.script = answer(SUBSCRIBED, DATA)
        result = client.run("ticker", "XBT/USD", "-rqC1", preexec_fn=lambda: os.close(0))
        assert result == (0, f"{DATA}\n", "")

    def test_read_only_directory(self, client: Client) -> None:
        """Nothing is ever written into the current directory."""
        before = sorted(client.folder.iterdir())
        client.folder.chmod(0o500)
        assert client.run("-rqC1", "cancelAll").status == 0
        assert sorted(client.folder.iterdir()) == before

    def test_file(self, client: Client) -> None:
        """Into a file, SIGTERM leaves every line that came."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED, DATA, HEARTBEAT)
            peer.sync()
            client.barrier.wait()
            peer.wait()

        client.exchange.script = script
        path = client.folder / "out"
        with path.open("w") as file:
            process = client.start("ticker", "XBT/USD", "-r", stdout=file)
            client.barrier.wait()
            assert process.signal(signal.SIGTERM).end().status == 0
        assert path.read_text().splitlines()[1:] == [SUBSCRIBED, DATA, HEARTBEAT]


class TestToken:
    """Where the token comes from."""

    MISSING = "WebSocket authentication token missing (WS_Token)\n"

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(f"{TOKEN}", id="no newline"),
            pytest.param(f"{TOKEN}\r\n", id="CRLF"),
            pytest.param(f"\ufeff{TOKEN}\n", id="byte-order mark"),
            pytest.param(f"\n \t\n  {TOKEN}  \nmore\n", id="the first line with text"),
        ],
    )
    def test_file(self, client: Client, content: str) -> None:
        """The token is the first line with text."""
        (client.folder / "WS_Token").write_bytes(content.encode())
        assert client.run("cancelAll", "-C1").status == 0
        assert client.exchange.received == [f'{{"event":"cancelAll", "token":"{TOKEN}"}}']

    @pytest.mark.parametrize(
        "break_it",
        [
            pytest.param(lambda path: path.unlink(), id="missing"),
            pytest.param(lambda path: path.write_text(""), id="empty"),
            pytest.param(lambda path: path.write_text(" \n\n"), id="blank"),
            pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), id="not text"),
            pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a directory"),
            pytest.param(lambda path: (path.unlink(), path.symlink_to(path)), id="a loop of links"),
            pytest.param(lambda path: (path.unlink(), path.symlink_to("gone")), id="a dead link"),
        ],
    )
    @pytest.mark.parametrize("name", ["openOrders", "addOrder"])
    def test_missing(self, client: Client, name: str, break_it: Callable[[Path], None]) -> None:
        """Without a token nothing is dialled."""
        break_it(client.folder / "WS_Token")
        if not os.path.lexists(client.folder / "WS_Token"):
            client.copy_script()
        assert client.run(name) == (1, self.MISSING, "")
        assert client.exchange.dialled == []

    @pytest.mark.parametrize(
        ("here", "status"), [(None, 0), ("", 1)], ids=["no file here", "an empty file here"]
    )
    @pytest.mark.parametrize("link", [False, True], ids=["script", "a link to the script"])
    def test_beside(self, client: Client, here: str | None, status: int, link: bool) -> None:
        """Where there is no file here, the one beside the script counts; but only then."""
        home = client.copy_script()
        (client.folder / "WS_Token").rename(home / "WS_Token")
        if here is not None:
            (client.folder / "WS_Token").write_text(here)
        if link:
            client.script = client.folder / "kraken"
            client.script.symlink_to(home / "krakenws.py")
        assert client.run("cancelAll", "-C1").status == status

    def test_out_of_sight(self, client: Client) -> None:
        """Where it can't be seen whether one is here, the one beside the script doesn't count."""

        def shut() -> None:
            os.chmod(os.curdir, 0)
            if os.getuid() == 0:  # who would see it, but for these
                for capability in (1, 2):
                    ctypes.CDLL(None).prctl(24, capability)

        home, here = client.copy_script(), client.folder / "here"
        (client.folder / "WS_Token").rename(home / "WS_Token")
        here.mkdir()
        result = client.run("cancelAll", "-C1", cwd=here, preexec_fn=shut)
        here.chmod(0o700)
        assert result == (1, self.MISSING, "")
        assert client.exchange.dialled == []

    def test_public(self, client: Client) -> None:
        """A public name doesn't touch the file: a pipe in its place would hang."""
        (client.folder / "WS_Token").unlink()
        os.mkfifo(client.folder / "WS_Token")
        assert client.run("ping", "-C1", "-W0").status == 0

    def test_stopped_while_reading(self, client: Client) -> None:
        """The time limit holds also while the token is awaited."""
        (client.folder / "WS_Token").unlink()
        os.mkfifo(client.folder / "WS_Token")
        assert client.run("cancelAll", "-W0.2") == (1, connection(TIMED_OUT), "")

    def test_token_file(self, client: Client) -> None:
        """--token-file names another file."""
        (client.folder / "other").write_text(TOKEN)
        (client.folder / "WS_Token").write_text("another account's")
        assert client.run("cancelAll", "-C1", "--token-file", "other").status == 0
        for name in ("nowhere", ""):  # which a script may have from a variable that isn't set
            missing = client.run("cancelAll", "--token-file", name)
            assert missing == (1, f"WebSocket authentication token missing ({name})\n", "")

    def test_token_from_stdin(self, client: Client) -> None:
        """--token-file takes what isn't a file, too."""
        with (client.folder / "WS_Token").open() as stdin:
            argv = ["cancelAll", "-C1", "--token-file", "/dev/stdin"]
            assert client.run(*argv, stdin=stdin).status == 0

    def test_token_command(self, client: Client) -> None:
        """--token-command takes what a shell command prints."""
        client.exchange.script = answer(ALL_CANCELLED)
        (client.folder / "WS_Token").rename(client.folder / "other")
        command = "echo; cat other; echo working >&2"
        result = client.run("cancelAll", "-rqC1", "--token-command", command)
        assert result == (0, f"{ALL_CANCELLED}\n", "working\n")
        assert client.exchange.received == [f'{{"event":"cancelAll", "token":"{TOKEN}"}}']

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ("echo x; exit 7", "ended with status 7"),
            ("true", "printed no text"),
            (r"printf '\377\n'", "printed no text"),
            ("exec sleep 60", "took longer than 0.2 seconds"),
        ],
    )
    def test_no_token_from_the_command(self, client: Client, command: str, words: str) -> None:
        """A command that brings no token is said, and nothing is dialled."""
        limit = "0.2" if "sleep" in command else "30"
        argv = ["openOrders", "--token-command", command, "--idle-timeout", limit]
        sentence = f"WebSocket authentication token missing (--token-command {words})\n"
        assert client.run(*argv) == (1, sentence, "")
        assert client.exchange.dialled == []


class TestCommandLine:
    """The command line."""

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            pytest.param(["nosuch"], "no feed or endpoint is called nosuch", id="an unknown name"),
            *[
                pytest.param(
                    [slip], f"no feed or endpoint is called {slip}: did you mean {name}?", id=slip
                )
                for slip, name in (
                    ("TICKER", "ticker"),
                    ("tiker", "ticker"),
                    ("addorder", "addOrder"),
                    ("cancelAllOrderAfter", "cancelAllOrdersAfter"),
                )
            ],
            pytest.param([""], "no feed or endpoint is called ", id="an empty name"),
            pytest.param(["ticker"], "A market feed needs a pair", id="a feed with no pair"),
            pytest.param(["ticker", "5"], "A market feed needs a pair", id="a number only"),
            pytest.param(["--nosuch"], "unrecognized arguments: --nosuch", id="an unknown option"),
            pytest.param(["--cou", "1"], "unrecognized arguments: --cou", id="no abbreviations"),
            pytest.param(["-C"], "argument -C/--count: expected one argument", id="no value"),
            *[
                pytest.param(["-C", value], f"argument -C/--count: invalid count value: '{value}'")
                for value in ("0", "x", "1.5")
            ],
            *[
                pytest.param(
                    ["-W", value], f"argument -W/--max-time: invalid seconds value: '{value}'"
                )
                for value in ("nan", "inf", "x", "1000001", "-1")
            ],
            pytest.param(
                ["ping", "--reconnect", "1"],
                "--reconnect is for feeds: no request is ever sent twice",
                id="reconnect for ping",
            ),
            pytest.param(
                ["addOrder", "--reconnect", "1"],
                "--reconnect is for feeds: no request is ever sent twice",
                id="reconnect for an order",
            ),
            pytest.param(
                ["openOrders", "--token-file", "x", "--token-command", "y"],
                "--token-file and --token-command exclude each other",
                id="two tokens",
            ),
        ],
    )
    def test_usage(self, client: Client, argv: list[str], words: str) -> None:
        """A wrong command line gets the usage text, and what is wrong with it."""
        status, out, err = client.run(*argv)
        lines = out.splitlines()
        assert (status, err) == (1, "")
        assert [line.split()[0] + " " for line in lines[:5]] == USAGE
        assert lines[0] == f"Usage: {SCRIPT} feed/endpoint [parameters]"
        assert lines[1] == f"Example: {SCRIPT} ticker XBT/USD"
        assert "\n".join(lines[5:]) == words
        assert client.exchange.dialled == []

    def test_parameter(self, client: Client) -> None:
        """A wrong parameter is a sentence, and nothing is dialled."""
        result = client.run("addOrder", "price")
        assert result == (1, "Parameter price is not of the form name=value\n", "")
        assert client.exchange.dialled == []

    def test_token_as_a_parameter(self, client: Client) -> None:
        """A token among the words is not repeated."""
        result = client.run("addOrder", TOKEN.replace("=", ""))
        assert TOKEN not in result.out
        result = client.run("openOrders", TOKEN.split("=")[0])
        assert result.status == 1

    @pytest.mark.parametrize("argv", [["ticker", b"\xff/USD"], ["addOrder", b"userref=\xff"]])
    def test_not_text(self, client: Client, argv: list[Any]) -> None:
        """A word that is no text is refused."""
        status, out, err = client.run(*argv)
        assert (status, err) == (1, "")
        assert out.endswith("is not text in the locale's encoding\n")

    @settings(max_examples=15)
    @given(argv=st.lists(st.text().filter(lambda word: "\0" not in word)))
    @example(argv=["--", "-C", "\x1b[2J"])
    @example(argv=["addOrder", '"}', "="])
    @example(argv=["", "-r"])
    def test_any_words(self, authority: Authority, argv: list[str]) -> None:
        """Whatever is typed: a clean end, and JSON or a sentence."""
        words = [word.encode("utf-8", "surrogatepass") for word in argv]
        with Exchange(authority, Peer.wait) as exchange, tempfile.TemporaryDirectory() as folder:
            client = Client(exchange, Path(folder))
            status, out, err = client.run("-n", *words)  # type: ignore[arg-type]
            assert exchange.dialled == []
        assert status in (0, 1)
        assert bool(out) != bool(err)  # with -r among the words a sentence is on stderr
        if status == 0 and not out.startswith(("usage:", krakenws.__version__)):
            json.loads(out)

    def test_help(self, client: Client) -> None:
        """The help names every feed and endpoint and every exit status, and dials nothing."""
        status, out, err = client.run("--help")
        assert (status, err) == (0, "")
        words = out.split()
        assert set(TABLE) <= set(words)
        assert {str(status) for status in krakenws.STATUSES} <= set(words)
        assert client.run("nosuch", "-h").out == out
        assert client.exchange.dialled == []

    def test_version(self, client: Client) -> None:
        """The version is the script's."""
        assert client.run("--version") == (0, f"{krakenws.__version__}\n", "")

    @pytest.mark.parametrize(
        "argv",
        [
            ["-rqC1", "ticker", "XBT/USD"],
            ["ticker", "-r", "XBT/USD", "-C", "1", "-q"],
            ["ticker", "XBT/USD", "--raw", "--quiet", "--count=1"],
            ["-r", "-q", "-C1", "--", "ticker", "XBT/USD"],
        ],
    )
    def test_options_anywhere(self, client: Client, argv: list[str]) -> None:
        """Options combine and may stand anywhere."""
        client.exchange.script = answer(SUBSCRIBED, DATA)
        assert client.run(*argv) == (0, f"{DATA}\n", "")
        assert client.exchange.received == [TICKER]

    def test_after_two_dashes(self, client: Client) -> None:
        """Behind -- nothing is an option."""
        result = client.run("-n", "--", "ticker", "-r", "--", "--count")
        text = TICKER.replace('"XBT/USD"', '"-R","--","--COUNT"')
        assert result == (0, f"{text}\n", "")

    def test_dry_run(self, client: Client) -> None:
        """-n prints the request with the token masked, needs none, and connects to nothing."""
        (client.folder / "WS_Token").unlink()
        assert client.run("-n", "addOrder", "pair=XBT/USD") == (0, f"{ORDER_SHOWN}\n", "")
        assert client.run("-n", "ticker", "xbt/usd") == (0, f"{TICKER}\n", "")
        assert client.run("-n", "addOrder", "reqid=x").status == 1
        assert client.exchange.dialled == []


class TestRawAndQuiet:
    """--raw and --quiet."""

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
    def test_feed(self, client: Client, options: str, out: str) -> None:
        """-r leaves only messages, -q no housekeeping; refusals stay."""
        client.exchange.script = answer(*self.ALL)
        assert client.run(options, "ticker", "XBT/USD", "A/B") == (0, out, "")

    @pytest.mark.parametrize(
        ("options", "out"),
        [
            ("-C1", GREETED + sent('{"event":"ping"}') + got(PONG)),
            ("-qC1", got(PONG)),
            ("-rC1", f"{GREETED[len('WebSocket -> Client: ') : -1]}\n{PONG}\n"),
            ("-rqC1", f"{PONG}\n"),
        ],
    )
    def test_ping(self, client: Client, options: str, out: str) -> None:
        """Replies stay."""
        client.exchange.script = answer(PONG)
        assert client.run(options) == (0, out, "")

    @pytest.mark.parametrize("status", ["maintenance", "cancel_only", "post_only", "?"])
    def test_not_online(self, client: Client, status: str) -> None:
        """-q shows a status of the system that isn't online, first or later."""
        bad = GREETING.replace("online", status)

        def script(peer: Peer) -> None:
            peer.send(bad)
            peer.receive()
            peer.send(SUBSCRIBED, bad, GREETING, DATA)
            peer.wait()

        client.exchange.script = script
        result = client.run("-rqC1", "ticker", "XBT/USD")
        assert result == (0, f"{bad}\n{bad}\n{DATA}\n", "")

    @pytest.mark.parametrize("options", ["-r", "-rq"])
    def test_sentences(self, client: Client, options: str) -> None:
        """With -r every sentence goes to stderr."""
        client.exchange.script = answer(REFUSED)
        result = client.run(options, "ticker", "A/B")
        assert result.out.endswith(f"{REFUSED}\n")
        assert result.err == request("Currency pair not supported A/B")
        usage = client.run(options, "ticker")
        assert (usage.status, usage.out) == (1, "")
        assert usage.err.startswith("Usage: ")
        assert client.run(options, "--nosuch").out == ""


class TestLimits:
    """--count and --max-time."""

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_count(self, client: Client, count: int) -> None:
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
            pytest.param(["addOrder"], [ACCEPTED], 0, id="an accepted order"),
            pytest.param(["addOrder"], [ERROR], 1, id="a refused order"),
            pytest.param(["ping"], [PONG], 0, id="ping"),
        ],
    )
    def test_time_limit(
        self, client: Client, argv: list[str], replies: list[str], status: int
    ) -> None:
        """What the time limit means depends on what was still to come."""
        result = client.time_out(*argv, "-rq", say=replies)
        sentence = "" if replies else request(TIMED_OUT)
        out = "".join(f"{reply}\n" for reply in replies if reply != SUBSCRIBED)
        assert result == (status, out, sentence + (FATE if status == 3 else ""))

    @pytest.mark.parametrize("limit", ["0.5", "0.000001"])
    def test_alarm(self, client: Client, limit: str) -> None:
        """The time limit needs no help, even where it is shorter than the system's clock ticks."""
        client.exchange.script = answer(SUBSCRIBED)
        assert client.run("ticker", "XBT/USD", "-C9", "-W", limit).status == 124

    def test_longest_limits(self, client: Client) -> None:
        """The longest times that are taken are not too long for the system."""
        argv = ["-W", "1e6", "--idle-timeout", "1e6", "--token-command", f"echo '{TOKEN}'"]
        assert client.run("cancelAll", "-rqC1", *argv).status == 0

    def test_order_not_even_begun(self, client: Client) -> None:
        """An order that the time limit ends while its token is awaited is not in effect."""
        argv = ["addOrder", "-C1", "-W0.2", "--token-command", "exec sleep 60"]
        assert client.run(*argv) == (1, connection(TIMED_OUT), "")

    def test_order_never_sent(self, client: Client) -> None:
        """An order that the time limit kept from being sent is certainly not in effect."""
        client.exchange.faults["tls"] = hang
        assert client.run("addOrder", "-C1", "-W0.2") == (1, connection(TIMED_OUT), "")

    def test_ctrl_c_with_a_count(self, client: Client) -> None:
        """Ctrl-C before the count is reached is still what was asked for."""
        client.exchange.script = answer(SUBSCRIBED)
        process = client.start("ticker", "XBT/USD", "-C5")
        process.read_until(SUBSCRIBED)
        assert process.signal(signal.SIGINT).end() == (0, "", "")


class TestReconnect:
    """--reconnect."""

    @staticmethod
    def scripts(client: Client, *scripts: Callable[[Peer], None]) -> None:
        """Let each connection meet the next script."""
        rest = list(scripts)

        def script(peer: Peer) -> None:
            rest.pop(0)(peer)

        client.exchange.script = script

    @staticmethod
    def closing(*replies: str) -> Callable[[Peer], None]:
        """Return a script that closes after these messages."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(*replies)
            peer.close(1001, "bye")

        return script

    def lines(self, text: str) -> list[str]:
        """Return lines without the time of a loss and the seconds to wait."""
        text = re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?=WebSocket)", "Z ", text, flags=re.M)
        return re.sub(r"(?<=^Connecting again in ).*", "", text, flags=re.M).splitlines()

    def test_transcript(self, client: Client) -> None:
        """After a loss: its sentence, the wait, and the transcript of the next connection."""
        self.scripts(client, self.closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
        status, out, err = client.run("ticker", "XBT/USD", "-C2", "--reconnect", "0.01")
        connected = (GREETED + sent(TICKER) + got(SUBSCRIBED, DATA)).splitlines()
        lost = ["Z " + messages("1001 bye").rstrip(), "Connecting again in "]
        assert (status, err) == (0, "")
        assert self.lines(out) == [*connected, *lost, *connected]

    def test_raw(self, client: Client) -> None:
        """With -r both sentences go to stderr; -q hides the second greeting, too."""
        self.scripts(client, self.closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
        status, out, err = client.run("ticker", "XBT/USD", "-rqC2", "--reconnect", "0")
        assert (status, out) == (0, f"{DATA}\n{DATA}\n")
        assert self.lines(err) == ["Z " + messages("1001 bye").rstrip(), "Connecting again in "]

    def test_cannot_connect(self, client: Client) -> None:
        """A connection that can't be made is tried again, the first one as well."""
        client.exchange.refusals = iter([Refusal(503), Refusal(429)])
        client.exchange.script = answer(SUBSCRIBED, DATA)
        status, out, err = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0.01")
        assert (status, out) == (0, f"{DATA}\n")
        again = "Connecting again in "
        words = ["HTTP 503 Service Unavailable", "HTTP 429 Too Many Requests"]
        assert self.lines(err) == [
            line for why in words for line in ("Z " + connection(why).rstrip(), again)
        ]

    def test_refused_at_first(self, client: Client) -> None:
        """A subscription that is refused at the first connection ends it."""
        client.exchange.script = answer(REFUSED)
        result = client.run("ticker", "A/B", "-rq", "--reconnect", "0")
        assert result == (1, f"{REFUSED}\n", request("Currency pair not supported A/B"))

    def test_refused_later(self, client: Client) -> None:
        """A subscription that is refused as a whole ends it after a connection that worked, too."""
        self.scripts(client, self.closing(SUBSCRIBED, DATA), answer(REFUSED))
        status, out, err = client.run("ticker", "A/B", "-rqC2", "--reconnect", "0.01")
        assert (status, out) == (1, f"{DATA}\n{REFUSED}\n")
        assert self.lines(err)[2:] == [request("Currency pair not supported A/B").rstrip()]

    def test_service_broken(self, client: Client) -> None:
        """A subscription at which a service failed was not refused: it is tried again."""
        broken = (
            '{"errorMessage":"EService:Unavailable","event":"subscriptionStatus","status":"error"}'
        )
        self.scripts(client, answer(broken), answer(SUBSCRIBED, DATA))
        status, out, err = client.run("openOrders", "-rqC1", "--reconnect", "0.01")
        assert (status, out) == (0, f"{broken}\n{DATA}\n")
        assert self.lines(err)[0] == "Z " + request("EService:Unavailable").rstrip()

    def test_dead(self, client: Client) -> None:
        """A dead connection is a lost one."""
        self.scripts(client, answer(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
        argv = ["ticker", "XBT/USD", "-rqC2", "--reconnect", "0", "--idle-timeout", "2"]
        status, out, err = client.run(*argv)
        assert (status, out) == (0, f"{DATA}\n{DATA}\n")
        assert self.lines(err)[0] == "Z " + messages("nothing received for 2 seconds").rstrip()

    def test_token_file_again(self, client: Client) -> None:
        """The token's file is read again for each connection, and its token masked as before."""
        echo = f'[["{TOKEN}"],"openOrders",{{"sequence":1}}]'
        self.scripts(client, self.closing(SUBSCRIBED, echo), answer(SUBSCRIBED, echo))
        status, out, _ = client.run("openOrders", "-rqC2", "--reconnect", "0.01")
        assert (status, out) == (0, f"{echo}\n{echo}\n".replace(TOKEN, "***"))

    def test_fresh_token(self, client: Client) -> None:
        """Every connection has a token of its own; one that can't be had is a lost connection."""
        command = (
            "n=$(cat n 2>/dev/null); echo $((n + 1)) > n; "
            f'if [ "$n" = 1 ]; then exit 1; fi; echo "{TOKEN}$n"'
        )
        update = '[["***"],"openOrders",{"sequence":1}]'
        echoes = [update.replace("***", token) for token in (TOKEN, f"{TOKEN}2")]
        self.scripts(client, *[self.closing(SUBSCRIBED, echo) for echo in echoes])
        argv = ["openOrders", "-rqC2", "--reconnect", "0.01", "--token-command", command]
        status, out, err = client.run(*argv)
        assert (status, out) == (0, f"{update}\n{update}\n")
        assert self.lines(err)[2:] == [
            "Z WebSocket authentication token missing (--token-command ended with status 1)",
            "Connecting again in ",
        ]
        tokens = [json.loads(text)["subscription"]["token"] for text in client.exchange.received]
        assert tokens == [TOKEN, f"{TOKEN}2"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stopped_while_waiting(self, client: Client, number: signal.Signals) -> None:
        """The wait ends at once on a signal."""
        client.exchange.script = self.closing(SUBSCRIBED, DATA)
        process = client.start("ticker", "XBT/USD", "--reconnect", "1000")
        process.read_until("Connecting again")
        assert process.signal(number).end() == (0, "", "")

    def test_time_limit_while_waiting(self, client: Client) -> None:
        """The wait ends at the time limit, which goes over all connections together."""
        client.exchange.script = self.closing(SUBSCRIBED, DATA)
        process = client.start("ticker", "XBT/USD", "--reconnect", "1000", "-C2")
        process.read_until("Connecting again")
        assert process.signal(signal.SIGALRM).end() == (124, "", "")

    @pytest.mark.parametrize("reconnect", [0, 0.1, 0.5, 1, 2, 5])
    def test_not_too_often(self, reconnect: float) -> None:
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

    def test_waits(self) -> None:
        """The wait doubles up to a minute, and begins again after a connection that lived long."""
        waits: list[float] = []
        for lived in [*[0] * 9, STEADY_SECONDS, 0]:
            waits.append(next_delay(0.5, waits[-1] if waits else None, lived))
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0.5, 1]
        assert next_delay(1000, 1000, 0) == 1000

    def test_never_connected(self, client: Client) -> None:
        """Stopped without ever having had a connection, it has failed."""
        client.exchange.refusals = iter([Refusal(503)])
        process = client.start("ticker", "XBT/USD", "--reconnect", "1000")
        process.read_until("Connecting again")
        result = process.signal(signal.SIGTERM).end()
        assert result == (1, connection("stopped by SIGTERM"), "")

    def test_nobody_reads(self, client: Client) -> None:
        """A reader that goes away ends it, reconnecting or not."""
        client.exchange.script = answer(SUBSCRIBED, *[DATA] * 10_000)
        process = client.start("ticker", "XBT/USD", "--reconnect", "0")
        process.read_until(DATA)
        process.stop_reading()
        assert process.end() == (0, "", "")

    def test_nobody_reads_of_losses(self, client: Client) -> None:
        """It doesn't dial on for a reader that has left while the exchange is down."""

        def script(peer: Peer) -> None:
            peer.greet()
            peer.receive()
            peer.send(SUBSCRIBED, DATA)
            client.barrier.wait()

        client.exchange.script = script
        process = client.start("ticker", "XBT/USD", "--reconnect", "0.01")
        process.read_until(DATA)
        client.exchange.refusals = itertools.repeat(Refusal(503))
        process.stop_reading()
        client.barrier.wait()
        assert process.end() == (0, "", "")


class TestPackage:
    """websocket-client missing or too old, or something else in its place."""

    MISSING = "is missing, or another package called websocket is in its place"

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            pytest.param("raise ImportError", MISSING, id="missing"),
            pytest.param("class WebSocket: pass", MISSING, id="another package of the name"),
            pytest.param("print 'Python 2'", MISSING, id="a package for Python 2"),
            pytest.param(
                "__version__, WebSocketTimeoutException = '1.2.3', OSError",
                "1.2.3 is too old",
                id="old",
            ),
            pytest.param(
                "__version__, WebSocketTimeoutException = '1.7rc1', OSError",
                "1.7rc1 is too old",
                id="old, and not a number",
            ),
        ],
    )
    def test_sentence(self, client: Client, source: str, problem: str) -> None:
        """One sentence says what this very Python needs."""
        (client.folder / "websocket.py").write_text(source)
        client.environment["PYTHONPATH"] = str(client.folder)
        install = f"{sys.executable} -m pip install 'websocket-client>=1.8'"
        result = client.run("ticker", "XBT/USD")
        assert result == (1, f"websocket-client {problem}: {install}\n", "")
        assert client.exchange.dialled == []
