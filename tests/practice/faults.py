"""The faults of the practice exchange, which a user can switch on."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from practice.common import Denied
from practice.limits import EXCEEDED, MOST_FAILURES

UNAVAILABLE = "EService:Unavailable"


class Fault(NamedTuple):
    """A fault that a user can switch on."""

    about: str
    seconds: float | None = None  # the S of NAME=S if none is given; None: the fault has no S


FAULTS = {
    "drop": Fault("reset a connection when it is S seconds old", 10),
    "stall": Fault("fall silent when a connection is S seconds old, and leave it open", 10),
    "cloudflare": Fault("close a connection with 1001 when it is S seconds old", 10),
    "unsubscribe": Fault("end a connection's oldest subscription, one every S seconds", 10),
    "invalid-session": Fault(
        "every S seconds, make all tokens invalid and end the private feeds that use them", 10
    ),
    "refused-pair": Fault(
        "after a connection has ended, refuse the pair that it subscribed to last, for S seconds"
        " from the next try on, as unavailable or for the rate limit in turn",
        10,
    ),
    "rate-limit": Fault("allow one request in S seconds, from all connections together", 30),
    "lockout": Fault(
        f"lock an API key after {MOST_FAILURES} failed REST calls in a row, until it was not used"
        " for S seconds of the market's time",
        900,
    ),
    "429": Fault("refuse connections with HTTP 429, as for too many of them"),
    "503": Fault("refuse connections with HTTP 503"),
    "lost-reply": Fault("carry an order out, then reset the connection instead of answering"),
    "no-reply": Fault("carry an order out, then stay silent instead of answering"),
    "unavailable": Fault(f"answer {UNAVAILABLE} to an order, carried out or not by chance"),
    "maintenance": Fault("stand still and refuse orders and cancels"),
}
# In place of a WebSocket: HTTP status, body and headers
REFUSALS: dict[str, tuple[int, str, tuple[tuple[str, str], ...]]] = {
    "429": (429, "error code: 1015\n", (("Server", "cloudflare"), ("Retry-After", "600"))),
    "503": (503, "Service Unavailable\n", (("Server", "cloudflare"),)),
}


def parse_fault(text: str) -> tuple[str, float]:
    """Return a fault's name and seconds, from NAME or NAME=SECONDS; raise ValueError."""
    name, _, number = text.partition("=")
    if name not in FAULTS:
        raise ValueError(f"no fault is called {name}; there are {', '.join(FAULTS)}")
    usual = FAULTS[name].seconds
    if number and usual is None:
        raise ValueError(f"the fault {name} takes no seconds")
    seconds = float(number or usual or 0)
    if not seconds >= 0:  # nan is not, either
        raise ValueError(f"the seconds of a fault are 0 or more: {text}")
    return name, seconds


class LostPairs:
    """The pairs that are refused for some seconds, because a connection that had them is gone.

    The seconds begin with the first try to subscribe again, however long a client has waited
    before. The private feeds are treated like pairs.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: dict[str, float | None] = {}  # by pair: until when; None before the first try
        self.words = itertools.cycle((UNAVAILABLE, EXCEEDED))

    def add(self, pair: str) -> None:
        """Refuse a pair from the next try on."""
        self.ends.setdefault(pair)

    def check(self, pair: str, now: float) -> None:
        """Raise Denied while a pair is refused, in the words of either reason in turn."""
        if pair not in self.ends:
            return
        end = self.ends.pop(pair)
        if end is None:
            end = now + self.seconds
        if now < end:
            self.ends[pair] = end
            raise Denied(next(self.words))
