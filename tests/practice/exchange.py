"""The practice exchange for all of its connections: its time, its channels and its REST calls.

A Practice is one market and one account. Nothing here waits or knows of sockets: the server
(server.py), or a test, says what came and lets time pass with tick(). All of it happens in one
thread.

The exchange's own time passes at a speed of its own, and so do candles, orders' expiry, the rate
counter, cancelAllOrdersAfter and the lockout of an API key; heartbeats, the idle connection's end,
the rate limit, deadlines, tokens and the other faults are in the client's seconds.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from practice.account import Account, Fill, Order, Refused
from practice.common import Denied, compact
from practice.credentials import PRACTICE_TOKEN, TOKEN_PATH, Tokens
from practice.faults import REFUSALS, LostPairs, parse_fault
from practice.limits import Lockout, RateLimit
from practice.market import ACT, Act, Feed, Market
from practice.rest import public

if TYPE_CHECKING:
    from practice.connection import Connection

TICK = ACT  # seconds between two looks at the clock
BUSY = 0.02  # seconds that the market runs at most before connections are served
LATE = 5.0  # seconds that the market may be behind before it skips time


class Channel:
    """A feed and its subscribers. Each message is built once for all of them."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.connections: list[Connection] = []

    def publish(self, act: Act) -> None:
        """Send an act to all subscribers."""
        if self.connections:
            messages = list(map(compact, self.feed.news(act)))
            for connection in self.connections:
                connection.outbox += messages


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
        self.start = self.session = clock()
        self.lost_pairs = LostPairs(self.faults.get("refused-pair", 0.0))
        self.rate = RateLimit(1, self.faults.get("rate-limit", 0.0))  # of all connections together
        self.exceeded = itertools.count()  # requests that exceeded a rate limit
        self.lockout = Lockout(self.faults.get("lockout", 0.0))
        self.slipped = 0.0  # seconds that the market has skipped
        self.random = random.Random(f"{seed} connections")
        self.market = Market(seed, self.start)
        self.account = Account(self.market, seed, clock)
        self.tokens = Tokens(token_life, clock, seed)
        self.tokens.renew(token)
        self.connections: list[Connection] = []
        self.channels: dict[str, dict[str, Channel]] = {name: {} for name in self.market.books}
        self.market.listeners.append(self.publish)
        self.account.on_order.append(self.publish_order)
        self.account.on_fills.append(self.publish_fills)

    @property
    def refusal(self) -> tuple[int, str, tuple[tuple[str, str], ...]] | None:
        """The HTTP response instead of a WebSocket, if a fault asks for one."""
        return next((REFUSALS[name] for name in self.faults if name in REFUSALS), None)

    @property
    def status(self) -> str:
        """What systemStatus says."""
        return "maintenance" if "maintenance" in self.faults else "online"

    @property
    def time(self) -> float:
        """The exchange's own time, which also passes while the market stands still."""
        return self.start + (self.clock() - self.start) * self.speed

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
        self.end_sessions()
        for connection in list(self.connections):
            connection.tick()
        self.flush()
        return behind

    def end_sessions(self) -> None:
        """Make all tokens invalid and end their feeds, if it is time for that fault.

        The real exchange answers Invalid session to living tokens after its own upgrades. That it
        ends their feeds with the same words is a guess.
        """
        now = self.clock()
        if now - self.session >= self.faults.get("invalid-session", math.inf):
            self.session = now
            self.tokens.revoke()
            for connection in self.connections:
                connection.lose_session()

    def advance(self) -> bool:
        """Let the market catch up with the clock, and return whether it is still behind."""
        begin = self.clock()
        goal = self.time - self.slipped
        while self.market.now < goal and self.clock() - begin < BUSY:
            self.market.advance(min(goal, self.market.now + ACT))
        if self.market.now < goal - LATE * self.speed:
            self.slip(goal - self.market.now)
        return self.market.now < goal

    def slip(self, seconds: float) -> None:
        """Skip some of the market's time, and say so the first time."""
        if not self.slipped:
            print("This is more than the machine can carry: market time slips.", file=sys.stderr)
        self.slipped += seconds

    def flush(self) -> None:
        """Send the contents of all outboxes."""
        for connection in self.connections:
            connection.flush()

    def publish(self, act: Act) -> None:
        """Send an act to all subscribers of its book."""
        for channel in self.channels[act.book.pair.name].values():
            channel.publish(act)

    def publish_order(self, order: Order, fields: dict[str, Any]) -> None:
        """Send what has changed in an order to all subscribers of openOrders."""
        for connection in self.connections:
            if feed := connection.private.get("openOrders"):
                connection.put(feed.message([feed.order(order, fields)]))

    def publish_fills(self, fills: list[Fill]) -> None:
        """Send trades to all subscribers of ownTrades."""
        for connection in self.connections:
            if feed := connection.private.get("ownTrades"):
                connection.put(*feed.fills(fills))

    def kept(self, token: object) -> bool:
        """Return whether a private subscription keeps a token valid."""
        feeds = (feed for connection in self.connections for feed in connection.private.values())
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
            with self.lockout.watch(headers.get("api-key", ""), self.time):
                return self.tokens.answer_call(headers, body)
        if name == TOKEN_PATH:
            raise Denied("EGeneral:Invalid arguments")
        if method not in ("GET", "POST"):
            raise Denied("EGeneral:Unknown method")
        arguments = dict(parse_qsl(f"{query}&{body.decode('latin-1')}"))
        return public(self.market, name, arguments, self.status)
