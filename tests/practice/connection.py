"""One WebSocket connection to the practice exchange: its requests, answers and subscriptions.

It passes what it sends to its Transport, and does not use sockets itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Protocol

from practice.account import REQUESTS, event
from practice.common import HEARTBEAT, PUBLIC_HOST, Denied, compact
from practice.credentials import INVALID_SESSION
from practice.exchange import TICK, Channel, Practice
from practice.faults import UNAVAILABLE
from practice.limits import EXCEEDED, MOST_REQUESTS, RATE_SECONDS, RateLimit
from practice.market import DEPTHS, FEEDS, INTERVALS, Feed, rename
from practice.private_feeds import PRIVATE_FIELDS, PrivateFeed

HEARTBEAT_SECONDS = 1.0
IDLE_SECONDS = 60.0  # until a connection without subscriptions and requests is closed
REQIDS = 2**64

PUBLIC_NAMES = tuple(FEEDS)
# The number of a feed: its name, its values and its default
NUMBERS = {"book": ("depth", DEPTHS, 10), "ohlc": ("interval", INTERVALS, 1)}
WSNAME = re.compile(r"[A-Z0-9.]+x?/[A-Z0-9.]+")

BAD_REQID = f"Reqid field must be a positive integer less than {REQIDS}"
NOT_HERE = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
MALFORMED = "Malformed request"


def finite(text: str) -> float:
    """Return a number of a request, or raise ValueError for one that JSON does not allow (NaN)."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def read_request(message: str) -> dict[str, Any]:
    """Return the request in a message, or an empty dict if the message is not a request."""
    try:
        request = json.loads(message, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(request, dict) or not isinstance(request.get("event"), str):
        return {}
    return request


def is_reqid(value: object) -> bool:
    """Return whether a value is one that the exchange takes for a reqid."""
    return type(value) is int and 0 <= value < REQIDS


class Nameless(Denied):
    """Refuses a subscription that has no name; each of its pairs is refused by itself."""


class Transport(Protocol):
    """The way to a client, as a Connection uses it: over the network, or a test's list."""

    def send(self, texts: list[str]) -> None:
        """Send messages, each in a frame of its own."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection, once all is sent."""

    def reset(self) -> None:
        """Break the connection off."""


class Connection:
    """One WebSocket connection, and what it is subscribed to."""

    def __init__(self, practice: Practice, host: str, transport: Transport) -> None:
        self.practice = practice
        self.transport = transport
        self.public = host == PUBLIC_HOST
        self.feeds: dict[tuple[str, str], Channel] = {}  # by pair and channel
        self.private: dict[str, PrivateFeed] = {}
        self.outbox: list[str] = []
        self.over = False
        self.refused = False  # whether the fault refused-pair refused one here
        self.rate = RateLimit(MOST_REQUESTS, RATE_SECONDS)
        self.opened = self.asked = self.beaten = self.shed = practice.clock()
        practice.connections.append(self)
        self.put(practice.greeting())
        self.flush()

    def put(self, *messages: object) -> None:
        """Add messages to the outbox."""
        self.outbox += map(compact, messages)

    def flush(self) -> None:
        """Send what is in the outbox."""
        if self.outbox:
            texts, self.outbox = self.outbox, []
            self.transport.send(texts)

    def leave(self) -> None:
        """Leave the exchange: from now on nothing is sent, and nothing received is handled."""
        if not self.over:
            self.over = True
            self.practice.connections.remove(self)
            if not self.refused and (names := self.subscribed()):
                self.practice.lost_pairs.add(names[-1])
            for channel in self.feeds.values():
                channel.connections.remove(self)

    def subscribed(self) -> list[str]:
        """Return the pairs or private feeds that are subscribed to, the oldest first."""
        return [pair for pair, _ in self.feeds] + list(self.private)

    def end(self, how: Callable[..., None], *details: Any) -> None:
        """Send what is in the outbox, and end the connection with a method of the transport."""
        self.flush()
        self.leave()
        how(*details)

    def tick(self) -> None:
        """Do what is due: send a heartbeat, end a subscription, or end the connection."""
        self.beat()
        self.shed_oldest()
        now = self.practice.clock()
        faults = self.practice.faults.items()
        due = [name for name, seconds in faults if now - self.opened >= seconds]
        if "drop" in due:
            self.end(self.transport.reset)
        elif "stall" in due:
            self.leave()
        elif "cloudflare" in due:
            self.end(self.transport.close, 1001, "CloudFlare WebSocket proxy restarting")
        elif now - self.asked >= IDLE_SECONDS and not (self.feeds or self.private):
            self.end(self.transport.close, 1000, "")

    def beat(self) -> None:
        """Send the heartbeat once it is due."""
        now = self.practice.clock()
        if not (self.feeds or self.private):
            self.beaten = now
        elif now - self.beaten >= HEARTBEAT_SECONDS:
            self.beaten = max(self.beaten + HEARTBEAT_SECONDS, now - TICK)  # keeps the pace
            self.put(HEARTBEAT)

    def shed_oldest(self) -> None:
        """End the oldest subscription, if a fault wants that now."""
        now = self.practice.clock()
        if not (self.feeds or self.private):
            self.shed = now
        elif now - self.shed >= self.practice.faults.get("unsubscribe", math.inf):
            self.shed = self.asked = now  # the idle connection's minute begins here
            if self.feeds:
                self.put(self.close_channel(self.feeds.pop(next(iter(self.feeds)))))
            else:
                feed = self.private.pop(next(iter(self.private)))
                self.put(self.private_status(feed, "unsubscribed"))

    def lose_session(self) -> None:
        """End the private feeds, because the token that they were subscribed with is invalid."""
        if self.private:
            self.asked = self.practice.clock()  # the idle connection's minute begins here
        for name in self.private:
            self.put(self.refusal(INVALID_SESSION, {"name": name}))
        self.private = {}

    def take(self, message: str) -> None:
        """Handle a message. The answers are sent before the messages that it causes."""
        if self.over:
            return
        self.asked = self.practice.clock()
        place = len(self.outbox)
        request = read_request(message)
        if not (self.rate.passes(self.asked) and self.practice.rate.passes(self.asked)):
            answers = self.slow_down(request)
        elif request:
            answers = self.handle(request)
        else:
            answers = [event(errorMessage=MALFORMED, event="error")]
        self.outbox[place:place] = map(compact, answers)
        self.practice.flush()

    def slow_down(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answers to a request that exceeds the rate limit. It is not carried out.

        The three forms that the real exchange is known to use come in turn. The third one tells
        of a subscription, so other requests have the first two.
        """
        subscribes = request.get("event") == "subscribe"
        form = next(self.practice.exceeded) % (3 if subscribes else 2)
        if form == 0:
            return [{"Error": EXCEEDED}]
        reqid = {"reqid": request["reqid"]} if is_reqid(request.get("reqid")) else {}
        if form == 1:
            return [event(errorMessage=EXCEEDED, event="error", **reqid)]
        return [event(**answer, **reqid) for answer in self.refuse_pairs(EXCEEDED, request)]

    def handle(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answers to a request, each with its reqid."""
        name = request["event"]
        reqid = {"reqid": request["reqid"]} if "reqid" in request else {}
        kind = f"{name}Status" if name == "ping" or name in REQUESTS else "subscriptionStatus"
        if reqid and not is_reqid(reqid["reqid"]):
            return [event(event=kind, status="error", errorMessage=BAD_REQID, **reqid)]
        try:
            answers = self.serve(name, request)
        except Nameless as nameless:
            answers = self.refuse_pairs(str(nameless), request)
        except Denied as denied:
            shown = request.get("subscription") if kind == "subscriptionStatus" else None
            answers = [{**self.refusal(str(denied), shown), "event": kind}]
        return [event(**answer, **reqid) for answer in answers]

    def refusal(self, words: str, subscription: object, **pair: str) -> dict[str, Any]:
        """Return the subscriptionStatus that refuses a subscription, as a whole or for a pair."""
        status = {"errorMessage": words, "event": "subscriptionStatus", "status": "error", **pair}
        if isinstance(subscription, dict):
            return event(**status, subscription=self.echo(subscription))
        return event(**status)

    def refuse_pairs(self, words: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rejections for each pair of a request, or one if it has no pairs."""
        pairs, subscription = request.get("pair"), request.get("subscription")
        names = [name for name in pairs if isinstance(name, str)] if isinstance(pairs, list) else []
        if not names:
            return [self.refusal(words, subscription)]
        return [self.refusal(words, subscription, pair=name) for name in names]

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
            raise Denied(UNAVAILABLE)
        answers = self.practice.account.handle(request)
        executed = not {"txid", "amend_id"}.isdisjoint(answers[0])
        if executed and faulty:
            raise Denied(UNAVAILABLE)
        if executed and "lost-reply" in self.practice.faults:
            self.end(self.transport.reset)
        if executed and "no-reply" in self.practice.faults:
            self.leave()
        return answers

    def read_subscription(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the subscription in a request, or raise Denied if it is not valid."""
        subscription = request.get("subscription")
        if not isinstance(subscription, dict):
            raise Denied("Subscription field must be an object")
        if "name" not in subscription:
            raise Nameless(MALFORMED)
        name = str(subscription["name"])
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
        self.admit(name)
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
        """Unsubscribe from every feed of some pairs, or from every private feed."""
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
        channel.connections.remove(self)
        return self.status(channel.feed, "unsubscribed")

    def each_pair(
        self,
        act: Callable[[str, dict[str, Any]], dict[str, Any]],
        pairs: list[str],
        subscription: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Return the result of ACT for each pair, or its rejection."""
        answers = []
        for pair in pairs:
            try:
                answers.append(act(rename(pair), subscription))
            except Denied as denied:
                answers.append(self.refusal(str(denied), subscription, pair=pair))
        return answers

    def admit(self, name: str) -> None:
        """Raise Denied while a fault refuses this pair or private feed.

        Such a connection leaves no lost pair behind when it ends: a client that connects again
        for the refused pair would otherwise find the others refused, for ever in turn.
        """
        try:
            self.practice.lost_pairs.check(name, self.practice.clock())
        except Denied:
            self.refused = True
            raise

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
        self.admit(pair)
        channels = self.practice.channels[pair]
        channel = self.feeds[pair, feed.channel] = channels.setdefault(feed.channel, Channel(feed))
        channel.connections.append(self)
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
