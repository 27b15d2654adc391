"""What the exchange takes from a client: requests in a time, and failed calls in a row.

The numbers of the real exchange are not documented. These are from reports of its users: of 25
subscriptions sent at once, the first 15 to 20 were answered (xchange-stream #502, ccxt #6588);
some failed calls lock an API key until nobody has tried for 15 minutes (kraken-cli #34).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

from practice.common import Denied

MOST_REQUESTS = 20  # that a connection may send in RATE_SECONDS
RATE_SECONDS = 1.0
MOST_FAILURES = 5  # in a row, before a key is locked
EXCEEDED = "Exceeded msg rate"
LOCKED_OUT = "EGeneral:Temporary lockout"


class RateLimit:
    """Lets at most so many requests pass in any span of so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self.seconds = seconds
        self.passed: deque[float] = deque(maxlen=most)  # when the last requests passed

    def passes(self, now: float) -> bool:
        """Return whether a request at this time may pass; one that may not doesn't count."""
        full = len(self.passed) == self.passed.maxlen
        if full and now - self.passed[0] < self.seconds:
            return False
        self.passed.append(now)
        return True


class Lockout:
    """Locks an API key after failed calls in a row, until it wasn't used for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.tries: dict[str, tuple[int, float]] = {}  # by key: failures in a row, and the last try

    @contextlib.contextmanager
    def watch(self, key: str, now: float) -> Iterator[None]:
        """Count how the call within ends, or raise Denied before it if the key is locked.

        Whatever is tried with a locked key, it is locked for as long again.
        """
        failures, last = self.tries.pop(key, (0, now))
        if now - last >= self.seconds:
            failures = 0
        if failures >= MOST_FAILURES:
            self.tries[key] = failures, now
            raise Denied(LOCKED_OUT)
        try:
            yield
        except Denied:
            self.tries[key] = failures + 1, now
            raise
