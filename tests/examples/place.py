#!/usr/bin/env python3
"""Place an order on Kraken, and find out what became of it.

The parameters are those of krakenws.py addOrder, for example:

  place.py pair=XBT/USD type=buy ordertype=limit price=9000 volume=0.01

Before the order is sent, stderr shows its userref and its deadline. Kraken does not carry an order
out after its deadline. The only line on stdout says what became of the order:

  accepted: TXID                   status 0: Kraken said so, in its reply or on the feed openOrders
  refused: WORDS                   status 1: Kraken said so
  never sent                       status 1: stderr says why
  never in effect                  status 1: the deadline is over, and the order is not there
  not known: look for userref N    status 3: it may be open or filled, so do not just repeat it

Without a reply, finding out takes up to 20 seconds, or 40 where connections are lost. It relies on
this machine's clock being right within 10 seconds.

Before the order is sent, a signal (Ctrl-C, SIGTERM, SIGHUP) ends the program. After that the
program goes on finding out what became of the order, and a second signal ends it with "not known".

An order takes two connections, or a few more where they are lost. Kraken bans an address for more
than 150 connections in ten minutes, so place at most 50 orders in ten minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, NoReturn

ACCEPTED, NOT_IN_EFFECT, NOT_KNOWN = 0, 1, 3  # as the client's own statuses for a request
OWN_PARAMETERS = ("userref", "deadline", "cl_ord_id")  # Kraken takes no cl_ord_id with a userref

DEADLINE_SECONDS = 6  # from now; Kraken takes 0.5 to 60
CLOCK_SECONDS = 10.0  # that this machine's clock may be wrong, and that news may be late
SURE_SECONDS = DEADLINE_SECONDS + CLOCK_SECONDS  # then the order can't come into effect any more
SILENT_SECONDS = 5.0  # a feed has a heartbeat each second: after such a silence it has failed
REPLY_SECONDS = 10  # that a client waits for the reply, or for a snapshot
FEED_SECONDS = 60  # that the feed lasts; the program takes less
WAKE_SECONDS = 1.0  # a signal just before a wait does not end it: then it is noticed after this
SHOWN_TRADES = 50  # in the snapshot of ownTrades
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Fate(Exception):
    """Says what became of the order, as soon as that is known: the exit status and the words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Event(NamedTuple):
    """Something that happened: a signal, a line that a client printed, or the end of a client."""

    source: str  # "signal", or what the client is for; "" if nothing happened
    line: bytes = b""
    status: int | None = None  # of a client that has ended


