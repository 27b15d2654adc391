#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["websocket-client>=1.8"]
# ///
"""Command line client for Kraken's spot WebSocket API v1.

The words of the command line become one JSON request, which goes to ws.kraken.com or
ws-auth.kraken.com and nowhere else; every message that comes back is a line on stdout.
krakenws.py --help says what can be asked and what each exit status means.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import json
import math
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, NamedTuple, TextIO

__version__ = "1.0.0"

# https://docs.kraken.com/api/docs/guides/spot-ws-intro
PUBLIC = "wss://ws.kraken.com/"
PRIVATE = "wss://ws-auth.kraken.com/"

TOKEN_FILE = "WS_Token"  # noqa: S105 - a name, not a secret
RECENT_TOKENS = 20  # of one run, that are masked: a token is good for 15 minutes
MASK = "***"  # what is printed in the token's place

ANSWER_SECONDS = 3.0  # ping and requests: the whole run, connecting included
IDLE_SECONDS = 30.0  # the exchange sends a heartbeat a second: silence means a dead link
MOST_SECONDS = 1e6  # eleven days; twice as much is near what poll() can count in milliseconds
CLOSE_SECONDS = 0.25  # how long the exchange's half of a closing handshake is waited for
STUCK_SECONDS = 0.3  # how long, once the run is to end, an output that blocks is waited for
MOST_DELAY_SECONDS = 60.0  # between two connections

# More connections than these from one address, and it is banned for ten minutes.
# https://docs.kraken.com/api/docs/guides/spot-ws-intro
MOST_CONNECTIONS, CONNECTIONS_SECONDS = 150, 600.0

DONE, FAILED, UNKNOWN, TIMED_OUT = 0, 1, 3, 124
STATUSES = {
    DONE: "done: a feed that ran until it was stopped, a pong, an accepted request",
    FAILED: "failed; of a request: certainly not in effect (cancelOrder: not for every id)",
    UNKNOWN: "a request was sent and its fate is unknown: it may be live",
    TIMED_OUT: "the time limit came before the count was reached",
}
HELP_WIDTH = 90  # columns

UNKNOWN_FATE = (
    "The request was sent and its fate is unknown: it may be live, look before sending it again"
)

SWITCHING_PROTOCOLS = 101  # the HTTP status of an open WebSocket
CLOSE_FRAME, NORMAL_CLOSURE = 8, b"\x03\xe8"  # opcode and code 1000: RFC 6455, 5.2 and 7.4.1
CHUNK_BYTES = 65536  # of what comes after the close frame, read and forgotten

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(INTEGER.pattern + r"(\.[0-9]+)?([eE][-+]?[0-9]+)?")
XSTOCK = re.compile(r"([A-Z][A-Z.]*x)(/.*)", re.DOTALL)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that end a run politely

INTEGERS = {"reqid", "timeout"}
BOOLEANS = {"reduce_only", "margin", "post_only"}


class Failure(Exception):
    """Ends the run; its text is the sentence for the user."""


class OutputLost(Exception):
    """Ends the run: stdout takes no more. Its text is the sentence for stderr, if any is due."""


class Stop(BaseException):
    """Ends the run: a signal or the time limit, which its text names.

    Not an Exception, so that no handler in a library takes it for a fault and goes on.
    """


class TimeLimit(Stop):
    """Ends the run: the time limit."""


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
    def pairs(self) -> bool:
        """Whether the feed is a market's, subscribed to by pair."""
        return self.feed and not self.private

    @property
    def private(self) -> bool:
        """Whether it needs a token."""
        return self.url == PRIVATE

    @property
    def trading(self) -> bool:
        """Whether the request can change what happens to somebody's money."""
        return self.private and not self.feed


IDS = ("txid", "cl_ord_id")
PAIR = ("pair",)

