"""The practice exchange's market: order books, the crowd that trades in them, and their feeds.

One Book a pair stands behind everything. A Crowd, driven by the seed alone, moves its price; an
account's orders rest in the same levels. Whatever changes a book does so in an Act, mostly of one
level, and a Feed makes an Act into messages: ticker, spread, trade, ohlc and book can't disagree.

Prices and volumes are Decimals, times are seconds since 1970 in the exchange's own time.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

DEPTHS = (10, 25, 100, 500, 1000)
INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)  # minutes

ACT = 1 / 32  # seconds between a crowd's acts
MOMENT = 2e-6  # least seconds between acts, whose times in microseconds then differ
STEP = 6 * ACT  # in which it moves the price once, and acts in each of its ways
SPARE = 50  # extra levels before the worst ones are removed
DAY = 86400
PAST_STEP = 600  # seconds between the trades of the day before the opening
PULL = 1e-5  # fraction of the way to its first price that a price goes in a step
BOTH = 0.002  # fraction of the quotes that are on both sides at once
HISTORY = 1000  # trades of a pair that are kept
QUARTERS = 97  # candles of 15 minutes in a day, the first one only in part
LOT_DECIMALS = 8
ANY = Decimal("Infinity")  # the limit of an order without one


class Pair(NamedTuple):
    """What is traded against what, and by which rules."""

    name: str
    price: Decimal  # around which the price changes
    tick: Decimal
    decimals: int  # of a price on the wire; the tick often has fewer
    minimum: Decimal  # volume of an order
    volatility: float  # the usual change of the price in a step, as a fraction
    size: float  # volume of a usual level
    levels: int  # on each side; large pairs have more than the deepest feed shows

    @property
    def base(self) -> str:
        """The asset that is bought and sold."""
        return self.name.partition("/")[0]

    @property
    def quote(self) -> str:
        """The asset that it is paid with."""
        return self.name.partition("/")[2]

    @property
    def number(self) -> int:
        """Where the pair's channel numbers begin."""
        return 336 + 32 * list(PAIRS).index(self.name)

    def show(self, price: Decimal) -> str:
        """Return a price, or an amount of the quote asset, as it is on the wire."""
        return f"{price:.{self.decimals}f}"


PAIRS = {
    name: Pair(name, Decimal(price), Decimal(tick), decimals, Decimal(least), move, size, levels)
    for name, price, tick, decimals, least, move, size, levels in (
        ("XBT/USD", "60000.0", "0.1", 5, "0.00005", 2e-5, 0.5, 1100),
        ("XBT/EUR", "55000.0", "0.1", 5, "0.00005", 2e-5, 0.5, 1100),
        ("ETH/USD", "2500.00", "0.01", 5, "0.001", 2e-5, 8, 1100),
        ("ETH/EUR", "2300.00", "0.01", 5, "0.001", 2e-5, 8, 800),
        ("LTC/EUR", "65.00", "0.01", 5, "0.05", 3e-5, 120, 400),
        ("XDG/XBT", "0.00000150", "0.00000001", 8, "30", 3e-5, 50000, 250),
        ("USDT/USD", "1.0000", "0.0001", 8, "5", 5e-6, 20000, 500),
        ("TSLAx/USD", "350.00", "0.01", 5, "0.01", 2e-5, 40, 300),
        ("XRP/USD", "2.00000", "0.00001", 5, "2", 3e-5, 4000, 900),
    )
}


def stamp(seconds: float) -> str:
    """Return a time as it is on the wire."""
    return f"{seconds:.6f}"


def lots(volume: Decimal) -> str:
    """Return a volume as it is on the wire."""
    return f"{volume:.{LOT_DECIMALS}f}"


class Trade(NamedTuple):
    """What was traded at one price between two."""

    price: Decimal
    volume: Decimal
    time: float
    side: str  # the taker's: b or s
    kind: str  # of the taker's order: m or l
    owner: object | None = None  # of the resting order; None is the crowd


