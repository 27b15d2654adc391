"""The account of the practice exchange: what becomes of orders and of money."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_tests.test_market import BookClient, record
from practice.account import (
    BALANCES,
    MAKER,
    MOST_ORDERS,
    TAKER,
    Account,
    Counter,
    Fill,
    Order,
    consolidate,
)
from practice.market import ANY, PAIRS, BookFeed, Lot, Market

START = 1_700_000_000.0
FULL = [
    "avg_price",
    "cost",
    "descr",
    "expiretm",
    "fee",
    "limitprice",
    "misc",
    "oflags",
    "opentm",
    "refid",
    "starttm",
    "status",
    "stopprice",
    "timeinforce",
    "userref",
    "vol",
    "vol_exec",
]
ID = re.compile(r"[OT][A-Z2-7]{5}-[A-Z2-7]{5}-[A-Z2-7]{6}")


class Desk:
    """An account in a market of two pairs, and everything that it tells."""

    def __init__(self, seed: int = 0) -> None:
        self.market = Market(seed, START, [PAIRS["XBT/USD"], PAIRS["ETH/EUR"]])
        self.account = Account(self.market, seed)
        self.book = self.market.books["XBT/USD"]
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.fills: list[list[Fill]] = []
        self.account.on_order.append(lambda order, fields: self.told.append((order.txid, fields)))
        self.account.on_fills.append(self.fills.append)

    @property
    def bid(self) -> Decimal:
        """The best bid."""
        return -self.book.bids.best

    @property
    def ask(self) -> Decimal:
        """The best ask."""
        return self.book.asks.best

    def ask_for(self, name: str, **request: Any) -> list[dict[str, Any]]:
        """Return the answers to a request."""
        return self.account.handle({"event": name, **request})

    def request(self, **changes: Any) -> dict[str, Any]:
        """Return an order for 0.01 XBT at 50000 USD that rests, with changes; None takes away."""
        usual = {"ordertype": "limit", "type": "buy", "pair": "XBT/USD"}
        request = {**usual, "volume": "0.01", "price": "50000", **changes}
        return {name: value for name, value in request.items() if value is not None}

    def add(self, **changes: Any) -> dict[str, Any]:
        """Return the answer to addOrder."""
        (answer,) = self.ask_for("addOrder", **self.request(**changes))
        return answer

    def place(self, **changes: Any) -> Order:
        """Return an order that was placed."""
        answer = self.add(**changes)
        assert answer["status"] == "ok", answer
        return self.account.open[answer["txid"]]

    def statuses(self, txid: str) -> list[str]:
        """Return the statuses that an order was told to have had."""
        return [
            fields["status"] for each, fields in self.told if each == txid and "status" in fields
        ]


@pytest.fixture
def desk() -> Desk:
    """Return a desk."""
    return Desk()


def test_limit_order_rests_and_fills() -> None:
    """A limit order rests in the market's book until the market reaches it, and fills there."""
    desk = Desk(1)  # whose price falls
    client, messages = BookClient(10), record(desk.market, BookFeed("book", desk.book, 10))
    price = desk.bid + desk.book.pair.tick
    order = desk.place(price=f"{price}", volume="0.5")
    for message in messages:
        client.receive(message)
    seen = len(messages)
    assert client.best("b")[0] == (f"{price:.5f}", "0.50000000")
    desk.market.advance(START + 60)
    assert desk.statuses(order.txid) == ["pending", "open", "closed"]
    assert sum(fill.trade.volume for (fill,) in desk.fills) == Decimal("0.5")
    assert {fill.trade.price for (fill,) in desk.fills} == {price}
    assert order.fee == price * Decimal("0.5") * MAKER
    assert desk.account.balances["XBT"] == Decimal(BALANCES["XBT"]) + Decimal("0.5")
    for message in messages[seen:]:
        client.receive(message)


def test_partial_fills_are_told(desk: Desk) -> None:
    """An order that trades in parts says after each how much it has come to."""
    order = desk.place(price=f"{desk.ask}", volume="1.5")
    desk.market.advance(START + 300)
    parts = [fields["vol_exec"] for _, fields in desk.told if len(fields) == 5]
    assert len(parts) > 2
    assert parts == sorted(parts)
    assert parts[-1] == f"{order.volume:.8f}"


def test_market_order_takes_the_books_prices(desk: Desk) -> None:
    """A market order pays the prices that the book shows, best first, and is closed at once."""
    first, second = (desk.book.asks.levels[key].volume for key in desk.book.asks.keys[:2])
    prices = desk.book.asks.keys[:2]
    cost = first * prices[0] + second / 2 * prices[1]
    answer = desk.add(ordertype="market", price=None, volume=f"{first + second / 2:.8f}")
    assert re.fullmatch(r"buy [0-9.]{10} XBTUSD @ market", answer["descr"])
    assert desk.statuses(answer["txid"]) == ["pending", "open", "closed"]
    assert desk.account.balances["USD"] == pytest.approx(
        Decimal(BALANCES["USD"]) - cost * (1 + TAKER)
    )
    assert len(desk.fills[0]) == 2
    assert not desk.account.open


def test_limit_order_takes_up_to_its_limit(desk: Desk) -> None:
    """A limit order that crosses takes what is good enough and rests with what is left."""
    price = desk.book.asks.keys[1]
    offered = sum(desk.book.asks.levels[key].volume for key in desk.book.asks.keys[:2])
    order = desk.place(price=f"{price}", volume=f"{offered + 1:.8f}")
    assert (order.executed, order.left, desk.bid) == (offered, Decimal(1), price)
    assert desk.told[-1][1]["vol_exec"] == f"{offered:.8f}"