# Names, parameters and replies: https://docs.kraken.com/api/docs/websocket-v1/ and one page a name.
# balances is the exception: the original has it, the reference hasn't.
TABLE = {
    "ping": Row(PUBLIC, False, "whether the exchange answers"),
    "trade": Row(PUBLIC, True, "trades", each=PAIR),
    "book": Row(PUBLIC, True, "order book; number: depth (10)", "depth", 10, each=PAIR),
    "ticker": Row(PUBLIC, True, "best prices and the day's figures", each=PAIR),
    "spread": Row(PUBLIC, True, "best bid and ask", each=PAIR),
    "ohlc": Row(PUBLIC, True, "candles; number: interval (1 min)", "interval", 1, each=PAIR),
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

ANSWERS = {"ping": "pong"}  # all other requests are answered by their name and "Status"
REFUSALS = ("pingStatus", "subscriptionStatus")  # name no endpoint, and yet can refuse a request
ACCEPTED = ("ok", "subscribed")
FAILURES = (  # of the exchange itself: it may have carried the request out
    "EService:Unavailable",
    "EService:Busy",
    "EService:Timeout",
    "EService:Deadline elapsed",
    "EGeneral:Internal error",
)
HOUSEKEEPING = ("systemStatus", "heartbeat")


def usage() -> str:
    """Return the usage text: the original's two lines, and every name there is."""
    lines = [
        f"Usage: {sys.argv[0]} feed/endpoint [parameters]",
        f"Example: {sys.argv[0]} ticker XBT/USD",
        f"Feeds: {' '.join(name for name, row in TABLE.items() if row.feed)}",
        f"Endpoints: {' '.join(name for name, row in TABLE.items() if not row.feed)}",
    ]
    return "\n".join([*lines, f"Options: {sys.argv[0]} --help"])


def help_text() -> str:
    """Return what --help prints."""
    names = "\n".join(f"  {name:22}{row.about}" for name, row in TABLE.items())
    statuses = "\n".join(f"  {status:<22}{text}" for status, text in STATUSES.items())
    return f"""{build_parser().format_help()}
feeds and endpoints:
{names}

exit status:
{statuses}

examples:
  {sys.argv[0]} book XBT/USD ETH/USD 25
  {sys.argv[0]} -rq -C 1 ticker XBT/USD
  {sys.argv[0]} -C 1 addOrder pair=XBT/USD type=buy ordertype=limit price=9000 volume=0.1"""


class Options(argparse.Namespace):
    """The command line, with what goes for the options that it leaves out."""

    words: list[str]
    raw = False
    quiet = False
    count: int | None = None
    max_time: float | None = None  # seconds; 0 for no limit
    idle_timeout = IDLE_SECONDS  # seconds; 0 for no limit
    reconnect: float | None = None  # seconds
    token_file: str | None = None
    token_command: str | None = None
    dry_run = False
    help = False
    version = False


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are usage errors like the others."""

    def error(self, message: str) -> Any:
        """Raise Failure."""
        if message.startswith("unrecognized"):  # their values, and other words, may be secrets
            names = [word.partition("=")[0] for word in message.split() if word[0] == "-"]
            message = f"unrecognized arguments: {' '.join(names)}"
        raise Failure(f"{usage()}\n{message}")


def seconds(text: str) -> float:
    """Return an option's value in seconds, or raise ValueError."""
    number = float(text)
    if not (math.isfinite(number) and 0 <= number <= MOST_SECONDS):
        raise ValueError
    return number


def count(text: str) -> int:
    """Return an option's value that counts from 1, or raise ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def build_parser() -> Parser:
    """Return the parser of the command line, and the source of half the help."""
    parser = Parser(
        prog=sys.argv[0],
        usage="%(prog)s [options] feed/endpoint [parameters]",
        description="Command line client for Kraken's spot WebSocket API v1.",
        # A width of its own: argparse takes 3 ms to find out the terminal's, at every start.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=HELP_WIDTH),
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    option = parser.add_argument_group("options").add_argument
    option("-r", "--raw", action="store_true", help="the exchange's messages only, one a line")
    option("-q", "--quiet", action="store_true", help="leave out the housekeeping messages")
    option("-C", "--count", metavar="N", type=count, help="stop after N messages of data")
    option("-W", "--max-time", metavar="S", type=seconds, help="stop after S seconds")
    option("--idle-timeout", metavar="S", type=seconds, help="silence that counts as a dead link")
    option("--reconnect", metavar="S", type=seconds, help="connect again, after about S seconds")
    option("--token-file", metavar="FILE", help="read the token from FILE")
    option("--token-command", metavar="CMD", help="take the token from what CMD prints")
    option("-n", "--dry-run", action="store_true", help="print the request and don't send it")
    option("-h", "--help", action="store_true", help="print this")
    option("--version", action="store_true", help="print the version")
    return parser


def parse_options(argv: list[str], options: Options) -> None:
    """Fill in OPTIONS from the command line, or raise Failure; --raw is filled in even then."""
    end = argv.index("--") if "--" in argv else len(argv)
    parser = build_parser()
    options.raw = any(re.fullmatch("--raw|-[rqnh]*r.*", word) for word in argv[:end])
    parser.parse_intermixed_args(argv[:end], options)
    options.words = [*options.words, *argv[end + 1 :]] or ["ping"]
    for word in options.words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise Failure(f"Parameter {word} is not text in the locale's encoding") from None
    if options.help or options.version:
        return
    if options.words[0] not in TABLE:
        parser.error(f"no feed or endpoint is called {options.words[0]}")
    if options.reconnect is not None and not TABLE[options.words[0]].feed:
        parser.error("--reconnect is for feeds: no request is ever sent twice")
    if options.token_file is not None and options.token_command is not None:
        parser.error("--token-file and --token-command exclude each other")


def read_token(options: Options) -> str:
    """Return the token: the first line with text of where OPTIONS say, or raise Failure."""
    if options.token_command is not None:
        return token_from_command(options.token_command, options.idle_timeout)
    # The current directory and the script's, because people and cron need one each.
    beside = os.path.join(os.path.dirname(os.path.realpath(__file__)), TOKEN_FILE)
    files = (TOKEN_FILE, beside) if options.token_file is None else (options.token_file,)
    for file in files:
        try:
            with open(file, encoding="utf-8-sig") as lines:
                return first_text(lines)
        except FileNotFoundError:
            continue
        except (OSError, ValueError):  # Not passed over for the next: that may be another account
            break
    raise Failure(f"WebSocket authentication token missing ({files[0]})")


def token_from_command(command: str, limit: float) -> str:
    """Return the token that a shell command prints within LIMIT seconds, or raise Failure."""
    try:
        output = subprocess.run(  # noqa: S602 - the command is the user's own
            command,
            shell=True,
            check=True,
            stdout=subprocess.PIPE,
            timeout=limit or None,
        ).stdout
        return first_text(output.decode().splitlines())
    except subprocess.CalledProcessError as error:
        problem = f"ended with status {error.returncode}"
    except subprocess.TimeoutExpired:
        problem = f"took longer than {limit:g} seconds"
    except ValueError:
        problem = "printed no text"
    raise Failure(f"WebSocket authentication token missing (--token-command {problem})")


def first_text(lines: Iterable[str]) -> str:
    """Return the first line that has text, without the space around it, or raise ValueError."""
    for line in lines:
        if text := line.strip():
            return text
    raise ValueError


def pair_name(word: str) -> str:
    """Return a pair as the exchange spells it: in capitals, but for the x of an xStock."""
    xstock = XSTOCK.fullmatch(word)
    return xstock[1] + xstock[2].upper() if xstock else word.upper()


def whole_number(name: str, text: str) -> Literal:
    """Return TEXT as a JSON integer, or raise Failure."""
    if not INTEGER.fullmatch(text):
        raise Failure(f"Parameter {name} must be a whole number")
    return Literal(text)


def subscription_value(name: str, text: str) -> str:
    """Return a parameter of a feed: a JSON number or boolean where it looks like one, else text."""
    if name in INTEGERS:
        return whole_number(name, text)
    return Literal(text) if text in ("true", "false") or NUMBER.fullmatch(text) else text


def request_value(row: Row, name: str, text: str) -> str | list[str]:
    """Return a parameter of a request, typed by its name as the exchange wants it."""
    if name in INTEGERS:
        return whole_number(name, text)
    if name in BOOLEANS:
        if text not in ("true", "false"):
            raise Failure(f"Parameter {name} must be true or false")
        return Literal(text)
    return text.split(",") if name in row.lists else text


def split_parameters(words: Iterable[str], reserved: tuple[str, ...]) -> dict[str, str]:
    """Return the name=value words as a dict, in the order typed, or raise Failure."""
    parameters: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Failure(f"Parameter {word} is not of the form name=value")
        if not name:
            raise Failure(f"Parameter {word} has no name")
        if name in reserved:
            raise Failure(f"Parameter {name} can't be given: the client sets it")
        if name in parameters:
            raise Failure(f"Parameter {name} is given twice")
        parameters[name] = value
    return parameters


def split_pairs(row: Row, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the pairs and the name=value words; a bare number becomes one of these."""
    pairs: list[str] = []
    rest: list[str] = []
    number = 0
    for word in words:
        if "=" in word:
            rest.append(word)
        elif word.isdecimal():
            number = decimal(word)
        else:
            if pairs == [""]:  # as in the original, where the next pair takes its place
                pairs.clear()
            pairs.append(pair_name(word))
    if not pairs:
        raise Failure(f"{usage()}\nA market feed needs a pair")
    if row.number and number:  # 0 stands for the default, as in the original
        rest.insert(0, f"{row.number}={number}")
    return pairs, rest


def decimal(word: str) -> int:
    """Return a word of decimal digits, of whatever script, as a number, or raise Failure."""
    try:
        return int(word)
    except ValueError:  # Python converts no more than 4,300 digits
        raise Failure(f"Parameter {word[:20]}... is too long a number") from None


def build_subscription(name: str, row: Row, words: list[str], token: str) -> dict[str, Any]:
    """Return the request that subscribes to a feed, or raise Failure."""
    pairs, words = split_pairs(row, words) if row.pairs else ([], words)
    subscription: dict[str, Any] = {"name": name}
    if row.number:
        subscription[row.number] = row.default
    for key, text in split_parameters(words, ("event", "token", "name")).items():
        subscription[key] = subscription_value(key, text)
    reqid = {key: subscription.pop(key) for key in ("reqid",) if key in subscription}
    request = {"event": "subscribe", "subscription": subscription}
    if row.pairs:
        return {**request, "pair": pairs, **reqid}
    subscription["token"] = token
    return {**request, **reqid}


def build_request(name: str, words: list[str], token: str = "") -> dict[str, Any]:
    """Return the request that NAME and the words behind it ask for, or raise Failure.

    The order of the members is the order on the wire. TOKEN is for the private names.
    """
    row = TABLE[name]
    if row.feed:
        return build_subscription(name, row, words, token)
    if not row.trading:  # the original pings whatever else it is told
        words = [word for word in words if "=" in word]
    request: dict[str, Any] = {"event": name}
    if row.trading:
        request["token"] = token
    for key, text in split_parameters(words, ("event", "token")).items():
        request[key] = request_value(row, key, text)
    return request


def encode(value: object) -> str:
    """Return VALUE as JSON, spaced as the original spaces it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode(key)}:{encode(value[key])}" for key in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    return value if isinstance(value, Literal) else json.dumps(value, ensure_ascii=False)


def parse_event(message: str) -> dict[str, Any]:
    """Return the members of an event; there are none in channel data, which come as arrays."""
    if not message.lstrip().startswith("{"):
        return {}
    try:
        return dict(json.loads(message))
    except (ValueError, RecursionError):  # not JSON; nested too deeply
        return {}


def is_housekeeping(event: dict[str, Any]) -> bool:
    """Return whether an event only says that all is well."""
    kind = event.get("event")
    accepted = kind == "subscriptionStatus" and event.get("status") in ACCEPTED
    return accepted or kind in HOUSEKEEPING


class Session:
    """What is asked of the exchange, how far it has got and what was answered."""

    row = TABLE["ping"]  # until the command line is read
    answer = ""
    due = 1

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stage = "connection"  # in the original's words
        self.sent = False
        self.accepted = 0
        self.errors: list[str] = []
        self.whole = False  # whether one of the errors goes for the whole request
        self.data = 0  # messages of a feed, over all connections
        self.live = False  # whether a feed has ever brought data or an accepted subscription

    def begin(self, name: str, request: dict[str, Any]) -> None:
        """Begin a connection: nothing of what REQUEST asks for is answered yet."""
        self.answer = "subscriptionStatus" if self.row.feed else ANSWERS.get(name, f"{name}Status")
        self.due = sum(len(request.get(member, ())) for member in self.row.each) or 1
        self.stage = "connection"
        self.accepted = 0
        self.errors = []
        self.whole = False

    @property
    def complete(self) -> bool:
        """Whether every reply that is due has come."""
        return self.whole or self.accepted + len(self.errors) >= self.due

    @property
    def contradicted(self) -> bool:
        """Whether the exchange refused what it then accepted."""
        many = self.whole or self.accepted + len(self.errors) > self.due
        return many and self.accepted > 0 and bool(self.errors)

    @property
    def refused(self) -> bool:
        """Whether this is a subscription of which nothing was accepted."""
        return self.row.feed and self.complete and not self.accepted

    @property
    def finished(self) -> bool:
        """Whether --count is reached, which for a request is its complete answer."""
        if self.options.count is None:
            return False
        return self.data >= self.options.count if self.row.feed else self.complete

    def note(self, message: str, event: dict[str, Any]) -> None:
        """Take in a message that came after the request was sent, and its members if any."""
        kind = event.get("event")
        status = "ok" if kind == "pong" else event.get("status")
        if self.complete and not self.row.feed and status not in ACCEPTED:
            return  # the answer stands
        if kind == "error" or (status == "error" and kind in (self.answer, *REFUSALS)):
            self.errors.append(str(event.get("errorMessage")))
            if kind != self.answer or (self.row.feed and "pair" not in event):
                self.whole = True
        elif kind == self.answer and status in ACCEPTED:
            self.accepted += 1
        elif message.lstrip().startswith("["):
            self.data += 1
        self.live = bool(self.live or self.accepted or self.data)

    def explain(self, error: BaseException) -> str:
        """Return the sentence for what ended a connection or the run."""
        if isinstance(error, (Failure, OutputLost)):
            return str(error)
        words = str(error) if isinstance(error, Stop) else reason(error, self.options.idle_timeout)
        return f"WebSocket {self.stage} failed ({words})"

    def verdict(self, end: BaseException | None) -> tuple[int, str]:
        """Return the exit status of a run that ended so, and the sentence that is due, if any.

        END is what cut the run short, or None where it came to its own end.
        """
        sentence = self.explain(end) if end else ""
        if self.row.trading and any(error.startswith(FAILURES) for error in self.errors):
            words = "; ".join(dict.fromkeys(self.errors))
            return UNKNOWN, f"WebSocket subscription/request failed ({words})\n{UNKNOWN_FATE}"
        if self.sent and self.complete and not self.row.feed and not self.contradicted:
            return FAILED if self.errors else DONE, sentence if isinstance(end, OutputLost) else ""
        if self.sent and self.row.trading:
            return UNKNOWN, f"{sentence}\n{UNKNOWN_FATE}".strip()
        late = self.options.count and isinstance(end, TimeLimit) and not self.finished
        if late and not self.row.trading:
            return TIMED_OUT, "" if self.live else sentence
        stopped = self.row.feed and self.live and (isinstance(end, Stop) or not sentence)
        return (DONE, "") if stopped or not end else (FAILED, sentence)


class Signals:
    """Turns signals and the time limit into Stop, but never within a line of output."""

    def __init__(self) -> None:
        self.stop: Stop | None = None  # what ends the run, once something does
        self.busy = False  # with a line of output or the last close, which are not to be cut

    def install(self) -> None:
        """Take over the signals that end a run, save those that were ignored at the start."""
        atexit.register(self.ignore)
        signal.signal(signal.SIGALRM, self.handle)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """End the run at the first signal, and from then on whatever is stuck."""
        if not signal.getitimer(signal.ITIMER_REAL)[1]:
            signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS, STUCK_SECONDS)
        alarm = number == signal.SIGALRM
        if self.stop:
            if self.busy and alarm:
                raise self.stop
            return
        name = signal.Signals(number).name
        self.stop = TimeLimit("stopped by the time limit") if alarm else Stop(f"stopped by {name}")
        if not self.busy:
            raise self.stop

    def hold(self) -> None:
        """Let no signal come between a message and its being counted."""
        self.busy = True

    def release(self) -> None:
        """Raise the Stop that was held back, if there is one."""
        self.busy = False
        if self.stop:
            raise self.stop

    def finish(self) -> None:
        """Let no signal end anything any more but what is stuck."""
        self.stop = self.stop or Stop("finished")

    def ignore(self) -> None:
        """Ignore the signals while the interpreter exits, where it would reset them to deadly."""
        for number in (signal.SIGALRM, *SIGNALS):
            signal.signal(number, signal.SIG_IGN)


class Output:
    """What the client writes: whole lines, at once, with the token masked."""

    def __init__(self, options: Options, signals: Signals) -> None:
        self.options = options
        self.signals = signals
        self.tokens: deque[str] = deque(maxlen=RECENT_TOKENS)  # as patterns
        self.token: re.Pattern[str] | None = None  # any of them
        self.lost = False
        for stream in (sys.stdout, sys.stderr):
            # A terminal or pipe that another program left non-blocking would lose lines.
            with contextlib.suppress(AttributeError, OSError):
                os.set_blocking(stream.fileno(), True)

    def hide(self, token: str) -> None:
        """Mask TOKEN from now on, in every spelling that JSON has for its characters."""
        spellings = (
            {
                char,
                json.dumps(char)[1:-1],
                f"\\{char}",
                rf"\u{ord(char):04x}",
                rf"\u{ord(char):04X}",
            }
            for char in token
        )
        pattern = "".join(f"(?:{'|'.join(sorted(map(re.escape, each)))})" for each in spellings)
        if pattern in self.tokens:
            return
        self.tokens.append(pattern)
        self.token = re.compile("|".join(sorted(self.tokens, key=len, reverse=True)))

    def message(self, message: str, event: dict[str, Any]) -> None:
        """Print what the exchange sent, unless --quiet leaves it out."""
        if self.options.quiet and is_housekeeping(event):
            return
        self.line(message if self.options.raw else f"WebSocket -> Client: {message}")

    def request(self, request: str) -> None:
        """Print what the client is about to send, unless the options leave it out."""
        if not (self.options.raw or self.options.quiet):
            self.line(f"Client -> WebSocket: {request}")

    def line(self, text: str) -> None:
        """Write a line to stdout, now; raise OutputLost when it can't be."""
        self.lost = True  # until the line is out: a Stop may cut it short
        try:
            self.write(sys.stdout, text)
        except BrokenPipeError:  # nobody reads any more: a quiet end
            raise OutputLost from None
        except OSError as error:
            raise OutputLost(f"stdout can't be written ({error})") from None
        self.lost = False

    def tell(self, sentence: str) -> None:
        """Write a sentence in the middle of the run."""
        if self.options.raw:
            self.say(sentence)
        else:
            self.line(sentence)

    def say(self, sentence: str) -> None:
        """Write a sentence to stdout, or to stderr with --raw or once stdout is lost."""
        for stream in (None if self.lost or self.options.raw else sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, Stop):
                self.write(stream, sentence)
                break

    def write(self, stream: TextIO | None, text: str) -> None:
        """Write a line to STREAM as UTF-8, whatever the locale, or raise OSError."""
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        text = self.token.sub(MASK, text) if self.token else text
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        busy, self.signals.busy = self.signals.busy, True
        try:
            while data:  # with PYTHONUNBUFFERED the stream has no buffer and may take a part
                data = data[stream.buffer.write(data) :]
            stream.flush()
        except (OSError, Stop):
            # At its exit the interpreter would try again what is still in the buffer.
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), stream.fileno())
            raise
        finally:
            self.signals.busy = busy


