"""The market of the practice exchange, seen by a client that keeps its own books."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from practice.market import (
    ANY,
    CHANNELS,
    DEPTHS,
    FEEDS,
    INTERVALS,
    PAIRS,
    SPARE,
    STEP,
    Act,
    Book,
    BookFeed,
    Feed,
    Lot,
    Market,
    Side,
    TradeFeed,
    best,
    rename,
)

START = 1_700_000_000.0
NAMES = st.sampled_from(sorted(PAIRS))
SEEDS = st.integers(0, 2**32)


def crc32(text: str) -> int:
    """Return the CRC-32 of a text, by the polynomial's own long division."""
    value = 0xFFFFFFFF
    for byte in text.encode():
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


class BookClient:
    """Keeps a book from the messages of a feed, by the rules in the exchange's guide."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"a": {}, "b": {}}
        self.checked = 0

    def best(self, name: str) -> list[tuple[str, str]]:
        """Return a side's prices and volumes, the best first."""
        side = self.sides[name]
        return [side[price] for price in sorted(side, reverse=name == "b")]

    def apply(self, name: str, rows: list[list[str]]) -> None:
        """Take in levels in their order, and cut to the depth after each."""
        side = self.sides[name]
        for price, volume, *_ in rows:
            if Decimal(volume):
                side[Decimal(price)] = price, volume
            else:
                del side[Decimal(price)]  # the exchange only removes what it has shown
            while len(side) > self.depth:
                del side[max(side) if name == "a" else min(side)]

    def checksum(self) -> str:
        """Return the checksum of the ten best levels."""
        rows = self.best("a")[:10] + self.best("b")[:10]
        return str(
            crc32("".join(part.replace(".", "").lstrip("0") for row in rows for part in row))
        )

    def receive(self, message: list[Any]) -> None:
        """Take in a snapshot, or an update whose checksum has to hold."""
        payload = {key: value for part in message[1:-2] for key, value in part.items()}
        if "as" in payload:
            for name in ("a", "b"):
                self.sides[name] = {
                    Decimal(row[0]): (row[0], row[1]) for row in payload[f"{name}s"]
                }
            return
        for name in ("a", "b"):
            self.apply(name, payload.get(name, []))
            shown = [Decimal(row[0]) for row in payload.get(name, []) if Decimal(row[1])]
            assert set(shown) <= set(self.sides[name])  # nothing out of view is sent
        assert payload["c"] == self.checksum()
        assert [("c" in part) for part in message[1:-2]] == [False] * (len(message) - 4) + [True]
        self.checked += 1


def one(name: str = "XBT/USD", seed: int = 0) -> tuple[Market, Book]:
    """Return a market of one pair, and its book."""
    market = Market(seed, START, [PAIRS[name]])
    return market, market.books[name]


def record(market: Market, *feeds: Feed) -> list[Any]:
    """Return a list that grows with what the feeds send, their openings included."""
    messages: list[Any] = []
    for feed in feeds:
        messages += feed.opening()
    market.listeners.append(
        lambda act: messages.extend(
            message for feed in feeds if feed.book is act.book for message in feed.news(act)
        )
    )
    return messages


def test_checksum_of_official_example() -> None:
    """The checksum used to judge the exchange is the one of its guide."""
    client = BookClient(10)
    asks = [f"0.0{5005 + 5 * place}" for place in range(10)]
    bids = ["0.05000", "0.04995", *(f"0.0{4990 - 5 * place}" for place in (0, *range(2, 9)))]
    rows = {"as": [[price, "0.00000500", "1"] for price in asks]}
    client.receive([0, {**rows, "bs": [[price, "0.00000500", "1"] for price in bids]}, "", ""])
    assert client.checksum() == "974947235"


def test_client_follows_the_rules() -> None:
    """The client used to judge cuts after every level, and takes a level that comes back."""
    client = BookClient(2)
    ask = [["2.0", "1.00000000", "1"], ["3.0", "1.00000000", "1"]]
    client.receive([0, {"as": ask, "bs": []}, "book-2", "A/B"])
    better = [["1.0", "5.00000000", "2"]]
    client.receive([0, {"a": better, "c": str(crc32("1050000000020100000000"))}, "book-2", "A/B"])
    assert [price for price, _ in client.best("a")] == ["1.0", "2.0"]
    back = [["1.0", "0.00000000", "3"], ["3.0", "1.00000000", "1", "r"]]
    client.receive([0, {"a": back, "c": str(crc32("2010000000030100000000"))}, "book-2", "A/B"])
    assert [price for price, _ in client.best("a")] == ["2.0", "3.0"]
    with pytest.raises(AssertionError):
        client.receive([0, {"a": [["4.0", "1.00000000", "4"]], "c": "1"}, "book-2", "A/B"])