def test_full_order(desk: Desk) -> None:
    """An order's first message has every member, in the exchange's shape and order."""
    answer = desk.add(
        leverage="2",
        userref="-7",
        expiretm="+60",
        oflags="post,nompp",
        **{"close[ordertype]": "stop-loss-limit", "close[price]": "49000", "close[price2]": "5"},
    )
    fields = desk.told[0][1]
    assert list(fields) == FULL
    assert fields["descr"] == {
        "close": "close position @ stop loss 49000 -> limit 5",
        "leverage": "2:1",
        "order": "buy 0.01000000 XBT/USD @ limit 50000.00000 with 2:1 leverage",
        "ordertype": "limit",
        "pair": "XBT/USD",
        "price": "50000.00000",
        "price2": "0.00000",
        "type": "buy",
    }
    assert fields["expiretm"] == f"{START + 60:.6f}"
    assert fields["opentm"] == f"{START:.6f}"
    assert (fields["status"], fields["oflags"]) == ("pending", "fciq,post")
    assert fields["timeinforce"] == "GTD"
    assert (fields["userref"], fields["vol"], fields["vol_exec"]) == (
        -7,
        "0.01000000",
        "0.00000000",
    )
    assert desk.told[1][1] == {"status": "open", "userref": -7}
    assert answer["descr"] == "buy 0.01000000 XBTUSD @ limit 50000.0 with 2:1 leverage"
    assert list(answer) == ["descr", "event", "status", "txid"]
    assert ID.fullmatch(answer["txid"])


def test_plain_order(desk: Desk) -> None:
    """What an order doesn't have is null, as the exchange has it, and not an empty text."""
    desk.place(oflags="fcib", cl_ord_id="mine")
    fields = desk.told[0][1]
    assert fields["descr"]["close"] is fields["descr"]["leverage"] is fields["expiretm"] is None
    assert fields["refid"] is fields["starttm"] is None
    assert (fields["oflags"], fields["cl_ord_id"]) == ("fcib", "mine")


def test_trade_message(desk: Desk) -> None:
    """A trade has every member of ownTrades, and userref or cl_ord_id in updates only."""
    desk.add(ordertype="market", userref="5")
    desk.add(ordertype="market", cl_ord_id="mine")
    desk.add(ordertype="market", type="sell")
    shown = [desk.fills[place][0].show() for place in range(3)]
    for trade in shown:
        assert list(trade) == [
            "cost",
            "fee",
            "margin",
            "ordertxid",
            "ordertype",
            "pair",
            "postxid",
            "price",
            "time",
            "type",
            "vol",
        ]
    extras = [fills[0].extras() for fills in desk.fills]
    assert extras == [{"userref": 5}, {"cl_ord_id": "mine"}, {}]
    assert [trade["type"] for trade in shown] == ["buy", "buy", "sell"]


def test_consolidated_trades(desk: Desk) -> None:
    """What an order takes at once is one trade at the average price; all else stays apart."""
    desk.add(ordertype="market", volume="1.1")
    desk.add(ordertype="market", type="sell", volume="0.9")
    fills = [fill for fills in desk.fills for fill in fills]
    one, two = consolidate(fills)
    assert (one.trade.volume, two.trade.volume) == (Decimal("1.1"), Decimal("0.9"))
    assert one.cost == sum(fill.cost for fill in desk.fills[0])
    assert one.fee == sum(fill.fee for fill in desk.fills[0])
    assert one.trade.price == one.cost / one.trade.volume
    makers = [fill._replace(taker=False) for fill in fills]
    assert consolidate(makers) == makers
    later = fills[0]._replace(trade=fills[0].trade._replace(time=START + 1))
    assert consolidate([fills[0], later]) == [fills[0], later]
    assert consolidate([]) == []


def test_post_only(desk: Desk) -> None:
    """A post-only order that would take is canceled before it trades."""
    answer = desk.add(oflags="post", price=f"{desk.ask}")
    assert desk.statuses(answer["txid"]) == ["pending", "canceled"]
    assert desk.told[-1][1]["cancel_reason"] == "Post only order"
    assert not desk.fills
    desk.place(oflags="post")


def test_immediate_or_cancel(desk: Desk) -> None:
    """An IOC order takes what is there, and the rest of it is canceled."""
    volume = desk.book.asks.levels[desk.ask].volume + Decimal("0.1")
    answer = desk.add(timeinforce="IOC", price=f"{desk.ask}", volume=f"{volume:.8f}")
    assert desk.statuses(answer["txid"]) == ["pending", "open", "canceled"]
    assert sum(fill.trade.volume for fill in desk.fills[0]) == volume - Decimal("0.1")
    assert not desk.account.open


@pytest.mark.parametrize("expiretm", ["+10", f"{START + 10:.0f}"])
def test_good_till_date(desk: Desk, expiretm: str) -> None:
    """A GTD order expires at its time, and its money is free again."""
    order = desk.place(timeinforce="GTD", expiretm=expiretm)
    desk.market.advance(START + 9.9)
    assert desk.statuses(order.txid) == ["pending", "open"]
    desk.market.advance(START + 10)
    assert desk.statuses(order.txid)[-1] == "expired"
    assert desk.account.available("USD") == Decimal(BALANCES["USD"])
    assert order.key not in desk.book.bids.levels


