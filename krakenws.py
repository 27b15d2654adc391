#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["websocket-client>=1.8"]
# ///
"""Command line client for Kraken's spot WebSocket API v1.

The words of the command line become one JSON request, which goes to ws.kraken.com or
ws-auth.kraken.com and nowhere else; every message that comes back is a line on stdout.
krakenws.py --help says what can be asked and what each exit status means.

The file reads as the data flows, from the table of names to the output, and then from main down.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from typing import Any, NamedTuple

__version__ = "1.1.0"

# https://docs.kraken.com/api/docs/guides/spot-ws-intro
PUBLIC = "wss://ws.kraken.com/"
PRIVATE = "wss://ws-auth.kraken.com/"

TOKEN_FILE = "WS_Token"  # noqa: S105 - a name, not a secret
MASK = b"***"  # what is printed in the token's place

ANSWER_SECONDS = 3.0  # ping and requests: the whole run, connecting included
IDLE_SECONDS = 30.0  # the exchange sends a heartbeat a second: silence means a dead link
MOST_SECONDS = 1e6  # eleven days; twice as much is near what poll() can count in milliseconds
CLOSE_SECONDS = 0.25  # how long the exchange's half of a closing handshake is waited for
STUCK_SECONDS = 0.3  # how long, once the run is to end, an output that blocks is waited for

# Kraken bans an address for ten minutes that connects more than 150 times in ten (the same page).
# Between connections that live less than STEADY_SECONDS the wait doubles, from FIRST_DELAY at the
# least: some 45 connections at the most, so that three processes may share an address.
FIRST_DELAY, LAST_DELAY = 1.0, 60.0  # seconds
STEADY_SECONDS = 60.0

DONE, FAILED, UNKNOWN, TIMED_OUT = 0, 1, 3, 124
STATUSES = {
    DONE: "done: a feed that ran until it was stopped, a pong, an accepted request",
    FAILED: "failed; of a request: certainly not in effect (cancelOrder: not for every id)",
    UNKNOWN: "a request was sent and its fate is unknown: it may be live",
    TIMED_OUT: "the time limit came before the count was reached",
}
FATE = "The request was sent and its fate is unknown: it may be live, look before sending it again"

CLOSE_FRAME, NORMAL_CLOSURE = 8, b"\x03\xe8"  # RFC 6455, 5.2 and 7.4.1
CHUNK_BYTES = 16384  # that are read at once: a TLS record

INTEGER = r"-?(0|[1-9][0-9]*)"
SCALAR = INTEGER + r"(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false"
XSTOCK = r"([A-Z][A-Z.]*x)(/(?s:.*))"  # TSLAx/USD

SIGNALS = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that end a run politely


class Failure(Exception):
    """Ends the run; its text is the sentence for the user."""


class Stop(BaseException):  # no Exception, which a library might take for a fault and go on
    """Ends the run: a signal's number, SIGALRM for the time limit, SIGPIPE for a reader gone."""

    def __str__(self) -> str:
        name = signal.Signals(self.args[0]).name
        return f"stopped by {'the time limit' if name == 'SIGALRM' else name}"


class Literal(str):
    """A JSON number or boolean as it was typed: 1.50 stays 1.50 on the wire."""


class Row(NamedTuple):
    """What the client has to know of a feed or endpoint."""

    url: str
    feed: bool  # a feed is subscribed to and streams; the others are answered and done
    about: str
    number: str = ""  # what a whole number among the pairs of a feed means
    default: int = 0
    lists: tuple[str, ...] = ("txid",)  # parameters that are split at commas
    each: tuple[str, ...] = ()  # members whose every item gets a reply of its own

    @property
    def trading(self) -> bool:
        """Whether the request can change what happens to somebody's money."""
        return self.url == PRIVATE and not self.feed


IDS = ("txid", "cl_ord_id")

