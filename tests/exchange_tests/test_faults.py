"""What goes wrong on the practice exchange: its rate limit, and the faults that end feeds."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import exchange
from conftest import Process
from exchange_tests.test_practice import (
    INVALID_SESSION,
    PRIVATE,
    START,
    Fake,
    Floor,
    call,
    order,
    private,
    public,
    undo,
)
from practice.common import HEARTBEAT
from practice.connection import Connection
from practice.credentials import API_KEY
from practice.faults import FAULTS, UNAVAILABLE, parse_fault

PING = {"event": "ping"}
PONG = {"event": "pong"}
EXCEEDED = "Exceeded msg rate"
BARE = {"Error": EXCEEDED}
EVENT = {"errorMessage": EXCEEDED, "event": "error"}
LOCKED = ["EGeneral:Temporary lockout"]
PAIRS = "XBT/USD", "ETH/USD"
PAGE = Path(exchange.__file__).with_name("README.md")


def refused(words: str, pair: str, name: str = "ticker") -> dict[str, Any]:
    """Return the status that refuses a pair."""
    error = {"errorMessage": words, "event": "subscriptionStatus", "pair": pair}
    return {**error, "status": "error", "subscription": {"name": name}}


def news(messages: list[Any]) -> list[Any]:
    """Return what is no data: a name or pair and its status, or the error's words."""
    told = [message for message in messages if isinstance(message, dict) and message != HEARTBEAT]
    return [
        (each.get("pair") or each["subscription"]["name"], each.get("errorMessage", each["status"]))
        for each in told
        if each["event"] == "subscriptionStatus"
    ]


@pytest.fixture
def floor() -> Floor:
    """Return an exchange without a fault."""
    return Floor()


class TestNameless:
    """A subscription without a name."""

    @pytest.mark.parametrize("event", ["subscribe", "unsubscribe"])
    def test_as_recorded(self, event: str) -> None:
        """Each pair has the recorded answer, with its reqid and subscription, and no data.

        The pair is as it was sent, whether the exchange has it or not.
        """
        recorded = (
            '{"errorMessage":"Malformed request","event":"subscriptionStatus","pair":"XBT/USDT",'
            '"reqid":1,"status":"error","subscription":{"depth":10}}'
        )
        request = {"event": event, "reqid": 1, "subscription": {"depth": 10}}
        first, second, third = Floor().talk({**request, "pair": ["XBT/USDT", "BTC/USD", "x"]}, 2)
        assert json.dumps(first, separators=(",", ":")) == recorded
        assert second == {**first, "pair": "BTC/USD"}
        assert third == {**first, "pair": "x"}

    @pytest.mark.parametrize("pair", [None, [], "XBT/USD", [1]])
    def test_without_pairs(self, pair: object) -> None:
        """Where there are no pairs there is one answer, and no pair in it."""
        (answer,) = Floor().talk({"event": "subscribe", "pair": pair, "subscription": {}})
        error = {"errorMessage": "Malformed request", "event": "subscriptionStatus"}
        assert answer == {**error, "status": "error", "subscription": {}}

    def test_private(self) -> None:
        """The private host refuses it, too, and shows no token."""
        request = private("ownTrades")
        del request["subscription"]["name"]
        (answer,) = Floor().private(request)
        assert (answer["errorMessage"], answer["subscription"]) == ("Malformed request", {})

    @pytest.mark.parametrize("name", [None, "", "x", 5])
    def test_another_name(self, name: Any) -> None:
        """A name that no feed has is another error, and one answer."""
        (answer,) = Floor().talk(public(name, *PAIRS))
        assert answer["errorMessage"] == "Subscription name invalid"

    def test_channel(self) -> None:
        """Unsubscribing by a channel's number takes no name."""
        request = {"event": "unsubscribe", "channelID": 337, "subscription": {}}
        assert Floor().talk(public(), request)[-1]["status"] == "unsubscribed"


