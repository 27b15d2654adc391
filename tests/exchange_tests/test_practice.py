"""The practice exchange's protocol: a fake connection with a clock of its own, and a real one."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime, timezone
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange_tests.test_market import BookClient
from practice.account import FLAGS, REQUESTS, TEXTS
from practice.common import HEARTBEAT
from practice.connection import BAD_REQID, NOT_HERE, Connection
from practice.credentials import API_KEY, API_SECRET, PRACTICE_TOKEN, TOKEN_PATH, sign
from practice.exchange import Practice
from practice.faults import FAULTS, parse_fault
from practice.market import CHANNELS, DEPTHS, PAIRS
from practice.private_feeds import PrivateFeed

PUBLIC, PRIVATE = "ws.kraken.com", "ws-auth.kraken.com"
START = 1_700_000_000.0
INVALID_SESSION = "ESession:Invalid session"
WRONG = {"token": "wrong"}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Fake:
    """A connection that keeps what is sent, and how it ended."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.end: Any = None

    def send(self, texts: list[str]) -> None:
        """Take what the exchange sends, as it would arrive."""
        self.sent += map(json.loads, texts)

    def close(self, code: int, reason: str) -> None:
        """End with a close frame."""
        self.end = code, reason

    def reset(self) -> None:
        """End with a reset."""
        self.end = "reset"


class Floor:
    """A practice exchange, its clock, and connections to it."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.practice = Practice(clock=self.clock, **options)

    def talk(self, *steps: Any, host: str = PUBLIC) -> list[Any]:
        """Return what the exchange sends to a client that does this, but for heartbeats."""
        peer = self.serve(*steps, host=host)
        assert peer.end is None
        return [message for message in peer.sent[1:] if message != HEARTBEAT]

    def private(self, *steps: Any) -> list[Any]:
        """Return what the exchange sends on its private host."""
        return self.talk(*steps, host=PRIVATE)

    def serve(self, *steps: Any, host: str = PUBLIC) -> Fake:
        """Return a connection after a client did this: requests, texts, and seconds of waiting."""
        fake = Fake()
        connection = Connection(self.practice, host, fake)
        for step in steps:
            if isinstance(step, (int, float)):
                self.wait(step)
                continue
            request = step() if callable(step) else step
            self.practice.tick()
            connection.take(request if isinstance(request, str) else json.dumps(request))
        if connection.over and not fake.end:
            fake.end = "silence"
        connection.leave()
        assert connection not in self.practice.connections
        return fake

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / 0.1)):
            self.clock.now = round(self.clock.now + 0.1, 6)
            self.practice.tick()


@pytest.fixture(scope="module")
def shared() -> Floor:
    """Return an exchange for questions that change nothing."""
    return Floor()


@pytest.fixture
def floor() -> Floor:
    """Return an exchange."""
    return Floor()


def public(name: str = "ticker", *pairs: str, **more: Any) -> dict[str, Any]:
    """Return a request for public data."""
    subscription = {"name": name, **more}
    return {"event": "subscribe", "pair": list(pairs or ("XBT/USD",)), "subscription": subscription}


def private(name: str, **more: Any) -> dict[str, Any]:
    """Return a request for an account's data."""
    subscription = {"name": name, "token": PRACTICE_TOKEN, **more}
    return {"event": "subscribe", "subscription": subscription}


def order(**changes: Any) -> dict[str, Any]:
    """Return an order for 0.01 XBT that rests."""
    usual = {"event": "addOrder", "token": PRACTICE_TOKEN, "ordertype": "limit", "type": "buy"}
    return {**usual, "pair": "XBT/USD", "volume": "0.01", "price": "50000", **changes}


