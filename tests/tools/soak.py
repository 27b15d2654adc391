#!/usr/bin/env python3
"""Sends much data through the client into a file, and checks that nothing is lost. Not a test.

    python tests/tools/soak.py [--messages 1000000] [--gigabytes 1]

sends updates of a book and depth-1000 snapshots, compares the file's hash with the hash of what
was sent, and says how much memory the client took at its peak, for a tenth of the length and for
all of it (on Linux). Then the same with SIGTERM in the middle: what is in the file has to be a
prefix of what was sent, down to a whole line. It ends with 1 where anything of this doesn't hold.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests' rooms are

from client.scripted import Peer, ScriptedExchange, frame
from practice.authority import Authority
from practice.market import BookFeed, Market

SCRIPT = Path(__file__).parents[2] / "krakenws.py"
ACCEPTED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
BATCH = 200  # frames that are sent at once
FLAT = 1.1  # factor of memory that ten times the length may take

Lines = Callable[[], Iterator[bytes]]


def updates(count: int) -> Lines:
    """Return what yields COUNT updates of a book, a few thousand different ones in turn."""
    messages: list[Any] = []
    market = Market()
    feed = BookFeed("book", market.books["XBT/USD"], 1000)
    feed.opening()
    market.listeners.append(
        lambda act: messages.extend(feed.news(act)) if act.book is feed.book else None
    )
    market.advance(market.now + 600)
    lines = [frame(message) for message in messages]
    return lambda: itertools.islice(itertools.cycle(lines), count)


def snapshots(size: float) -> Lines:
    """Return what yields snapshots of depth 1000, SIZE bytes of them."""
    market = Market()
    frames = [
        frame(BookFeed("book", book, 1000).opening()[0])
        for name, book in market.books.items()
        if name != "XDG/XBT"  # which has few bids
    ]
    count = int(size / (sum(map(len, frames)) / len(frames)))
    return lambda: itertools.islice(itertools.cycle(frames), count)


def line(data: bytes) -> bytes:
    """Return what an unmasked frame carries, as a line."""
    return data[{126: 4, 127: 10}.get(data[1], 2) :] + b"\n"


def peak(pid: int) -> int:
    """Return the most memory that a process ever had, in KiB; 0 where /proc doesn't tell."""
    status = Path(f"/proc/{pid}/status")
    text = status.read_text() if status.exists() else "VmHWM: 0 kB"
    return int(text.partition("VmHWM:")[2].split()[0])


class Soak:
    """One run of the client into a file."""

    def __init__(self, authority: Authority, path: Path, frames: Lines) -> None:
        self.authority = authority
        self.path = path
        self.frames = frames
        self.middle = threading.Event()
        self.sent = hashlib.sha256()
        self.pid = self.peak = 0

    def script(self, peer: Peer) -> None:
        """Send everything, or what the client takes of it."""
        peer.greet()
        peer.receive()
        peer.send(ACCEPTED)
        count = sum(1 for _ in self.frames())
        frames = self.frames()
        for place in range(0, count, BATCH):
            batch = list(itertools.islice(frames, BATCH))
            for data in batch:
                self.sent.update(line(data))
            peer.sock.sendall(b"".join(batch))
            if place + BATCH >= count // 2:
                self.middle.set()
        peer.sync()
        self.peak = peak(self.pid)
        peer.close()

    def run(self, stop: bool = False) -> bool:
        """Run the client to the end, or to SIGTERM in the middle, and return if all is right."""
        command = [sys.executable, str(SCRIPT), "-rq", "book", "XBT/USD", "1000"]
        with ScriptedExchange(self.authority, self.script) as exchange, self.path.open("wb") as out:
            process = subprocess.Popen(
                command, env=exchange.environment(), stdout=out, stderr=subprocess.DEVNULL
            )
            self.pid = process.pid
            if stop:
                self.middle.wait()
                process.send_signal(signal.SIGTERM)
            status = process.wait()
        if stop:
            return status == 0 and self.is_prefix()
        return status == 1 and self.is_whole()  # 1: the exchange closed the connection

    def is_whole(self) -> bool:
        """Return whether the file has the hash of what was sent."""
        found = hashlib.sha256()
        with self.path.open("rb") as file:
            while data := file.read(1 << 20):
                found.update(data)
        return found.digest() == self.sent.digest()

    def is_prefix(self) -> bool:
        """Return whether the file is a beginning of what was sent, down to a whole line."""
        with self.path.open("rb") as file:
            return all(found == line(data) for found, data in zip(file, self.frames()))


def main() -> int:
    """Run everything, and print the results."""
    parser = argparse.ArgumentParser(description="Put the client to soak.")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    options = parser.parse_args()
    right = True
    with tempfile.TemporaryDirectory() as folder:
        authority, path = Authority(Path(folder)), Path(folder) / "out"
        for name, make, size in (
            ("updates", updates, options.messages),
            ("snapshots", snapshots, options.gigabytes * 1e9),
        ):
            peaks = []
            for length in (int(size / 10), int(size)):
                soak = Soak(authority, path, make(length))
                whole = soak.run()
                peaks.append(soak.peak)
                print(f"{name}: {path.stat().st_size:,} bytes,", "whole" if whole else "NOT WHOLE")
                right &= whole
            flat = peaks[1] <= FLAT * peaks[0]
            print(
                f"{name}: peak memory {peaks[0]:,} and {peaks[1]:,} KiB,",
                "flat" if flat else "NOT FLAT",
            )
            prefix = Soak(authority, path, make(int(size))).run(stop=True)
            print(
                f"{name}: SIGTERM at {path.stat().st_size:,} bytes,",
                "a prefix" if prefix else "NOT A PREFIX",
            )
            right &= flat and prefix
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