class TestRateLimit:
    """The rate limit of a connection, which is always in force."""

    def test_twenty_in_a_second(self, floor: Floor) -> None:
        """Of 25 requests at once 20 are answered, and after a second 20 more: nothing is closed."""
        answers = floor.talk(*[PING] * 25, 0.9, PING, 0.1, *[PING] * 21)
        assert answers == [*[PONG] * 20, *[BARE, EVENT] * 3, *[PONG] * 20, BARE]

    def test_any_second(self, floor: Floor) -> None:
        """Every span of a second counts, not only those between two full ones."""
        answers = floor.talk(0.9, *[PING] * 15, 0.5, *[PING] * 6, 0.5, *[PING] * 16)
        assert answers == [*[PONG] * 20, BARE, *[PONG] * 15, EVENT]

    def test_by_connection(self, floor: Floor) -> None:
        """What another connection sends doesn't count."""
        assert floor.talk(*[PING] * 20) == floor.talk(*[PING] * 20) == [PONG] * 20

    def test_everything_counts(self, floor: Floor) -> None:
        """Errors count like requests, and one too many is not even found malformed."""
        sent = floor.talk(*["{"] * 10, *[public("x")] * 10, "{", PING)
        assert [message["event"] for message in sent[:20]] == ["error"] * 10 + [
            "subscriptionStatus"
        ] * 10
        assert sent[20:] == [BARE, EVENT]

    def test_forms(self, floor: Floor) -> None:
        """A subscription is refused in the three documented forms in turn, with its reqid."""
        many = {**public("ticker", "BTC/USD", "ETH/USD"), "reqid": 7}
        answers = floor.talk(*[PING] * 20, *[many] * 4, 3)[20:]
        pairs = [{**refused(EXCEEDED, pair), "reqid": 7} for pair in ("BTC/USD", "ETH/USD")]
        assert answers == [BARE, {**EVENT, "reqid": 7}, *pairs, BARE]
        assert list(answers[1]) == sorted(answers[1])
        assert list(answers[2]) == sorted(answers[2])

    def test_private_forms(self, floor: Floor) -> None:
        """A private feed is refused in the same forms, without its token."""
        answers = floor.private(*[PING] * 20, *[private("openOrders")] * 3)[20:]
        error = {"errorMessage": EXCEEDED, "event": "subscriptionStatus", "status": "error"}
        shown = {"subscription": {"name": "openOrders"}}
        assert answers == [BARE, EVENT, {**error, **shown}]

    @pytest.mark.parametrize("reqid", ["a", -1, None])
    def test_bad_reqid(self, floor: Floor, reqid: object) -> None:
        """What is no reqid doesn't come back."""
        bad = {**public(), "reqid": reqid}
        answers = floor.talk(*[PING] * 20, *[bad] * 3)[20:]
        assert answers == [BARE, EVENT, refused(EXCEEDED, "XBT/USD")]

    def test_forms_over_connections(self, floor: Floor) -> None:
        """A client that connects again meets the next form."""
        forms = [floor.talk(*[PING] * 20, public())[20:] for _ in range(3)]
        assert forms == [[BARE], [EVENT], [refused(EXCEEDED, "XBT/USD")]]

    def test_not_carried_out(self, floor: Floor) -> None:
        """An order or cancel that is one too many is not carried out."""
        cancel = {"event": "cancelAll", "token": order()["token"]}
        answers = floor.private(order(), *[PING] * 19, order(), cancel)
        assert answers[20:] == [BARE, EVENT]
        assert len(floor.practice.account.open) == 1


class TestSharedRate:
    """The fault rate-limit, which counts the requests of all connections together."""

    def test_one_request(self) -> None:
        """One request passes in S seconds; one that was refused doesn't make it later."""
        floor = Floor(faults=["rate-limit=5"])
        assert floor.talk(public())[0]["status"] == "subscribed"
        assert floor.talk(2, public(), 2.9, PING) == [BARE, EVENT]
        assert floor.talk(0.1, PING) == [PONG]

    def test_usual_rate(self) -> None:
        """Without the fault there is no limit for all connections together."""
        floor = Floor()
        assert [floor.talk(PING) for _ in range(50)] == [[PONG]] * 50