def undo(request: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the request that takes a subscription back."""
    return {**request, "event": "unsubscribe", **changes}


def test_greeting(floor: Floor) -> None:
    """A connection begins with systemStatus, with the fields of today and an id of its own."""
    first, second = floor.serve().sent[0], floor.serve(host=PRIVATE).sent[0]
    assert list(first) == [
        "event",
        "version",
        "status",
        "connectionID",
        "upcoming_maintenance",
        "emergency",
    ]
    assert first["status"] == "online"
    assert first["connectionID"] != second["connectionID"]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"event": "ping"}, {"event": "pong"}),
        ({"event": "ping", "reqid": 42}, {"event": "pong", "reqid": 42}),
        ({"event": "ping", "reqid": 0}, {"event": "pong", "reqid": 0}),
    ],
)
def test_ping(shared: Floor, request_: Any, answer: Any) -> None:
    """A ping is answered on both hosts, with its reqid."""
    assert shared.talk(request_) == shared.private(request_) == [answer]


@pytest.mark.parametrize("reqid", ["a", -1, 2**64, 1.5, True, None])
def test_bad_reqid(shared: Floor, reqid: Any) -> None:
    """A reqid that isn't one is refused by the event that was asked for, and echoed."""
    error = {"errorMessage": BAD_REQID, "reqid": reqid, "status": "error"}
    ping, feed = shared.talk({"event": "ping", "reqid": reqid}, {**public(), "reqid": reqid})
    assert ping == {**error, "event": "pingStatus"}
    assert feed == {**error, "event": "subscriptionStatus"}
    (trade,) = shared.private({**order(), "reqid": reqid})
    assert trade == {**error, "event": "addOrderStatus"}


NO_JSON = ['{"event":"ping","reqid":NaN}', '{"event":"ping","reqid":1e999}']


@pytest.mark.parametrize(
    "text", ["", "ping", "[]", "{", "1", "{}", '{"event":1}', "[" * 100_000, *NO_JSON]
)
def test_malformed(shared: Floor, text: str) -> None:
    """What isn't an object with an event is malformed, and the connection goes on."""
    malformed = {"errorMessage": "Malformed request", "event": "error"}
    assert shared.talk(text, {"event": "ping"}) == [malformed, {"event": "pong"}]


def test_unknown_event(shared: Floor) -> None:
    """An event that doesn't exist is named unsupported, with its reqid."""
    answer = {"errorMessage": "Unsupported event", "event": "subscriptionStatus"}
    request = {"event": "dance", "reqid": 1}
    assert shared.talk(request) == [{**answer, "reqid": 1, "status": "error"}]


def test_a_status_for_each_pair(shared: Floor) -> None:
    """Each pair has a subscriptionStatus of its own; BTC is answered as XBT; data follow."""
    request = {**public("book", "BTC/USD", "XBT/TST", "ETH/EUR", depth=25), "reqid": 3}
    first, error, second, *data = shared.talk(request)
    assert first == {
        "channelID": 336 + 4,
        "channelName": "book-25",
        "event": "subscriptionStatus",
        "pair": "XBT/USD",
        "reqid": 3,
        "status": "subscribed",
        "subscription": {"depth": 25, "name": "book"},
    }
    assert list(first) == sorted(first)
    assert error == {
        "errorMessage": "Currency pair not supported XBT/TST",
        "event": "subscriptionStatus",
        "pair": "XBT/TST",
        "reqid": 3,
        "status": "error",
        "subscription": {"depth": 25, "name": "book"},
    }
    assert second["pair"] == "ETH/EUR"
    assert [message[-1] for message in data] == ["XBT/USD", "ETH/EUR"]
    assert {len(message[1][side]) for message in data for side in ("as", "bs")} == {25}


@pytest.mark.parametrize(("name", "number"), CHANNELS)
def test_every_channel(shared: Floor, name: str, number: int) -> None:
    """Every feed is there at all its depths and intervals, under the channel's name."""
    option = {"book": "depth", "ohlc": "interval"}.get(name)
    status, *data = shared.talk(public(name, **({option: number} if option else {})))
    assert status["status"] == "subscribed"
    assert status["channelName"] == (f"{name}-{number}" if number else name)
    assert len(data) == (name != "trade")
    for message in data:
        assert message[0] == status["channelID"]
        assert message[-2:] == [status["channelName"], "XBT/USD"]


@pytest.mark.parametrize(("name", "channel"), [("book", "book-10"), ("ohlc", "ohlc-1")])
def test_default_number(shared: Floor, name: str, channel: str) -> None:
    """Depth is 10 and the interval a minute if nothing is said."""
    assert shared.talk(public(name))[0]["channelName"] == channel


INTERVAL = "Subscription ohlc interval"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (public("ticker", "XBTUSDT"), "Currency pair not in ISO 4217-A3 format XBTUSDT"),
        (public("ticker", "xbt/usd"), "Currency pair not in ISO 4217-A3 format xbt/usd"),
        (public("ticker", "XBT/TST"), "Currency pair not supported XBT/TST"),
        (public("book", depth=42), "Subscription depth not supported"),
        (public("book", depth="10"), "Subscription book depth must be an integer"),
        (public("book", depth=True), "Subscription book depth must be an integer"),
        (public("book", interval=5), "Subscription book doesn't require interval"),
        (public("spread", depth=10), "Subscription spread doesn't require depth"),
        (public("ohlc", interval=2), f"{INTERVAL} not supported"),
        (public("ohlc", interval="5"), f"{INTERVAL} must be an integer"),
        (public("ticker", colour=1), "Subscription object unsupported field"),
    ],
)
def test_refused_for_a_pair(shared: Floor, request_: Any, message: str) -> None:
    """What is wrong with a pair's subscription is said in the exchange's words, with the pair."""
    pair = request_["pair"][0]
    error = {"errorMessage": message, "event": "subscriptionStatus", "status": "error"}
    answer = {**error, "pair": pair, "subscription": request_["subscription"]}
    assert shared.talk(request_) == [answer]
    assert shared.talk(undo(request_)) == [answer]


