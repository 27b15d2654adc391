"""The private feeds, openOrders and ownTrades: what their subscribers are told."""

from __future__ import annotations

from typing import Any

from practice.account import MOST_COUNTED, SHOWN_TRADES, Account, Fill, Order, consolidate

PRIVATE_FIELDS = {
    "openOrders": ("name", "token", "ratecounter", "rebased"),
    "ownTrades": ("name", "token", "snapshot", "consolidate_taker", "rebased"),
}


def truth(value: object) -> bool:
    """Return a boolean of a subscription, which may have come as text."""
    return value is True or value == "true"


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
        """Return the entry of an order in a message."""
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
        """Return fills, with those of a taker order combined if that is asked for."""
        return consolidate(fills) if self.consolidated else fills

    def fills(self, fills: list[Fill]) -> list[Any]:
        """Return the message that tells of fills."""
        rows = [{fill.txid: {**fill.show(), **fill.extras()}} for fill in self.trades(fills)]
        return [self.message(rows)]
