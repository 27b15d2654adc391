"""The practice exchange's public REST API, which shows the same market over HTTPS.

Its names are the exchange's old ones: XXBT for XBT, XXBTZUSD for XBT/USD, whose altname is XBTUSD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple

from practice.account import LEAST_COST, MAKER, TAKER, Refused, iso
from practice.market import (
    INTERVALS,
    LOT_DECIMALS,
    Book,
    Candle,
    Market,
    Pair,
    Side,
    Trade,
    lots,
    ticker,
)

PREFIX = "/0/public/"
CANDLES = 720  # at most
TRADES = 1000  # at most, and by default
LEVELS, MOST_LEVELS = 100, 500  # by default, and at most
NANO = 10**9
LAST_SECOND = 10**12  # a greater time is in nanoseconds
TOKENIZED = "tokenized_asset"
INVALID = "EGeneral:Invalid arguments"


class Asset(NamedTuple):
    """The properties of an asset that the exchange shows."""

    code: str
    decimals: int
    display_decimals: int
    aclass: str = "currency"


ASSETS = {
    "USD": Asset("ZUSD", 4, 2),
    "EUR": Asset("ZEUR", 4, 2),
    "USDT": Asset("USDT", 8, 4),
    "XBT": Asset("XXBT", 10, 5),
    "ETH": Asset("XETH", 10, 5),
    "LTC": Asset("XLTC", 10, 5),
    "XDG": Asset("XXDG", 8, 2),
    "XRP": Asset("XXRP", 8, 5),
    "TSLAx": Asset("TSLAx", 10, 5, TOKENIZED),
}
# What AssetPairs returns for each value of info
PARTS = {
    "leverage": ("leverage_buy", "leverage_sell"),
    "fees": ("fees", "fees_maker", "fee_volume_currency"),
    "margin": ("margin_call", "margin_stop"),
}


def altname(pair: Pair) -> str:
    """Return a pair's name without its slash."""
    return pair.base + pair.quote


def key(pair: Pair) -> str:
    """Return the name under which results are."""
    base = ASSETS[pair.base]
    return altname(pair) if base.aclass == TOKENIZED else base.code + ASSETS[pair.quote].code


def number(query: dict[str, str], name: str, usual: int, allowed: Iterable[int]) -> int:
    """Return a parameter that is a whole number, or raise Refused."""
    text = query.get(name) or str(usual)
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) not in allowed:
        raise Refused(INVALID)
    return int(text)


def moment(query: dict[str, str]) -> Decimal:
    """Return the time in the parameter since, in nanoseconds, 0 for none; or raise Refused."""
    text = query.get("since") or "0"
    if not re.fullmatch(r"[0-9]{1,20}(\.[0-9]+)?", text):
        raise Refused(INVALID)
    return Decimal(text) * (NANO if Decimal(text) < LAST_SECOND else 1)


def find(market: Market, name: str) -> Book:
    """Return the book of a pair by any of its names, or raise Refused."""
    name = name.strip().replace("BTC", "XBT")
    for book in market.books.values():
        if name in (key(book.pair), altname(book.pair), book.pair.name):
            return book
    raise Refused("EQuery:Unknown asset pair")


def find_one(market: Market, query: dict[str, str]) -> Book:
    """Return the book of the pair that is asked for, or raise Refused."""
    if not query.get("pair"):
        raise Refused(INVALID)
    return find(market, query["pair"])


def find_some(market: Market, query: dict[str, str]) -> list[Book]:
    """Return the books of the given pairs or asset class, or raise Refused."""
    if query.get("pair"):
        return [find(market, name) for name in query["pair"].split(",")]
    aclass = query.get("aclass_base") or query.get("asset_class") or "currency"
    return [each for each in market.books.values() if ASSETS[each.pair.base].aclass == aclass]


def get_time(market: Market, _: dict[str, str]) -> dict[str, Any]:
    """Return the exchange's time."""
    now = datetime.fromtimestamp(int(market.now), timezone.utc)
    return {"unixtime": int(market.now), "rfc1123": now.strftime("%a, %e %b %y %H:%M:%S +0000")}