class TestLockout:
    """The fault lockout: failed REST calls in a row lock the key."""

    @staticmethod
    def fail(floor: Floor, times: int, **headers: str) -> set[str]:
        """Return the errors of so many calls that are signed wrongly."""
        wrong = {"api-sign": "AAAA", **headers}
        return {call(floor, b"nonce=1", **wrong)["error"][0] for _ in range(times)}

    @staticmethod
    def error(floor: Floor) -> list[str]:
        """Return the error of a call that is right."""
        nonce = int((floor.clock.now - START) * 10) + 5
        return list(call(floor, f"nonce={nonce}".encode())["error"])

    def test_burst(self) -> None:
        """Five failures in a row lock the key, four don't; a call that is right begins anew."""
        floor = Floor(faults=["lockout"])
        assert self.fail(floor, 4) == {"EAPI:Invalid signature"}
        assert self.error(floor) == []
        assert self.fail(floor, 5) == {"EAPI:Invalid signature"}
        floor.clock.now += 1
        assert self.error(floor) == LOCKED
        assert self.fail(floor, 1) == set(LOCKED)

    def test_clears(self) -> None:
        """Fifteen minutes without a try clear it; a try with the right signature prolongs it."""
        floor = Floor(faults=["lockout"])
        self.fail(floor, 5)
        floor.clock.now += 899
        assert self.error(floor) == LOCKED
        floor.clock.now += 899
        assert self.error(floor) == LOCKED
        floor.clock.now += 900
        assert self.fail(floor, 4) == {"EAPI:Invalid signature"}
        assert self.error(floor) == []

    def test_count_clears(self) -> None:
        """Failures are forgotten after as long."""
        floor = Floor(faults=["lockout=60"])
        self.fail(floor, 4)
        floor.clock.now += 61
        self.fail(floor, 4)
        assert self.error(floor) == []

    @pytest.mark.parametrize("fault", ["lockout", "maintenance"])
    def test_market_time(self, fault: str) -> None:
        """The time is the market's, also where that stands still."""
        floor = Floor(faults=["lockout", fault], speed=60)
        self.fail(floor, 5)
        floor.wait(14)
        assert self.error(floor) == LOCKED
        floor.wait(16)
        assert self.error(floor) == []

    def test_by_key(self) -> None:
        """One key's failures don't lock another one; a nonce that is too small is a failure."""
        floor = Floor(faults=["lockout"])
        assert self.fail(floor, 9, **{"api-key": "mine"}) == {"EAPI:Invalid key", *LOCKED}
        assert self.error(floor) == []
        for _ in range(5):
            assert call(floor, b"nonce=5")["error"] == ["EAPI:Invalid nonce"]
        assert call(floor, b"nonce=6", **{"api-key": API_KEY})["error"] == LOCKED

    def test_only_private_calls(self) -> None:
        """A locked key is no matter for public calls, nor does a wrong method count."""
        floor = Floor(faults=["lockout"])
        for _ in range(9):
            call(floor, b"nonce=1", method="GET")
        assert self.error(floor) == []
        self.fail(floor, 5)
        assert call(floor, b"", path="/0/public/Time")["error"] == []

    def test_without_it(self) -> None:
        """Without the fault no key is locked."""
        floor = Floor()
        self.fail(floor, 50)
        assert self.error(floor) == []


class TestUnsubscribe:
    """The fault unsubscribe: the exchange ends subscriptions by itself."""

    def test_oldest_first(self) -> None:
        """The oldest ends after S seconds, the next after as many more, with no data behind."""
        floor = Floor(faults=["unsubscribe=5"])
        request = {**public("ticker", *PAIRS), "reqid": 3}
        sent = floor.serve(10, request, 4.8, PING, 0.4, PING, 4.4, PING, 0.4, PING, 9).sent
        pongs = [place for place, message in enumerate(sent) if message == PONG]
        ends = [place for place, m in enumerate(sent) if "unsubscribed" in str(m)]
        assert pongs[0] < ends[0] < pongs[1] < pongs[2] < ends[1] < pongs[3]
        assert sent[ends[0]] == {
            "channelID": 337,
            "channelName": "ticker",
            "event": "subscriptionStatus",
            "pair": "XBT/USD",
            "status": "unsubscribed",
            "subscription": {"name": "ticker"},
        }
        assert sent[ends[1]]["pair"] == "ETH/USD"
        data = [message[-1] for message in sent[ends[0] : ends[1]] if isinstance(message, list)]
        assert set(data) == {"ETH/USD"}
        assert sent[ends[1] + 1 :] == [PONG]  # no heartbeat, either

    def test_again(self) -> None:
        """What was ended can be subscribed to again, on the same connection."""
        floor = Floor(faults=["unsubscribe=5"])
        again = news(floor.talk(public(), 5.2, public(), 4.8))
        assert again == [("XBT/USD", word) for word in ("subscribed", "unsubscribed", "subscribed")]

    def test_idle_end(self) -> None:
        """A connection lives for a minute after its last subscription was ended."""
        floor = Floor(faults=["unsubscribe=100"])
        assert floor.serve(public(), 159).end is None
        assert floor.serve(public(), 161).end == (1000, "")

    def test_private(self) -> None:
        """Private feeds end, too, and keep their token alive no longer."""
        floor = Floor(faults=["unsubscribe=5"], token_life=6.0)
        both = private("openOrders"), private("ownTrades", snapshot=False)
        sent = floor.private(*both, 10.2, order())
        assert news(sent)[2:] == [("openOrders", "unsubscribed"), ("ownTrades", "unsubscribed")]
        assert sent[-1]["errorMessage"] == INVALID_SESSION