# Names, parameters and replies: https://docs.kraken.com/api/docs/websocket-v1/ and one page a name.
# balances is the exception: the original has it, the reference hasn't.
TABLE = {
    "ping": Row(PUBLIC, False, "whether the exchange answers"),
    "trade": Row(PUBLIC, True, "trades", each=("pair",)),
    "book": Row(PUBLIC, True, "order book; number: depth (10)", "depth", 10, each=("pair",)),
    "ticker": Row(PUBLIC, True, "best prices and the day's figures", each=("pair",)),
    "spread": Row(PUBLIC, True, "best bid and ask", each=("pair",)),
    "ohlc": Row(PUBLIC, True, "candles; number: interval (1 min)", "interval", 1, each=("pair",)),
    "openOrders": Row(PRIVATE, True, "your open orders"),
    "ownTrades": Row(PRIVATE, True, "your trades"),
    "balances": Row(PRIVATE, True, "your balances"),
    "addOrder": Row(PRIVATE, False, "place an order"),
    "amendOrder": Row(PRIVATE, False, "change an order in place", lists=()),
    "editOrder": Row(PRIVATE, False, "replace an order"),
    "cancelOrder": Row(PRIVATE, False, "cancel orders", lists=IDS, each=IDS),
    "cancelAll": Row(PRIVATE, False, "cancel all orders"),
    "cancelAllOrdersAfter": Row(PRIVATE, False, "cancel all orders after a timeout"),
}
INTEGERS = {"reqid", "timeout"}  # parameters of every name
BOOLEANS = {"reduce_only", "margin", "post_only"}  # parameters of requests

REFUSALS = ("pingStatus", "subscriptionStatus")  # name no endpoint, and yet can refuse a request
ACCEPTED = ("ok", "subscribed")
# Errors of a service that failed: an order may be live. All others are refusals, and so is a market
# in cancel_only or post_only mode (https://docs.kraken.com/api/docs/guides/spot-errors).
BROKEN = "E(Service|Database):(?! ?Market in )|E[A-Za-z]+: ?(Internal error|Timeout)"


def usage() -> str:
    """Return the usage text: the original's two lines, and every name there is."""
    return f"""Usage: {sys.argv[0]} feed/endpoint [parameters]
Example: {sys.argv[0]} ticker XBT/USD
Feeds: {" ".join(name for name, row in TABLE.items() if row.feed)}
Endpoints: {" ".join(name for name, row in TABLE.items() if not row.feed)}
Options: {sys.argv[0]} --help"""


def epilog() -> str:
    """Return the half of the help that is not about options."""
    mark = {PUBLIC: "  ", PRIVATE: "* "}
    names = (f"  {name:22}{mark[row.url]}{row.about}\n" for name, row in TABLE.items())
    statuses = (f"  {status:<4}{text}\n" for status, text in STATUSES.items())
    return f"""feeds and endpoints (* needs a token):
{"".join(names)}
exit status:
{"".join(statuses)}
examples:
  {sys.argv[0]} book XBT/USD ETH/USD 25
  {sys.argv[0]} -rq -C 1 ticker XBT/USD
  {sys.argv[0]} -C 1 addOrder pair=XBT/USD type=buy ordertype=limit price=9000 volume=0.1"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are usage errors like the others."""

    def error(self, message: str) -> Any:
        """Raise Failure."""
        raise Failure(f"{usage()}\n{message}")


def seconds(text: str) -> float:
    """Return an option's value in seconds, or raise ValueError."""
    number = float(text)
    if not 0 <= number <= MOST_SECONDS:  # NaN isn't, either
        raise ValueError
    return number