def check_library() -> None:
    """Raise Failure where websocket-client isn't installed."""
    try:
        # PyPI's package "websocket" has a WebSocket as well, but no such exception.
        from websocket import WebSocket, WebSocketTimeoutException  # noqa: F401
    except Exception:  # whatever else is called websocket may fail in any way
        raise Failure(
            "websocket-client is missing, or another package called websocket is in its place:"
            " python3 -m pip install websocket-client"
        ) from None


def dial(ws: Any, url: str, limit: float, result: queue.SimpleQueue[Exception | None]) -> None:
    """Open WS to URL, and put None into RESULT or the exception that prevented it."""
    error: Exception | None = None
    try:
        # Twice the limit on connecting: late, but an abandoned thread ends as well.
        ws.connect(url, timeout=2 * limit or None, redirect_limit=0)
    except Exception as exception:
        error = exception
    if ws.getstatus() not in (None, SWITCHING_PROTOCOLS):
        # websocket-client 1.8 takes a redirect that it doesn't follow for a success
        error = ConnectionError(f"HTTP {ws.getstatus()}, and redirects are not followed")
    result.put(error)


def connect(url: str, limit: float, signals: Signals) -> Any:
    """Return an open WebSocket to URL, or raise what prevented it.

    LIMIT is in seconds, and goes for connecting as for every later wait; 0 is none.
    A thread dials, because a name look-up can neither be interrupted nor limited in time.
    """
    from websocket import WebSocket

    ws: Any = WebSocket(skip_utf8_validation=True)  # in pure Python; decoding checks the same
    result: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    signals.hold()  # threading's locks don't stand a Stop
    threading.Thread(target=dial, args=(ws, url, limit, result), daemon=True).start()
    signals.release()
    try:
        error = result.get(timeout=limit or None)
    except queue.Empty:
        error = TimeoutError(f"no connection within {limit:g} seconds")
    if error:
        raise error
    ws.settimeout(limit or None)
    # close() answers the exchange's close frame: at once, a failure would hide the reason in it.
    ws.send_close = lambda: None
    return ws