class TestInvalidSession:
    """The fault invalid-session: tokens that were good are so no longer."""

    def test_feeds(self) -> None:
        """After S seconds the private feeds end with the words; a kept token is not spared."""
        floor = Floor(faults=["invalid-session=5"])
        sent = floor.private(private("openOrders"), 4.8, order(), 0.4, order(), 3, order())
        assert sent[2]["status"] == "ok"
        lost = next(place for place, message in enumerate(sent) if "Invalid" in str(message))
        error = {"errorMessage": INVALID_SESSION, "event": "subscriptionStatus"}
        assert sent[lost] == {**error, "status": "error", "subscription": {"name": "openOrders"}}
        assert [message["event"] for message in sent[lost + 1 :]] == ["addOrderStatus"] * 2
        assert {message["errorMessage"] for message in sent[lost:]} == {INVALID_SESSION}

    def test_new_token(self) -> None:
        """A token issued later is good, until it is S seconds later again."""
        floor = Floor(faults=["invalid-session=5"])
        old = call(floor, b"nonce=1")["result"]["token"]
        floor.wait(5.2)
        new = call(floor, b"nonce=2")["result"]["token"]
        cancels = [{"event": "cancelAll", "token": token} for token in (old, new)]
        bad, good = floor.private(*cancels)
        assert (bad["status"], good["status"]) == ("error", "ok")
        floor.wait(5.2)
        assert [answer["status"] for answer in floor.private(*cancels)] == ["error", "error"]

    def test_public(self) -> None:
        """Public feeds go on."""
        floor = Floor(faults=["invalid-session=5"])
        sent = floor.talk(public(), 9)
        assert news(sent) == [("XBT/USD", "subscribed")]
        assert len(sent) > 2

    def test_idle_end(self) -> None:
        """A connection lives for a minute after its feeds were ended, others for their own."""
        floor = Floor(faults=["invalid-session=100"])
        assert floor.serve(private("openOrders"), 159, host=PRIVATE).end is None
        floor = Floor(faults=["invalid-session=100"])
        assert floor.serve(private("openOrders"), 161, host=PRIVATE).end == (1000, "")
        floor = Floor(faults=["invalid-session=50"])
        assert floor.serve(59.8).end is None
        assert floor.serve(60.2).end == (1000, "")