@pytest.mark.parametrize("validate", ["true", "True"])
def test_validate(desk: Desk, validate: str) -> None:
    """A validated order is described, has no txid and is nowhere."""
    answer = desk.add(validate=validate)
    assert list(answer) == ["descr", "event", "status"]
    assert not desk.told
    assert desk.add(validate="false")["txid"]


def test_never_with_oneself(desk: Desk) -> None:
    """An order that would trade with another of the account takes what lies before that one."""
    price = desk.bid + desk.book.pair.tick
    desk.place(price=f"{price}")
    answer = desk.add(type="sell", price=f"{price}", volume="0.1")
    assert desk.statuses(answer["txid"]) == ["pending", "open", "canceled"]
    assert not desk.fills
    before = sum(desk.book.asks.levels[key].volume for key in desk.book.asks.keys[:2])
    mine = desk.place(type="sell", price=f"{desk.book.asks.keys[1]}", volume="0.1")
    answer = desk.add(ordertype="market", volume=f"{before + Decimal('0.05'):.8f}")
    assert desk.statuses(answer["txid"]) == ["pending", "open", "canceled"]
    assert desk.told[-1][1]["vol_exec"] == f"{before:.8f}"
    assert mine.left == mine.volume


@pytest.mark.parametrize(
    ("price", "side", "expected"),
    [
        ("+100", "sell", "100"),
        ("-100", "buy", "-100"),
        ("#100", "buy", "-100"),
        ("#100", "sell", "100"),
    ],
)
def test_relative_price(desk: Desk, price: str, side: str, expected: str) -> None:
    """A price with a sign is so far from the last trade's; # is to the better side."""
    last = desk.book.last.price
    assert desk.place(type=side, price=price).price == last + Decimal(expected)


def test_percent(desk: Desk) -> None:
    """A price in percent is rounded to the tick."""
    last = desk.book.last.price
    assert desk.place(price="-1%").price == (last * Decimal("0.99")).quantize(Decimal("0.1"))


@pytest.mark.parametrize(
    ("ordertype", "side", "away"),
    [
        ("stop-loss", "buy", "100"),
        ("stop-loss", "sell", "-100"),
        ("take-profit", "buy", "-100"),
        ("take-profit", "sell", "100"),
    ],
)
def test_relative_trigger(desk: Desk, ordertype: str, side: str, away: str) -> None:
    """A trigger's # is where the price isn't yet, and its limit's # where it can be filled."""
    last = desk.book.last.price
    order = desk.place(ordertype=f"{ordertype}-limit", type=side, price="#100", price2="#5")
    assert order.price == last + Decimal(away)
    assert order.price2 - order.price == (5 if side == "buy" else -5)


def trade_at(desk: Desk, price: Decimal) -> None:
    """Have somebody else trade at a price, in a book where nobody is in the way."""
    for side in (desk.book.asks, desk.book.bids):
        for key in list(side.keys):
            side.withdraw(key, START)
    desk.book.asks.add(price, Lot(Decimal(1)), START)
    desk.book.trade(desk.book.asks, Decimal(1), ANY, "m")
    desk.book.bids.add(1 - price, Lot(Decimal(9)), START)
    desk.book.asks.add(price + 1, Lot(Decimal(9)), START)
    desk.book.commit()


@pytest.mark.parametrize(
    ("ordertype", "side", "price", "misc"),
    [
        ("stop-loss", "buy", 70000, "stopped"),
        ("stop-loss", "sell", 50000, "stopped"),
        ("take-profit", "buy", 50000, "touched"),
        ("take-profit", "sell", 70000, "touched"),
    ],
)
def test_triggered(desk: Desk, ordertype: str, side: str, price: int, misc: str) -> None:
    """An order that waits for the last price becomes a market order when that is reached."""
    order = desk.place(ordertype=ordertype, type=side, price=f"{price}")
    assert desk.told[0][1]["stopprice"] == f"{price}.00000"
    assert desk.told[0][1]["descr"]["order"] == (
        f"{side} 0.01000000 XBT/USD @ {ordertype.replace('-', ' ')} {price}.00000"
    )
    trade_at(desk, Decimal(60000))
    desk.market.reach(START + 1)
    assert (order.status, desk.fills) == ("open", [])
    trade_at(desk, Decimal(price))
    assert not desk.fills  # within the act of another
    desk.market.reach(START + 2)
    assert [fields["misc"] for _, fields in desk.told if "misc" in fields] == ["", misc]
    assert desk.statuses(order.txid) == ["pending", "open", "open", "closed"]
    ((fill,),) = desk.fills
    assert fill.trade.price == (price + 1 if side == "buy" else price - 1)
    assert (fill.trade.kind, fill.show()["ordertype"]) == ("m", ordertype)


def test_triggered_limit(desk: Desk) -> None:
    """With a limit, it becomes a limit order, and says which limit that is."""
    answer = desk.add(ordertype="stop-loss-limit", price="65000", price2="64999")
    assert answer["descr"] == "buy 0.01000000 XBTUSD @ stop loss 65000.0 -> limit 64999.0"
    order = desk.account.open[answer["txid"]]
    assert desk.account.available("USD") == Decimal(BALANCES["USD"]) - Decimal("649.99") * (
        1 + TAKER
    )
    trade_at(desk, Decimal(65001))
    desk.market.reach(START + 1)
    assert [lot.owner for lot in desk.book.bids.levels[order.key].lots] == [order]
    assert desk.told[-1][1] == {
        "lastupdated": f"{START + 1:.6f}",
        "limitprice": "64999.00000",
        "misc": "stopped",
        "status": "open",
        "userref": 0,
    }