@pytest.mark.parametrize("depth", DEPTHS)
@given(name=NAMES, seed=SEEDS, steps=st.integers(1, 120))
@settings(max_examples=6, deadline=None)
def test_books_hold(depth: int, name: str, seed: int, steps: int) -> None:
    """A client that follows the updates has the exchange's book, with every checksum right."""
    market, book = one(name, seed)
    messages = record(market, BookFeed("book", book, depth))
    market.advance(START + steps * STEP)
    client = BookClient(depth)
    for message in messages:
        client.receive(message)
        assert message[-2:] == [f"book-{depth}", name]
    snapshot = BookFeed("book", book, depth).opening()[0][1]
    assert client.best("a") == [(row[0], row[1]) for row in snapshot["as"]]
    assert client.best("b") == [(row[0], row[1]) for row in snapshot["bs"]]


def test_updates_of_every_kind() -> None:
    """Updates are of one level, removals and those sent again beside it; both sides are rare."""
    market, book = one()
    messages = record(market, BookFeed("book", book, 10))
    market.advance(START + 600)
    sizes = Counter(
        tuple(len([row for row in rows if row[3:] != ["r"]]) for rows in sides(message))
        for message in messages[1:]
    )
    assert set(sizes) == {(1,), (1, 1)}
    assert sizes[1, 1] / sum(sizes.values()) < 0.002
    rows = [row for message in messages[1:] for rows in sides(message) for row in rows]
    assert {tuple(row[3:]) for row in rows} == {("r",), ()}
    assert "0.00000000" in {row[1] for row in rows}


def sides(message: list[Any]) -> list[list[list[str]]]:
    """Return the levels of an update, side by side."""
    return [rows for part in message[1:-2] for name, rows in part.items() if name != "c"]


def test_a_level_a_message() -> None:
    """Whoever takes several levels has them go one by one; the trades are still one message."""
    market, book = one()
    messages = record(market, BookFeed("book", book, 10), TradeFeed("trade", book))
    volume = sum((book.asks.levels[key].volume for key in book.asks.keys[:3]), Decimal())
    gone = book.asks.keys[:3]
    book.trade(book.asks, volume, ANY, "m")
    book.commit()
    assert [message[-2] for message in messages] == ["book-10"] * 4 + ["trade"]
    assert [sides(message)[0][0][0] for message in messages[1:4]] == list(map(book.pair.show, gone))
    client = BookClient(10)
    for message in messages[:4]:
        client.receive(message)
    assert client.checked == 3


def test_a_level_changes_once_at_a_time() -> None:
    """No two changes of a level have the same time: there are clients that ignore the second."""
    market, book = one()
    messages = record(market, BookFeed("book", book, 100))
    market.advance(START + 120)
    seen: dict[str, str] = {}
    for price, _, time, *again in (
        row for message in messages[1:] for part in message[1:-2] for row in part.get("a", [])
    ):
        assert again or seen.get(price, "") < time
        seen[price] = time
    assert len(seen) > 100


@given(name=NAMES, seed=SEEDS, steps=st.integers(1, 100))
@settings(max_examples=15, deadline=None)
def test_feeds_agree(name: str, seed: int, steps: int) -> None:
    """Book, spread, ticker, trades and candles say the same at every moment."""
    market, book = one(name, seed)
    feeds = {kind: Feed(kind, book) for kind in ("ticker", "spread")}
    latest = {kind: feed.opening()[0] for kind, feed in feeds.items()}
    client, depth, candle = BookClient(10), BookFeed("book", book, 10), Feed("ohlc", book, 1)
    client.receive(depth.opening()[0])
    candles, trades, traded = candle.opening(), TradeFeed("trade", book), []

    def compare(act: Act) -> None:
        for kind, feed in feeds.items():
            latest[kind] = (feed.news(act) or [latest[kind]])[-1]
        for message in depth.news(act):
            client.receive(message)
        for message in trades.news(act):
            traded.extend(message[1])
        candles.extend(candle.news(act))
        figures, (bid, ask, _, bids, asks) = latest["ticker"][1], latest["spread"][1]
        assert client.best("a")[0] == (ask, asks) == (figures["a"][0], figures["a"][2])
        assert client.best("b")[0] == (bid, bids) == (figures["b"][0], figures["b"][2])
        assert Decimal(bid) < Decimal(ask)
        if traded:
            assert figures["c"] == traded[-1][:2]
            assert candles[-1][1][5] == figures["c"][0]
            assert candles[-1][1][0] == traded[-1][2]

    market.listeners.append(compare)
    market.advance(START + steps * STEP)


