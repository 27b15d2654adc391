"""The practice exchange's protocol: what a client can ask for, and what it is told.

A Practice is one market and one account for all connections, each of which is a Link; call()
answers the REST host's calls. Nothing here waits or knows of sockets: the server (server.py), or
a test, says what came and lets time pass with tick(), and a Link says to its Wire what is to be
sent. All of it happens in one thread.

Faults are switched on by name. The exchange's own time passes at a speed of its own, and so do
candles, orders' expiry, the rate counter and cancelAllOrdersAfter; heartbeats, the idle
connection's end, deadlines, tokens and faults are in the client's seconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import parse_qs, parse_qsl

from practice.account import (
    MOST_COUNTED,
    REQUESTS,
    SHOWN_TRADES,
    Account,
    Fill,
    Order,
    Refused,
    consolidate,
    event,
)
from practice.market import ACT, DEPTHS, FEEDS, INTERVALS, Act, Feed, Market, rename
from practice.rest import public

PRACTICE_TOKEN = "Practice/token+for+the+local+exchange+only0"  # noqa: S105 - of no value
API_KEY = base64.b64encode(b"the key to the practice account").decode()
API_SECRET = base64.b64encode(b"the secret of the practice account, known to everybody").decode()
TOKEN_PATH = "/0/private/GetWebSocketsToken"  # noqa: S105 - a path

PUBLIC_HOST = "ws.kraken.com"
PRIVATE_HOST = "ws-auth.kraken.com"
REST_HOST = "api.kraken.com"
HOSTS = (PUBLIC_HOST, PRIVATE_HOST, REST_HOST)

TICK = ACT  # seconds between two looks at the clock
BUSY = 0.02  # seconds at most that the market moves on before the connections have their turn
LATE = 5.0  # seconds that the market may be behind before its time slips
HEARTBEAT_SECONDS = 1.0
IDLE_SECONDS = 60.0  # a connection lives with nothing subscribed and nothing asked
REQIDS = 2**64

PUBLIC_NAMES = tuple(FEEDS)
PRIVATE_FIELDS = {
    "openOrders": ("name", "token", "ratecounter", "rebased"),
    "ownTrades": ("name", "token", "snapshot", "consolidate_taker", "rebased"),
}
# The one number of a feed: what it is called, its values and what it is if nothing is said
NUMBERS = {"book": ("depth", DEPTHS, 10), "ohlc": ("interval", INTERVALS, 1)}
WSNAME = re.compile(r"[A-Z0-9.]+x?/[A-Z0-9.]+")

BAD_REQID = f"Reqid field must be a positive integer less than {REQIDS}"
NOT_HERE = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
MALFORMED = {"errorMessage": "Malformed request", "event": "error"}
HEARTBEAT = {"event": "heartbeat"}


def compact(message: object) -> str:
    """Return a message as the exchange writes it."""
    return json.dumps(message, separators=(",", ":"))


def finite(text: str) -> float:
    """Return a number of a request, or raise ValueError for one that JSON hasn't."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


class Fault(NamedTuple):
    """What goes wrong on purpose."""

    about: str
    seconds: float = 0.0  # after which it goes wrong, on each connection


FAULTS = {
    "drop": Fault("reset a connection when it is some seconds old", 10),
    "stall": Fault("fall silent when a connection is some seconds old, and leave it open", 10),
    "cloudflare": Fault("close a connection with 1001 when it is some seconds old", 10),
    "429": Fault("refuse connections with HTTP 429, as for too many of them"),
    "503": Fault("refuse connections with HTTP 503"),
    "lost-reply": Fault("carry an order out, then reset the connection instead of answering"),
    "no-reply": Fault("carry an order out, then stay silent instead of answering"),
    "unavailable": Fault("answer EService:Unavailable to an order, carried out or not by chance"),
    "maintenance": Fault("stand still and refuse orders and cancels"),
}
# In place of a WebSocket: HTTP status, body and headers
REFUSALS: dict[str, tuple[int, str, tuple[tuple[str, str], ...]]] = {
    "429": (429, "error code: 1015\n", (("Server", "cloudflare"), ("Retry-After", "600"))),
    "503": (503, "Service Unavailable\n", (("Server", "cloudflare"),)),
}


