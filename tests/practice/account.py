"""The practice exchange's account: balances, orders and trades.

Its limit orders rest in the market's own books and trade with the market's other traders (the
"crowd"). Orders that wait for a time or a price are checked at each step of the market. A request
is a dict as it came over the wire, and its answer is a list of dicts. Changes are reported to the
listeners. Fees are in the quote asset. Leverage and close orders are shown but have no effect:
nothing is ever borrowed, and a close order is never placed.

All times are seconds in the exchange's own time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple

from practice.market import ANY, Act, Book, Lot, Market, Side, Trade, lots, rename, stamp

BALANCES = {
    "USD": "250000",
    "EUR": "250000",
    "USDT": "10000",
    "TSLAx": "20",
    "XBT": "5",
    "ETH": "20",
    "LTC": "200",
    "XDG": "100000",
    "XRP": "20000",
}
MAKER, TAKER = Decimal("0.0025"), Decimal("0.0040")  # fees, as parts of the cost
LEAST_COST = {"USD": "0.5", "EUR": "0.45", "XBT": "0.00002"}
MONTH = 30 * 86400  # the longest that a GTD order lasts
DAY = 86400  # the longest timeout of cancelAllOrdersAfter
SHOWN_TRADES = 50  # in a snapshot of ownTrades
POSITION = "TKH2SE-M7IF5-CFI7LT"  # the exchange's postxid of every trade without margin

# https://docs.kraken.com/api/docs/guides/spot-ratelimits, the intermediate tier
MOST_COUNTED, FORGOTTEN = 125, 2.34  # the limit of each pair's counter, and its decay a second
MOST_ORDERS = 80  # open orders of a pair, at most
# What a change costs extra if the order is younger than so many seconds
AGES = {
    "amendOrder": ((5, 3), (10, 2), (15, 1)),
    "editOrder": ((5, 6), (10, 5), (15, 4), (45, 2), (90, 1)),
    "cancelOrder": ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1)),
}

PRICE = r"[-+#]?\d{1,12}(\.\d{1,10})?%?"
TIME = r"\+?\d{1,10}"
FLAG = r"(fciq|fcib|nompp|post|viqc)"
TYPES = r"(limit|market|(stop-loss|take-profit|trailing-stop)(-limit)?|settle-position)"
# Members that the exchange accepts as text, and the form of that text
TEXTS = {
    name: re.compile(pattern, re.ASCII)
    for name, pattern in {
        "ordertype": TYPES,
        "type": "buy|sell",
        "volume": r"\d{1,12}(\.\d{1,8})?",
        "price": PRICE,
        "price2": PRICE,
        "limit_price": PRICE,
        "trigger_price": PRICE,
        "display_volume": r"\d{1,12}(\.\d{1,8})?",
        "leverage": "none|[2-5]",
        "oflags": f"({FLAG}(,{FLAG})*)?",
        "starttm": TIME,
        "expiretm": TIME,
        "deadline": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)",
        "cl_ord_id": r"[ -~]{1,18}|[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}",
        "userref": r"-?\d{1,9}",
        "newuserref": r"-?\d{1,9}",
        "orderid": "[ -~]+",
        "txid": "[ -~]+",
        "sender_sub_id": "[ -~]+",
        "stp_type": "cancel_(newest|oldest|both)",
        "timeinforce": "GTC|GTD|IOC",
        "validate": "(?i:true|false)",
        "pair": "[ -~]+",
        "close[ordertype]": TYPES,
        "close[price]": PRICE,
        "close[price2]": PRICE,
    }.items()
}
FLAGS = ("reduce_only", "margin", "post_only")  # never as text
# What the real exchange has and the practice exchange does not have
ABSENT = {
    "ordertype": "(trailing-stop(-limit)?|settle-position)",
    "oflags": ".*viqc.*",
    "stp_type": "cancel_(oldest|both)",
    "trigger_price": ".*",
    "display_volume": ".*",
}
FIELDS = {
    "addOrder": {
        "ordertype",
        "type",
        "pair",
        "volume",
        "price",
        "price2",
        "leverage",
        "margin",
        "reduce_only",
        "oflags",
        "starttm",
        "expiretm",
        "deadline",
        "cl_ord_id",
        "userref",
        "sender_sub_id",
        "stp_type",
        "validate",
        "timeinforce",
        "close[ordertype]",
        "close[price]",
        "close[price2]",
    },
    "amendOrder": {
        "txid",
        "cl_ord_id",
        "volume",
        "display_volume",
        "limit_price",
        "trigger_price",
        "post_only",
        "pair",
        "deadline",
    },
    "editOrder": {
        "orderid",
        "pair",
        "volume",
        "price",
        "price2",
        "oflags",
        "newuserref",
        "validate",
    },
    "cancelOrder": {"txid", "cl_ord_id"},
    "cancelAll": set(),
    "cancelAllOrdersAfter": {"timeout"},
}
COMMON = {"event", "token", "reqid"}
TRIGGERED = {
    "stop-loss": "stopped",
    "take-profit": "touched",
}  # the word for such an order that was triggered


class Refused(Exception):
    """Rejects a request. Its text is the errorMessage, and its fields are added to that event."""

    def __init__(self, text: str, **fields: Any) -> None:
        super().__init__(text)
        self.fields = fields


def invalid(name: str) -> Refused:
    """Return the exchange's error for an argument that is not valid."""
    return Refused(f"EGeneral:Invalid arguments:{name}")