def count(text: str) -> int:
    """Return an option's value that counts from 1, or raise ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def build_parser() -> Parser:
    """Return the parser of the command line, and the source of the help."""
    parser = Parser(
        prog=sys.argv[0],
        usage="%(prog)s [options] feed/endpoint [parameters]",
        description="Command line client for Kraken's spot WebSocket API v1.",
        epilog=epilog(),
        # A width of its own: argparse takes 3 ms to find out the terminal's, at every start.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=90),
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    option = parser.add_argument_group("options; S is in seconds").add_argument
    option("-r", "--raw", action="store_true", help="the exchange's messages only, one a line")
    option("-q", "--quiet", action="store_true", help="leave out what says that all is well")
    option("-C", "--count", metavar="N", type=count, help="stop after N messages of data (never)")
    option("-W", "--max-time", metavar="S", type=seconds, help="stop after S (3; feeds: 0, never)")
    silence = "silence that counts as a dead link, 0: none (%(default)g)"
    option("--idle-timeout", metavar="S", type=seconds, default=IDLE_SECONDS, help=silence)
    option("--reconnect", metavar="S", type=seconds, help="connect again, after about S (never)")
    option("--token-file", metavar="FILE", help=f"read the token from FILE ({TOKEN_FILE})")
    option("--token-command", metavar="CMD", help="take the token from what CMD prints")
    option("-n", "--dry-run", action="store_true", help="print the request and don't send it")
    option("-h", "--help", action="store_true", help="print this")
    option("--version", action="store_true", help="print the version")
    return parser


def parse_options(argv: list[str], options: argparse.Namespace) -> str:
    """Fill in OPTIONS from the command line, return what they want printed, or raise Failure."""
    end = argv.index("--") if "--" in argv else len(argv)
    parser = build_parser()
    parser.parse_intermixed_args(argv[:end], options)
    options.words = [*options.words, *argv[end + 1 :]] or ["ping"]
    # Never without a limit: within a write that blocks OpenSSL doesn't let Python see signals.
    options.idle_timeout = options.idle_timeout or MOST_SECONDS
    name = options.words[0]
    for word in options.words:
        if word.encode(errors="ignore").decode() != word:
            raise Failure(f"Parameter {word} is not text in the locale's encoding")
    if options.help or options.version:
        return parser.format_help().rstrip() if options.help else __version__
    if name not in TABLE:
        from difflib import get_close_matches

        like = get_close_matches(name.lower(), map(str.lower, TABLE), 1)
        hint = "".join(f": did you mean {key}?" for key in TABLE if key.lower() in like)
        parser.error(f"no feed or endpoint is called {name}{hint}")
    if options.reconnect is not None and not TABLE[name].feed:
        parser.error("--reconnect is for feeds: no request is ever sent twice")
    if options.token_file is not None and options.token_command is not None:
        parser.error("--token-file and --token-command exclude each other")
    return ""


def pair_name(word: str) -> str:
    """Return a pair as the exchange spells it: in capitals, but for the x of an xStock."""
    xstock = re.fullmatch(XSTOCK, word)
    return xstock[1] + xstock[2].upper() if xstock else word.upper()


def split_words(row: Row, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the pairs of a market feed and the name=value words, or raise Failure."""
    if "pair" not in row.each:
        # A word without = is refused later, but for ping, which ignores it as in the original.
        return [], [word for word in words if "=" in word or row.url == PRIVATE]
    named = [word for word in words if "=" in word]
    numbers = [word for word in words if word.isdecimal()]
    pairs = [pair_name(word) for word in words if word not in (*named, *numbers)]
    if not pairs:
        raise Failure(f"{usage()}\nA market feed needs a pair")
    # The last number counts, and 0 stands for the default, as in the original.
    number = int(numbers[-1]) if row.number and numbers else 0
    return pairs, [f"{row.number}={number}", *named] if number else named


def json_value(row: Row, name: str, text: str) -> str | list[str]:
    """Return a parameter typed by its name, and on a feed by its looks, or raise Failure."""
    if row.feed and name not in INTEGERS:
        return Literal(text) if re.fullmatch(SCALAR, text) else text
    if name in INTEGERS and not re.fullmatch(INTEGER, text):
        raise Failure(f"Parameter {name} must be a whole number")
    if name in BOOLEANS and text not in ("true", "false"):
        raise Failure(f"Parameter {name} must be true or false")
    if name in INTEGERS | BOOLEANS:
        return Literal(text)
    return text.split(",") if name in row.lists else text