def test_triggered_at_once(desk: Desk) -> None:
    """A price that is reached already triggers at once."""
    answer = desk.add(ordertype="take-profit", price="70000")
    assert desk.statuses(answer["txid"]) == ["pending", "open", "open", "closed"]


def test_triggered_and_too_dear(desk: Desk) -> None:
    """An order that can't be paid any more when it is triggered is canceled."""
    order = desk.place(ordertype="stop-loss", price="60300", volume="4")
    trade_at(desk, Decimal(65000))
    desk.market.reach(START + 1)
    assert desk.statuses(order.txid)[-1] == "canceled"
    assert desk.told[-1][1]["cancel_reason"] == "Insufficient funds"
    assert not desk.fills


def test_triggered_too_late(desk: Desk) -> None:
    """An order that is canceled before its turn comes is not triggered."""
    desk.place(ordertype="stop-loss", price="65000")
    trade_at(desk, Decimal(65000))
    desk.ask_for("cancelAll")
    desk.market.reach(START + 1)
    assert not desk.fills


def test_change_of_a_waiting_order(desk: Desk) -> None:
    """An order is amended and edited while it waits, and goes on waiting; then no more."""
    order = desk.place(ordertype="stop-loss-limit", price="65000", price2="65010")
    (answer,) = desk.ask_for("amendOrder", txid=order.txid, limit_price="65020", volume="0.02")
    assert (answer["status"], order.price2, order.left) == (
        "ok",
        Decimal(65020),
        Decimal("0.02"),
    )
    desk.ask_for("editOrder", orderid=order.txid, pair="XBT/USD", price="64000")
    (order,) = desk.account.open.values()
    assert (order.price, order.price2, order.status) == (
        Decimal(64000),
        Decimal(65020),
        "open",
    )
    trade_at(desk, Decimal(64000) + 1020)
    desk.market.reach(START + 1)
    (answer,) = desk.ask_for("editOrder", orderid=order.txid, pair="XBT/USD", price="1")
    assert answer["errorMessage"] == "EOrder:Invalid order"


def test_amend_without_a_limit(desk: Desk) -> None:
    """An order that has no limit is given none."""
    order = desk.place(ordertype="stop-loss", price="65000")
    (answer,) = desk.ask_for("amendOrder", txid=order.txid, limit_price="65000")
    assert answer["errorMessage"] == ARGUMENTS + "limit_price"
    (answer,) = desk.ask_for("amendOrder", txid=order.txid, volume="0.02")
    assert (answer["status"], order.volume) == ("ok", Decimal("0.02"))


@pytest.mark.parametrize("starttm", ["+5", f"{START + 5:.0f}"])
@pytest.mark.parametrize(
    ("changes", "then"),
    [
        ({}, ["pending", "open"]),
        ({"ordertype": "market"}, ["pending", "open", "closed"]),
        ({"ordertype": "stop-loss", "price": "90000"}, ["pending", "open"]),
    ],
)
def test_delayed_start(desk: Desk, starttm: str, changes: dict[str, Any], then: list[str]) -> None:
    """An order with a start is pending until then, and its money is held."""
    order = desk.place(starttm=starttm, **changes)
    assert desk.told[0][1]["starttm"] == f"{START + 5:.6f}"
    assert desk.account.available("USD") < desk.account.balances["USD"]
    desk.market.reach(START + 4.9)
    assert desk.statuses(order.txid) == ["pending"]
    desk.market.reach(START + 5)
    assert desk.statuses(order.txid) == then


def test_start_that_is_past(desk: Desk) -> None:
    """A start that is over is now."""
    assert desk.place(starttm="5").status == "open"


def test_edit_of_a_delayed_order(desk: Desk) -> None:
    """An edited order waits for the same start, and one that has started doesn't wait again."""
    desk.place(starttm="+5")
    for now, status in ((START, "pending"), (START + 6, "open")):
        desk.market.reach(now)
        (old,) = desk.account.open
        desk.ask_for("editOrder", orderid=old, pair="XBT/USD", price="50001")
        (new,) = desk.account.open.values()
        assert (new.txid == old, new.status) == (False, status)


def test_amend_keeps_its_turn(desk: Desk) -> None:
    """A smaller volume is amended in place; a larger one or another price goes to the end."""
    order, other = desk.place(), desk.place()
    level = desk.book.bids.levels[order.key]
    (answer,) = desk.ask_for("amendOrder", txid=order.txid, volume="0.005")
    assert answer.keys() == {"amend_id", "event", "status"}
    assert [lot.owner for lot in level.lots if lot.owner] == [order, other]
    assert (level.lots[-2].volume, order.left) == (Decimal("0.005"), Decimal("0.005"))
    desk.ask_for("amendOrder", txid=order.txid, volume="0.02")
    assert [lot.owner for lot in level.lots if lot.owner] == [other, order]
    desk.ask_for("amendOrder", txid=order.txid, limit_price="50001")
    assert desk.book.bids.levels[Decimal(-50001)].lots[-1].owner is order
    assert desk.told[-1][1]["amended"] is True
    assert desk.told[-1][1]["descr"]["price"] == "50001.00000"


def test_amend_within_view(desk: Desk) -> None:
    """An order that moves within a book's view pushes no level out that is still to be seen."""
    client, messages = BookClient(10), record(desk.market, BookFeed("book", desk.book, 10))
    first, second = (-desk.book.bids.keys[place] + desk.book.pair.tick for place in (2, 4))
    order = desk.place(price=f"{first}")
    desk.ask_for("amendOrder", txid=order.txid, limit_price=f"{second}")
    for message in messages:
        client.receive(message)
    assert [price for price, _ in client.best("b")][4] == f"{second:.5f}"