class Lot:
    """A volume that somebody offers at a price."""

    def __init__(self, volume: Decimal, owner: object | None = None) -> None:
        self.volume = volume
        self.owner = owner


class Level:
    """All that is offered at one price, first come first served."""

    def __init__(self) -> None:
        self.lots: list[Lot] = []
        self.time = 0.0

    @property
    def volume(self) -> Decimal:
        """The sum of what is offered."""
        return sum((lot.volume for lot in self.lots), Decimal())


class Side:
    """One side of a book. A level's key is its price, negative for bids: the lowest is the best."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[Decimal] = []  # in order
        self.levels: dict[Decimal, Level] = {}
        self.changed: dict[Decimal, None] = {}  # a set that keeps its order

    @property
    def best(self) -> Decimal:
        """The best level's key, or infinity."""
        return self.keys[0] if self.keys else ANY

    def add(self, key: Decimal, lot: Lot, now: float) -> None:
        """Put a lot at the end of a level's queue."""
        if key not in self.levels:
            self.levels[key] = Level()
            insort(self.keys, key)
        self.levels[key].lots.append(lot)
        self.note(key, now)

    def note(self, key: Decimal, now: float) -> None:
        """Note that a level has changed, and forget it once nothing is left there."""
        level = self.levels[key]
        level.time = now
        self.changed[key] = None
        if not level.lots:
            del self.levels[key], self.keys[bisect_left(self.keys, key)]

    def remove(self, key: Decimal, lot: Lot, now: float) -> None:
        """Take a lot out of a level."""
        self.levels[key].lots.remove(lot)
        self.note(key, now)

    def withdraw(self, key: Decimal, now: float) -> None:
        """Take the crowd's lots out of a level; an account's stay."""
        level = self.levels[key]
        stays = [lot for lot in level.lots if lot.owner]
        if len(stays) < len(level.lots):
            level.lots = stays
            self.note(key, now)

    def take(self, volume: Decimal, limit: Decimal, now: float) -> Iterable[Trade]:
        """Trade a volume at the best prices up to a limit (a key), and yield the trades.

        The taker's side and kind are left empty.
        """
        while volume and self.keys and self.best <= limit:
            key = self.keys[0]
            lot = self.levels[key].lots[0]
            part = min(volume, lot.volume)
            volume -= part
            lot.volume -= part
            if not lot.volume:
                self.levels[key].lots.pop(0)
            self.note(key, now)
            yield Trade(abs(key), part, now, "", "", lot.owner)

    def offered(self, volume: Decimal, limit: Decimal = ANY) -> Iterable[tuple[Decimal, Lot]]:
        """Yield the key and lot of whatever a taker of this volume would meet."""
        for key in self.keys[: bisect_right(self.keys, limit)]:
            for lot in self.levels[key].lots:
                if volume <= 0:
                    return
                volume -= lot.volume
                yield key, lot

    def flush(self) -> list[Decimal]:
        """Return the keys of the levels that have changed since the last flush."""
        changed, self.changed = list(self.changed), {}
        return changed


class Candle:
    """What was traded from one time on: open, high, low, close, and the sums."""

    def __init__(self, begin: float, price: Decimal) -> None:
        self.begin = self.time = begin
        self.open = self.high = self.low = self.close = price
        self.volume = self.cost = Decimal()
        self.count = 0

    @property
    def vwap(self) -> Decimal:
        """The average price, weighted by volume."""
        return self.cost / self.volume if self.volume else self.close

    def add(self, trade: Trade) -> None:
        """Take in a trade."""
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.close, self.time = trade.price, trade.time
        self.volume += trade.volume
        self.cost += trade.price * trade.volume
        self.count += 1


