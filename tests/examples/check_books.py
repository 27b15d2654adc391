#!/usr/bin/env python3
"""Check recordings of Kraken's order books: rebuild each book, and compare every checksum.

usage: check_books.py FILE...

The files are those of record.py, packed or not, in the order of time, as a shell sorts them:

  check_books.py books/book-*

Each gap of a book is printed, and each stretch of wrong checksums, once. The last two lines are the
time that was recorded and the sums.

A gap is the time between the last message of a lost connection and the next snapshot of the book.
Without such a snapshot it lasts until the end of the recording. Where recordings overlap, as those
of record.py do at midnight, there is no gap. An update without a checksum is applied like others.

exit status:
  0  all checksums hold; there may be gaps
  1  some don't, or there are none, or a file can't be read to its end
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import sys
import zlib
from bisect import bisect_left
from datetime import datetime, timezone
from typing import Any

CHECKED = 10  # levels of a side; https://docs.kraken.com/api/docs/guides/spot-ws-book-v1


class Failure(Exception):
    """Ends the program; its text is the sentence for the user."""


class Side:
    """One side of a book, its best level first."""

    def __init__(self, sign: int) -> None:
        """SIGN is 1 for the asks, and -1 for the bids, whose highest price is the best."""
        self.sign = sign
        self.keys: list[float] = []  # the prices times the sign, in order
        self.levels: dict[float, list[str]] = {}  # their price and volume, as they came

    def update(self, levels: list[list[str]], depth: int) -> None:
        """Set levels, or remove those of volume 0, and cut the side to the subscribed depth."""
        for price, volume, *_ in levels:
            key = self.sign * float(price)
            if key not in self.levels:
                self.keys.insert(bisect_left(self.keys, key), key)
            self.levels[key] = [price, volume]
            if not float(volume):
                del self.keys[bisect_left(self.keys, key)], self.levels[key]
        for key in self.keys[depth:]:
            del self.levels[key]
        del self.keys[depth:]

    def digits(self) -> str:
        """Return the digits that the checksum is made of."""
        numbers = (number for key in self.keys[:CHECKED] for number in self.levels[key])
        return "".join(number.replace(".", "").lstrip("0") for number in numbers)


class Book:
    """The book of a pair as it was recorded. All times are in seconds since 1970."""

    def __init__(self, channel: str, pair: str) -> None:
        self.name = f"{pair} {channel}"
        self.depth = int(channel.partition("-")[2])
        self.asks, self.bids = Side(1), Side(-1)
        self.known = False  # whether there was a snapshot
        self.lost: float | None = None  # since when there may be a gap
        self.gaps: list[float] = []  # in seconds
        self.right = self.wrong = 0  # checksums
        self.stretch: list[float] = []  # the times of the wrong checksums since the last right one

    def take(self, now: float, news: dict[str, Any]) -> None:
        """Take in a message: a snapshot has "as" or "bs", whatever else an update may lack."""
        if "as" in news or "bs" in news:
            self.end_stretch()
            self.end_gap(now)
            self.asks, self.bids = Side(1), Side(-1)
            self.known = True
        self.lost = None  # if this is an update, the connection was not lost
        self.asks.update(news.get("as", []) + news.get("a", []), self.depth)
        self.bids.update(news.get("bs", []) + news.get("b", []), self.depth)
        if self.known and "c" in news:
            self.compare(now, news["c"])

    def compare(self, now: float, checksum: str) -> None:
        """Compare the book with its checksum."""
        if str(zlib.crc32((self.asks.digits() + self.bids.digits()).encode())) == checksum:
            self.right += 1
            self.end_stretch()
        else:
            self.wrong += 1
            self.stretch.append(now)

    def end_stretch(self) -> None:
        """Print a stretch of wrong checksums, if there is one."""
        if self.stretch:
            count, begin, end = len(self.stretch), self.stretch[0], self.stretch[-1]
            write(f"{self.name}: {count} wrong checksums from {show(begin)} to {show(end)}")
        self.stretch = []

    def end_gap(self, now: float, words: str = "") -> None:
        """Print a gap, if there is one; where recordings overlap its end is before its begin."""
        if self.lost is not None and now > self.lost:
            self.gaps.append(now - self.lost)
            write(f"{self.name}: {now - self.lost:.3f} s lost from {show(self.lost)} on{words}")


class Recording:
    """All files as one recording, in which any message tells the time."""

    def __init__(self) -> None:
        self.books: dict[tuple[str, str], Book] = {}  # by channel and pair
        self.begin: float | None = None
        self.end = 0.0  # the latest time
        self.whole = True  # whether every file could be read to its end

    def read(self, path: str) -> None:
        """Take in a file."""
        try:
            with (gzip.open if path.endswith(".gz") else open)(path, "rb") as lines:
                for line in lines:
                    self.take(line)
        except (OSError, EOFError, zlib.error) as error:
            self.whole = False
            say(f"{path} can't be read to its end ({error})")

    def take(self, line: bytes) -> None:
        """Take in a line. One that can't be read was torn when a recorder was killed."""
        try:
            now, message = json.loads(line)
            now = float(now)
            if isinstance(message, list):
                self.take_data(now, message[-2], message[-1], message[1:-2])
            else:
                self.take_event(now, message)
        except (ValueError, TypeError, LookupError, AttributeError):
            self.lose("", "", self.end)
        else:
            self.begin = now if self.begin is None else self.begin
            self.end = max(self.end, now)

    def take_data(self, now: float, channel: str, pair: str, parts: list[dict[str, Any]]) -> None:
        """Take in a message of a feed; an update of both sides has two parts."""
        if channel.startswith("book-"):
            news = {name: value for part in parts for name, value in part.items()}
            self.books.setdefault((channel, pair), Book(channel, pair)).take(now, news)

    def take_event(self, now: float, event: dict[str, Any]) -> None:
        """Take in an event: a new connection begins with systemStatus."""
        if event.get("event") == "systemStatus":
            self.lose("", "", self.end)
        if event.get("event") == "subscriptionStatus" and event.get("status") != "subscribed":
            self.lose(event.get("channelName", ""), event.get("pair", "none"), now)

    def lose(self, channel: str, pair: str, since: float) -> None:
        """Begin a gap, which ends with a snapshot; an update shows that there is none."""
        for key, book in self.books.items():
            if channel in ("", key[0]) and pair in ("", key[1]) and book.lost is None:
                book.lost = since

    def report(self) -> bool:
        """Print what is open at the end, and the sums; return whether all is well."""
        books = self.books.values()
        for book in books:
            book.end_stretch()
            book.end_gap(self.end, ", until the end of the recording")
        gaps = [gap for book in books for gap in book.gaps]
        right, wrong = sum(book.right for book in books), sum(book.wrong for book in books)
        if self.begin is not None:
            write(f"recorded from {show(self.begin)} to {show(self.end)}")
        write(f"{len(gaps)} gaps, {sum(gaps):.3f} s; {right} checksums hold, {wrong} don't")
        return self.whole and right > 0 and not wrong


def show(seconds: float) -> str:
    """Return a time (UTC)."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write(text: str, descriptor: int = 1) -> None:
    """Write a line at once, or raise Failure; print() would end with 120 on a full disk."""
    rest = f"{text}\n".encode(errors="backslashreplace")
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise Failure(f"stdout can't be written ({error})") from None


def say(sentence: str) -> None:
    """Write a sentence to stderr, if that is possible."""
    with contextlib.suppress(Failure):
        write(sentence, 2)


def main() -> int:
    """Check the files of the command line, and return the exit status."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # Ctrl-C and "| head" end it without a traceback
    words = sys.argv[1:]
    recording = Recording()
    try:
        if words in (["-h"], ["--help"]):
            write(str(__doc__).rstrip())
            return 0
        if not words:
            raise Failure("usage: check_books.py FILE...")
        for path in words:
            recording.read(path)
        return 0 if recording.report() else 1
    except Failure as failure:
        say(str(failure))
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