def test_own_money_is_not_in_the_way(desk: Desk) -> None:
    """What an order holds pays for the order that it becomes."""
    order = desk.place(volume="4")
    (answer,) = desk.ask_for("amendOrder", txid=order.txid, limit_price="50001")
    assert answer["status"] == "ok"
    (answer,) = desk.ask_for("editOrder", orderid=order.txid, pair="XBT/USD", price="50002")
    assert answer["status"] == "ok"


def test_amend_by_name(desk: Desk) -> None:
    """An order is amended by its cl_ord_id as well, which comes back; it may trade at once."""
    order = desk.place(cl_ord_id="mine")
    price = f"{desk.book.asks.keys[3]}"
    (answer,) = desk.ask_for("amendOrder", cl_ord_id="mine", limit_price=price)
    assert answer["cl_ord_id"] == "mine"
    assert desk.statuses(order.txid)[-1] == "closed"


def test_edit(desk: Desk) -> None:
    """An edited order is canceled, and another with an id of its own is in its place."""
    old = desk.place(userref="7", oflags="post")
    (answer,) = desk.ask_for("editOrder", orderid="7", pair="BTC/USD", price="50001", oflags="")
    assert list(answer) == ["descr", "event", "originaltxid", "status", "txid"]
    assert answer["originaltxid"] == old.txid
    (new,) = desk.account.open.values()
    assert (new.txid, new.userref, new.oflags) == (answer["txid"], 7, "fciq")
    assert desk.told[2][1]["cancel_reason"] == "Order replaced"
    desk.ask_for("editOrder", orderid=new.txid, pair="XBT/USD", newuserref="8", volume="0.02")
    (new,) = desk.account.open.values()
    assert (new.price, new.volume, new.userref) == (Decimal(50001), Decimal("0.02"), 8)


@pytest.mark.parametrize("validate", [True, "true"])
def test_edit_validated(desk: Desk, validate: object) -> None:
    """A validated edit changes nothing; editOrder takes a boolean or text."""
    order = desk.place()
    (answer,) = desk.ask_for("editOrder", orderid=order.txid, pair="XBT/USD", validate=validate)
    assert "txid" not in answer
    assert list(desk.account.open) == [order.txid]


def test_cancel_has_a_reply_for_each(desk: Desk) -> None:
    """Each id, be it a txid, a userref or a cl_ord_id, gets a reply of its own."""
    order = desk.place()
    desk.place(userref="7")
    desk.place(userref="7")
    desk.place(cl_ord_id="mine")
    answers = desk.ask_for("cancelOrder", txid=[order.txid, "7", order.txid], cl_ord_id=["mine"])
    unknown = {"errorMessage": "EOrder:Unknown order", "event": "cancelOrderStatus"}
    ok = {"event": "cancelOrderStatus", "status": "ok"}
    assert answers == [ok, ok, {**unknown, "status": "error"}, ok]
    assert not desk.account.open
    assert desk.told[-1][1]["cancel_reason"] == "User requested"


def test_cancel_all(desk: Desk) -> None:
    """All orders of all pairs are canceled and counted."""
    desk.place()
    desk.place(pair="ETH/EUR", price="2000")
    assert desk.ask_for("cancelAll") == [{"count": 2, "event": "cancelAllStatus", "status": "ok"}]
    assert desk.ask_for("cancelAll")[0]["count"] == 0


def test_cancel_all_orders_after(desk: Desk) -> None:
    """The timer fires once, at its time, unless it was disarmed; times are in whole seconds."""
    order = desk.place()
    (answer,) = desk.ask_for("cancelAllOrdersAfter", timeout=60)
    assert answer == {
        "currentTime": "2023-11-14T22:13:20Z",
        "event": "cancelAllOrdersAfterStatus",
        "status": "ok",
        "triggerTime": "2023-11-14T22:14:20Z",
    }
    assert desk.ask_for("cancelAllOrdersAfter", timeout=0)[0]["triggerTime"] == "0"
    desk.market.advance(START + 60)
    assert desk.account.open
    desk.ask_for("cancelAllOrdersAfter", timeout=5)
    desk.market.advance(START + 64.9)
    assert desk.account.open
    desk.market.advance(START + 65)
    assert desk.statuses(order.txid)[-1] == "canceled"
    order = desk.place()
    desk.market.advance(START + 100)
    assert order.status == "open"


