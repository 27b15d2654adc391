"""The public REST API of the practice exchange: the market by other names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from practice.account import LEAST_COST, Refused
from practice.market import PAIRS, Feed, Market, lots
from practice.rest import ASSETS, public

START = 1_700_000_000.0


@pytest.fixture(scope="module")
def market() -> Market:
    """Return a market of all pairs, some time after its opening."""
    market = Market(0, START)
    market.advance(START + 100)
    return market


def ask(market: Market, name: str, **query: str) -> dict[str, Any]:
    """Return the result of a call."""
    return public(market, f"/0/public/{name}", query)


def test_time_and_status(market: Market) -> None:
    """The exchange tells its own time in two forms, and its status."""
    assert ask(market, "Time") == {
        "unixtime": 1700000100,
        "rfc1123": "Tue, 14 Nov 23 22:15:00 +0000",
    }
    assert ask(market, "SystemStatus") == {"status": "online", "timestamp": "2023-11-14T22:15:00Z"}
    status = public(market, "/0/public/SystemStatus", {}, "maintenance")["status"]
    assert status == "maintenance"


def test_assets(market: Market) -> None:
    """Assets are under the exchange's old codes, with their altnames; some may be asked for."""
    assets = ask(market, "Assets", asset="")
    assert assets["XXBT"] == {
        "aclass": "currency",
        "altname": "XBT",
        "decimals": 10,
        "display_decimals": 5,
        "status": "enabled",
    }
    assert {each["altname"] for each in assets.values()} == set(ASSETS) - {"TSLAx"}
    assert list(ask(market, "Assets", asset="ZUSD, BTC,ETH")) == ["ZUSD", "XXBT", "XETH"]
    assert list(ask(market, "Assets", aclass="tokenized_asset")) == ["TSLAx"]
    small = Market(0, START, [PAIRS["ETH/EUR"]])
    assert list(ask(small, "Assets")) == ["ZEUR", "XETH"]


def test_pairs(market: Market) -> None:
    """Pairs have the members that clients look for, and the rules that orders are judged by."""
    pairs = ask(market, "AssetPairs")
    assert pairs["XXBTZUSD"] == {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "aclass_base": "currency",
        "base": "XXBT",
        "aclass_quote": "currency",
        "quote": "ZUSD",
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": 1,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [2, 3, 4, 5],
        "leverage_sell": [2, 3, 4, 5],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    }
    assert {each["wsname"] for each in pairs.values()} == set(PAIRS) - {"TSLAx/USD"}
    for each in pairs.values():
        pair = PAIRS[each["wsname"]]
        assert Decimal(each["tick_size"]) == pair.tick == Decimal(10) ** -each["pair_decimals"]
        assert (Decimal(each["ordermin"]), each["costmin"]) == (
            pair.minimum,
            LEAST_COST[pair.quote],
        )
    assert list(pairs) == [
        "XXBTZUSD",
        "XXBTZEUR",
        "XETHZUSD",
        "XETHZEUR",
        "XLTCZEUR",
        "XXDGXXBT",
        "USDTZUSD",
        "XXRPZUSD",
    ]


def test_tokenized_pairs(market: Market) -> None:
    """A tokenized asset's pairs are for those who ask for their class, or for them by name."""
    assert list(ask(market, "AssetPairs", aclass_base="tokenized_asset")) == ["TSLAxUSD"]
    assert ask(market, "AssetPairs", pair="TSLAx/USD")["TSLAxUSD"]["leverage_buy"] == []


@pytest.mark.parametrize(
    ("info", "names"),
    [
        ("leverage", ["leverage_buy", "leverage_sell"]),
        ("fees", ["fees", "fees_maker", "fee_volume_currency"]),
        ("margin", ["margin_call", "margin_stop"]),
    ],
)
def test_parts_of_pairs(market: Market, info: str, names: list[str]) -> None:
    """A part of what there is to know of a pair may be asked for."""
    assert list(ask(market, "AssetPairs", info=info)["XETHZUSD"]) == names


@pytest.mark.parametrize("name", ["XXBTZUSD", "XBTUSD", "XBT/USD", "BTC/USD", "BTCUSD"])
def test_names(market: Market, name: str) -> None:
    """A pair goes by several names, and the answer by one."""
    assert list(ask(market, "Ticker", pair=name)) == ["XXBTZUSD"]


def test_ticker(market: Market) -> None:
    """The ticker is the WebSocket's, with today's opening price only."""
    figures = Feed("ticker", market.books["XBT/USD"]).opening()[0][1]
    shown = ask(market, "Ticker", pair="XBTUSD,ETHUSD")
    assert list(shown) == ["XXBTZUSD", "XETHZUSD"]
    mine = shown["XXBTZUSD"]
    assert mine.keys() == figures.keys()
    assert all(mine[name] == figures[name] for name in "cvptlh")
    price, whole, volume = figures["a"]
    assert mine["a"] == [price, str(whole), f"{Decimal(volume):.3f}"]
    assert mine["o"] == figures["o"][0]
    assert list(ask(market, "Ticker")) == list(ask(market, "AssetPairs"))
    assert list(ask(market, "Ticker", asset_class="tokenized_asset")) == ["TSLAxUSD"]