def receive(ws: Any) -> str:
    """Return the next message, or raise what ended the connection."""
    opcode, data = ws.recv_data()
    if opcode == CLOSE_FRAME:
        code = str(int.from_bytes(data[:2], "big")) if data else "closed without a code"
        raise ConnectionError(f"{code} {data[2:].decode(errors='replace')}")
    return str(data, "utf-8")


def close(ws: Any, signals: Signals) -> None:
    """Close the connection as the protocol has it, without waiting long for the other side."""
    signals.hold()
    # Not websocket-client's own close(), which waits on while anything at all trickles in.
    with contextlib.suppress(Exception, Stop):
        ws.send(NORMAL_CLOSURE, CLOSE_FRAME)
        deadline = time.monotonic() + CLOSE_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            ws.settimeout(left)
            if not ws.sock.recv(CHUNK_BYTES):
                break
    with contextlib.suppress(Stop):
        ws.shutdown()
    signals.busy = False


def reason(error: BaseException, limit: float) -> str:
    """Return in words, on one line, what was wrong with a connection of that time limit."""
    from http.client import responses

    from websocket import WebSocketBadStatusException, WebSocketTimeoutException

    text = str(error) or type(error).__name__
    if isinstance(error, WebSocketBadStatusException):
        text = f"HTTP {error.status_code} {responses.get(error.status_code, '')}"
    elif isinstance(error, WebSocketTimeoutException):
        text = f"nothing received for {limit:g} seconds"
    elif hasattr(error, "verify_message"):  # ssl.SSLCertVerificationError
        text = f"certificate not accepted: {error.verify_message}"
    return " ".join(text.split())