def read_parameters(row: Row, words: list[str]) -> dict[str, Any]:
    """Return the name=value words as a dict, in the order typed, or raise Failure."""
    parameters: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise Failure(f"Parameter {word} is not of the form name=value")
        if name in ("event", "token") or (row.feed and name == "name"):
            raise Failure(f"Parameter {name} can't be given: the client sets it")
        if name in parameters:
            raise Failure(f"Parameter {name} is given twice")
        parameters[name] = json_value(row, name, text)
    return parameters


def build_request(name: str, words: list[str], token: str = "") -> dict[str, Any]:
    """Return the request that NAME and the words behind it ask for, or raise Failure.

    The order of the members is the order on the wire. TOKEN is for the private names.
    """
    row = TABLE[name]
    pairs, words = split_words(row, words)
    parameters = read_parameters(row, words)
    credentials = {"token": token} if row.url == PRIVATE else {}
    if not row.feed:
        return {"event": name, **credentials, **parameters}
    reqid = {"reqid": parameters.pop("reqid")} if "reqid" in parameters else {}
    number = {row.number: row.default} if row.number else {}
    subscription = {"name": name, **number, **parameters, **credentials}
    request = {"event": "subscribe", "subscription": subscription}
    return {**request, **({"pair": pairs} if pairs else {}), **reqid}


def encode(value: object) -> str:
    """Return VALUE as JSON, spaced as the original spaces it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode(key)}:{encode(value[key])}" for key in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    return value if isinstance(value, Literal) else json.dumps(value, ensure_ascii=False)


class Signals:
    """Notes the first signal, and raises it as a Stop where the client waits: within "with"."""

    stop: Stop | None = None  # what ends the run, once something does
    since = 0.0  # when it came, in monotonic seconds
    waiting = False  # for something that any signal cuts short
    writing = False  # a line, which is cut short only when it is stuck

    def install(self, limit: float) -> None:
        """Take over the signals not ignored at the start; SIGALRM comes in LIMIT s, never at 0."""
        signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, limit)  # before another signal sets it in its own way
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a parent's thread may block them

    def handle(self, number: int, _frame: object) -> None:
        """Note the first signal; from then on an alarm repeats, which frees a stuck write."""
        now = time.monotonic()
        if not self.stop:
            self.stop, self.since = Stop(number), now
            signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS, STUCK_SECONDS)
        if self.waiting or (self.writing and now >= self.since + STUCK_SECONDS):
            self.waiting = self.writing = False
            raise self.stop

    def __enter__(self) -> None:
        self.waiting = True
        if self.stop:  # looked for behind the flag, so that none falls between
            self.waiting = False
            raise self.stop

    def __exit__(self, *_: object) -> None:
        self.waiting = False


def read_token(options: argparse.Namespace, signals: Signals) -> str:
    """Return the token: the first line with text of where OPTIONS say, or raise Failure."""
    if options.token_command is not None:
        return token_from_command(options.token_command, options.idle_timeout, signals)
    # The current directory's or else the script's, because people and cron need one each. One that
    # is there, or where that can't be seen, isn't passed over: the other may be another account's.
    beside = os.path.join(os.path.dirname(os.path.realpath(__file__)), TOKEN_FILE)
    name = TOKEN_FILE if options.token_file is None else options.token_file
    absent = not os.path.lexists(name) and os.access(os.curdir, os.X_OK)
    file = beside if options.token_file is None and absent else name
    try:
        with signals, open(file, encoding="utf-8-sig") as lines:
            return next(filter(None, map(str.strip, lines)))
    except (OSError, ValueError, StopIteration):
        raise Failure(f"WebSocket authentication token missing ({name})") from None


def token_from_command(command: str, limit: float, signals: Signals) -> str:
    """Return the token that a shell command prints within LIMIT seconds, or raise Failure."""
    import subprocess  # outside of the wait: an import may swallow what is raised in it

    try:
        with signals:  # the command is the user's own
            output = subprocess.check_output(command, shell=True, timeout=limit)  # noqa: S602
        return next(filter(None, map(str.strip, output.decode().splitlines())))
    except subprocess.CalledProcessError as error:
        problem = f"ended with status {error.returncode}"
    except subprocess.TimeoutExpired:
        problem = f"took longer than {limit:g} seconds"
    except (ValueError, StopIteration):
        problem = "printed no text"
    raise Failure(f"WebSocket authentication token missing (--token-command {problem})")


def check_library() -> None:
    """Raise Failure where websocket-client isn't installed, or is too old."""
    try:
        # PyPI's package "websocket" has a WebSocket as well, but no such exception.
        from websocket import WebSocketTimeoutException, __version__  # noqa: F401

        old = tuple(map(int, re.findall("[0-9]+", __version__)[:2])) < (1, 8)
        problem = f"{__version__} is too old" if old else ""
    except Exception:  # whatever else is called websocket may fail in any way
        problem = "is missing, or another package called websocket is in its place"
    if problem:
        from shlex import quote

        install = "-m pip install 'websocket-client>=1.8'"
        raise Failure(f"websocket-client {problem}: {quote(sys.executable or 'python3')} {install}")