class TestRefusedPair:
    """The fault refused-pair: what a lost connection had is refused for some time."""

    def test_last_pair(self) -> None:
        """The last pair is refused in two words in turn, from the first try on, then accepted."""
        floor = Floor(faults=["refused-pair=5"])
        request = public("ticker", *PAIRS)
        good = [(pair, "subscribed") for pair in PAIRS]
        assert news(floor.talk(request)) == good
        floor.wait(60)
        one, two = public("ticker", "ETH/USD"), public("spread", "ETH/USD")
        sent = floor.talk(request, 3, two, 1.8, one, 0.2, one)
        words = [UNAVAILABLE, EXCEEDED, UNAVAILABLE, "subscribed"]
        assert news(sent) == [good[0], *[("ETH/USD", word) for word in words]]
        assert refused(UNAVAILABLE, "ETH/USD") in sent

    def test_each_loss(self) -> None:
        """Each connection that was refused nothing has the same effect when it ends."""
        floor = Floor(faults=["refused-pair=5"])
        said = [[word for _, word in news(floor.talk(public(), 5, public()))] for _ in range(4)]
        good, bad = ["subscribed", "Already subscribed"], ["subscribed"]
        assert said == [good, [UNAVAILABLE, *bad], good, [EXCEEDED, *bad]]

    def test_refused_connection(self) -> None:
        """A connection that was refused a pair makes no other refused: both come back at last."""
        floor = Floor(faults=["refused-pair=5"])
        request = public("ticker", *PAIRS)
        floor.talk(request)
        said = [dict(news(floor.talk(request, 2))) for _ in range(4)]
        assert [each["XBT/USD"] for each in said] == ["subscribed"] * 4
        assert [each["ETH/USD"] for each in said[:3]] == [UNAVAILABLE, EXCEEDED, UNAVAILABLE]
        assert said[3]["ETH/USD"] == "subscribed"

    def test_others(self) -> None:
        """What was taken back before the end is not refused, nor after a connection without any."""
        floor = Floor(faults=["refused-pair=5"])
        request = public("ticker", *PAIRS)
        floor.talk(PING)
        floor.talk(request, undo(request, pair=["ETH/USD"]))
        assert news(floor.talk(request)) == [("XBT/USD", UNAVAILABLE), ("ETH/USD", "subscribed")]

    def test_two_losses(self) -> None:
        """A second connection that had the pair, and ends while it is refused, changes nothing."""
        floor = Floor(faults=["refused-pair=5"])
        other = Connection(floor.practice, "ws.kraken.com", Fake())
        other.take(json.dumps(public()))
        floor.talk(public())
        assert news(floor.talk(public(), 3)) == [("XBT/USD", UNAVAILABLE)]
        other.leave()
        assert news(floor.talk(2, public())) == [("XBT/USD", "subscribed")]

    def test_private(self) -> None:
        """A private feed is refused like a pair."""
        floor = Floor(faults=["refused-pair=5"])
        feed = private("ownTrades")
        floor.private(feed)
        said = news(floor.private(feed, 5, feed))
        assert said == [("ownTrades", UNAVAILABLE), ("ownTrades", "subscribed")]

    def test_without_it(self) -> None:
        """Without the fault nothing is refused."""
        floor = Floor()
        assert [news(floor.talk(public())) for _ in range(3)] == [[("XBT/USD", "subscribed")]] * 3


def test_combined_and_the_same_again() -> None:
    """The faults can be combined, and the same steps have the same effect another time."""

    def run() -> list[Any]:
        faults = ["drop=12", "unsubscribe=5", "refused-pair=3", "rate-limit=2"]
        floor = Floor(faults=faults, seed=5)
        request = public("ticker", *PAIRS)
        peers = [floor.serve(request, 13), floor.serve(1, request, 1, request, 3, request, 13)]
        assert [peer.end for peer in peers] == ["reset", "reset"]
        return [peer.sent for peer in peers]

    first, second = run()
    both = [("XBT/USD", "subscribed"), ("ETH/USD", "subscribed")]
    ends = [(pair, "unsubscribed") for pair in PAIRS]
    assert news(first) == [*both, *ends]
    assert [message for message in second if "Error" in message] == [BARE]
    assert run() == [first, second]


def test_each_fault_is_documented() -> None:
    """--help has each fault with its seconds and its sentence, and the page has a row for it."""
    environment = {**os.environ, "COLUMNS": "80"}
    status, out, _ = Process([sys.executable, exchange.__file__, "-h"], env=environment).end()
    assert status == 0
    assert max(map(len, out.splitlines())) < 80
    words = re.sub(r"\s+", " ", out)
    for name, fault in FAULTS.items():
        seconds = "" if fault.seconds is None else f"{fault.seconds:g}"
        assert f" {name}{seconds and '='}{seconds} {fault.about}" in words
        assert re.search(rf"(?m)^\| [^|]*`{name}`[^|]*\| {seconds} ?\| ", PAGE.read_text())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drop=-1", "the seconds of a fault are 0 or more: drop=-1"),
        ("drop=nan", "the seconds of a fault are 0 or more: drop=nan"),
        ("429=5", "the fault 429 takes no seconds"),
    ],
)
def test_wrong_seconds(text: str, words: str) -> None:
    """Seconds that can't be are refused with a sentence."""
    with pytest.raises(ValueError, match=words):
        parse_fault(text)
