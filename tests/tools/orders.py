#!/usr/bin/env python3
"""Checks that what tests/examples/place.py says of an order is true. Not a test.

    python tests/tools/orders.py [--orders 100] [--at-once 10] [--seed 0] [--signals]

places so many orders with it under each fault, market and limit in turn, on one account of the
practice exchange, compares what it said with the account's own books, and prints a table. It ends
with 1 where anything was wrong, or not known though no feed had failed.

With --signals one or two signals come at random moments of each order. Then it is also wrong if
an order is in the books whose userref was not shown.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests' rooms are

from client.scripted import ScriptedExchange, running
from practice.account import Order
from practice.authority import Authority
from practice.credentials import PRACTICE_TOKEN
from practice.exchange import Practice
from practice.server import Server

PLACE = Path(__file__).parents[1] / "examples" / "place.py"
FAULTS = (
    "",
    "lost-reply",
    "no-reply",
    "503",
    "unavailable",
    "drop",
    "drop no-reply",
    "drop unavailable",
)
KINDS = ("ordertype=market", "ordertype=limit price=9000")
LONGEST_DROP = 0.5  # seconds that a connection lasts at most
SAID = ("accepted", "refused", "never sent", "never in effect", "not known", "nothing")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALLED_FAULTS = ("", "lost-reply", "no-reply", "unavailable")
LONGEST_DELAY = 1.0  # seconds after the start or after the signal before


class Outcome(NamedTuple):
    """What was said of an order, and what the books say."""

    kind: str
    said: str
    shown: str  # on stderr
    status: int
    order: Order | None

    @property
    def word(self) -> str:
        """The first words of what place.py printed."""
        return self.said.partition(":")[0] or "nothing"

    @property
    def right(self) -> bool:
        """Whether this is true. "not known" is never false."""
        if self.order and f"userref {self.order.userref}, " not in self.shown:
            return False
        if self.word == "nothing":  # a signal before place.py has taken the signals over
            return self.status < 0 and not self.order
        if self.word == "not known":
            return self.status == 3
        if self.order:
            return (self.said, self.status) == (f"accepted: {self.order.txid}", 0)
        return self.word in SAID[1:] and self.status == 1


class Proof:
    """Orders on one practice exchange with a fault."""

    def __init__(
        self, authority: Authority, fault: str, seed: int = 0, signals: bool = False
    ) -> None:
        self.random = random.Random(f"{seed} {fault}")
        self.practice = Practice(seed, token=PRACTICE_TOKEN, faults=fault.split())
        self.authority = authority
        self.signals = signals
        self.books: dict[str, Order] = {}  # by volume, which is different for each order
        self.practice.account.on_order.append(self.book)
        self.folder = Path(tempfile.mkdtemp(dir=authority.bundle.parent))
        (self.folder / "WS_Token").write_text(PRACTICE_TOKEN)

    def book(self, order: Order, _: object) -> None:
        """Enter an order into the books."""
        self.books[str(order.volume)] = order

    def place(self, exchange: ScriptedExchange, number: int) -> tuple[str, str, int]:
        """Place an order; return what is said, what is shown, and the status."""
        if "drop" in self.practice.faults:  # the connections of the current orders, too
            self.practice.faults["drop"] = self.random.uniform(0, LONGEST_DROP)
        order = f"pair=XBT/USD type=buy volume={self.volume(number)} {KINDS[number % 2]}"
        process = subprocess.Popen(
            [sys.executable, str(PLACE), *order.split()],
            cwd=self.folder,
            env=exchange.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        delay = 0.0
        for _ in range(self.random.choice([1, 1, 2]) if self.signals else 0):
            delay += self.random.uniform(0, LONGEST_DELAY)
            threading.Timer(delay, process.send_signal, [self.random.choice(SIGNALS)]).start()
        said, shown = process.communicate()
        return said.strip(), shown, process.returncode

    def volume(self, number: int) -> str:
        """Return an order's volume."""
        return f"0.01{number:06}"

    def run(self, orders: int, at_once: int) -> list[Outcome]:
        """Place orders, some at once, and return what came of them once all is over."""
        with (
            running(Server(self.practice, None)) as server,
            ScriptedExchange(self.authority, server) as exchange,
            ThreadPoolExecutor(at_once) as pool,
        ):
            said = list(pool.map(partial(self.place, exchange), range(orders)))
        return [
            Outcome(KINDS[number % 2], *words, self.books.get(self.volume(number)))
            for number, words in enumerate(said)
        ]


def report(fault: str, outcomes: list[Outcome]) -> str:
    """Return the rows of the table that a fault makes."""
    rows = []
    for kind in KINDS:
        some = [outcome for outcome in outcomes if outcome.kind == kind]
        counts = Counter(outcome.word for outcome in some)
        live = sum(outcome.order is not None for outcome in some)
        wrong = sum(not outcome.right for outcome in some)
        cells = [
            fault or "none",
            kind[10:].split()[0],
            *(counts[word] for word in SAID),
            live,
            wrong,
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main() -> int:
    """Place the orders, and say what was said and what is true."""
    parser = argparse.ArgumentParser(description="Put tests/examples/place.py to the proof.")
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", action="store_true", help="send signals at random moments")
    options = parser.parse_args()
    print("| fault | order |", " | ".join(SAID), "| in the books | wrong |")
    print("|---|---|" + "---:|" * (len(SAID) + 2))
    right = True
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        for fault in SIGNALLED_FAULTS if options.signals else FAULTS:
            proof = Proof(authority, fault, options.seed, options.signals)
            outcomes = proof.run(options.orders, options.at_once)
            print(report(fault, outcomes), flush=True)
            for outcome in outcomes:
                if not outcome.right:
                    print(outcome, file=sys.stderr)
            right &= all(outcome.right for outcome in outcomes)
            if not options.signals and "drop" not in fault:
                right &= all(outcome.status != 3 for outcome in outcomes)
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