def event(**fields: Any) -> dict[str, Any]:
    """Return an event with its members sorted by name, as the exchange sends them."""
    return dict(sorted(fields.items()))


def check_names(request: dict[str, Any]) -> None:
    """Raise Refused for the first member that is unknown in this kind of request."""
    for name in request:
        if name not in FIELDS[request["event"]] | COMMON:
            kind = re.sub("[A-Z]", lambda letter: f" {letter[0].lower()}", request["event"])
            pair = {"pair": request["pair"]} if "pair" in request else {}
            raise Refused(f"Unsupported field: '{name}' for the given msg type: {kind}", **pair)


def check(request: dict[str, Any], *required: str) -> None:
    """Raise Refused for the first argument that is missing or has a wrong form."""
    for name in required:
        if name not in request:
            raise invalid(name)
    for name, value in request.items():
        pattern = TEXTS.get(name)
        if pattern and not (isinstance(value, str) and pattern.fullmatch(value)):
            raise invalid(name)
        if name in FLAGS and not isinstance(value, bool):
            raise invalid(name)
        if name in ABSENT and re.fullmatch(ABSENT[name], value):
            raise Refused(f"EGeneral:{name} {value} is not in the practice exchange")


def iso(seconds: float) -> str:
    """Return a time in the format of RFC 3339, in whole seconds."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_deadline(request: dict[str, Any], now: float) -> None:
    """Raise Refused for a deadline that is not between 0.5 and 60 seconds from now."""
    text = request.get("deadline", iso(now + 5))
    clock, rest = text[:19], text[19:].replace("Z", "+00:00")
    try:
        ahead = datetime.fromisoformat(clock + rest[-6:]).timestamp() - now
    except ValueError:
        raise invalid("deadline") from None
    ahead += float(rest[:-6] or 0)
    if ahead < 0:
        raise Refused("EService:Deadline elapsed")
    if not 0.5 <= ahead <= 60:
        raise invalid("deadline")


def check_together(request: dict[str, Any]) -> None:
    """Raise Refused if arguments of addOrder exclude each other, or if one is missing."""
    flags = request.get("oflags", "")
    limit = request["ordertype"] == "limit"
    if request["ordertype"] != "market":
        check(request, "price")
    if request["ordertype"].endswith("-limit"):
        check(request, "price2")
    if "userref" in request and "cl_ord_id" in request:
        raise invalid("cl_ord_id")
    if {"fciq", "fcib"} <= set(flags.split(",")) or ("post" in flags and not limit):
        raise invalid("oflags")
    if "post" in flags and request.get("timeinforce") == "IOC":
        raise invalid("timeinforce")
    if request.get("reduce_only"):
        raise Refused("EOrder:Reduce only:No position exists")


def read_moment(text: str, now: float) -> float:
    """Return a time that may be so many seconds from now."""
    return now + float(text) if text[0] == "+" else float(text)


def read_start(request: dict[str, Any], now: float) -> float:
    """Return when an order starts, 0 for now."""
    starts = read_moment(request.get("starttm", "0"), now)
    if starts > now + MONTH:
        raise invalid("starttm")
    return starts if starts > now else 0.0


def read_time(request: dict[str, Any], now: float) -> tuple[str, float]:
    """Return how long an order is good: its timeinforce, and when it expires or 0."""
    expires = read_moment(request.get("expiretm", "0"), now)
    kind = str(request.get("timeinforce", "GTD" if expires else "GTC"))
    begins = read_start(request, now) or now
    if bool(expires) != (kind == "GTD") or (expires and not begins < expires <= now + MONTH):
        raise invalid("expiretm")
    return kind, expires


def read_flags(text: str) -> str:
    """Return an order's flags, with the default of each kind that it does not name."""
    flags = [flag for flag in text.split(",") if flag not in ("", "nompp")]
    return ",".join(flags if "fcib" in flags else dict.fromkeys(["fciq", *flags]))