def parse_fault(text: str) -> tuple[str, float]:
    """Return a fault's name and seconds, from NAME or NAME=SECONDS; raise ValueError."""
    name, _, seconds = text.partition("=")
    if name not in FAULTS:
        raise ValueError(f"no fault is called {name}; there are {', '.join(FAULTS)}")
    return name, float(seconds) if seconds else FAULTS[name].seconds


class Denied(Exception):
    """Ends a subscription or a call; its text is the exchange's errorMessage."""


def truth(value: object) -> bool:
    """Return a boolean of a subscription, which may have come as text."""
    return value is True or value == "true"


def sign(secret: str, path: str, nonce: str, body: bytes) -> str:
    """Return the API-Sign of a REST call."""
    digest = hashlib.sha256(nonce.encode() + body).digest()
    mac = hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512)
    return base64.b64encode(mac.digest()).decode()


class PrivateFeed:
    """A subscription to openOrders or ownTrades, with a sequence of its own."""

    def __init__(self, account: Account, subscription: dict[str, Any]) -> None:
        self.account = account
        self.name = str(subscription["name"])
        self.token = subscription["token"]
        self.sequence = 0
        self.counted = truth(subscription.get("ratecounter", False))
        self.snapshot = truth(subscription.get("snapshot", True))
        self.consolidated = truth(subscription.get("consolidate_taker", True))

    @property
    def shown(self) -> dict[str, Any]:
        """What the exchange says was subscribed to."""
        counter = {"maxratecount": MOST_COUNTED} if self.name == "openOrders" else {}
        return {**counter, "name": self.name}

    def message(self, rows: list[dict[str, Any]]) -> list[Any]:
        """Return the next message."""
        self.sequence += 1
        return [rows, self.name, {"sequence": self.sequence}]

    def order(self, order: Order, fields: dict[str, Any]) -> dict[str, Any]:
        """Return what is to be said of an order."""
        if self.counted:
            counter = self.account.counters[order.book.pair.name]
            fields = {**fields, "ratecount": str(int(counter.at(self.account.market.now)))}
        return {order.txid: fields}

    def opening(self) -> list[Any]:
        """Return the snapshot, if one is wanted."""
        if self.name == "openOrders":
            orders = self.account.open.values()
            return [self.message([self.order(order, order.full()) for order in orders])]
        if not self.snapshot:
            return []
        fills = self.trades(self.account.fills)[-SHOWN_TRADES:]
        return [self.message([{fill.txid: fill.show()} for fill in reversed(fills)])]

    def trades(self, fills: list[Fill]) -> list[Fill]:
        """Return fills, those of a taker as one if that is wanted."""
        return consolidate(fills) if self.consolidated else fills

    def fills(self, fills: list[Fill]) -> list[Any]:
        """Return the message that tells of fills."""
        rows = [{fill.txid: {**fill.show(), **fill.extras()}} for fill in self.trades(fills)]
        return [self.message(rows)]


class Tokens:
    """The tokens that were given out, and until when they are good."""

    def __init__(self, life: float, clock: Callable[[], float], seed: int) -> None:
        self.life = life
        self.clock = clock
        self.random = random.Random(f"{seed} tokens")
        self.ends: dict[str, float] = {}

    def issue(self) -> str:
        """Return a new token."""
        token = base64.b64encode(self.random.getrandbits(256).to_bytes(32, "big")).decode()
        self.renew(token.rstrip("="))
        return token.rstrip("=")

    def renew(self, token: str) -> None:
        """Make a token good for another life."""
        self.ends[token] = self.clock() + self.life

    def use(self, token: object, kept: bool) -> None:
        """Use a token, or raise Denied where it is too old and no subscription has kept it.

        Kraken's support says that trading keeps a token alive as well, its reference doesn't:
        a script that works here does without.
        """
        good = isinstance(token, str) and token in self.ends
        if not good or not (kept or self.clock() <= self.ends[cast(str, token)]):
            raise Denied("ESession:Invalid session")


class Wire(Protocol):
    """What a Link can do to its connection."""

    def send(self, texts: list[str]) -> None:
        """Send messages, each in a frame of its own."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection, once all is sent."""

    def reset(self) -> None:
        """Break the connection off."""