@pytest.mark.parametrize(
    ("host", "request_", "message"),
    [
        (PUBLIC, {**public(), "pair": "XBT/USD"}, "Pair field must be an array"),
        (PUBLIC, {**public(), "pair": None}, "Pair field must be an array"),
        (PUBLIC, {**public(), "pair": []}, "Pair(s) not found"),
        (PUBLIC, {**public(), "pair": ["XBT/USD", None]}, "Pair field must be an array of strings"),
        (PUBLIC, public("balances"), "Subscription name invalid"),
        (PUBLIC, public(cast(str, ["a"])), "Subscription name invalid"),
        (PUBLIC, {"event": "subscribe"}, "Subscription field must be an object"),
        (PUBLIC, {**public(), "subscription": "x"}, "Subscription field must be an object"),
        (PUBLIC, private("ownTrades"), NOT_HERE),
        (PRIVATE, public(), "Public channels not available in this endpoint"),
        (PRIVATE, private("balances"), "Subscription name invalid"),
        (
            PRIVATE,
            {**private("openOrders"), "pair": ["XBT/USD"]},
            "Pair field unsupported for this subscription type",
        ),
        (PRIVATE, private("openOrders", depth=1), "Subscription object unsupported field"),
        (PRIVATE, private("openOrders", **WRONG), INVALID_SESSION),
        (PRIVATE, private("openOrders", token=["wrong"]), INVALID_SESSION),
        (PRIVATE, {"event": "subscribe", "subscription": {"name": "ownTrades"}}, INVALID_SESSION),
    ],
)
def test_refused_as_a_whole(shared: Floor, host: str, request_: Any, message: str) -> None:
    """What is wrong with a whole request is said once; only the public host echoes a token."""
    (answer,) = shared.talk(request_, host=host)
    assert answer["errorMessage"] == message
    assert (answer["event"], answer["status"]) == ("subscriptionStatus", "error")
    assert ("token" in answer.get("subscription", {})) == (message == NOT_HERE)
    assert "pair" not in answer


def test_already_subscribed(shared: Floor) -> None:
    """The same again is refused, another depth isn't."""
    _, _, again, other, _ = shared.talk(
        public("book"), public("book", depth=10), public("book", depth=25)
    )
    assert (again["errorMessage"], again["pair"]) == ("Already subscribed", "XBT/USD")
    assert other["status"] == "subscribed"
    *_, again = shared.private(private("openOrders"), private("openOrders"))
    assert again["errorMessage"] == "Already subscribed"
    assert again["subscription"] == {"name": "openOrders"}


def test_unsubscribe(floor: Floor) -> None:
    """After unsubscribing nothing comes any more; what isn't subscribed to can't be found."""
    request = public("book", "XBT/USD", "ETH/EUR")
    sent = floor.talk(request, 2, undo(request, pair=["BTC/USD"], reqid=1), 2, undo(public("book")))
    place = next(n for n, m in enumerate(sent) if "unsubscribed" in str(m))
    assert sent[place]["reqid"] == 1
    assert sent[place]["subscription"] == {"depth": 10, "name": "book"}
    assert {message[-1] for message in sent[4:place]} == {"XBT/USD", "ETH/EUR"}
    assert {message[-1] for message in sent[place + 1 : -1]} == {"ETH/EUR"}
    assert sent[-1]["errorMessage"] == "Subscription Not Found"