@given(name=NAMES, seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_candles_are_of_the_trades(name: str, seed: int) -> None:
    """At each of the nine intervals, the candle is what can be computed from the trades."""
    market, book = one(name, seed)
    messages = record(market, TradeFeed("trade", book))
    market.advance(START + 150)
    rows = [row for message in messages for row in message[1]]
    for interval in (1, 5):  # the others began before the trades that were seen
        begin, end, *figures, volume, count = Feed("ohlc", book, interval).opening()[0][1]
        inside = [row for row in rows if float(row[2]) >= float(end) - interval * 60]
        if float(end) - interval * 60 < START:
            continue
        prices = [Decimal(row[0]) for row in inside]
        cost = sum(Decimal(row[0]) * Decimal(row[1]) for row in inside)
        shown = [prices[0], max(prices), min(prices), prices[-1], cost / Decimal(volume)]
        assert figures == [book.pair.show(price) for price in shown]
        assert (sum(Decimal(row[1]) for row in inside), len(inside)) == (Decimal(volume), count)
        assert begin == inside[-1][2]
    for interval in INTERVALS:
        end = float(Feed("ohlc", book, interval).opening()[0][1][1])
        assert end % (interval * 60) == 0
        assert end - interval * 60 <= float(rows[-1][2]) < end


def test_candles_nest() -> None:
    """Longer candles are made of the shorter ones within them."""
    market, book = one()
    market.advance(START + 600)
    last = {interval: book.candles[interval][-1] for interval in INTERVALS}
    for interval, candle in last.items():
        inside = [each for each in book.candles[5] if each.begin >= candle.begin]
        if interval >= 5 and len(book.candles[5]) < 97 and candle.begin >= START:
            assert candle.count == sum(each.count for each in inside)
    assert last[21600].count >= last[10080].count >= 144


def test_ticker_counts_the_days() -> None:
    """The ticker's two columns are today since midnight, and the last 24 hours."""
    midnight = START // 86400 * 86400
    market = Market(0, midnight - 3600, [PAIRS["XBT/USD"]])
    book = market.books["XBT/USD"]
    market.reach(midnight)
    figures = Feed("ticker", book).opening()[0][1]
    assert figures["t"][0] == 0  # nothing yet today, so all prices are the last one
    assert figures["v"][0] == "0.00000000"
    assert figures["o"][0] == figures["h"][0] == figures["l"][0] == figures["c"][0]
    assert figures["p"][0] == figures["c"][0]
    assert 130 < figures["t"][1] < 144
    market.advance(midnight - 3600 + 5)
    assert book.count > 144


def test_seed_is_the_market() -> None:
    """The same seed gives the same messages, in whatever steps time passes; another doesn't."""
    runs = []
    for seed, moments in ((1, (20,)), (1, range(1, 21)), (2, (20,))):
        market, book = one("ETH/EUR", seed)
        messages = record(market, *(FEEDS[name](name, book, number) for name, number in CHANNELS))
        for moment in moments:
            market.advance(START + moment)
        runs.append(messages)
    assert runs[0] == runs[1] != runs[2]


def test_time_never_goes_back() -> None:
    """A clock that is set back doesn't take the market with it."""
    market, book = one()
    market.advance(START + 10)
    market.advance(START + 5)
    assert market.now == START + 10
    assert market.now <= book.now < market.now + 0.001


def test_market_stays_a_market() -> None:
    """After an hour the books are as deep as before, and prices where they can be."""
    market, book = one("XBT/USD")
    market.advance(START + 3600)
    for side in (book.asks, book.bids):
        assert book.pair.levels - 5 < len(side.keys) < book.pair.levels + SPARE + 5
        assert side.keys == sorted(side.levels)
        assert all(level.volume > 0 for level in side.levels.values())
        assert all(key % book.pair.tick == 0 for key in side.keys)
    assert 0.9 < book.last.price / book.pair.price < 1.1
    assert book.count > 1000


def test_cheap_pair_has_fewer_bids() -> None:
    """Where prices would end below one tick, the book ends as well: depth 1000 shows what is."""
    market, book = one("XDG/XBT")
    market.advance(START + 600)
    rows = BookFeed("book", book, 1000).opening()[0][1]["bs"]
    assert 0 < len(rows) < 200
    assert min(Decimal(row[0]) for row in rows) > 0


def test_shapes() -> None:
    """Messages have the members, the types and the digits of the real ones."""
    _, book = one()
    number, figures, *names = Feed("ticker", book).opening()[0]
    assert names == ["ticker", "XBT/USD"]
    assert list(figures) == ["a", "b", "c", "v", "p", "t", "l", "h", "o"]
    assert [type(part) for part in figures["a"]] == [str, int, str]
    assert figures["a"][1] == int(Decimal(figures["a"][2]))
    assert [type(part) for part in figures["t"]] == [int, int]
    assert len(figures["c"][0].partition(".")[2]) == 5
    assert len(figures["c"][1].partition(".")[2]) == 8
    candle = Feed("ohlc", book, 60).opening()[0]
    assert candle[2] == "ohlc-60"
    assert [type(part) for part in candle[1]] == [str] * 8 + [int]
    assert len(Feed("spread", book).opening()[0][1]) == 5
    assert TradeFeed("trade", book).opening() == []
    assert number == book.pair.number + 1


def test_trade_message() -> None:
    """Trades that happen at once are one message: price, volume, time, side, type, nothing."""
    market, book = one()
    messages = record(market, TradeFeed("trade", book))
    now = book.now
    keys = book.bids.keys[:2]
    volume = sum((book.bids.levels[key].volume for key in keys), Decimal())
    book.trade(book.bids, volume, ANY, "m")
    book.commit()
    assert [row[3:] for row in messages[0][1]] == [["s", "m", ""]] * 2
    assert [row[0] for row in messages[0][1]] == [book.pair.show(-key) for key in keys]
    assert sum(Decimal(row[1]) for row in messages[0][1]) == volume
    assert messages[0][1][0][2] == f"{now:.6f}"


def test_channel_numbers() -> None:
    """No two channels of any pairs share a number, and a number never changes."""
    books = Market(0, START).books.values()
    numbers = [
        FEEDS[name](name, book, number).channel_id for book in books for name, number in CHANNELS
    ]
    assert len(set(numbers)) == len(numbers) == len(PAIRS) * 17
    assert Feed("ticker", one("ETH/EUR", 5)[1]).channel_id == 336 + 32 * 3 + 1


def test_orders_wait_their_turn() -> None:
    """At one price, what came first trades first; what is left keeps its place."""
    side = Side(1)
    first, second = Lot(Decimal(2), "first"), Lot(Decimal(2), "second")
    for lot in (first, second):
        side.add(Decimal(10), lot, START)
    trades = list(side.take(Decimal(3), Decimal(10), START))
    assert [(trade.owner, trade.volume) for trade in trades] == [
        ("first", Decimal(2)),
        ("second", Decimal(1)),
    ]
    assert [lot for _, lot in side.offered(Decimal(9))] == [second]
    assert [lot for _, lot in side.offered(Decimal(9), Decimal(9))] == []
    assert list(side.take(Decimal(9), Decimal(9), START)) == []


def test_empty_side() -> None:
    """A side with nothing on it has no best price, and nothing is taken from it."""
    book = Book(PAIRS["XBT/USD"], [])
    assert best(book, book.asks) == ("0.00000", Decimal())
    assert list(book.asks.take(Decimal(1), ANY, START)) == []
    book.commit()


def test_crowd_reaches_an_order() -> None:
    """An order that rests near the price is traded with, in parts, and never withdrawn."""
    market, book = one()
    owner, volume = object(), Decimal(5)
    lot = Lot(volume, owner)
    book.bids.add(book.bids.best, lot, START)
    book.commit()
    trades: list[Decimal] = []
    market.listeners.append(
        lambda act: trades.extend(each.volume for each in act.trades if each.owner is owner)
    )
    market.advance(START + 900)
    assert sum(trades) + lot.volume == volume
    assert len(trades) > 1


def test_only_an_account_is_left() -> None:
    """The crowd withdraws its own offers and nobody else's."""
    side = Side(1)
    side.add(Decimal(10), Lot(Decimal(1)), START)
    side.add(Decimal(10), Lot(Decimal(2), "owner"), START)
    side.flush()
    side.withdraw(Decimal(10), START + 1)
    assert (side.levels[Decimal(10)].volume, side.flush()) == (Decimal(2), [Decimal(10)])
    side.withdraw(Decimal(10), START + 2)
    assert side.flush() == []


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("BTC/USD", "XBT/USD"), ("ETH/BTC", "ETH/XBT"), ("TSLAx/USD", "TSLAx/USD"), ("BTC", "XBT")],
)
def test_rename(asked: str, answered: str) -> None:
    """BTC is taken and answered as XBT; everything else keeps its name."""
    assert rename(asked) == answered