class Connection(io.RawIOBase):
    """A WebSocket, and the raw stream that its library reads. Any Exception: it is lost."""

    def __init__(self, url: str, limit: float, signals: Signals) -> None:
        """Open it. LIMIT, in seconds and not 0, goes for this as for every later wait."""
        from websocket import WebSocket

        # UTF-8 would be checked in pure Python: receive does it. The locks are for many threads.
        ws: Any = WebSocket(skip_utf8_validation=True, enable_multithread=False)
        self.ws = ws
        self.limit = limit
        self.signals = signals
        self.deadline = time.monotonic() + limit
        self.error: Exception | None = None
        # A thread dials, because a name look-up can neither be interrupted nor limited in time.
        thread = threading.Thread(target=self.dial, args=(url,), name="dial", daemon=True)
        thread.start()
        with signals:
            while thread.is_alive() and time.monotonic() < self.deadline:
                thread.join(min(limit, 0.25))  # a signal that comes just before it doesn't end it
        if thread.is_alive():
            raise ConnectionError(f"no connection within {limit:g} seconds")
        if self.error:
            raise self.error
        # Large reads, instead of three for each message: undocumented, and a fifth of the time
        ws.frame_buffer.recv = io.BufferedReader(self, CHUNK_BYTES).read
        # close() answers the exchange's close frame: at once, a failure would hide the reason in it
        ws.send_close = lambda: None

    def dial(self, url: str) -> None:
        """Connect to URL, or leave in ERROR what prevented it."""
        try:
            # Twice the limit on connecting: late, but an abandoned thread ends as well.
            self.ws.connect(url, timeout=2 * self.limit, redirect_limit=0)
        except Exception as error:
            self.error = error
        status = self.ws.getstatus()
        if status not in (None, 101):  # websocket-client 1.8 takes an unfollowed redirect for open
            self.error = ConnectionError(f"HTTP {status}, and redirects are not followed")

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill BUFFER with what comes before the deadline, and return how much that is."""
        try:
            self.ws.settimeout(self.deadline - time.monotonic())  # a ValueError once it is over
            size: int = self.ws.sock.recv_into(buffer)
        except (socket.timeout, ValueError):
            raise ConnectionError(f"nothing received for {self.limit:g} seconds") from None
        if not size:  # at the end, where the library would ask again for ever
            raise ConnectionError("Connection to remote host was lost.")
        return size

    def receive(self) -> bytes:
        """Return the next message, which has LIMIT seconds from now to come, or raise."""
        self.deadline = time.monotonic() + self.limit
        with self.signals:
            opcode, data = self.ws.recv_data()
        if opcode == CLOSE_FRAME:
            code = str(int.from_bytes(data[:2], "big")) if data else "closed without a code"
            raise ConnectionError(f"{code} {data[2:].decode(errors='replace')}")
        if not data.isascii():
            data.decode()  # checks its UTF-8, as the protocol demands
        return bytes(data)

    def hang_up(self) -> None:
        """Close as the protocol has it, without waiting long for the other side."""
        self.deadline = time.monotonic() + CLOSE_SECONDS
        # Not websocket-client's own close(), which waits on while anything at all trickles in.
        with contextlib.suppress(Exception):
            self.ws.settimeout(CLOSE_SECONDS)
            self.ws.send(NORMAL_CLOSURE, CLOSE_FRAME)
            while self.readinto(bytearray(CHUNK_BYTES)):  # raises at the end, and at the deadline
                pass
        self.ws.shutdown()


class Outcome:
    """What the exchange has answered to a request, on one connection."""

    def __init__(self, name: str, request: dict[str, Any]) -> None:
        self.row = TABLE[name]
        self.answer = "subscriptionStatus" if self.row.feed else f"{name}Status"
        self.due = sum(len(request.get(member, ())) for member in self.row.each) or 1
        self.accepted = 0
        self.errors: list[str] = []
        self.broken = False  # whether one of them is a service's that failed, which is no refusal
        self.whole = False  # whether one of them goes for the whole request

    def note(self, event: dict[str, Any]) -> None:
        """Take in an event that came after the request was sent."""
        kind = event.get("event")
        kind, status = ("pingStatus", "ok") if kind == "pong" else (kind, event.get("status"))
        if self.complete and not self.row.feed and status not in ACCEPTED:
            return  # the answer stands
        if kind == "error" or (status == "error" and kind in (self.answer, *REFUSALS)):
            self.errors.append(str(event.get("errorMessage")))
            self.broken |= bool(re.match(BROKEN, self.errors[-1]))
            self.whole |= kind != self.answer or (self.row.feed and "pair" not in event)
        elif kind == self.answer and status in ACCEPTED:
            self.accepted += 1

    @property
    def complete(self) -> bool:
        """Whether every reply that is due has come."""
        return self.whole or self.accepted + len(self.errors) >= self.due

    @property
    def certain(self) -> bool:
        """Whether it is known what became of it."""
        too_many = self.whole or self.accepted + len(self.errors) > self.due
        contradicted = too_many and self.accepted and self.errors
        return self.complete and not contradicted and not (self.broken and self.row.trading)


class Output:
    """What the client writes: whole lines, at once, with the token masked."""

    def __init__(self, options: argparse.Namespace, signals: Signals) -> None:
        self.options = options
        self.signals = signals
        self.secrets: list[bytes] = []  # the current token, in each of its spellings
        self.lost = sys.stdout is None  # whether stdout takes no more

    def hide(self, token: str) -> None:
        """Mask TOKEN from now on, as it was typed and as JSON may escape it."""
        escaped = encode(token)[1:-1]
        spellings = dict.fromkeys((token, escaped, escaped.replace("/", r"\/")))
        self.secrets = [spelling.encode() for spelling in spellings]

    def message(self, message: bytes) -> None:
        """Print what the exchange sent."""
        self.write(message if self.options.raw else b"WebSocket -> Client: " + message)

    def say(self, sentence: str) -> None:
        """Write a sentence to stdout, or to stderr with --raw or once stdout is lost."""
        line = sentence.encode("utf-8", "backslashreplace")
        with contextlib.suppress(Failure, Stop):
            if not (self.lost or self.options.raw):
                return self.write(line)
        with contextlib.suppress(Failure, Stop):
            if sys.stderr is not None:  # else 2 may be the number of something else
                self.write(line, 2)
        return None

    def write(self, line: bytes, descriptor: int = 1) -> None:
        """Write a line, now; raise Stop where its reader has left, Failure where it can't be."""
        for secret in self.secrets:
            line = line.replace(secret, MASK)
        rest = line + b"\n"
        self.signals.writing = True
        try:
            while rest:
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except BlockingIOError:  # another program made it so
                    select.select([], [descriptor], [])
        except (OSError, Stop) as error:
            self.lost = self.lost or descriptor == 1
            if isinstance(error, BrokenPipeError):
                raise Stop(signal.SIGPIPE) from None
            stuck = ", while its reader was stuck: the last line is cut or missing"
            words = f"{error}{stuck if isinstance(error, Stop) else ''}"
            raise Failure(f"stdout can't be written ({words})") from None
        finally:
            self.signals.writing = False