def test_unsubscribe_from_everything(shared: Floor) -> None:
    """The name * stands for everything of the pairs, or of the account."""
    everything = undo(public("*", "BTC/USD"))
    sent = shared.talk(public("ticker"), public("spread"), everything, everything)
    assert [message["status"] for message in sent[4:]] == ["unsubscribed", "unsubscribed", "error"]
    everything = undo(private("*"))
    sent = shared.private(private("openOrders"), private("ownTrades"), everything, everything)
    assert [message["status"] for message in sent[4:]] == ["unsubscribed", "unsubscribed", "error"]
    assert sent[-1]["errorMessage"] == "Subscription Not Found"


def test_unsubscribe_by_channel(shared: Floor) -> None:
    """The older form, with a channel's number, is taken too."""
    request = {"event": "unsubscribe", "channelID": 337}
    *_, gone, error = shared.talk(public("ticker"), request, request)
    assert (gone["channelName"], gone["status"]) == ("ticker", "unsubscribed")
    assert error["errorMessage"] == "Subscription Not Found"


def test_unsubscribe_private(shared: Floor) -> None:
    """A private feed ends with its status, and then can't be found."""
    request = undo(private("ownTrades"))
    *_, gone, error = shared.private(private("ownTrades"), request, request)
    assert gone == {
        "channelName": "ownTrades",
        "event": "subscriptionStatus",
        "status": "unsubscribed",
        "subscription": {"name": "ownTrades"},
    }
    assert error["errorMessage"] == "Subscription Not Found"


def test_heartbeats(floor: Floor) -> None:
    """A heartbeat a second while something is subscribed to, none before and none after."""
    beats = [
        floor.serve(*steps).sent.count(HEARTBEAT)
        for steps in (
            (10,),
            (public("trade", "XDG/XBT"), 10),
            (5, public("trade", "XDG/XBT"), 5, undo(public("trade", "XDG/XBT")), 5),
        )
    ]
    assert beats == [0, 10, 5]
    assert floor.serve(private("ownTrades"), 3, host=PRIVATE).sent.count(HEARTBEAT) == 3


def test_heartbeats_after_a_standstill(floor: Floor) -> None:
    """Heartbeats that were missed are not made up for."""

    def sleep() -> dict[str, Any]:
        floor.clock.now += 30
        return {"event": "ping"}

    assert floor.serve(public("trade"), sleep, 1).sent.count(HEARTBEAT) <= 3


def test_idle_connection_is_closed(floor: Floor) -> None:
    """A minute with nothing asked and nothing subscribed to ends a connection, no less."""
    assert floor.serve(59.8).end is None
    assert floor.serve(61).end == (1000, "")
    assert floor.serve(50, {"event": "ping"}, 50).end is None
    assert floor.serve(private("ownTrades"), 100, host=PRIVATE).end is None
    assert floor.serve(private("ownTrades"), undo(private("ownTrades")), 61, host=PRIVATE).end


def test_the_market_is_one(floor: Floor) -> None:
    """An order shows in the book of another connection, and its fill among the trades."""
    sent = floor.talk(
        public("book", depth=10),
        public("trade"),
        lambda: floor.private(order(volume="0.3", ordertype="market")) and {"event": "ping"},
    )
    updates = [message for message in sent if isinstance(message, list)]
    client = BookClient(10)
    for message in updates:
        if message[-2] == "book-10":
            client.receive(message)
    assert client.checked == 2  # it takes one level and some of the next
    trades = [row for message in updates if message[-2] == "trade" for row in message[1]]
    assert [row[3:] for row in trades] == [["b", "m", ""]] * len(trades)
    assert trades


def test_books_hold_on_the_wire(floor: Floor) -> None:
    """Everything that a connection is sent for a minute keeps all five books right."""
    sent = floor.talk(*(public("book", "XBT/USD", depth=depth) for depth in DEPTHS), 20)
    clients = {f"book-{depth}": BookClient(depth) for depth in DEPTHS}
    for message in sent:
        if isinstance(message, list):
            clients[message[-2]].receive(message)
    assert all(client.checked > 50 for client in clients.values())


def test_time_never_goes_back(floor: Floor) -> None:
    """Whoever trades, the crowd or the account: no message is older than the one before it."""
    buy = order(ordertype="market")
    orders = [lambda: floor.private(buy) and {"event": "ping"}, 0.3] * 10
    sent = floor.talk(public("trade"), public("spread"), *orders)
    feeds = [message for message in sent if isinstance(message, list)]
    times = [
        float(message[1][2] if message[-2] == "spread" else row[2])
        for message in feeds
        for row in message[1]
    ]
    assert times == sorted(times)
    assert len(set(times)) > 20