def rises(ordertype: str, side: str) -> bool:
    """Return whether the last price rises to an order's, and doesn't fall to it."""
    return (side == "buy") == ordertype.startswith("stop-loss")


def read_price(text: str, last: Decimal, above: bool, tick: Decimal) -> Decimal:
    """Return a price; with a sign it is relative to another, in percent with a %.

    ABOVE is where a # puts it.
    """
    sign, number, percent = text[0], Decimal(text.strip("+-#%")), text[-1] == "%"
    if sign not in "+-#":
        if percent or not number:
            raise Refused("EOrder:Invalid price")
        return number
    away = last * number / 100 if percent else number
    price = last + away if sign == "+" or (sign == "#" and above) else last - away
    if price < tick:
        raise Refused("EOrder:Invalid price")
    return price.quantize(tick) if percent else price


def read_prices(request: dict[str, Any], order: Order) -> tuple[Decimal, Decimal]:
    """Return an order's two prices, as a request or else the order itself has them.

    The first is relative to the last trade's, the limit of a triggered order to the first.
    """
    price, price2, tick = order.price, order.price2, order.book.pair.tick
    if "price" in request and order.ordertype != "market":
        above = rises(order.ordertype, order.type)
        price = read_price(request["price"], order.book.last.price, above, tick)
    if "price2" in request and order.ordertype.endswith("-limit"):
        price2 = read_price(request["price2"], price, order.type == "buy", tick)
    return price, price2


def read_close(request: dict[str, Any]) -> str:
    """Return the description of the close order, if the request asks for one."""
    kind = request.get("close[ordertype]", "")
    prices = (request.get("close[price]"), request.get("close[price2]"))
    if any(prices) and not kind:
        raise invalid("close[ordertype]")
    words = " -> limit ".join(filter(None, prices))
    return f"close position @ {in_words(kind)} {words}".strip() if kind else ""


def in_words(ordertype: str) -> str:
    """Return the words for an ordertype that stand before the price in a description."""
    return ordertype.replace("-limit", "").replace("-", " ")