def prepare(session: Session, output: Output) -> str:
    """Return the text of the request that the command line asks for, or raise Failure."""
    name, *words = session.options.words
    token = MASK
    if session.row.private and not session.options.dry_run:
        token = read_token(session.options)
        output.hide(token)
    request = build_request(name, words, token)
    session.begin(name, request)
    return encode(request)


def converse(session: Session, request: str, output: Output, signals: Signals) -> None:
    """Connect, send the request and print what comes, until --count is reached or it fails."""
    ws = connect(session.row.url, session.options.idle_timeout, signals)
    try:
        greeting = receive(ws)
        output.message(greeting, parse_event(greeting))
        session.stage = "subscription/request"
        output.request(request)
        signals.release()
        session.sent = True
        ws.send(request)
        while not (session.refused or session.finished):
            message = receive(ws)
            signals.hold()
            session.stage = "messages"
            event = parse_event(message)
            output.message(message, event)
            session.note(message, event)
            signals.release()
    finally:
        close(ws, signals)
    if session.refused:
        session.stage = "subscription/request"
        raise ConnectionError("; ".join(dict.fromkeys(session.errors)))


def pause(delay: float, starts: Sequence[float], now: float) -> float:
    """Return how many seconds to wait before the next connection, DELAY being due.

    STARTS are the times of the latest connections, at most MOST_CONNECTIONS of them.
    """
    due = delay * random.uniform(0.8, 1.2)  # noqa: S311 - lest all clients come back at once
    if len(starts) < MOST_CONNECTIONS:
        return due
    return max(due, starts[0] + CONNECTIONS_SECONDS - now)