def main(argv: list[str] | None = None) -> int:
    """Run the command line ARGV, or the process's own, and return the exit status."""
    run = Run()
    end: BaseException | None = None
    try:
        run.perform(sys.argv[1:] if argv is None else argv)
    except (Exception, Stop) as error:
        end = error
    status, sentence = run.verdict(end)
    if sentence:
        run.output.say(sentence)
    for number in SIGNALS:  # while the interpreter exits, where it would reset them to deadly
        signal.signal(number, signal.SIG_IGN)
    if any(thread.name == "dial" for thread in threading.enumerate()):
        os._exit(status)  # for the usual exit clears OpenSSL away under it
    return status


class Run:
    """One run of the client: what is asked for, how far it has got, and how it ends."""

    row = TABLE["ping"]  # until the command line is read
    stage = "connection"  # in the original's words
    sent = False
    data = 0  # messages of a feed
    subscribed = False  # whether a subscription was ever accepted

    def __init__(self) -> None:
        self.options = argparse.Namespace()
        self.signals = Signals()
        self.output = Output(self.options, self.signals)
        self.outcome = Outcome("ping", {})  # of the latest connection

    def perform(self, argv: list[str]) -> None:
        """Do what the command line asks for, or raise what cuts it short."""
        options = self.options
        text = parse_options(argv, options)
        if self.output.lost:  # nothing may be sent whose answer can't be shown
            raise Failure("stdout is closed")
        if text:
            return self.output.write(text.encode())
        self.row = TABLE[options.words[0]]
        if options.dry_run:
            return self.output.write(encode(self.prepare()).encode())
        limit = 0 if self.row.feed else ANSWER_SECONDS
        self.signals.install(limit if options.max_time is None else options.max_time)
        return self.stay_connected()

    def prepare(self) -> dict[str, Any]:
        """Return the request that the command line asks for, or raise Failure."""
        name, *words = self.options.words
        token = MASK.decode()
        if self.row.url == PRIVATE and not self.options.dry_run:
            token = read_token(self.options, self.signals)
            self.output.hide(token)
        return build_request(name, words, token)

    def stay_connected(self) -> None:
        """Converse, and with --reconnect begin again whenever the connection is lost."""
        reconnect, delay = self.options.reconnect, None
        request: dict[str, Any] | None = self.prepare()
        check_library()
        while True:
            begin = time.monotonic()
            try:
                request = request or self.prepare()  # anew, with a fresh token
                return self.converse(request)
            except Exception as error:
                # A token that can't be had may come yet, but not an output or a subscription.
                if reconnect is None or (request and isinstance(error, Failure)):
                    raise
                sentence = self.explain(error)
            delay = next_delay(reconnect, delay, time.monotonic() - begin)
            from random import uniform

            wait = delay * uniform(0.8, 1.2)  # noqa: S311 - lest all clients come back at once
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            loss = f"{now} {sentence}\nConnecting again in {wait:.1f} seconds"
            if self.options.raw:
                self.output.say(loss)
            else:  # what can't be written ends the run: nobody reads what would come
                self.output.write(loss.encode("utf-8", "backslashreplace"))
            with self.signals:
                time.sleep(wait)
            request = None

    def converse(self, request: dict[str, Any]) -> None:
        """Connect, send the request and print what comes, until --count is reached or it fails."""
        self.stage = "connection"
        self.outcome = Outcome(self.options.words[0], request)
        connection = Connection(self.row.url, self.options.idle_timeout, self.signals)
        try:
            self.take(connection.receive())
            self.stage = "subscription/request"
            text = encode(request)
            if not (self.options.raw or self.options.quiet):
                self.output.write(f"Client -> WebSocket: {text}".encode())
            with self.signals:
                self.sent = True
                connection.ws.send(text)
            goal = self.options.count
            while not (goal and (self.data >= goal if self.row.feed else self.outcome.complete)):
                message = connection.receive()
                self.stage = "messages"
                if message.startswith(b"["):
                    self.output.message(message)
                    self.data += 1
                else:
                    self.take(message)
        finally:
            connection.hang_up()

    def take(self, message: bytes) -> None:
        """Print an event, unless --quiet leaves it out, and take in what it answers, or raise."""
        event: dict[str, Any] = {}
        with contextlib.suppress(ValueError, RecursionError):  # not JSON; nested too deeply
            event = json.loads(message) if message.lstrip().startswith(b"{") else event
        kind, status = event.get("event"), event.get("status")
        accepted = kind == "subscriptionStatus" and status in ACCEPTED
        well = accepted or kind == "heartbeat" or (kind, status) == ("systemStatus", "online")
        if not (well and self.options.quiet):
            self.output.message(message)
        if self.stage == "connection":  # the greeting, which answers nothing
            return
        self.outcome.note(event)
        self.subscribed = self.subscribed or self.outcome.accepted > 0
        if self.row.feed and self.outcome.complete and not self.outcome.accepted:
            error = self.objection()
            # Where a service failed, another connection may help; a refusal is the end.
            raise error if self.outcome.broken else Failure(self.explain(error))

    def objection(self) -> ConnectionError:
        """Return all that the exchange has said against the request, as what ended its stage."""
        self.stage = "subscription/request"
        return ConnectionError("; ".join(dict.fromkeys(self.outcome.errors)))

    def explain(self, end: BaseException | None) -> str:
        """Return the sentence, on one line, that is due for what ended a connection or the run."""
        if end is None or (isinstance(end, Stop) and end.args[0] == signal.SIGPIPE):
            return ""
        if isinstance(end, Failure):
            return str(end)
        words = str(end) or type(end).__name__
        if hasattr(end, "status_code"):  # websocket.WebSocketBadStatusException
            names = {status.value: status.phrase for status in HTTPStatus}
            words = f"HTTP {end.status_code} {names.get(end.status_code, '')}"
        elif hasattr(end, "verify_message"):  # ssl.SSLCertVerificationError
            words = f"certificate not accepted: {end.verify_message}"
        return f"WebSocket {self.stage} failed ({' '.join(words.split())})"

    def verdict(self, end: BaseException | None) -> tuple[int, str]:
        """Return the exit status, as the README has it, and what to say; END cut the run short."""
        sentence = self.explain(end)
        stop = end.args[0] if isinstance(end, Stop) else None
        live = self.subscribed or self.data > 0
        if self.sent and not self.row.feed and self.outcome.certain:
            return FAILED if self.outcome.errors else DONE, sentence if self.output.lost else ""
        if self.sent and self.row.trading:
            if self.outcome.broken:
                sentence = self.explain(self.objection())
            return UNKNOWN, f"{sentence}\n{FATE}".strip()
        if stop == signal.SIGALRM and self.options.count and not self.row.trading:
            return TIMED_OUT, "" if live else sentence
        if end is None or (self.row.feed and (stop == signal.SIGPIPE or (stop and live))):
            return DONE, ""
        return FAILED, sentence


def next_delay(reconnect: float, last: float | None, lived: float) -> float:
    """Return the seconds to wait after a connection that LIVED so; LAST was the wait before it."""
    if last is None or lived >= STEADY_SECONDS:
        return reconnect
    return max(reconnect, min(max(2 * last, FIRST_DELAY), LAST_DELAY))


if __name__ == "__main__":
    raise SystemExit(main())