@dataclass(eq=False)
class Order:
    """An order of the account, open or closed."""

    txid: str
    book: Book
    type: str  # buy or sell
    ordertype: str
    volume: Decimal
    opened: float
    price: Decimal = Decimal()  # its limit or trigger price; 0 for a market order
    price2: Decimal = Decimal()  # its limit once it is triggered
    oflags: str = "fciq"
    timeinforce: str = "GTC"
    starts: float = 0.0
    expires: float = 0.0
    userref: int = 0
    cl_ord_id: str = ""
    leverage: str = ""
    close: str = ""
    changed: float = 0.0
    status: str = "pending"
    misc: str = ""  # stopped or touched, once it is triggered
    waits: bool = False  # for its time, or for its price
    worth: Decimal = Decimal()  # of one unit, while it waits
    executed: Decimal = Decimal()
    cost: Decimal = Decimal()
    fee: Decimal = Decimal()
    lot: Lot | None = field(default=None, repr=False)  # its part that rests in the book

    @property
    def left(self) -> Decimal:
        """The volume that is not executed."""
        return self.volume - self.executed

    @property
    def sides(self) -> tuple[Side, Side]:
        """The side of the book where it rests, and the one that it takes from."""
        bids, asks = self.book.bids, self.book.asks
        return (bids, asks) if self.type == "buy" else (asks, bids)

    @property
    def limited(self) -> bool:
        """Whether it has a limit, now or once it is triggered."""
        return self.ordertype.endswith("limit")

    @property
    def target(self) -> Decimal:
        """Its limit, if it has one."""
        return self.price2 if self.ordertype.endswith("-limit") else self.price

    @target.setter
    def target(self, price: Decimal) -> None:
        """Give it another limit."""
        if self.ordertype == "limit":
            self.price = price
        else:
            self.price2 = price

    @property
    def trigger(self) -> str:
        """What becomes of it when the last price reaches its price, if it waits for that."""
        return "" if self.misc else TRIGGERED.get(self.ordertype.replace("-limit", ""), "")

    @property
    def limit(self) -> Decimal:
        """The key of the worst level that it takes from."""
        return self.target * self.sides[1].sign if self.limited else ANY

    @property
    def key(self) -> Decimal:
        """The key of the level where it rests."""
        return self.target * self.sides[0].sign

    @property
    def crosses(self) -> bool:
        """Whether it can trade at once with the best offer on the other side."""
        return self.sides[1].best <= self.limit

    @property
    def held(self) -> tuple[str, Decimal]:
        """The asset that it pays with, and how much of it is held for the rest of it."""
        pair = self.book.pair
        if self.type == "sell":
            return pair.base, self.left
        if self.limited or self.waits:
            price = self.target if self.limited else self.worth
            return pair.quote, price * self.left * (1 + TAKER)
        volume, cost = self.left, Decimal()
        for key, lot in self.sides[1].offered(self.left):
            cost += abs(key) * min(volume, lot.volume)
            volume -= min(volume, lot.volume)
        return pair.quote, cost * (1 + TAKER)

    def reached(self, last: Decimal) -> bool:
        """Return whether a last price triggers it."""
        return last >= self.price if rises(self.ordertype, self.type) else last <= self.price

    def reach(self) -> tuple[Decimal, bool]:
        """Return the volume ahead of an order of its own account, and whether there is one."""
        volume = Decimal()
        for _, lot in self.sides[1].offered(self.left, self.limit):
            if lot.owner:
                return volume, True
            volume += lot.volume
        return min(volume, self.left), False

    def words(self, pair: str, show: Callable[[Decimal], str]) -> str:
        """Return its description, with the pair and prices in the given format."""
        where = in_words(self.ordertype)
        if self.price:
            where += f" {show(self.price)}"
        if self.price2:
            where += f" -> limit {show(self.price2)}"
        leverage = f" with {self.leverage}:1 leverage" if self.leverage else ""
        return f"{self.type} {lots(self.volume)} {pair} @ {where}{leverage}"

    def describe(self) -> str:
        """Return it in the words of an answer."""
        pair = self.book.pair
        return self.words(
            pair.name.replace("/", ""), lambda price: f"{price.quantize(pair.tick):f}"
        )

    def descr(self) -> dict[str, Any]:
        """Return its description as openOrders has it."""
        pair = self.book.pair
        leverage = f"{self.leverage}:1" if self.leverage else None
        return {
            "close": self.close or None,
            "leverage": leverage,
            "order": self.words(pair.name, pair.show),
            "ordertype": self.ordertype,
            "pair": pair.name,
            "price": pair.show(self.price),
            "price2": pair.show(self.price2),
            "type": self.type,
        }

    def amounts(self) -> dict[str, Any]:
        """Return how much of it is executed, at which cost."""
        show = self.book.pair.show
        average = self.cost / self.executed if self.executed else Decimal()
        return {
            "vol_exec": lots(self.executed),
            "cost": show(self.cost),
            "fee": show(self.fee),
            "avg_price": show(average),
            "userref": self.userref,
        }

    def triggering(self) -> dict[str, str]:
        """Return whether it was triggered, and at which limit."""
        limit = self.price2 if self.misc else Decimal()
        return {"limitprice": self.book.pair.show(limit), "misc": self.misc}

    def full(self) -> dict[str, Any]:
        """Return everything about it, as openOrders begins with."""
        stop = self.price if self.trigger or self.misc else Decimal()
        starts, expires = (stamp(time) if time else None for time in (self.starts, self.expires))
        return event(
            descr=self.descr(),
            oflags=self.oflags,
            **self.triggering(),
            opentm=stamp(self.opened),
            refid=None,
            status=self.status,
            stopprice=self.book.pair.show(stop),
            timeinforce=self.timeinforce,
            vol=lots(self.volume),
            expiretm=expires,
            starttm=starts,
            **self.amounts(),
            **identity(self),
        )