def test_depth(market: Market) -> None:
    """The depth is the book's, best levels first, a hundred of each side if nothing is said."""
    book = market.books["XBT/USD"]
    shown = ask(market, "Depth", pair="XBTUSD", count="3")["XXBTZUSD"]
    assert shown["asks"] == [
        [f"{each:.5f}", f"{book.asks.levels[each].volume:.3f}", int(book.asks.levels[each].time)]
        for each in book.asks.keys[:3]
    ]
    assert [row[0] for row in shown["bids"]] == [f"{-each:.5f}" for each in book.bids.keys[:3]]
    usual = ask(market, "Depth", pair="XBTUSD")["XXBTZUSD"]
    assert [len(side) for side in usual.values()] == [100, 100]


def test_candles(market: Market) -> None:
    """Candles have no gaps; the last one, of now, is the WebSocket's."""
    result = ask(market, "OHLC", pair="XBTUSD", interval="60")
    rows = result["XXBTZUSD"]
    begins = [row[0] for row in rows]
    assert begins == list(range(begins[0], int(START) + 100, 3600))
    assert result["last"] == begins[-2]
    _, end, *prices, volume, count = Feed("ohlc", market.books["XBT/USD"], 60).opening()[0][1]
    assert [begins[-1] + 3600, *rows[-1][6:]] == [int(float(end)), volume, count]
    assert [Decimal(price) for price in rows[-1][1:5]] == [Decimal(price) for price in prices[:4]]
    assert [type(part) for part in rows[-1]] == [int, *[str] * 6, int]


def test_candles_without_trades(market: Market) -> None:
    """In a minute without a trade the price stood where it was; 720 candles are sent."""
    rows = ask(market, "OHLC", pair="XBTUSD")["XXBTZUSD"]
    assert len(rows) == 720
    place = next(place for place, row in enumerate(rows) if place and not row[-1])
    assert rows[place][1:] == [*[rows[place - 1][4]] * 5, "0.00000000", 0]


def test_candles_since(market: Market) -> None:
    """Who asks for candles since the last finished one gets the one under way, and always that."""
    last = ask(market, "OHLC", pair="XBTUSD")["last"]
    assert [
        [row[0] for row in ask(market, "OHLC", pair="XBTUSD", since=str(since))["XXBTZUSD"]]
        for since in (last, last + 3600, last - 60)
    ] == [[last + 60], [last + 60], [last, last + 60]]


def test_one_candle() -> None:
    """The only candle there is counts as the last one."""
    market = Market(0, START // (21600 * 60) * 21600 * 60 + 86400, [PAIRS["XBT/USD"]])
    result = ask(market, "OHLC", pair="XBTUSD", interval="21600")
    assert [row[0] for row in result["XXBTZUSD"]] == [result["last"]]


def test_trades(market: Market) -> None:
    """Trades are the last ones, oldest first, numbered without a gap; volumes are exact."""
    book = market.books["XBT/USD"]
    result = ask(market, "Trades", pair="XBTUSD", count="5")
    rows = result["XXBTZUSD"]
    assert rows[-1] == [
        f"{book.last.price:.5f}",
        lots(book.last.volume),
        book.last.time,
        book.last.side,
        book.last.kind,
        "",
        book.count,
    ]
    assert [row[6] for row in rows] == list(range(book.count - 4, book.count + 1))
    assert int(result["last"]) / 1e9 == pytest.approx(book.last.time, abs=0.001)
    assert len(ask(market, "Trades", pair="XBTUSD")["XXBTZUSD"]) == book.count


def test_trades_since(market: Market) -> None:
    """Page by page from a time on, in seconds or nanoseconds, no trade is missed or seen twice."""
    last, ids = "1699999999.5", []
    for _ in range(20):
        page = ask(market, "Trades", pair="XBTUSD", since=last, count="50")
        ids += [row[6] for row in page["XXBTZUSD"]]
        last = page["last"]
    book = market.books["XBT/USD"]
    assert ids == list(range(145, book.count + 1))


@pytest.mark.parametrize(
    ("name", "query", "message"),
    [
        ("Moon", {}, "EGeneral:Unknown method"),
        ("../private/Balance", {}, "EGeneral:Unknown method"),
        ("Ticker", {"pair": "XBTTST"}, "EQuery:Unknown asset pair"),
        ("AssetPairs", {"pair": "XBTUSD,TST"}, "EQuery:Unknown asset pair"),
        ("AssetPairs", {"info": "moon"}, "EGeneral:Invalid arguments"),
        ("Assets", {"asset": "XBT,TST"}, "EQuery:Unknown asset"),
        *((name, {}, "EGeneral:Invalid arguments") for name in ("Depth", "OHLC", "Trades")),
        ("Depth", {"pair": "XBTUSD", "count": "0"}, "EGeneral:Invalid arguments"),
        ("Depth", {"pair": "XBTUSD", "count": "501"}, "EGeneral:Invalid arguments"),
        ("Trades", {"pair": "XBTUSD", "count": "1001"}, "EGeneral:Invalid arguments"),
        ("Trades", {"pair": "XBTUSD", "count": "-1"}, "EGeneral:Invalid arguments"),
        ("Trades", {"pair": "XBTUSD", "since": "noon"}, "EGeneral:Invalid arguments"),
        ("OHLC", {"pair": "XBTUSD", "interval": "2"}, "EGeneral:Invalid arguments"),
    ],
)
def test_refused(market: Market, name: str, query: dict[str, str], message: str) -> None:
    """What is wrong with a call is said in the exchange's words."""
    with pytest.raises(Refused) as refused:
        ask(market, name, **query)
    assert str(refused.value) == message


def test_other_paths(market: Market) -> None:
    """What isn't public isn't answered here."""
    with pytest.raises(Refused, match="EGeneral:Unknown method"):
        public(market, "/1/public/Time", {})