ARGUMENTS = "EGeneral:Invalid arguments:"
ABSENT = " is not in the practice exchange"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: None}, ARGUMENTS + name) for name in ("ordertype", "type", "pair", "volume")),
        ({"price": None}, ARGUMENTS + "price"),
        ({"price": "cheap"}, ARGUMENTS + "price"),
        ({"price": 50000}, ARGUMENTS + "price"),
        ({"volume": 1}, ARGUMENTS + "volume"),
        ({"volume": "0.000000001"}, ARGUMENTS + "volume"),
        ({"type": "hold"}, ARGUMENTS + "type"),
        ({"ordertype": "moon"}, ARGUMENTS + "ordertype"),
        ({"ordertype": "stop-loss", "price": None}, ARGUMENTS + "price"),
        ({"ordertype": "stop-loss-limit"}, ARGUMENTS + "price2"),
        ({"ordertype": "take-profit-limit", "price2": "5.01"}, "EOrder:Tick size check failed"),
        ({"ordertype": "stop-loss", "oflags": "post"}, ARGUMENTS + "oflags"),
        ({"ordertype": "stop-loss", "volume": "5"}, "EOrder:Insufficient funds"),
        ({"ordertype": "trailing-stop"}, "EGeneral:ordertype trailing-stop" + ABSENT),
        ({"ordertype": "settle-position"}, "EGeneral:ordertype settle-position" + ABSENT),
        ({"oflags": "fciq,viqc"}, "EGeneral:oflags fciq,viqc" + ABSENT),
        ({"stp_type": "cancel_both"}, "EGeneral:stp_type cancel_both" + ABSENT),
        ({"leverage": "6"}, ARGUMENTS + "leverage"),
        ({"reduce_only": "true"}, ARGUMENTS + "reduce_only"),
        ({"margin": "true"}, ARGUMENTS + "margin"),
        ({"oflags": "moon"}, ARGUMENTS + "oflags"),
        ({"oflags": "fciq,fcib"}, ARGUMENTS + "oflags"),
        ({"oflags": "post", "ordertype": "market"}, ARGUMENTS + "oflags"),
        ({"oflags": "post", "timeinforce": "IOC"}, ARGUMENTS + "timeinforce"),
        ({"timeinforce": "FOK"}, ARGUMENTS + "timeinforce"),
        ({"timeinforce": "GTD"}, ARGUMENTS + "expiretm"),
        ({"timeinforce": "GTC", "expiretm": "+5"}, ARGUMENTS + "expiretm"),
        ({"expiretm": "5"}, ARGUMENTS + "expiretm"),
        ({"expiretm": "+2592001"}, ARGUMENTS + "expiretm"),
        ({"starttm": "soon"}, ARGUMENTS + "starttm"),
        ({"starttm": "+2592001"}, ARGUMENTS + "starttm"),
        ({"starttm": "+5", "expiretm": "+5"}, ARGUMENTS + "expiretm"),
        ({"price": ""}, ARGUMENTS + "price"),
        ({"userref": 5}, ARGUMENTS + "userref"),
        ({"userref": "5", "cl_ord_id": "a"}, ARGUMENTS + "cl_ord_id"),
        ({"cl_ord_id": "x" * 19}, ARGUMENTS + "cl_ord_id"),
        ({"cl_ord_id": "taken"}, ARGUMENTS + "cl_ord_id"),
        ({"stp_type": "cancel_me"}, ARGUMENTS + "stp_type"),
        ({"validate": True}, ARGUMENTS + "validate"),
        ({"close[ordertype]": "moon"}, ARGUMENTS + "close[ordertype]"),
        ({"close[price]": "5"}, ARGUMENTS + "close[ordertype]"),
        ({"deadline": "soon"}, ARGUMENTS + "deadline"),
        ({"deadline": "2023-11-31T22:13:20Z"}, ARGUMENTS + "deadline"),
        ({"deadline": "2023-11-14T22:13:20.4Z"}, ARGUMENTS + "deadline"),
        ({"deadline": "2023-11-14T23:14:21+01:00"}, ARGUMENTS + "deadline"),
        ({"deadline": "2023-11-14T22:13:19Z"}, "EService:Deadline elapsed"),
        ({"pair": "XBT/TST"}, "EQuery:Unknown asset pair"),
        ({"price": "0"}, "EOrder:Invalid price"),
        ({"price": "5%"}, "EOrder:Invalid price"),
        ({"price": "-100%"}, "EOrder:Invalid price"),
        ({"price": "50000.05"}, "EOrder:Tick size check failed"),
        ({"volume": "0.00004"}, "EOrder:Order minimum not met"),
        ({"volume": "0.00005", "price": "5"}, "EOrder:Cost minimum not met"),
        ({"volume": "5"}, "EOrder:Insufficient funds"),
        ({"volume": "5", "ordertype": "market"}, "EOrder:Insufficient funds"),
        ({"volume": "5.1", "type": "sell"}, "EOrder:Insufficient funds"),
        ({"reduce_only": True}, "EOrder:Reduce only:No position exists"),
    ],
)
def test_order_refused(desk: Desk, changes: dict[str, Any], message: str) -> None:
    """What is wrong with an order is said in the exchange's words, and nothing happens."""
    desk.place(cl_ord_id="taken", volume="0.001")
    before = len(desk.told)
    expected = {"errorMessage": message, "event": "addOrderStatus", "status": "error"}
    assert desk.add(**changes) == expected
    assert len(desk.told) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"deadline": "2023-11-14T22:13:25.5Z"},
        {"deadline": "2023-11-14T23:13:21+01:00"},
        {"cl_ord_id": "906bcc85-1866-4b4b-9d0d-880bbcbe7447"},
        {"cl_ord_id": "906bcc8518664b4b9d0d880bbcbe7447"},
        {"margin": True, "reduce_only": False},
        {"starttm": "0", "expiretm": "0", "leverage": "none", "oflags": ""},
        {"stp_type": "cancel_newest", "sender_sub_id": "me"},
        {"price2": "", "cl_ord_id": "", "userref": "5", "close[price]": "", "leverage": ""},
    ],
)
def test_order_taken(desk: Desk, changes: dict[str, Any]) -> None:
    """Every argument is taken in the forms that the reference gives it."""
    assert desk.add(**changes)["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "request_", "message"),
    [
        ("amendOrder", {}, ARGUMENTS + "txid"),
        ("amendOrder", {"txid": ["a"]}, ARGUMENTS + "txid"),
        ("amendOrder", {"txid": "nobody"}, "EOrder:Unknown order"),
        ("amendOrder", {"cl_ord_id": "nobody"}, "EOrder:Unknown order"),
        ("amendOrder", {"txid": "7"}, "EOrder:Unknown order"),
        ("amendOrder", {"txid": "mine"}, "EOrder:Unknown order"),
        ("cancelOrder", {"txid": ["mine"]}, "EOrder:Unknown order"),
        ("cancelOrder", {"txid": ["0"]}, "EOrder:Unknown order"),
        ("cancelOrder", {"cl_ord_id": ["7"]}, "EOrder:Unknown order"),
        ("cancelOrder", {"cl_ord_id": [""]}, "EOrder:Unknown order"),
        ("amendOrder", {"cl_ord_id": "mine", "volume": "0"}, ARGUMENTS + "volume"),
        ("amendOrder", {"cl_ord_id": "mine", "post_only": "true"}, ARGUMENTS + "post_only"),
        (
            "amendOrder",
            {"cl_ord_id": "mine", "trigger_price": "1"},
            "EGeneral:trigger_price 1" + ABSENT,
        ),
        ("amendOrder", {"cl_ord_id": "mine", "volume": "5"}, "EOrder:Insufficient funds"),
        (
            "amendOrder",
            {"cl_ord_id": "mine", "volume": "0.001", "limit_price": "70000", "post_only": True},
            "EOrder:Invalid price",
        ),
        ("amendOrder", {"cl_ord_id": "mine"}, ARGUMENTS + "volume"),
        ("amendOrder", {"cl_ord_id": "mine", "limit_price": ""}, ARGUMENTS + "volume"),
        ("editOrder", {"pair": "XBT/USD"}, ARGUMENTS + "orderid"),
        ("editOrder", {"orderid": "7"}, ARGUMENTS + "pair"),
        ("editOrder", {"orderid": "nobody", "pair": "XBT/USD"}, "EOrder:Invalid order"),
        ("editOrder", {"orderid": "7", "pair": "ETH/EUR"}, "EOrder:Invalid order"),
        ("editOrder", {"orderid": "8", "pair": "XBT/USD"}, "EOrder:Invalid order"),
        ("editOrder", {"orderid": "mine", "pair": "XBT/USD"}, "EOrder:Invalid order"),
        ("editOrder", {"orderid": "7", "pair": "XBT/USD", "validate": 1}, ARGUMENTS + "validate"),
        ("cancelOrder", {}, ARGUMENTS + "txid"),
        ("cancelOrder", {"txid": "7"}, ARGUMENTS + "txid"),
        ("cancelOrder", {"txid": ["7"], "cl_ord_id": "mine"}, ARGUMENTS + "cl_ord_id"),
        ("cancelOrder", {"txid": [7]}, ARGUMENTS + "txid"),
        ("cancelAllOrdersAfter", {}, ARGUMENTS + "timeout"),
        ("cancelAllOrdersAfter", {"timeout": "60"}, ARGUMENTS + "timeout"),
        ("cancelAllOrdersAfter", {"timeout": -1}, ARGUMENTS + "timeout"),
        ("cancelAllOrdersAfter", {"timeout": True}, ARGUMENTS + "timeout"),
    ],
)
def test_change_refused(desk: Desk, name: str, request_: dict[str, Any], message: str) -> None:
    """What is wrong with any other request is said in the exchange's words too."""
    desk.place(userref="7")
    desk.place(userref="8", **{"close[ordertype]": "limit", "close[price]": "51000"})
    desk.place(cl_ord_id="mine")
    before = list(desk.account.open)
    answers = desk.ask_for(name, **request_)
    assert answers == [{"errorMessage": message, "event": f"{name}Status", "status": "error"}]
    assert list(desk.account.open) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("addOrder", "add order"),
        ("amendOrder", "amend order"),
        ("editOrder", "edit order"),
        ("cancelOrder", "cancel order"),
        ("cancelAll", "cancel all"),
        ("cancelAllOrdersAfter", "cancel all orders after"),
    ],
)
def test_unsupported_field(desk: Desk, name: str, words: str) -> None:
    """A member that a request doesn't have is named, and the pair beside it if there is one."""
    answer = {
        "errorMessage": f"Unsupported field: 'refid' for the given msg type: {words}",
        "event": f"{name}Status",
        "status": "error",
    }
    assert desk.ask_for(name, refid="1", token="1", reqid=1) == [answer]  # noqa: S106
    (shown,) = desk.ask_for("addOrder", **desk.request(refid="1"))
    assert shown["pair"] == "XBT/USD"