def prepare(order: Order, request: dict[str, Any]) -> Order:
    """Return a new order with the prices that a request gives it."""
    order.price, order.price2 = read_prices(request, order)
    order.waits = bool(order.starts or order.trigger)
    order.worth = order.price or order.book.last.price
    return order


def identity(order: Order) -> dict[str, str]:
    """Return the cl_ord_id of an order that has one, as a member of a message."""
    return {"cl_ord_id": order.cl_ord_id} if order.cl_ord_id else {}


class Fill(NamedTuple):
    """A trade of the account."""

    txid: str
    order: Order
    trade: Trade
    cost: Decimal
    fee: Decimal
    taker: bool

    def extras(self) -> dict[str, Any]:
        """Return the members that an update has and a snapshot does not have."""
        userref = {"userref": self.order.userref} if self.order.userref else {}
        return {**userref, **identity(self.order)}

    def show(self) -> dict[str, Any]:
        """Return it as ownTrades has it."""
        pair, order = self.order.book.pair, self.order
        return {
            "cost": pair.show(self.cost),
            "fee": pair.show(self.fee),
            "margin": pair.show(Decimal()),
            "ordertxid": order.txid,
            "ordertype": order.ordertype,
            "pair": pair.name,
            "postxid": POSITION,
            "price": pair.show(self.trade.price),
            "time": stamp(self.trade.time),
            "type": order.type,
            "vol": lots(self.trade.volume),
        }


def consolidate(fills: Iterable[Fill]) -> list[Fill]:
    """Return the fills, with those of one taker order combined at their average price."""
    merged: list[Fill] = []
    for fill in fills:
        last = merged[-1] if merged else fill
        same = fill.taker and last.taker and merged and last.order is fill.order
        if not same or last.trade.time != fill.trade.time:
            merged.append(fill)
            continue
        volume, cost = last.trade.volume + fill.trade.volume, last.cost + fill.cost
        trade = last.trade._replace(price=cost / volume, volume=volume)
        merged[-1] = last._replace(trade=trade, cost=cost, fee=last.fee + fill.fee)
    return merged


class Counter:
    """How much of a pair's order rate is used up."""

    def __init__(self) -> None:
        self.value = self.time = 0.0

    def at(self, now: float) -> float:
        """Return the count at a time."""
        return max(0.0, self.value - (now - self.time) * FORGOTTEN)

    def add(self, points: float, now: float) -> None:
        """Count something."""
        self.value, self.time = self.at(now) + points, now