def merge(candles: list[Candle], price: Decimal) -> Candle:
    """Return consecutive candles as one; where there are none, nothing was traded at PRICE."""
    whole = Candle(0, candles[0].open if candles else price)
    for candle in candles:
        whole.high = max(whole.high, candle.high)
        whole.low = min(whole.low, candle.low)
        whole.volume += candle.volume
        whole.cost += candle.cost
        whole.count += candle.count
        whole.close = candle.close
    return whole


class Act(NamedTuple):
    """A change of a book that happens at once."""

    book: Book
    asks: list[Decimal]  # keys of the levels that have changed
    bids: list[Decimal]
    trades: list[Trade]


class Book:
    """A pair's order book, and its trades as candles."""

    def __init__(self, pair: Pair, listeners: list[Callable[[Act], None]]) -> None:
        self.pair = pair
        self.listeners = listeners
        self.now = 0.0
        self.asks, self.bids = Side(1), Side(-1)
        self.candles: dict[int, deque[Candle]] = {
            interval: deque(maxlen=QUARTERS) for interval in INTERVALS
        }
        self.last = Trade(pair.price, Decimal(), 0, "b", "l")
        self.count = 0  # of trades since the opening
        self.history: deque[Trade] = deque(maxlen=HISTORY)
        self.trades: list[Trade] = []  # of the act under way

    def record(self, trade: Trade) -> None:
        """Take a trade into the candles of every interval."""
        for interval, candles in self.candles.items():
            begin = trade.time // (interval * 60) * interval * 60
            if not candles or candles[-1].begin != begin:
                candles.append(Candle(begin, trade.price))
            candles[-1].add(trade)
        self.history.append(trade)
        self.last = trade
        self.count += 1

    def trade(self, side: Side, volume: Decimal, limit: Decimal, kind: str) -> list[Trade]:
        """Trade a volume against a side up to a limit (a key), and return the trades.

        Each level but the last is an act of its own. The trades belong to the last one's, which
        is left for the caller to commit; they all have the time of the first.
        """
        letter = "b" if side is self.asks else "s"
        trades: list[Trade] = []
        now = 0.0
        while volume and side.keys and side.best <= limit:
            self.commit()
            now = now or self.now
            for trade in side.take(volume, side.best, now):
                trades.append(trade._replace(side=letter, kind=kind))
                volume -= trade.volume
        for trade in trades:
            self.record(trade)
        self.trades += trades
        return trades

    def commit(self) -> None:
        """End an act: tell everybody who listens what has changed, if anything has.

        The next act is a little later: there are clients that ignore a level's second change at
        the same time.
        """
        act = Act(self, self.asks.flush(), self.bids.flush(), self.trades)
        self.trades = []
        if act.asks or act.bids:
            for listener in self.listeners:
                listener(act)
            self.now += MOMENT

    def since(self, begin: float, interval: int) -> Candle:
        """Return what was traded in the candles of an interval that begin then or later."""
        candles = [candle for candle in self.candles[interval] if candle.begin >= begin]
        return merge(candles, self.last.price)

    def days(self) -> tuple[Candle, Candle]:
        """Return what was traded since midnight, and in the last 24 hours by the quarter."""
        today = self.now // DAY * DAY
        return self.since(today, 1440), self.since(self.now - DAY - 900, 15)