class Channel:
    """A feed and the connections that follow it, for all of which its messages are made once."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.links: list[Link] = []

    def publish(self, act: Act) -> None:
        """Send an act to all who follow."""
        if self.links:
            messages = list(map(compact, self.feed.news(act)))
            for link in self.links:
                link.outbox += messages


class Practice:
    """The practice exchange, for all of its connections."""

    def __init__(
        self,
        seed: int = 0,
        speed: float = 1.0,
        token_life: float = 900.0,
        *,
        token: str = PRACTICE_TOKEN,
        faults: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.speed = speed
        self.faults = dict(map(parse_fault, faults))
        self.start = clock()
        self.slipped = 0.0  # seconds that the market has left out
        self.random = random.Random(f"{seed} connections")
        self.market = Market(seed, self.start)
        self.account = Account(self.market, seed, clock)
        self.tokens = Tokens(token_life, clock, seed)
        self.tokens.renew(token)
        self.nonce = -1
        self.links: list[Link] = []
        self.channels: dict[str, dict[str, Channel]] = {name: {} for name in self.market.books}
        self.market.listeners.append(self.publish)
        self.account.on_order.append(self.publish_order)
        self.account.on_fills.append(self.publish_fills)

    @property
    def refusal(self) -> tuple[int, str, tuple[tuple[str, str], ...]] | None:
        """The HTTP response in place of a WebSocket, if a fault wants one."""
        return next((REFUSALS[name] for name in self.faults if name in REFUSALS), None)

    @property
    def status(self) -> str:
        """What systemStatus says."""
        return "maintenance" if "maintenance" in self.faults else "online"

    def greeting(self) -> dict[str, Any]:
        """Return the message that every connection begins with."""
        return {
            "event": "systemStatus",
            "version": "1.9.6",
            "status": self.status,
            "connectionID": self.random.getrandbits(64),
            "upcoming_maintenance": [],
            "emergency": [],
        }

    def tick(self) -> bool:
        """Let time pass, and return whether the market is still behind."""
        behind = self.status == "online" and self.advance()
        for link in list(self.links):
            link.tick()
        self.flush()
        return behind

    def advance(self) -> bool:
        """Let the market catch up with the clock, and return whether there was no time for that."""
        begin = self.clock()
        goal = self.start + (begin - self.start) * self.speed - self.slipped
        while self.market.now < goal and self.clock() - begin < BUSY:
            self.market.advance(min(goal, self.market.now + ACT))
        if self.market.now < goal - LATE * self.speed:
            self.slip(goal - self.market.now)
        return self.market.now < goal

    def slip(self, seconds: float) -> None:
        """Leave out some of the market's time, and say so when it is the first."""
        if not self.slipped:
            print("This is more than the machine can carry: market time slips.", file=sys.stderr)
        self.slipped += seconds

    def flush(self) -> None:
        """Send what there is to send."""
        for link in self.links:
            link.flush()

    def publish(self, act: Act) -> None:
        """Send an act to all who follow its book."""
        for channel in self.channels[act.book.pair.name].values():
            channel.publish(act)

    def publish_order(self, order: Order, fields: dict[str, Any]) -> None:
        """Send what is new of an order to all who follow openOrders."""
        for link in self.links:
            if feed := link.private.get("openOrders"):
                link.put(feed.message([feed.order(order, fields)]))

    def publish_fills(self, fills: list[Fill]) -> None:
        """Send trades to all who follow ownTrades."""
        for link in self.links:
            if feed := link.private.get("ownTrades"):
                link.put(*feed.fills(fills))

    def kept(self, token: object) -> bool:
        """Return whether a private subscription keeps a token alive."""
        feeds = (feed for link in self.links for feed in link.private.values())
        return any(feed.token == token for feed in feeds)

    def use(self, token: object) -> None:
        """Use a token, or raise Denied."""
        self.tokens.use(token, self.kept(token))

    def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
        """Return the answer to a REST call; errors too are answers."""
        try:
            return compact({"error": [], "result": self.result(method, path, headers, body)})
        except (Denied, Refused) as denied:
            return compact({"error": [str(denied)]})

    def result(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        """Return what a REST call results in, or raise Denied or Refused."""
        name, _, query = path.partition("?")
        if name == TOKEN_PATH and method == "POST":
            return self.get_token(headers, body)
        if name == TOKEN_PATH:
            raise Denied("EGeneral:Invalid arguments")
        if method not in ("GET", "POST"):
            raise Denied("EGeneral:Unknown method")
        arguments = dict(parse_qsl(f"{query}&{body.decode('latin-1')}"))
        return public(self.market, name, arguments, self.status)

    def get_token(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Return the result of GetWebSocketsToken, or raise Denied."""
        if headers.get("api-key") != API_KEY:
            raise Denied("EAPI:Invalid key")
        nonce = read_nonce(body)
        signature = headers.get("api-sign", "").encode()
        if not hmac.compare_digest(sign(API_SECRET, TOKEN_PATH, nonce, body).encode(), signature):
            raise Denied("EAPI:Invalid signature")
        if int(nonce) <= self.nonce:
            raise Denied("EAPI:Invalid nonce")
        self.nonce = int(nonce)
        return {"token": self.tokens.issue(), "expires": int(self.tokens.life)}


def read_nonce(body: bytes) -> str:
    """Return the nonce in the body of a call, form or JSON, or raise Denied."""
    try:
        text = body.decode()
        values = json.loads(text) if text.startswith("{") else parse_qs(text)
        nonce = values["nonce"]
        nonce = str(nonce[0] if isinstance(nonce, list) else nonce)
    except (ValueError, KeyError, IndexError):
        raise Denied("EAPI:Invalid nonce") from None
    if not re.fullmatch("[0-9]{1,20}", nonce):
        raise Denied("EAPI:Invalid nonce")
    return nonce


class Link:
    """One WebSocket connection, and what it is subscribed to."""

    def __init__(self, practice: Practice, host: str, wire: Wire) -> None:
        self.practice = practice
        self.wire = wire
        self.public = host == PUBLIC_HOST
        self.feeds: dict[tuple[str, str], Channel] = {}  # by pair and channel
        self.private: dict[str, PrivateFeed] = {}
        self.outbox: list[str] = []
        self.over = False
        self.opened = self.asked = self.beaten = practice.clock()
        practice.links.append(self)
        self.put(practice.greeting())
        self.flush()

    def put(self, *messages: object) -> None:
        """Put messages into the outbox."""
        self.outbox += map(compact, messages)

    def flush(self) -> None:
        """Send what is in the outbox."""
        if self.outbox:
            texts, self.outbox = self.outbox, []
            self.wire.send(texts)

    def leave(self) -> None:
        """Be no longer a part of the exchange: nothing is said any more, and nothing heard."""
        if not self.over:
            self.over = True
            self.practice.links.remove(self)
            for channel in self.feeds.values():
                channel.links.remove(self)

    def end(self, how: Callable[..., None], *details: Any) -> None:
        """End the connection, by a method of the wire; what was to be said is said before."""
        self.flush()
        self.leave()
        how(*details)

    def tick(self) -> None:
        """Do what is due: the heartbeat, or the connection's end."""
        self.beat()
        now = self.practice.clock()
        faults = self.practice.faults.items()
        due = [name for name, seconds in faults if now - self.opened >= seconds]
        if "drop" in due:
            self.end(self.wire.reset)
        elif "stall" in due:
            self.leave()
        elif "cloudflare" in due:
            self.end(self.wire.close, 1001, "CloudFlare WebSocket proxy restarting")
        elif now - self.asked >= IDLE_SECONDS and not (self.feeds or self.private):
            self.end(self.wire.close, 1000, "")

    def beat(self) -> None:
        """Send the heartbeat once it is due."""
        now = self.practice.clock()
        if not (self.feeds or self.private):
            self.beaten = now
        elif now - self.beaten >= HEARTBEAT_SECONDS:
            self.beaten = max(self.beaten + HEARTBEAT_SECONDS, now - TICK)  # keeps the pace
            self.put(HEARTBEAT)

    def take(self, message: str) -> None:
        """Do what a message asks for. The answers come before what it has brought about."""
        if self.over:
            return
        self.asked = self.practice.clock()
        place = len(self.outbox)
        try:
            request = json.loads(message, parse_float=finite, parse_constant=finite)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("event"), str):
            answers = [MALFORMED]
        else:
            answers = self.answer(request)
        self.outbox[place:place] = map(compact, answers)
        self.practice.flush()

    def answer(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answers to a request, each with its reqid."""
        name = request["event"]
        reqid = {"reqid": request["reqid"]} if "reqid" in request else {}
        kind = f"{name}Status" if name == "ping" or name in REQUESTS else "subscriptionStatus"
        if reqid and (type(reqid["reqid"]) is not int or not 0 <= reqid["reqid"] < REQIDS):
            return [event(event=kind, status="error", errorMessage=BAD_REQID, **reqid)]
        try:
            answers = self.serve(name, request)
        except Denied as denied:
            answers = [{"errorMessage": str(denied), "event": kind, "status": "error"}]
            if isinstance(request.get("subscription"), dict) and kind == "subscriptionStatus":
                answers[0]["subscription"] = self.echo(request["subscription"])
        return [event(**answer, **reqid) for answer in answers]

    def echo(self, subscription: dict[str, Any]) -> dict[str, Any]:
        """Return a refused subscription as it is sent back: the public host shows the token."""
        hidden = () if self.public else ("token",)
        return {name: value for name, value in sorted(subscription.items()) if name not in hidden}

    def serve(self, name: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answers to a request without reqid, or raise Denied."""
        if name == "ping":
            return [{"event": "pong"}]
        if name in REQUESTS:
            return self.trade(request)
        if name == "subscribe":
            return self.subscribe(request)
        if name == "unsubscribe":
            return self.unsubscribe(request)
        raise Denied("Unsupported event")

    def trade(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Pass a trading request on to the account."""
        if self.public:
            raise Denied(NOT_HERE)
        self.practice.use(request.get("token"))
        faulty = "unavailable" in self.practice.faults
        if self.practice.status != "online" or (faulty and self.practice.random.random() < 0.5):
            raise Denied("EService:Unavailable")
        answers = self.practice.account.answer(request)
        executed = not {"txid", "amend_id"}.isdisjoint(answers[0])
        if executed and faulty:
            raise Denied("EService:Unavailable")
        if executed and "lost-reply" in self.practice.faults:
            self.end(self.wire.reset)
        if executed and "no-reply" in self.practice.faults:
            self.leave()
        return answers

    def read_subscription(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the subscription in a request, or raise Denied for what can't be one."""
        subscription = request.get("subscription")
        if not isinstance(subscription, dict):
            raise Denied("Subscription field must be an object")
        name = str(subscription.get("name"))
        if name in PRIVATE_FIELDS and self.public:
            raise Denied(NOT_HERE)
        if name in PUBLIC_NAMES and not self.public:
            raise Denied("Public channels not available in this endpoint")
        if name not in PUBLIC_NAMES and name not in PRIVATE_FIELDS:
            raise Denied("Subscription name invalid")
        if "pair" in request and not self.public:
            raise Denied("Pair field unsupported for this subscription type")
        return subscription

    def read_pairs(self, request: dict[str, Any]) -> list[str]:
        """Return the pairs of a request, or raise Denied."""
        pairs = request.get("pair")
        if not isinstance(pairs, list):
            raise Denied("Pair field must be an array")
        if not all(isinstance(pair, str) for pair in pairs):
            raise Denied("Pair field must be an array of strings")
        if not pairs:
            raise Denied("Pair(s) not found")
        return pairs

    def subscribe(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Subscribe, and return a status, or one for each pair."""
        subscription = self.read_subscription(request)
        if self.public:
            return self.each_pair(self.open_feed, self.read_pairs(request), subscription)
        name = subscription["name"]
        self.practice.use(subscription.get("token"))
        if set(subscription) - set(PRIVATE_FIELDS[name]):
            raise Denied("Subscription object unsupported field")
        if name in self.private:
            raise Denied("Already subscribed")
        feed = self.private[name] = PrivateFeed(self.practice.account, subscription)
        self.put(*feed.opening())
        return [self.private_status(feed, "subscribed")]

    def unsubscribe(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Unsubscribe, and return a status, or one for each pair or feed."""
        if "channelID" in request:
            number = request["channelID"]
            feeds = self.feeds.items()
            return self.close_feeds([key for key, each in feeds if each.feed.channel_id == number])
        subscription = request.get("subscription")
        if isinstance(subscription, dict) and subscription.get("name") == "*":
            return self.unsubscribe_all(request)
        subscription = self.read_subscription(request)
        if self.public:
            return self.each_pair(self.close_feed, self.read_pairs(request), subscription)
        if subscription["name"] not in self.private:
            raise Denied("Subscription Not Found")
        return [self.private_status(self.private.pop(subscription["name"]), "unsubscribed")]

    def unsubscribe_all(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Unsubscribe from everything there is of some pairs, or from every private feed."""
        if self.public:
            pairs = set(map(rename, self.read_pairs(request)))
            return self.close_feeds([key for key in self.feeds if key[0] in pairs])
        feeds, self.private = self.private, {}
        if not feeds:
            raise Denied("Subscription Not Found")
        return [self.private_status(feed, "unsubscribed") for feed in feeds.values()]

    def close_feeds(self, keys: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """Unsubscribe from feeds by pair and channel, or raise Denied where there are none."""
        if not keys:
            raise Denied("Subscription Not Found")
        return [self.close_channel(self.feeds.pop(key)) for key in keys]

    def close_channel(self, channel: Channel) -> dict[str, Any]:
        """Follow a channel no longer, and return its status."""
        channel.links.remove(self)
        return self.status(channel.feed, "unsubscribed")

    def each_pair(
        self,
        act: Callable[[str, dict[str, Any]], dict[str, Any]],
        pairs: list[str],
        subscription: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Return what ACT does for each pair, or why it can't."""
        answers = []
        for pair in pairs:
            try:
                answers.append(act(rename(pair), subscription))
            except Denied as denied:
                error = {"errorMessage": str(denied), "event": "subscriptionStatus", "pair": pair}
                answers.append(
                    {**error, "status": "error", "subscription": self.echo(subscription)}
                )
        return answers

    def read_feed(self, pair: str, subscription: dict[str, Any]) -> Feed:
        """Return the feed that is meant, whether it is subscribed to or not, or raise Denied."""
        name = subscription["name"]
        number = read_number(name, subscription)
        if not WSNAME.fullmatch(pair):
            raise Denied(f"Currency pair not in ISO 4217-A3 format {pair}")
        book = self.practice.market.books.get(pair)
        if not book:
            raise Denied(f"Currency pair not supported {pair}")
        return FEEDS[name](name, book, number)

    def open_feed(self, pair: str, subscription: dict[str, Any]) -> dict[str, Any]:
        """Subscribe to a feed of a pair, and return its status."""
        feed = self.read_feed(pair, subscription)
        if (pair, feed.channel) in self.feeds:
            raise Denied("Already subscribed")
        channels = self.practice.channels[pair]
        channel = self.feeds[pair, feed.channel] = channels.setdefault(feed.channel, Channel(feed))
        channel.links.append(self)
        self.put(*channel.feed.opening())
        return self.status(feed, "subscribed")

    def close_feed(self, pair: str, subscription: dict[str, Any]) -> dict[str, Any]:
        """Unsubscribe from a feed of a pair, and return its status."""
        feed = self.read_feed(pair, subscription)
        key = pair, feed.channel
        return self.close_feeds([key] if key in self.feeds else [])[0]

    def status(self, feed: Feed, word: str) -> dict[str, Any]:
        """Return the subscriptionStatus of a pair's feed."""
        number = {NUMBERS[feed.name][0]: feed.number} if feed.number else {}
        return {
            "channelID": feed.channel_id,
            "channelName": feed.channel,
            "event": "subscriptionStatus",
            "pair": feed.book.pair.name,
            "status": word,
            "subscription": event(name=feed.name, **number),
        }

    def private_status(self, feed: PrivateFeed, word: str) -> dict[str, Any]:
        """Return the subscriptionStatus of an account's feed."""
        status = {"channelName": feed.name, "event": "subscriptionStatus", "status": word}
        return {**status, "subscription": feed.shown}


def read_number(name: str, subscription: dict[str, Any]) -> int:
    """Return a subscription's depth or interval, 0 if it has none; raise Denied."""
    wanted, values, number = NUMBERS.get(name, ("", (), 0))
    for field in ("depth", "interval"):
        if field in subscription and field != wanted:
            raise Denied(f"Subscription {name} doesn't require {field}")
    if set(subscription) - {"name", wanted}:
        raise Denied("Subscription object unsupported field")
    number = subscription.get(wanted, number)
    words = {"depth": "depth", "interval": "ohlc interval"}.get(wanted)
    if type(number) is not int:
        raise Denied(f"Subscription {name} {wanted} must be an integer")
    if values and number not in values:
        raise Denied(f"Subscription {words} not supported")
    return number