def test_speed() -> None:
    """At ten times the speed, ten seconds of the market pass in one."""
    floor = Floor(speed=10)
    floor.talk(60 * 0.1)
    assert floor.practice.market.now == START + 60


def test_same_seed() -> None:
    """The seed is everything: markets, tokens, ids; and another makes another exchange."""
    runs = []
    for seed in (1, 1, 2):
        floor = Floor(seed=seed)
        steps = public("ticker", *PAIRS), public("book", *PAIRS, depth=1000), 3
        runs.append([floor.talk(*steps), floor.private(order()), floor.practice.tokens.issue()])
    assert runs[0] == runs[1] != runs[2]


def test_open_orders(floor: Floor) -> None:
    """OpenOrders begins with the open ones, and each change follows in its sequence."""
    floor.private(order(userref="7"))
    cancel = {"event": "cancelOrder", "token": PRACTICE_TOKEN, "txid": ["7"], "reqid": 4}
    status, snapshot, placed, pending, opened, canceled, last = floor.private(
        private("openOrders"), {**order(), "reqid": 3}, cancel
    )
    assert status == {
        "channelName": "openOrders",
        "event": "subscriptionStatus",
        "status": "subscribed",
        "subscription": {"maxratecount": 125, "name": "openOrders"},
    }
    (row,) = snapshot[0]
    ((first, fields),) = row.items()
    assert (fields["status"], fields["userref"], len(fields)) == ("open", 7, 17)
    assert list(placed) == ["descr", "event", "reqid", "status", "txid"]
    assert list(pending[0][0]) == [placed["txid"]]
    assert opened[0][0][placed["txid"]] == {"status": "open", "userref": 0}
    assert canceled == {"event": "cancelOrderStatus", "reqid": 4, "status": "ok"}
    assert last[0][0][first]["cancel_reason"] == "User requested"
    feeds = (snapshot, pending, opened, last)
    assert [feed[1:] for feed in feeds] == [["openOrders", {"sequence": n}] for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("value", [True, "true"])
def test_rate_counter(floor: Floor, value: object) -> None:
    """With ratecounter each order says how much of the rate is used up."""
    sent = floor.private(private("openOrders", ratecounter=value), order())
    rows = [next(iter(message[0][0].values())) for message in sent[3:]]
    assert [row["ratecount"] for row in rows] == ["1", "1"]
    assert "'ratecount'" not in str(floor.private(private("openOrders"), order()))


def test_own_trades(floor: Floor) -> None:
    """OwnTrades begins with the last 50, the newest first, unless it is told not to."""
    eth = {"pair": "ETH/EUR", "ordertype": "market"}
    for size in range(1, 52):
        floor.clock.now += 5
        floor.private(order(**eth, volume=f"{size / 1000}"))
    status, snapshot = floor.private(private("ownTrades"))
    assert "maxratecount" not in status["subscription"]
    volumes = [next(iter(row.values()))["vol"] for row in snapshot[0]]
    assert volumes == [f"{size / 1000:.8f}" for size in range(51, 1, -1)]
    _, _, trade = floor.private(private("ownTrades", snapshot=False), order(**eth, userref="3"))
    assert trade[1:] == ["ownTrades", {"sequence": 1}]
    assert next(iter(trade[0][0].values()))["userref"] == 3


@pytest.mark.parametrize(("value", "rows"), [(True, 1), (False, 3)])
def test_consolidate_taker(floor: Floor, value: bool, rows: int) -> None:
    """What an order takes is one trade, unless consolidate_taker is false."""
    side = floor.practice.market.books["XBT/USD"].asks
    volume = sum(side.levels[key].volume for key in side.keys[:3])
    big = order(ordertype="market", volume=f"{volume:.8f}")
    *_, trade = floor.private(private("ownTrades", consolidate_taker=value), big)
    assert len(trade[0]) == rows
    assert len(floor.private(private("ownTrades", consolidate_taker=value))[1][0]) == rows


TRADING = [
    "addOrder",
    "amendOrder",
    "editOrder",
    "cancelOrder",
    "cancelAll",
    "cancelAllOrdersAfter",
]


@pytest.mark.parametrize("name", TRADING)
def test_trading_refused(shared: Floor, name: str) -> None:
    """Trading takes the private host and a good token; the answer bears the request's name."""
    error = {"event": f"{name}Status", "status": "error"}
    request = {"event": name, "token": PRACTICE_TOKEN}
    assert shared.talk(request) == [{**error, "errorMessage": NOT_HERE}]
    wrong = {"event": name, "token": "wrong", "txid": ["a", "b"]}
    assert (
        shared.private(wrong, {"event": name}) == [{**error, "errorMessage": INVALID_SESSION}] * 2
    )


def test_account_answers(floor: Floor) -> None:
    """Each reply of cancelOrder bears the reqid, and an error of the account passes through."""
    request = {"event": "cancelOrder", "token": PRACTICE_TOKEN, "txid": ["a", "b"], "reqid": 9}
    answers = floor.private(request)
    assert [answer["reqid"] for answer in answers] == [9, 9]
    assert {answer["errorMessage"] for answer in answers} == {"EOrder:Unknown order"}


def test_token_ends() -> None:
    """A token is refused after its life, used or not."""
    floor = Floor(token_life=9.0)
    after = {"event": "cancelAll", "token": PRACTICE_TOKEN}
    floor.clock.now += 8.9
    assert floor.private(after)[0]["status"] == "ok"
    floor.clock.now += 0.2
    assert floor.private(after)[0]["errorMessage"] == INVALID_SESSION


def test_subscription_keeps_a_token() -> None:
    """While a private subscription is kept its token stays good, and ends after it."""
    floor = Floor(token_life=5)
    request = {"event": "cancelAll", "token": PRACTICE_TOKEN}
    ping = {"event": "ping"}
    *_, kept = floor.private(private("ownTrades"), 50, request)
    assert kept["status"] == "ok"
    *_, kept = floor.private(private("ownTrades"), undo(private("ownTrades")), 3, ping, 3, request)
    assert kept["errorMessage"] == INVALID_SESSION


def test_faults_are_described() -> None:
    """Each fault has a sentence, and its name, with seconds or without, is understood."""
    assert all(fault.about for fault in FAULTS.values())
    assert parse_fault("drop") == ("drop", 10)
    assert parse_fault("drop=2.5") == ("drop", 2.5)
    with pytest.raises(ValueError, match="no fault is called flood; there are drop, stall"):
        parse_fault("flood")


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("drop=5", "reset"),
        ("stall=5", "silence"),
        ("cloudflare=5", (1001, "CloudFlare WebSocket proxy restarting")),
    ],
)
def test_connection_faults(fault: str, end: object) -> None:
    """A connection ends so many seconds after its beginning, each as the fault has it."""
    floor = Floor(faults=[fault])
    assert floor.serve(public(), 4.8).end is None
    assert floor.serve(public(), 5.2).end == end
    assert floor.serve(public(), 4.8).end is None