def test_edit_of_a_partly_executed_order(desk: Desk) -> None:
    """An order that has traded can't be edited, nor amended to less than it has traded."""
    volume = desk.book.asks.levels[desk.ask].volume + Decimal("0.1")
    order = desk.place(price=f"{desk.ask}", volume=f"{volume:.8f}")
    (answer,) = desk.ask_for("editOrder", orderid=order.txid, pair="XBT/USD")
    assert answer["errorMessage"] == "EOrder:Invalid order"
    (answer,) = desk.ask_for("amendOrder", txid=order.txid, volume=f"{order.executed:.8f}")
    assert answer["errorMessage"] == ARGUMENTS + "volume"
    (answer,) = desk.ask_for(
        "amendOrder", txid=order.txid, volume=f"{volume - Decimal('0.05'):.8f}"
    )
    assert (answer["status"], order.left) == ("ok", Decimal("0.05"))


def test_order_rate(desk: Desk) -> None:
    """Orders count 1, young cancels 8 more; at 125 no more orders are taken, but cancels are."""
    counter = desk.account.counters["XBT/USD"]
    for _ in range(14):
        desk.ask_for("cancelOrder", txid=[desk.place().txid])
    assert counter.value == 14 * 9
    assert desk.add()["errorMessage"] == "EOrder:Rate limit exceeded"
    assert desk.add(pair="ETH/EUR", price="2000", volume="1")["status"] == "ok"
    desk.market.advance(START + 5)
    assert desk.add()["status"] == "ok"