class Order:
    """One order, from the command line to its fate.

    Whatever happens is put into a queue, and only wait() takes it out. A signal's handler does no
    more than note the signal, which has its effect in check(): none comes at a wrong moment.
    """

    def __init__(self, options: list[str], words: list[str]) -> None:
        """OPTIONS go to each client, and WORDS are the order's parameters."""
        self.options = options
        self.words = words
        self.userref = 1 + secrets.randbelow(999_999_999)
        self.clients: list[subprocess.Popen[bytes]] = []
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.signals = 0  # that have come
        self.sent = False  # whether the order may have been sent
        self.messages = 0  # of the feed
        self.since = 0.0  # when the order was sent, by the clock
        self.sure = 0.0  # when it can no longer come into effect, in monotonic seconds

    def place(self) -> NoReturn:
        """Place the order, and raise its Fate, whatever else is raised meanwhile."""
        try:
            self.open_feed()
            self.send()
            self.watch()
            self.search()
        except Fate:
            raise
        except Exception as error:
            say(str(error))
            raise self.not_known() if self.sent else Fate(NOT_IN_EFFECT, "never sent") from None

    def note(self, _number: int, _frame: object) -> None:
        """Note a signal, and wake wait(); a handler may use a SimpleQueue."""
        self.signals += 1
        self.events.put(Event("signal"))

    def check(self) -> None:
        """Raise the Fate if a signal ends the program here."""
        if self.signals and not self.sent:
            raise Fate(NOT_IN_EFFECT, "never sent")
        if self.signals > 1:
            raise self.not_known()

    def not_known(self) -> Fate:
        """Return the Fate that nobody knows."""
        return Fate(NOT_KNOWN, f"not known: look for userref {self.userref}")

    def wait(self, seconds: float) -> Event:
        """Return what happens next, within SECONDS, or raise the Fate."""
        try:
            event = self.events.get(timeout=seconds)
        except Empty:
            event = Event("")
        self.check()
        if event.source == "signal":
            words = "finding out what became of it. A second signal ends this."
            say(f"The order may already be sent: {words}")
        return event

    def start(self, source: str, *words: str) -> None:
        """Start a client whose events have this source, in a session where no Ctrl-C comes."""
        client = subprocess.Popen(
            [sys.executable, find_client(), "-r", *self.options, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.clients.append(client)
        threading.Thread(target=self.read, args=(source, client), daemon=True).start()

    def read(self, source: str, client: subprocess.Popen[bytes]) -> None:
        """Put what a client prints into the queue, line by line, and then its end."""
        assert client.stdout
        for line in client.stdout:
            self.events.put(Event(source, line))
        self.events.put(Event(source, status=client.wait()))

    def open_feed(self) -> None:
        """Subscribe to openOrders: after its snapshot no order comes into effect unseen."""
        self.start("feed", f"-W{FEED_SECONDS}", "openOrders")
        while not self.messages:
            event = self.wait(WAKE_SECONDS)
            if event.status is not None:
                raise Fate(NOT_IN_EFFECT, "never sent")
            self.messages += isinstance(parse(event.line), list)

    def send(self) -> None:
        """Tell the user what the order will be known by, and send it."""
        self.since = time.time()
        self.sure = time.monotonic() + SURE_SECONDS
        last = time.gmtime(self.since + DEADLINE_SECONDS)
        deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", last)
        write(2, f"userref {self.userref}, deadline {deadline}")  # if it can't, nothing is sent
        self.check()
        self.sent = True
        words = f"userref={self.userref}", f"deadline={deadline}", *self.words
        self.start("order", "-q", "-C1", f"-W{REPLY_SECONDS}", "--", "addOrder", *words)

    def watch(self) -> None:
        """Raise the Fate that the reply or the feed tells; return when neither can any more."""
        replied = failed = False
        words, heard = "", time.monotonic()
        while not (replied and failed):
            event = self.wait(WAKE_SECONDS)
            now = time.monotonic()
            replied = replied or now > self.sure  # the client may have been stopped
            failed = failed or now > heard + SILENT_SECONDS
            if event.source == "order":
                words = find_words(event.line) or words
                replied = replied or event.status is not None
                self.judge(event.status, words)
            elif event.source == "feed":
                failed = failed or self.follow(event)
                heard = now
                if replied and not failed and now > self.sure:
                    raise Fate(NOT_IN_EFFECT, "never in effect")

    def judge(self, status: int | None, words: str) -> None:
        """Raise the Fate that the order's client tells by its exit status, if it has one."""
        if status == ACCEPTED:
            raise Fate(ACCEPTED, f"accepted: {words or f'userref {self.userref}'}")
        if status == NOT_IN_EFFECT:
            raise Fate(NOT_IN_EFFECT, f"refused: {words}" if words else "never sent")
        if status is not None:
            say(f"No certain reply: looking for userref {self.userref}.")

    def follow(self, event: Event) -> bool:
        """Return whether the feed has failed: at its end, and where a message is missing.

        Raise the Fate if the order is on it.
        """
        message = parse(event.line)
        if isinstance(message, list):
            self.messages += 1
            self.find(message[0])
            return bool(message[-1].get("sequence") != self.messages)
        return event.status is not None

    def find(self, rows: list[dict[str, Any]]) -> None:
        """Raise the Fate if the order is among the rows of openOrders."""
        for txid, fields in members(rows):
            if str(fields.get("userref")) == str(self.userref):
                raise Fate(ACCEPTED, f"accepted: {txid}")

    def search(self) -> NoReturn:
        """Raise the Fate that other connections tell: of the open orders, and then of trades."""
        self.find(self.look("openOrders") or [])
        while (left := self.sure - time.monotonic()) > 0:
            self.wait(min(left, WAKE_SECONDS))
        orders = self.look("openOrders")
        trades = self.look("ownTrades")
        self.find(orders or [])
        if orders is None or trades is None or self.may_be_traded(trades):
            raise self.not_known()
        raise Fate(NOT_IN_EFFECT, "never in effect")

    def look(self, name: str) -> list[dict[str, Any]] | None:
        """Return the rows of a private feed's snapshot, or None if it can't be had."""
        self.start(name, "-q", "-C1", f"-W{REPLY_SECONDS}", "--reconnect", "1", name)
        rows = None
        while True:
            event = self.wait(WAKE_SECONDS)
            mine = event.source == name
            message = parse(event.line) if mine else None
            rows = message[0] if isinstance(message, list) else rows
            if mine and event.status is not None:
                return rows

    def may_be_traded(self, rows: list[dict[str, Any]]) -> bool:
        """Return whether a recent trade may be this order's: ownTrades shows no userref."""
        trades = [trade for _, trade in members(rows)]
        since = self.since - CLOCK_SECONDS
        recent = [trade for trade in trades if float(trade["time"]) > since]
        words = [word.lower() for word in self.words]
        same_side = any(f"type={trade['type']}" in words for trade in recent)
        return same_side or len(recent) >= SHOWN_TRADES  # where the snapshot may not go back enough


def members(rows: list[dict[str, Any]]) -> Iterable[tuple[str, Any]]:
    """Return all that is in the rows of a private feed, each of which is a dict by id."""
    return (member for row in rows for member in row.items())


def parse(line: bytes) -> Any:
    """Return the JSON in a line, or None if it has none."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def find_words(line: bytes) -> str:
    """Return what a reply says of the order, or nothing."""
    reply = parse(line)
    fields = reply if isinstance(reply, dict) else {}
    words = (fields.get(name) for name in ("txid", "errorMessage", "Error", "descr"))
    return " ".join(str(next(filter(None, words), "")).split())


def find_client() -> str:
    """Return the path of krakenws.py, beside this program or in its checkout; raise ValueError."""
    here = Path(__file__).resolve().parent
    for folder in (here, here.parent.parent):
        if (folder / "krakenws.py").is_file():
            return str(folder / "krakenws.py")
    raise ValueError(f"krakenws.py is neither in {here} nor in {here.parent.parent}")


def write(descriptor: int, text: str) -> None:
    """Write a line at once, or raise OSError; print() would end with 120 on a full disk."""
    rest = f"{text}\n".encode(errors="backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def say(sentence: str) -> None:
    """Write a sentence to stderr, if it can be written."""
    with contextlib.suppress(OSError):
        write(2, sentence)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are failures like the others: argparse ends with 2."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(f"{self.format_usage()}{message}")


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        usage="place.py [options] pair=... type=... ordertype=... volume=...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    option = parser.add_argument_group("options").add_argument
    option("--token-file", metavar="FILE", help="read the token from FILE (WS_Token)")
    option("--token-command", metavar="CMD", help="take the token from what CMD prints")
    option("-h", "--help", action="store_true", help="print this")
    return parser


def read_options(options: argparse.Namespace) -> list[str]:
    """Return the options for each client, or raise ValueError if the parameters can't be right."""
    names = [word.partition("=")[0] for word in options.words]
    for name in OWN_PARAMETERS:
        if name in names:
            raise ValueError(f"{name} can't be given: place.py knows the order by its own userref")
    if not names:
        raise ValueError(f"{build_parser().format_usage()}An order needs parameters")
    find_client()
    token = {"--token-file": options.token_file, "--token-command": options.token_command}
    return [f"{option}={text}" for option, text in token.items() if text is not None]


def place(order: Order) -> Fate:
    """Place an order, and return its Fate. Behind that no signal does anything any more."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, order.note)
    try:
        order.place()
    except Fate as fate:
        return fate
    finally:
        for number in SIGNALS:  # Python would make them deadly again while it ends
            signal.signal(number, signal.SIG_IGN)
        for client in order.clients:
            client.kill()


def run(argv: list[str]) -> Fate:
    """Do what the command line asks for, and return the exit status and the line for stdout."""
    try:
        options = build_parser().parse_intermixed_args(argv)
        if options.help:
            return Fate(0, build_parser().format_help().rstrip())
        return place(Order(read_options(options), options.words))
    except ValueError as error:
        say(str(error))
        return Fate(NOT_IN_EFFECT, "never sent")


def main() -> int:
    """Place the order of the command line, say what became of it, and return the exit status."""
    if None in (sys.stdout, sys.stderr):  # nothing may be sent of which nothing can be said
        return NOT_IN_EFFECT
    fate = run(sys.argv[1:])
    try:
        write(1, str(fate))
    except OSError as error:
        say(f"{fate}\nstdout can't be written ({error})")
        return fate.status or NOT_KNOWN  # like the client's, for a reply that can't be written
    return fate.status


if __name__ == "__main__":
    raise SystemExit(main())