@pytest.mark.parametrize("status", [429, 503])
def test_refusals(status: int) -> None:
    """The faults named by an HTTP status say what is answered in place of a WebSocket."""
    refusal = Floor(faults=[str(status)]).practice.refusal
    assert refusal
    assert refusal[0] == status


def test_no_refusal(shared: Floor) -> None:
    """Without such a fault nobody is refused."""
    assert shared.practice.refusal is None


def test_lost_reply() -> None:
    """The reply is lost after the order was placed: another connection finds it, and cancels."""
    floor = Floor(faults=["lost-reply"])
    peer = floor.serve(private("openOrders"), order(userref="7"), host=PRIVATE)
    assert peer.end == "reset"
    assert "addOrderStatus" not in str(peer.sent)
    _, snapshot = floor.private(private("openOrders"))
    ((txid, fields),) = snapshot[0][0].items()
    assert fields["userref"] == 7
    change = {"event": "amendOrder", "token": PRACTICE_TOKEN, "txid": txid, "volume": "0.005"}
    assert floor.serve(change, host=PRIVATE).end == "reset"
    edit = {"event": "editOrder", "token": PRACTICE_TOKEN, "orderid": txid, "pair": "XBT/USD"}
    assert floor.serve(edit, host=PRIVATE).end == "reset"
    cancel = {"event": "cancelOrder", "token": PRACTICE_TOKEN, "txid": ["7"]}
    assert floor.private(order(volume="0"), order(validate="true"), cancel)[-1]["status"] == "ok"
    assert not floor.practice.account.open