def get_assets(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Return the properties of some assets, or of all of a class."""
    traded = {name for book in market.books.values() for name in (book.pair.base, book.pair.quote)}
    aclass = query.get("aclass") or "currency"
    names = [name for name in ASSETS if name in traded and ASSETS[name].aclass == aclass]
    if query.get("asset"):
        known = {each: name for name in traded for each in (name, ASSETS[name].code)}
        asked = [name.strip().replace("BTC", "XBT") for name in query["asset"].split(",")]
        if not known.keys() >= set(asked):
            raise Refused("EQuery:Unknown asset")
        names = [known[name] for name in asked]
    return {ASSETS[name].code: describe_asset(name) for name in names}


def describe_asset(name: str) -> dict[str, Any]:
    """Return the properties of an asset."""
    asset = ASSETS[name]
    return {
        "aclass": asset.aclass,
        "altname": name,
        "decimals": asset.decimals,
        "display_decimals": asset.display_decimals,
        "status": "enabled",
    }


def get_pairs(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Return the properties of some pairs, or of all whose base asset is of a class."""
    part = query.get("info") or "info"
    if part != "info" and part not in PARTS:
        raise Refused(INVALID)
    result = {}
    for book in find_some(market, query):
        described = describe_pair(book.pair)
        result[key(book.pair)] = {name: described[name] for name in PARTS.get(part, described)}
    return result


def describe_pair(pair: Pair) -> dict[str, Any]:
    """Return the properties of a pair. There is one tier of fees, which every order pays."""
    base, quote = ASSETS[pair.base], ASSETS[pair.quote]
    leverage = [] if base.aclass == TOKENIZED else [2, 3, 4, 5]
    return {
        "altname": altname(pair),
        "wsname": pair.name,
        "aclass_base": base.aclass,
        "base": base.code,
        "aclass_quote": quote.aclass,
        "quote": quote.code,
        "lot": "unit",
        "cost_decimals": pair.decimals,
        "pair_decimals": len(f"{pair.tick:f}") - 2,
        "lot_decimals": LOT_DECIMALS,
        "lot_multiplier": 1,
        "leverage_buy": leverage,
        "leverage_sell": leverage,
        "fees": [[0, float(TAKER * 100)]],
        "fees_maker": [[0, float(MAKER * 100)]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": f"{pair.minimum:f}",
        "costmin": LEAST_COST[pair.quote],
        "tick_size": f"{pair.tick:f}",
        "status": "online",
    }


def get_ticker(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Return the ticker of some pairs, or of all of a class."""
    return {key(book.pair): show_ticker(book) for book in find_some(market, query)}


def show_ticker(book: Book) -> dict[str, Any]:
    """Return a ticker: the WebSocket's, with fewer digits and only today's opening price."""
    figures = ticker(book, 0)
    for side in "ab":
        price, whole, volume = figures[side]
        figures[side] = [price, str(whole), f"{Decimal(volume):.3f}"]
    return {**figures, "o": figures["o"][0]}


def get_depth(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Return the best levels of a pair's book."""
    book = find_one(market, query)
    count = number(query, "count", LEVELS, range(1, MOST_LEVELS + 1))
    sides = {"asks": book.asks, "bids": book.bids}
    return {key(book.pair): {name: show_side(book, side, count) for name, side in sides.items()}}


def show_side(book: Book, side: Side, count: int) -> list[list[Any]]:
    """Return the best levels of a side."""
    levels = [(abs(each), side.levels[each]) for each in side.keys[:count]]
    return [
        [book.pair.show(price), f"{level.volume:.3f}", int(level.time)] for price, level in levels
    ]


def get_ohlc(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Return a pair's candles that begin after a time; the last one is always there."""
    book = find_one(market, query)
    candles = fill(book, number(query, "interval", 1, INTERVALS))
    since = moment(query)
    rows = [show_candle(book, each) for each in candles if int(each.begin) * NANO > since]
    rows = rows or [show_candle(book, candles[-1])]
    return {key(book.pair): rows[-CANDLES:], "last": int(candles[-2:][0].begin)}


def fill(book: Book, interval: int) -> list[Candle]:
    """Return the candles of an interval up to now, with those in which nothing was traded."""
    traded = {candle.begin: candle for candle in book.candles[interval]}
    candles = [next(iter(traded.values()))]
    while (begin := candles[-1].begin + interval * 60) <= book.now:
        candles.append(traded.get(begin) or Candle(begin, candles[-1].close))
    return candles


def show_candle(book: Book, candle: Candle) -> list[Any]:
    """Return a candle."""
    prices = candle.open, candle.high, candle.low, candle.close, candle.vwap
    shown = (f"{price.quantize(book.pair.tick):f}" for price in prices)
    return [int(candle.begin), *shown, lots(candle.volume), candle.count]


def get_trades(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Return a pair's last trades, or the first ones after a time, and the last one's time."""
    book = find_one(market, query)
    count = number(query, "count", TRADES, range(1, TRADES + 1))
    since = moment(query)
    ids = range(book.count - len(book.history) + 1, book.count + 1)
    known = [each for each in zip(ids, book.history) if nano(*each) > since]
    chosen = known[:count] if since else known[-count:]
    last = nano(*chosen[-1]) if chosen else int(since)
    return {key(book.pair): [show_trade(book, *each) for each in chosen], "last": str(last)}


def nano(trade_id: int, trade: Trade) -> int:
    """Return the time of a trade in nanoseconds. Its number makes this time unique."""
    return int(trade.time * NANO) + trade_id


def show_trade(book: Book, trade_id: int, trade: Trade) -> list[Any]:
    """Return a trade."""
    price, volume = book.pair.show(trade.price), lots(trade.volume)
    return [price, volume, trade.time, trade.side, trade.kind, "", trade_id]


METHODS: dict[str, Callable[[Market, dict[str, str]], dict[str, Any]]] = {
    "Time": get_time,
    "Assets": get_assets,
    "AssetPairs": get_pairs,
    "Ticker": get_ticker,
    "Depth": get_depth,
    "OHLC": get_ohlc,
    "Trades": get_trades,
}


def public(
    market: Market, path: str, query: dict[str, str], status: str = "online"
) -> dict[str, Any]:
    """Return the result of a call, or raise Refused with the exchange's words."""
    name = path[len(PREFIX) :]
    if path == f"{PREFIX}SystemStatus":
        return {"status": status, "timestamp": iso(market.now)}
    if not path.startswith(PREFIX) or name not in METHODS:
        raise Refused("EGeneral:Unknown method")
    return METHODS[name](market, query)