class Account:
    """Somebody's balances, orders and trades, and the requests that change them."""

    def __init__(
        self, market: Market, seed: int = 0, clock: Callable[[], float] | None = None
    ) -> None:
        self.market = market
        self.clock = clock or (
            lambda: market.now
        )  # the clients' time, which decides about deadlines
        self.random = random.Random(f"{seed} account")
        self.balances = {asset: Decimal(amount) for asset, amount in BALANCES.items()}
        self.open: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self.counters = {name: Counter() for name in market.books}
        self.due: list[Order] = []  # whose price the market has reached
        self.trigger: float | None = None  # when everything is canceled
        self.on_order: list[Callable[[Order, dict[str, Any]], None]] = []
        self.on_fills: list[Callable[[list[Fill]], None]] = []
        market.listeners.append(self.see)
        market.timers.append(self.attend)

    # What happens to orders

    def txid(self, letter: str) -> str:
        """Return a new id: O for an order, T for a trade."""
        text = "".join(self.random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))
        return f"{letter}{text[:5]}-{text[5:10]}-{text[10:]}"

    def tell(self, order: Order, **fields: Any) -> None:
        """Report to the subscribers of openOrders what has changed in an order."""
        for listener in self.on_order:
            listener(order, fields)

    def available(self, asset: str, but: Order | None = None) -> Decimal:
        """Return how much of an asset no order holds, not counting the given order."""
        held = (order.held for order in self.open.values() if order is not but)
        return self.balances[asset] - sum((much for what, much in held if what == asset), Decimal())

    def fill(self, order: Order, trade: Trade, taker: bool) -> Fill:
        """Book a trade: pay with one asset, get the other, and pay the fee."""
        pair = order.book.pair
        cost = trade.price * trade.volume
        fee = cost * (TAKER if taker else MAKER)
        sign = 1 if order.type == "buy" else -1
        self.balances[pair.base] += sign * trade.volume
        self.balances[pair.quote] -= sign * cost + fee
        order.executed += trade.volume
        order.cost += cost
        order.fee += fee
        fill = Fill(self.txid("T"), order, trade, cost, fee, taker)
        self.fills.append(fill)
        return fill

    def report(self, order: Order, fills: list[Fill]) -> None:
        """Tell of an order's trades, and close it once it is executed."""
        if fills:
            for listener in self.on_fills:
                listener(fills)
            self.tell(order, **order.amounts())
        if not order.left:
            self.end(order, "closed")

    def see(self, act: Act) -> None:
        """Book the trades of the account's orders, and note which orders were triggered."""
        for trade in act.trades:
            if isinstance(trade.owner, Order):
                self.report(trade.owner, [self.fill(trade.owner, trade, taker=False)])
        self.due += [
            order
            for order in self.open.values()
            if order.book is act.book and order.trigger
            if any(order.reached(trade.price) for trade in act.trades)
        ]

    def lift(self, order: Order) -> None:
        """Take what is left of an order out of the book."""
        if order.lot and order.left:
            order.sides[0].remove(order.key, order.lot, self.market.now)
            order.book.commit()
        order.lot = None

    def end(self, order: Order, status: str, reason: str = "") -> None:
        """Remove an order from the book and from the open orders, and report the reason."""
        self.lift(order)
        del self.open[order.txid]
        order.status = status
        why = {"cancel_reason": reason} if reason else {}
        last = {"lastupdated": stamp(self.market.now), "status": status}
        self.tell(order, **last, **order.amounts(), **why)

    def place(self, order: Order) -> None:
        """Accept an order, and start it unless it waits for its start time."""
        self.open[order.txid] = order
        self.tell(order, **order.full())
        if not order.starts:
            self.start(order)

    def start(self, order: Order) -> None:
        """Open an order, and release it unless it waits for its price."""
        if "post" in order.oflags and order.crosses:
            self.end(order, "canceled", "Post only order")
            return
        order.status = "open"
        self.tell(order, status="open", userref=order.userref)
        if not order.trigger:
            self.release(order)
        elif order.reached(order.book.last.price):
            self.touch(order)

    def touch(self, order: Order) -> None:
        """Trigger an order."""
        order.misc = order.trigger
        last = {"lastupdated": stamp(self.market.now), "status": "open"}
        self.tell(order, **last, **order.triggering(), userref=order.userref)
        self.release(order)

    def release(self, order: Order) -> None:
        """Send an order to the market if the account has the funds for it."""
        order.waits = False
        asset, needed = order.held
        if needed > self.available(asset, order):
            self.end(order, "canceled", "Insufficient funds")
        else:
            self.match(order)

    def match(self, order: Order) -> None:
        """Trade what an open order can trade at once, and put the rest into the book."""
        volume, own = order.reach()
        kind = "l" if order.limited else "m"
        trades = order.book.trade(order.sides[1], volume, order.limit, kind)
        fills = [self.fill(order, trade, taker=True) for trade in trades]
        rests = order.limited and order.timeinforce != "IOC" and not own
        if order.left and rests:
            order.lot = Lot(order.left, order)
            order.sides[0].add(order.key, order.lot, self.market.now)
        self.report(order, fills)
        if order.left and not rests:
            self.end(order, "canceled", "Self trade prevention" if own else "Immediate or cancel")
        order.book.commit()

    def attend(self, now: float) -> None:
        """Do what is due: trigger and start orders, let them expire, cancel them all."""
        due, self.due = self.due, []
        for order in due:
            if order.txid in self.open and order.status == "open" and order.trigger:
                self.touch(order)
        for order in list(self.open.values()):
            if order.expires and order.expires <= now:
                self.end(order, "expired")
            elif order.status == "pending" and order.starts <= now:
                self.start(order)
        if self.trigger is not None and self.trigger <= now:
            self.trigger = None
            self.cancel_all({})

    # Requests

    def handle(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Do what a request asks for, and return the exchange's answers.

        The connection has already handled token and reqid. An empty value counts as absent.
        """
        name = request["event"]
        request = {field: value for field, value in request.items() if value != ""}
        try:
            check_names(request)
            results = REQUESTS[name](self, request)
        except Refused as refused:
            results = [{"errorMessage": str(refused), **refused.fields}]
        return [
            event(event=f"{name}Status", status="error" if "errorMessage" in each else "ok", **each)
            for each in results
        ]

    def count(self, name: str, book: Book, born: float | None = None) -> None:
        """Count a request against a pair's rate, or raise Refused; cancels are counted only."""
        now, points = self.market.now, 0 if name == "cancelOrder" else 1
        if born is not None:
            points += next((more for age, more in AGES[name] if now - born < age), 0)
        counter = self.counters[book.pair.name]
        if name != "cancelOrder" and counter.at(now) + points > MOST_COUNTED:
            raise Refused("EOrder:Rate limit exceeded")
        counter.add(points, now)

    def find(self, name: object, *kinds: str) -> list[Order]:
        """Return the open orders with such a txid, userref or cl_ord_id, or raise Refused."""
        orders = [
            order
            for order in self.open.values()
            for value in (getattr(order, kind) for kind in kinds)
            if value and str(value) == name
        ]
        if not orders:
            raise Refused("EOrder:Unknown order")
        return orders

    def admit(self, order: Order, instead: Order | None = None) -> None:
        """Raise Refused for an order that breaks a rule, or that the account can't pay."""
        pair = order.book.pair
        price = order.target or order.book.last.price
        if order.price % pair.tick or order.price2 % pair.tick:
            raise Refused("EOrder:Tick size check failed")
        if order.volume < pair.minimum:
            raise Refused("EOrder:Order minimum not met")
        if order.volume * price < Decimal(LEAST_COST[pair.quote]):
            raise Refused("EOrder:Cost minimum not met")
        asset, needed = order.held
        if needed > self.available(asset, instead):
            raise Refused("EOrder:Insufficient funds")
        others = [each for each in self.open.values() if each.book is order.book]
        if not instead and len(others) >= MOST_ORDERS:
            raise Refused("EOrder:Orders limit exceeded")

    def build(self, request: dict[str, Any]) -> Order:
        """Return the order that addOrder's arguments describe, or raise Refused."""
        check(request, "ordertype", "type", "pair", "volume")
        book = self.find_book(request["pair"])
        check_together(request)
        check_deadline(request, self.clock())
        if request.get("cl_ord_id") in [order.cl_ord_id for order in self.open.values()]:
            raise invalid("cl_ord_id")
        timeinforce, expires = read_time(request, self.market.now)
        order = Order(
            self.txid("O"),
            book,
            request["type"],
            request["ordertype"],
            Decimal(request["volume"]),
            self.market.now,
            oflags=read_flags(request.get("oflags", "")),
            timeinforce=timeinforce,
            starts=read_start(request, self.market.now),
            expires=expires,
            userref=int(request.get("userref", 0)),
            cl_ord_id=request.get("cl_ord_id", ""),
            leverage=request.get("leverage", "none").replace("none", ""),
            close=read_close(request),
        )
        return prepare(order, request)

    def find_book(self, name: str) -> Book:
        """Return a pair's book, or raise Refused."""
        book = self.market.books.get(rename(name))
        if not book:
            raise Refused("EQuery:Unknown asset pair")
        return book

    def add(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Place an order, or with validate only check it."""
        order = self.build(request)
        self.admit(order)
        result = {"descr": order.describe()}
        if request.get("validate", "").lower() == "true":
            return [result]
        self.count("addOrder", order.book)
        self.place(order)
        return [{**result, "txid": order.txid, **identity(order)}]

    def amend(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Change an order's volume or price. Only a smaller volume keeps its queue position."""
        kind = "cl_ord_id" if "cl_ord_id" in request else "txid"
        check(request, kind)
        check_deadline(request, self.clock())
        (order,) = self.find(request[kind], kind)
        if {"volume", "limit_price", "post_only"}.isdisjoint(request):
            raise invalid("volume")
        volume = Decimal(request.get("volume", order.volume))
        if volume <= order.executed:
            raise invalid("volume")
        new = replace(order, volume=volume)
        if "limit_price" in request:
            if not order.limited:
                raise invalid("limit_price")
            last, above = order.book.last.price, order.type == "sell"
            new.target = read_price(request["limit_price"], last, above, order.book.pair.tick)
        self.admit(new, order)
        if (request.get("post_only") or "post" in order.oflags) and new.crosses:
            raise Refused("EOrder:Invalid price")
        self.count("amendOrder", order.book, order.changed or order.opened)
        self.change(order, volume, new.target)
        return [{"amend_id": self.txid("T"), **identity(order)}]

    def change(self, order: Order, volume: Decimal, target: Decimal) -> None:
        """Change an open order. Only a smaller volume keeps its queue position."""
        if volume > order.volume or target != order.target:
            self.lift(order)
        order.volume, order.changed = volume, self.market.now
        if order.limited:
            order.target = target
        fields = {"descr": order.descr(), "vol": lots(volume), "userref": order.userref}
        why = {"amended": True, "amend_reason": "User requested"}
        self.tell(order, lastupdated=stamp(order.changed), **fields, **why)
        if order.lot:
            order.lot.volume = order.left
            order.sides[0].note(order.key, self.market.now)
            order.book.commit()
        elif not order.waits:
            self.match(order)

    def edit(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Replace an order that has no trades by a new order with a new id."""
        if isinstance(request.get("validate"), bool):  # here both are taken
            request = {**request, "validate": str(request["validate"])}
        check(request, "orderid", "pair")
        old = self.find_editable(request)
        new = self.rebuild(old, request)
        self.admit(new, old)
        result = {"descr": new.describe(), "originaltxid": old.txid}
        if request.get("validate", "").lower() == "true":
            return [result]
        self.count("editOrder", old.book, old.opened)
        self.end(old, "canceled", "Order replaced")
        self.place(new)
        return [{**result, "txid": new.txid}]

    def find_editable(self, request: dict[str, Any]) -> Order:
        """Return the order that an editOrder means, or raise Refused."""
        book = self.find_book(request["pair"])
        try:
            order = self.find(request["orderid"], "txid", "userref")[0]
        except Refused:
            raise Refused("EOrder:Invalid order") from None
        fixed = order.cl_ord_id or order.close or order.executed or order.misc
        if order.book is not book or fixed:
            raise Refused("EOrder:Invalid order")
        return order

    def rebuild(self, old: Order, request: dict[str, Any]) -> Order:
        """Return a copy of an order with the changes that editOrder's arguments ask for.

        The flags are not kept.
        """
        order = replace(
            old,
            txid=self.txid("O"),
            volume=Decimal(request.get("volume", old.volume)),
            oflags=read_flags(request.get("oflags", "")),
            userref=int(request.get("newuserref", old.userref)),
            opened=self.market.now,
            starts=old.starts if old.status == "pending" else 0.0,
            changed=0.0,
            status="pending",
            lot=None,
        )
        return prepare(order, request)

    def cancel_some(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Cancel orders by txid, userref and cl_ord_id, and return a result for each of these."""
        for name in ("txid", "cl_ord_id"):
            ids = request.get(name, [])
            if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
                raise invalid(name)
        results = [self.cancel_one(name, "txid", "userref") for name in request.get("txid", ())]
        results += [self.cancel_one(name, "cl_ord_id") for name in request.get("cl_ord_id", ())]
        if not results:
            raise invalid("txid")
        return results

    def cancel_one(self, name: str, *kinds: str) -> dict[str, Any]:
        """Cancel what an id of such kinds names, and return the result."""
        try:
            orders = self.find(name, *kinds)
        except Refused as refused:
            return {"errorMessage": str(refused)}
        for order in orders:
            self.count("cancelOrder", order.book, order.changed or order.opened)
            self.end(order, "canceled", "User requested")
        return {}

    def cancel_all(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        """Cancel every order, and return how many there were."""
        orders = list(self.open.values())
        for order in orders:
            self.end(order, "canceled", "User requested")
        return [{"count": len(orders)}]

    def cancel_after(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Arm, or with 0 disarm, the timer that cancels every order."""
        timeout = request.get("timeout")
        if type(timeout) is not int or not 0 <= timeout <= DAY:
            raise invalid("timeout")
        now = self.market.now
        self.trigger = now + timeout if timeout else None
        return [{"currentTime": iso(now), "triggerTime": iso(now + timeout) if timeout else "0"}]


REQUESTS: dict[str, Callable[[Account, dict[str, Any]], list[dict[str, Any]]]] = {
    "addOrder": Account.add,
    "amendOrder": Account.amend,
    "editOrder": Account.edit,
    "cancelOrder": Account.cancel_some,
    "cancelAll": Account.cancel_all,
    "cancelAllOrdersAfter": Account.cancel_after,
}