def test_no_reply() -> None:
    """With this fault an order is carried out, and nothing is said of it, nor of anything else."""
    floor = Floor(faults=["no-reply"])
    peer = floor.serve(order(), order(), {"event": "ping"}, host=PRIVATE)
    assert peer.end == "silence"
    assert len(peer.sent) == 1
    assert len(floor.practice.account.open) == 1


def test_deadline() -> None:
    """A deadline goes by the client's clock, however fast the market is."""
    floor = Floor(speed=20)
    floor.wait(10)

    def after(seconds: float) -> str:
        return datetime.fromtimestamp(floor.clock.now + seconds, timezone.utc).isoformat()

    ok, over = floor.private(order(deadline=after(5)), order(deadline=after(-1)))
    assert ok["status"] == "ok"
    assert over["errorMessage"] == "EService:Deadline elapsed"


def test_unavailable() -> None:
    """With this fault orders fail by the answer, and only the account knows which did."""
    floor = Floor(faults=["unavailable"])
    answers = floor.private(*[order(userref=str(number)) for number in range(20)])
    assert [answer["errorMessage"] for answer in answers] == ["EService:Unavailable"] * 20
    assert 0 < len(floor.practice.account.open) < 20


def test_maintenance() -> None:
    """In maintenance the greeting says so, the market stands still and trading is refused."""
    floor = Floor(faults=["maintenance"])
    greeting, status, ticker, *beats = floor.serve(public(), 5).sent
    assert (greeting["status"], status["status"]) == ("maintenance", "subscribed")
    assert ticker[-2] == "ticker"
    assert beats == [HEARTBEAT] * 5
    for name in TRADING:
        (answer,) = floor.private({**order(), "event": name})
        assert answer["errorMessage"] == "EService:Unavailable"


@pytest.fixture(scope="module")
def busy() -> Floor:
    """Return an exchange of which nothing is known but that it is there."""
    return Floor()


VALUES: st.SearchStrategy[Any] = (
    st.sampled_from([None, True, False, 0, 1, -1, 1.5, 2**70, [], [1], ["XBT/USD"], ["x"], {}])
    | st.sampled_from(["", "0", "1", "-1", "+5", "5%", "#1%", "é", "9" * 12, "0.00000001", "*"])
    | st.sampled_from(["2023-11-14T22:13:25Z", "2023-02-31T22:13:25.5+25:00", "XBT/USD", "true"])
    | st.sampled_from(["limit", "market", "buy", "sell", "GTC", "GTD", "IOC", "post", "mine"])
    | st.sampled_from(["book", "ohlc", "openOrders", "ownTrades"])
)
NAMES = [*TEXTS, *FLAGS, "display_volume", "token", "timeout", "txid", "channelID", "reqid"]
SUBSCRIPTIONS = st.dictionaries(
    st.sampled_from(["name", "depth", "interval", "token", "snapshot", "colour"]), VALUES
)
ANYTHING = st.fixed_dictionaries(
    {"event": st.sampled_from([*REQUESTS, "subscribe", "unsubscribe", "ping", "x"])},
    optional={
        **dict.fromkeys(NAMES, VALUES),
        "pair": VALUES,
        "token": st.sampled_from([PRACTICE_TOKEN, "x"]),
        "subscription": st.one_of(SUBSCRIPTIONS, VALUES),
    },
)


ORDERS = ANYTHING.map(lambda changes: {**order(), **changes})


@given(requests=st.lists(ANYTHING | ORDERS, max_size=20), host=st.sampled_from([PUBLIC, PRIVATE]))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_anything_is_answered(busy: Floor, requests: list[Any], host: str) -> None:
    """Whatever is asked, each request has an answer, and none of them ends the connection."""
    sent = busy.talk(*requests, host=host)
    answers = [message for message in sent if isinstance(message, dict)]
    assert len(answers) >= len(requests)
    assert all(isinstance(message["event"], str) for message in answers)


def test_time_passes(floor: Floor) -> None:
    """Without connections too the market goes on."""
    floor.wait(2)
    assert floor.practice.market.now == START + 2