def keep_connected(session: Session, output: Output, signals: Signals) -> None:
    """Converse, and with --reconnect begin again whenever the connection is lost."""
    reconnect = session.options.reconnect
    delay = reconnect or 0.0
    starts: deque[float] = deque(maxlen=MOST_CONNECTIONS)
    request = prepare(session, output)
    signals.hold()  # Python's imports call back what would swallow a Stop
    check_library()
    signals.release()
    while True:
        data = session.data
        try:
            request = request or prepare(session, output)
            starts.append(time.monotonic())
            return converse(session, request, output, signals)
        except Exception as error:
            refused = session.refused and not session.live
            if reconnect is None or refused or isinstance(error, OutputLost):
                raise
            sentence = session.explain(error)
        if session.data > data:
            delay = reconnect
        wait = pause(delay, starts, time.monotonic())
        output.tell(f"{sentence}\nConnecting again in {wait:.1f} seconds")
        signals.release()
        time.sleep(wait)
        delay = max(reconnect, min(2 * delay or 0.1, MOST_DELAY_SECONDS))
        request = ""  # to be made anew, with a fresh token


def perform(argv: list[str], session: Session, output: Output, signals: Signals) -> None:
    """Do what the command line asks for, or raise what cuts it short."""
    options = session.options
    if sys.stdout is None:  # nothing may be sent whose answer can't be shown
        raise OutputLost("stdout is closed")
    parse_options(argv, options)
    if options.help:
        return output.line(help_text())
    if options.version:
        return output.line(__version__)
    session.row = TABLE[options.words[0]]
    if options.dry_run:
        return output.line(prepare(session, output))
    default = 0 if session.row.feed else ANSWER_SECONDS
    limit = default if options.max_time is None else options.max_time
    signal.setitimer(signal.ITIMER_REAL, limit)
    return keep_connected(session, output, signals)


def run(
    argv: list[str], session: Session, output: Output, signals: Signals
) -> BaseException | None:
    """Do what the command line asks for, and return what cut it short, if anything did."""
    end: BaseException | None = None
    try:
        try:
            signals.install()
            perform(argv, session, output, signals)
        except Exception as error:
            end = error
        signals.finish()
    except Stop as stop:  # wherever it struck, also in the lines above
        end = stop
    return end


def main(argv: list[str] | None = None) -> int:
    """Run the command line ARGV, or the process's own, and return the exit status."""
    options = Options()
    signals = Signals()
    output = Output(options, signals)
    session = Session(options)
    end = run(sys.argv[1:] if argv is None else argv, session, output, signals)
    status, sentence = session.verdict(end)
    if sentence:
        output.say(sentence)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