class Crowd:
    """The other traders of a pair. What they do comes from the seed, and from the book."""

    def __init__(self, book: Book, seed: int, start: float) -> None:
        self.book = book
        self.pair = book.pair
        self.random = random.Random(f"{seed} {self.pair.name}")
        self.price = float(self.pair.price)
        for moment in range(-DAY, 0, PAST_STEP):
            self.walk((PAST_STEP / STEP) ** 0.5)
            price = self.near * self.pair.tick
            book.record(Trade(price, self.volume(), start + moment, "b", "l"))
        book.now = start
        for side in (book.asks, book.bids):
            while len(side.keys) < self.pair.levels and self.extend(side):
                pass
        book.commit()

    @property
    def near(self) -> int:
        """The price, which is nobody's order, in ticks."""
        return round(self.price / float(self.pair.tick))

    @property
    def gap(self) -> float:
        """How far the price goes in a step, in ticks."""
        return self.price / float(self.pair.tick) * self.pair.volatility

    def walk(self, steps: float = 1) -> None:
        """Move the price."""
        self.price *= 1 + self.random.gauss(0, self.pair.volatility * steps)
        self.price += (float(self.pair.price) - self.price) * PULL

    def volume(self) -> Decimal:
        """Return a volume, small ones more often than large ones."""
        units = round(self.random.expovariate(1 / self.pair.size) * 10**LOT_DECIMALS)
        return max(self.pair.minimum, Decimal(units).scaleb(-LOT_DECIMALS))

    def ticks(self, mean: float) -> int:
        """Return a distance of one tick and some more."""
        return 1 + int(self.random.expovariate(1 / mean))

    def extend(self, side: Side) -> bool:
        """Offer something beyond a side's worst level; return False where prices end."""
        worst = side.keys[-1] if side.keys else side.sign * self.near * self.pair.tick
        key = worst + self.ticks(self.gap) * self.pair.tick
        if key * side.sign <= 0:
            return False
        side.add(key, Lot(self.volume()), self.book.now)
        return True

    def cross(self) -> None:
        """Trade some of what the price has passed; the crowd's offers there are withdrawn."""
        for side in (self.book.asks, self.book.bids):
            limit = (side.sign * self.near - 1) * self.pair.tick
            if side.best <= limit:
                self.book.trade(side, self.volume(), limit, "l")
                self.book.commit()
                for key in side.keys[: bisect_right(side.keys, limit)]:
                    side.withdraw(key, self.book.now)
                    self.book.commit()

    def hit(self) -> None:
        """Trade a little at the best price of either side, now and then."""
        if self.random.random() < 0.3:
            side = self.random.choice((self.book.asks, self.book.bids))
            self.book.trade(side, self.volume() / 4 // Decimal("1e-8") * Decimal("1e-8"), ANY, "m")

    def quote(self) -> None:
        """Offer something near the price on one side, on both once in a long while."""
        sides = [self.book.asks, self.book.bids]
        self.random.shuffle(sides)
        for side in sides if self.random.random() < BOTH else sides[:1]:
            key = (side.sign * self.near + self.ticks(self.gap + 3)) * self.pair.tick
            other = self.book.bids if side is self.book.asks else self.book.asks
            if key * side.sign > 0 and key + other.best > 0:
                if key in side.levels:
                    side.withdraw(key, self.book.now)
                side.add(key, Lot(self.volume()), self.book.now)

    def cancel(self) -> None:
        """Withdraw an offer, near the price more often than far from it."""
        side = self.random.choice((self.book.asks, self.book.bids))
        place = self.ticks(15)
        if place < len(side.keys) and self.random.random() < 0.5:
            side.withdraw(side.keys[place], self.book.now)

    def tidy(self) -> None:
        """Keep about as many levels as there were in the beginning."""
        for side in (self.book.asks, self.book.bids):
            if len(side.keys) > self.pair.levels + SPARE:
                side.withdraw(side.keys[-1], self.book.now)
            elif len(side.keys) < self.pair.levels:
                self.extend(side)
            self.book.commit()

    def move(self) -> None:
        """Let the price move, with what that brings about."""
        self.walk()
        self.cross()

    def act(self, number: int) -> None:
        """Do what is to be done at this number's turn."""
        acts = (self.move, self.quote, self.hit, self.cancel, self.quote, self.tidy)
        acts[number % len(acts)]()
        self.book.commit()


class Market:
    """All books, and the time that passes in them."""

    def __init__(
        self, seed: int = 0, start: float = 0.0, pairs: Iterable[Pair] = PAIRS.values()
    ) -> None:
        self.now = self.start = start
        self.acts = 0  # that each crowd has done
        self.listeners: list[Callable[[Act], None]] = []  # told of every act
        self.timers: list[Callable[[float], None]] = []  # told what time it is, at every act
        self.books = {pair.name: Book(pair, self.listeners) for pair in pairs}
        self.crowds = [Crowd(book, seed, start) for book in self.books.values()]

    def advance(self, now: float) -> None:
        """Let time pass until now; it never goes back."""
        while (moment := self.start + (self.acts + 1) * ACT) <= now:
            self.reach(moment)
            for crowd in self.crowds:
                crowd.act(self.acts)
            self.acts += 1
        self.reach(max(now, self.now))

    def reach(self, now: float) -> None:
        """Make it now everywhere, and call on those who wait for a time."""
        self.now = now
        for book in self.books.values():
            book.now = max(now, book.now)
        for timer in self.timers:
            timer(now)


def rename(name: str) -> str:
    """Return a pair's name as the exchange has it, with XBT for BTC."""
    return "/".join("XBT" if asset == "BTC" else asset for asset in name.split("/"))


def best(book: Book, side: Side) -> tuple[str, Decimal]:
    """Return the best price of a side, as it is on the wire, and the volume there."""
    if not side.keys:
        return book.pair.show(Decimal()), Decimal()
    return book.pair.show(abs(side.best)), side.levels[side.best].volume


def ticker(book: Book, _: int) -> Any:
    """Return the best prices and what the days were like."""
    show = book.pair.show
    (ask, asked), (bid, wanted) = best(book, book.asks), best(book, book.bids)
    days = book.days()
    return {
        "a": [ask, int(asked), lots(asked)],
        "b": [bid, int(wanted), lots(wanted)],
        "c": [show(book.last.price), lots(book.last.volume)],
        "v": [lots(day.volume) for day in days],
        "p": [show(day.vwap) for day in days],
        "t": [day.count for day in days],
        "l": [show(day.low) for day in days],
        "h": [show(day.high) for day in days],
        "o": [show(day.open) for day in days],
    }


def spread(book: Book, _: int) -> Any:
    """Return the best prices."""
    (ask, asked), (bid, wanted) = best(book, book.asks), best(book, book.bids)
    return [bid, ask, stamp(book.now), lots(wanted), lots(asked)]


def ohlc(book: Book, interval: int) -> Any:
    """Return the last candle of an interval, in minutes."""
    candle = book.candles[interval][-1]
    prices = candle.open, candle.high, candle.low, candle.close, candle.vwap
    times = stamp(candle.time), stamp(candle.begin + interval * 60)
    return [*times, *map(book.pair.show, prices), lots(candle.volume), candle.count]


def touch(book: Book) -> object:
    """Return what the spread shows."""
    return best(book, book.asks), best(book, book.bids)


class Feed:
    """A subscription to a pair's data that is sent whenever it is no longer what it was."""

    def __init__(self, name: str, book: Book, number: int = 0) -> None:
        self.name = name
        self.book = book
        self.number = number  # a book's depth, a candle's interval
        self.channel = f"{name}-{number}" if number else name
        self.mark: object = None

    @property
    def channel_id(self) -> int:
        """A number for this pair and channel, always the same."""
        return self.book.pair.number + CHANNELS.index((self.name, self.number))

    def message(self, *payload: object) -> list[Any]:
        """Return a message of this feed."""
        return [self.channel_id, *payload, self.channel, self.book.pair.name]

    def opening(self) -> list[Any]:
        """Return the messages with which the feed begins."""
        look, show = FIGURES[self.name]
        self.mark = look(self.book)
        return [self.message(show(self.book, self.number))]

    def news(self, _: Act) -> list[Any]:
        """Return the messages that an act of the feed's book makes necessary."""
        look, _show = FIGURES[self.name]
        return [] if look(self.book) == self.mark else self.opening()


class TradeFeed(Feed):
    """A subscription to the trades: those of an act in one message."""

    def opening(self) -> list[Any]:
        """Return nothing: what is past is not sent."""
        return []

    def news(self, act: Act) -> list[Any]:
        """Return the message with the trades of an act, if there are any."""
        show = self.book.pair.show
        rows = [
            [show(trade.price), lots(trade.volume), stamp(trade.time), trade.side, trade.kind, ""]
            for trade in act.trades
        ]
        return [self.message(rows)] if rows else []


class BookFeed(Feed):
    """A subscription to the book down to a depth.

    For each side it knows the worst level that the client sees. A level that comes into view
    from behind is sent again with an "r"; one that better ones push out of view is not sent:
    the client cuts.
    """

    edges: dict[int, Decimal]

    def opening(self) -> list[Any]:
        """Return the snapshot."""
        sides = {"as": self.book.asks, "bs": self.book.bids}
        self.edges = {side.sign: self.edge(side) for side in sides.values()}
        payload = {
            name: [self.row(side, key) for key in side.keys[: self.number]]
            for name, side in sides.items()
        }
        return [self.message(payload)]

    def edge(self, side: Side) -> Decimal:
        """Return the key of the worst level in view; all are where there are not enough."""
        return side.keys[self.number - 1] if len(side.keys) >= self.number else ANY

    def row(self, side: Side, key: Decimal, *more: str) -> list[str]:
        """Return a level as it is on the wire."""
        level = side.levels.get(key)
        volume, time = (level.volume, level.time) if level else (Decimal(), self.book.now)
        return [self.book.pair.show(abs(key)), lots(volume), stamp(time), *more]

    def rows(self, side: Side, changed: list[Decimal]) -> list[list[str]]:
        """Return the levels of a side that the client has to learn of.

        Those that are gone come first, so that a client that cuts after every level cuts none
        that it still needs.
        """
        before, now = self.edges[side.sign], self.edge(side)
        self.edges[side.sign] = now
        gone = [key for key in changed if key not in side.levels and key <= before]
        new = [key for key in changed if key in side.levels and key <= now]
        behind = side.keys[bisect_right(side.keys, before) : self.number]
        again = [key for key in behind if key not in changed]
        return [
            *(self.row(side, key) for key in gone + new),
            *(self.row(side, key, "r") for key in again),
        ]

    def checksum(self) -> str:
        """Return the CRC32 of the ten best levels of each side."""
        digits = ""
        for side in (self.book.asks, self.book.bids):
            for key in side.keys[:10]:
                for number in self.row(side, key)[:2]:
                    digits += number.replace(".", "").lstrip("0")
        return str(zlib.crc32(digits.encode()))

    def news(self, act: Act) -> list[Any]:
        """Return the update that brings the client's book to the state after an act."""
        sides = {
            "a": self.rows(self.book.asks, act.asks),
            "b": self.rows(self.book.bids, act.bids),
        }
        payload: list[dict[str, Any]] = [{name: rows} for name, rows in sides.items() if rows]
        if not payload:
            return []
        payload[-1]["c"] = self.checksum()
        return [self.message(*payload)]


# What has to change for the figures to be sent again, and the figures
FIGURES: dict[str, tuple[Callable[[Book], object], Callable[[Book, int], Any]]] = {
    "ticker": (lambda book: (book.count, touch(book)), ticker),
    "spread": (touch, spread),
    "ohlc": (lambda book: book.count, ohlc),
}
FEEDS: dict[str, type[Feed]] = {
    "ticker": Feed,
    "spread": Feed,
    "ohlc": Feed,
    "trade": TradeFeed,
    "book": BookFeed,
}
CHANNELS = [
    *((name, 0) for name in ("trade", "ticker", "spread")),
    *(("book", depth) for depth in DEPTHS),
    *(("ohlc", interval) for interval in INTERVALS),
]