def test_time_slips(capsys: pytest.CaptureFixture[str]) -> None:
    """A market that can't keep up leaves time out, says so once, and doesn't hold up the rest."""
    floor = Floor(speed=10)
    practice = floor.practice
    practice.market.timers.append(lambda _: setattr(floor.clock, "now", floor.clock.now + 0.01))
    floor.clock.now += 0.5
    assert practice.tick()  # behind, but not by much
    assert capsys.readouterr().err == ""
    for _ in range(2):
        floor.clock.now += 60
        begin = floor.clock.now
        practice.tick()
        assert floor.clock.now - begin < 0.1
    assert practice.market.now < START + 10
    assert capsys.readouterr().err.count("market time slips") == 1


def test_signature() -> None:
    """API-Sign is what the official example has for its secret, nonce and body."""
    key = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    body = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    assert sign(key, "/0/private/AddOrder", "1616492376594", body) == (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )


def call(
    floor: Floor, body: bytes, *, method: str = "POST", path: str = TOKEN_PATH, **more: str
) -> Any:
    """Return the answer to a signed REST call."""
    nonce = "".join(filter(str.isdigit, body.decode().partition("&")[0]))
    signature = sign(API_SECRET, TOKEN_PATH, nonce, body)
    headers = {"api-key": API_KEY, "api-sign": signature, **more}
    return json.loads(floor.practice.call(method, path, headers, body))


def test_rest_token(floor: Floor) -> None:
    """Form and JSON bodies get a token each, good for trading."""
    bodies = b"nonce=1&otp=5", b'{"nonce": "2"}', b'{"nonce":3}'
    one, two, three = [call(floor, body) for body in bodies]
    assert one["error"] == two["error"] == three["error"] == []
    assert one["result"].keys() == {"token", "expires"}
    assert one["result"]["expires"] == 900
    tokens = {answer["result"]["token"] for answer in (one, two, three)}
    assert {len(token) for token in tokens} == {43}
    for token in tokens:
        assert floor.private({"event": "cancelAll", "token": token})[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "changes", "message"),
    [
        (b"nonce=9", {"path": "/0/private/Balance"}, "EGeneral:Unknown method"),
        (b"nonce=9", {"method": "GET"}, "EGeneral:Invalid arguments"),
        (b"", {"method": "PUT", "path": "/0/public/Time"}, "EGeneral:Unknown method"),
        (b"nonce=9", {"api-key": "mine"}, "EAPI:Invalid key"),
        (b"nonce=9", {"api-sign": "AAAA"}, "EAPI:Invalid signature"),
        (b"nonce=9", {"api-sign": "\xe9"}, "EAPI:Invalid signature"),
        (b"", {}, "EAPI:Invalid nonce"),
        (b"nonce=5", {}, "EAPI:Invalid nonce"),
        (b"nonce=4", {}, "EAPI:Invalid nonce"),
        (b"nonce=" + b"9" * 5000, {}, "EAPI:Invalid nonce"),
        (b"once=9", {}, "EAPI:Invalid nonce"),
        (b"nonce=-1", {}, "EAPI:Invalid nonce"),
        (b'{"nonce": []}', {}, "EAPI:Invalid nonce"),
        (b"{", {}, "EAPI:Invalid nonce"),
    ],
)
def test_rest_refused(body: bytes, changes: dict[str, str], message: str) -> None:
    """What is wrong with a call is said in the exchange's words."""
    floor = Floor()
    call(floor, b"nonce=5")
    assert call(floor, body, **changes) == {"error": [message]}


def test_rest_public(floor: Floor) -> None:
    """Public data need no key; what is asked for stands in the path or in the body."""
    asked = {"method": "GET", "path": "/0/public/AssetPairs?pair=XBTUSD"}
    pairs = call(floor, b"", **asked)["result"]
    assert [pair["wsname"] for pair in pairs.values()] == ["XBT/USD"]
    asked = {"path": "/0/public/AssetPairs"}
    assert call(floor, b"pair=XBTUSD", **asked)["result"] == pairs


def test_rest_signs_as_documented(floor: Floor) -> None:
    """A call that is signed with nothing but the standard library, as documented, is taken."""
    assert base64.b64decode(API_SECRET)
    assert call(floor, urlencode({"nonce": time.time_ns()}).encode())["error"] == []


def test_private_feed_without_orders(floor: Floor) -> None:
    """An account with no orders has an empty snapshot."""
    feed = PrivateFeed(floor.practice.account, {"name": "openOrders", "token": ""})
    assert feed.opening() == [[[], "openOrders", {"sequence": 1}]]