@pytest.mark.parametrize(
    ("age", "points"), [(0, 7), (7, 6), (12, 5), (30, 3), (60, 2), (100, 1), (400, 1)]
)
def test_edits_count_by_age(desk: Desk, age: float, points: int) -> None:
    """The younger the order, the more its edit counts."""
    order = desk.place()
    desk.market.reach(START + age)
    counter = desk.account.counters["XBT/USD"]
    before = counter.at(START + age)
    desk.ask_for("editOrder", orderid=order.txid, pair="XBT/USD")
    assert counter.value - before == pytest.approx(points)


def test_counter_forgets() -> None:
    """The count falls by 2.34 a second, and not below nothing."""
    counter = Counter()
    counter.add(10, START)
    assert counter.at(START + 1) == pytest.approx(7.66)
    assert counter.at(START + 10) == 0


def test_orders_limit(desk: Desk) -> None:
    """A pair has so many open orders and no more; an edit puts none on top."""
    for number in range(MOST_ORDERS):
        desk.market.reach(START + number)
        last = desk.place(volume="0.0001")
    assert desk.add(volume="0.0001")["errorMessage"] == "EOrder:Orders limit exceeded"
    (answer,) = desk.ask_for("editOrder", orderid=last.txid, pair="XBT/USD")
    assert answer["status"] == "ok"


REQUESTS = st.tuples(
    st.sampled_from(["add", "add", "add", "market", "cancel", "amend", "edit", "wait", "all"]),
    st.sampled_from(["buy", "sell"]),
    st.sampled_from(["XBT/USD", "ETH/EUR"]),
    st.integers(-30, 30),  # of the price's thousandths
    st.integers(1, 600),  # of the volume's thousandths
    st.sampled_from(
        [
            {},
            {"oflags": "post"},
            {"timeinforce": "IOC"},
            {"expiretm": "+3"},
            {"starttm": "+3"},
            {"ordertype": "stop-loss"},
            {"ordertype": "take-profit"},
            {"ordertype": "stop-loss-limit", "price2": "#0.1%"},
        ]
    ),
)


def do(desk: Desk, request: Any) -> None:
    """Ask for something, whatever the answer is."""
    action, side, pair, move, size, more = request
    book = desk.market.books[pair]
    price = (book.last.price * (1000 + move) / 1000).quantize(book.pair.tick)
    order = {"pair": pair, "type": side, "volume": f"{size / 1000}", "price": f"{price}"}
    some = next(iter(desk.account.open), "nobody")
    if action == "wait":
        desk.market.advance(desk.market.now + size / 60)
    elif action == "market":
        desk.add(**{**order, **more, "ordertype": "market"})
    elif action == "add":
        desk.add(**order, **more)
    elif action == "cancel":
        desk.ask_for("cancelOrder", txid=[some])
    elif action == "amend":
        desk.ask_for("amendOrder", txid=some, volume=order["volume"], limit_price=f"{price}")
    elif action == "edit":
        desk.ask_for("editOrder", orderid=some, pair=pair, price=f"{price}")
    else:
        desk.ask_for("cancelAll")


@given(seed=st.integers(0, 1000), requests=st.lists(REQUESTS, max_size=25))
@settings(max_examples=25, deadline=None)
def test_money_is_conserved(seed: int, requests: list[Any]) -> None:
    """Whatever is asked: balances are what the trades made them, and cover what is held.

    The rest of each open order that waits for nothing lies in the book, and a client's book holds.
    """
    desk = Desk(seed)
    client, messages = BookClient(10), record(desk.market, BookFeed("book", desk.book, 10))
    for request in requests:
        do(desk, request)
        expected = {asset: Decimal(amount) for asset, amount in BALANCES.items()}
        for fill in desk.account.fills:
            pair, sign = fill.order.book.pair, 1 if fill.order.type == "buy" else -1
            expected[pair.base] += sign * fill.trade.volume
            expected[pair.quote] -= sign * fill.trade.price * fill.trade.volume + fill.fee
        assert desk.account.balances == expected
        assert all(desk.account.available(asset) >= 0 for asset in expected)
        books = desk.market.books.values()
        resting = [
            (lot.owner, lot.volume, side.sign * key)
            for book in books
            for side in (book.asks, book.bids)
            for key, level in side.levels.items()
            for lot in level.lots
            if isinstance(lot.owner, Order)
        ]
        orders = [order for order in desk.account.open.values() if not order.waits]
        assert {id(owner) for owner, _, _ in resting} == set(map(id, orders))
        assert all((owner.left, owner.target) == (left, at) for owner, left, at in resting)
        assert desk.bid < desk.ask
    for message in messages:
        client.receive(message)
    told = [txid for txid, fields in desk.told if fields.get("status") == "pending"]
    for txid in told:
        assert desk.statuses(txid)[-1] in ("pending", "open", "closed", "canceled", "expired")
        assert (desk.statuses(txid)[-1] in ("pending", "open")) == (txid in desk.account.open)
