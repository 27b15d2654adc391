#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["websocket-client>=1.8"]
# ///
"""Command line client for Kraken's spot WebSocket API v1.

The words of the command line become one JSON request, which goes to ws.kraken.com or
ws-auth.kraken.com and to no other host. Every message that comes back is printed on a line.
The parts stand in the order in which the data passes through them. main() connects them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import signal
import socket
import stat
import sys
import threading
import time
from binascii import b2a_base64
from http import HTTPStatus
from typing import Any, Callable, NamedTuple

__version__ = "1.2.0"

# https://docs.kraken.com/api/docs/guides/spot-ws-intro
PUBLIC = "wss://ws.kraken.com/"
PRIVATE = "wss://ws-auth.kraken.com/"
TOKEN_FILE = "WS_Token"  # noqa: S105 - a name, not a secret
MASK = b"***"  # what is printed in the token's place
MOST_TOKENS = 100  # so many are masked; fewer are fetched while a token is valid, 15 minutes
ANSWER_SECONDS = 3.0  # the time limit of ping and requests, connecting included
IDLE_SECONDS = 30.0  # the exchange sends a heartbeat every second: silence means a dead link
MOST_SECONDS = 1e6  # eleven days; poll() takes at most 2**31 milliseconds, which is 24 days
PATIENCE_SECONDS = 0.75  # how long each address is waited for; the next round doubles it
CLOSE_SECONDS = 0.25  # how long the exchange's close frame is waited for
STUCK_SECONDS = 0.3  # how long the end of a run waits for an output that blocks

# Kraken bans an address for ten minutes that connects more than 150 times in ten (the same page).
# After a connection that lived less than STEADY_SECONDS the delay doubles, to DOUBLED_DELAY at
# least. That makes 47 connections at most, so that three processes may share an address.
DOUBLED_DELAY, LAST_DELAY, STEADY_SECONDS = 1.0, 60.0, 60.0
# Kraken locks out a key that fails again and again, until some 15 minutes have passed without a
# try (https://github.com/krakenfx/kraken-cli/issues/34).
LOCKOUT_TRIES, LOCKOUT_SECONDS = 3, 960.0

DONE, FAILED, UNKNOWN, TIMED_OUT = 0, 1, 3, 124
STATUSES = {
    DONE: "done: a feed that ran until it was stopped, a pong, an accepted request",
    FAILED: "failed; a request is certainly not in effect (cancelOrder: not for every id)",
    UNKNOWN: "a request was sent and its fate is unknown: it may be live",
    TIMED_OUT: "the time limit came before the count was reached",
}
FATE = "The request was sent and its fate is unknown: it may be live, look before sending it again"

STAGES = (
    "connection",
    "subscription/request",
    "messages",
)  # what can fail, in the original's words
TEXT_FRAME, CLOSE_FRAME, LONG = 0x81, 8, 126  # RFC 6455, 5.2; LONG: two bytes of length follow
CHUNK_BYTES = 16384  # that are read at once: a TLS record
LATE_SECONDS = 0.2  # after a Stop or deadline, for what came while the process was stopped

INTEGER = r"-?(0|[1-9][0-9]*)"
SCALAR = INTEGER + r"(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false"
SIGNALS = (
    signal.SIGALRM,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
)  # they end a run in an orderly way


class Failure(Exception):
    """It ends the run. Its text is the sentence for the user."""


class Loss(Failure):
    """A failure that may pass: with --reconnect, the client connects again."""


class Stop(BaseException):  # not an Exception: a library may catch any Exception and go on
    """A signal, by its number, ends the run. SIGPIPE: the reader of stdout has left."""

    def __str__(self) -> str:
        name = signal.Signals(self.args[0]).name
        return f"stopped by {'the time limit' if name == 'SIGALRM' else name}"


class Literal(str):
    """A JSON number or boolean as it was typed: 1.50 stays 1.50 on the wire."""


class Row(NamedTuple):
    """What the client has to know of a feed or endpoint."""

    url: str
    feed: bool  # a feed is subscribed to and streams; an endpoint answers and is done
    about: str
    number: str = ""  # what a whole number among the pairs of a feed means
    default: int = 0
    lists: tuple[str, ...] = ("txid",)  # parameters that are split at commas
    each: tuple[str, ...] = ()  # members that get one reply for each item

    @property
    def trading(self) -> bool:
        """Whether the request can change what happens to somebody's money."""
        return self.url == PRIVATE and not self.feed


IDS = ("txid", "cl_ord_id")
# Names, parameters and replies: https://docs.kraken.com/api/docs/websocket-v1/ and one page a name.
# balances is the exception: the original has it, Kraken's reference does not.
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
ACCEPTED = ("ok", "subscribed")
ENDING = ("error", "unsubscribed")  # statuses that end an accepted subscription
REFUSING = ("pingStatus", "subscriptionStatus")  # they name no endpoint, but can refuse a request
DUPLICATE = "Already subscribed"  # answers a pair that is asked for twice, and ends nothing

# Errors that certainly refuse a request (status 1). After any other, a new one too, its fate is
# unknown (status 3). From https://docs.kraken.com/api/docs/guides/spot-errors and recordings of v1.
REFUSALS = (
    r"EGeneral: ?(Invalid arguments(:[^:,;]*)?|Permission denied|Temporary lockout)|"
    r"EGeneral: ?Too many requests|Exceeded msg rate|Malformed request|"
    r"EService: ?Market in (cancel_only|post_only) mode|"
    r"E(API|Session): ?(Invalid (key|signature|nonce|token|session)|Rate limit exceeded)|"
    r"E(Account: ?Invalid permissions(:[^:,;]*)?|Query: ?Unknown asset pair)|"
    r"EOrder: ?(Cannot open (opposing )?position|Invalid (price|order)|Unknown (order|position)|"
    r"Insufficient (margin|funds)|(Order|Cost) minimum not met|Tick size check failed|"
    r"Margin (allowance exceeded|level too low|position size exceeded)|"
    r"(Rate|Domain rate|Orders|Scheduled orders|Positions) limit exceeded|"
    r"Reduce only:(Non-PC|No position exists|Position is closed))|"
    r"(Event|Pair)\(s\) not found|Unsupported event|Subscription name invalid|"
    r"Currency pair not [^:,;]*|Reqid field must be [^:,;]*"
)
# Errors that may pass, anywhere in a text. After the first ones, a service's, an order may be live.
BROKEN = (
    "EService:(?! ?Market in )|EDatabase:|internal error|(?<!arguments:)timeout|"
    "currently unavailable"
)
LIMITED = "msg rate|rate limit exceeded|too many requests|temporary lockout"
# A token was refused. Status 75, EX_TEMPFAIL of sysexits.h, says that Kraken could not be asked.
REJECTED = (
    "--token-command (?!ended with status 75)|invalid session|invalid token|temporary lockout"
)


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
{"".join(statuses)}"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are usage errors like the others."""

    def error(self, message: str) -> Any:
        """Raise Failure."""
        raise Failure(f"{usage()}\n{message}")


def seconds(text: str) -> float:
    """Return an option's value in seconds, or raise ValueError."""
    if not 0 <= float(text) <= MOST_SECONDS:  # NaN isn't, either
        raise ValueError
    return float(text)


def count(text: str) -> int:
    """Return an option's value that counts from 1, or raise ValueError."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def build_parser() -> Parser:
    """Return the parser of the command line, and the source of the help."""
    parser = Parser(prog=sys.argv[0], allow_abbrev=False, add_help=False)
    parser.usage = "%(prog)s [options] feed/endpoint [parameters]"
    parser.description = "Command line client for Kraken's spot WebSocket API v1."
    parser.epilog = epilog()
    # A fixed width: argparse needs 3 ms at every start to find out the terminal's.
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=90)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    option = parser.add_argument_group("options; S is in seconds").add_argument
    option("-r", "--raw", action="store_true", help="print only the exchange's messages")
    option("-q", "--quiet", action="store_true", help="leave out heartbeats and the like")
    option("-C", "--count", metavar="N", type=count, help="stop after N messages of data (never)")
    option("-W", "--max-time", metavar="S", type=seconds, help="stop after S (3; feeds: 0, never)")
    silence = "treat S without a message as a loss; 0: never (%(default)g)"
    option("--idle-timeout", metavar="S", type=seconds, default=IDLE_SECONDS, help=silence)
    option("--reconnect", metavar="S", type=seconds, help="connect S after a loss again (never)")
    option("--token-file", metavar="FILE", help=f"read the token from FILE ({TOKEN_FILE})")
    option("--token-command", metavar="CMD", help="read the token from the output of CMD")
    option("-n", "--dry-run", action="store_true", help="print the request and do not send it")
    option("-h", "--help", action="store_true", help="print this help")
    option("--version", action="store_true", help="print the version")
    return parser


def parse_options(argv: list[str], options: argparse.Namespace) -> str:
    """Fill in OPTIONS from the command line, return what they want printed, or raise Failure."""
    end = argv.index("--") if "--" in argv else len(argv)
    parser = build_parser()
    parser.parse_intermixed_args(argv[:end], options)
    options.words = [*options.words, *argv[end + 1 :]] or ["ping"]
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
    stock = re.match("[A-Z][A-Z.]*x(?=/)", word)  # TSLAx/USD
    return stock[0] + word[stock.end() :].upper() if stock else word.upper()


def split_words(row: Row, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the pairs of a market feed and the name=value words, or raise Failure."""
    named = [word for word in words if "=" in word]
    if row.url == PRIVATE:
        return [], words  # a word without = is refused later
    if not row.feed:
        return [], named  # ping ignores other words, as in the original
    numbers = [word for word in words if word.isdecimal()]
    pairs = [pair_name(word) for word in words if word not in (*named, *numbers)]
    if not pairs:
        raise Failure(f"{usage()}\nA market feed needs a pair")
    # The last number counts, and 0 stands for the default, as in the original.
    number = int(numbers[-1]) if row.number and numbers else 0
    return pairs, [f"{row.number}={number}", *named] if number else named


def read_parameters(row: Row, words: list[str]) -> dict[str, Any]:
    """Return the name=value words as a dict, in the order typed, or raise Failure."""
    parameters: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        integer, boolean = name in INTEGERS, name in BOOLEANS and not row.feed
        if not (name and equals):
            raise Failure(f"Parameter {word} is not of the form name=value")
        if name in ("event", "token") or (row.feed and name == "name"):
            raise Failure(f"Parameter {name} can't be given: the client sets it")
        if name in parameters:
            raise Failure(f"Parameter {name} is given twice")
        if integer and not re.fullmatch(INTEGER, text):
            raise Failure(f"Parameter {name} must be a whole number")
        if boolean and text not in ("true", "false"):
            raise Failure(f"Parameter {name} must be true or false")
        # A value is a number or boolean because of its name, and on a feed also by its looks.
        literal = integer or boolean or (row.feed and re.fullmatch(SCALAR, text))
        listed = not row.feed and name in row.lists
        parameters[name] = Literal(text) if literal else text.split(",") if listed else text
    return parameters


def build_request(name: str, words: list[str], token: str = "") -> dict[str, Any]:
    """Return the request, in the wire's order, that NAME and WORDS ask for, or raise Failure."""
    row = TABLE[name]
    pairs, words = split_words(row, words)
    parameters = read_parameters(row, words)
    credentials = {"token": token} if row.url == PRIVATE else {}
    if not row.feed:
        return {"event": name, **credentials, **parameters}
    reqid = parameters.pop("reqid", None)
    number = {row.number: row.default} if row.number else {}
    subscription = {"name": name, **number, **parameters, **credentials}
    request = {"event": "subscribe", "subscription": subscription, "pair": pairs, "reqid": reqid}
    return {member: value for member, value in request.items() if value}


def encode(value: object) -> str:
    """Return VALUE as JSON, spaced as the original spaces it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode(key)}:{encode(value[key])}" for key in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    return value if isinstance(value, Literal) else json.dumps(value, ensure_ascii=False)


class Interruption:
    """What ends a run early: a signal, or a reader of stdout that has left."""

    # It is noted when it comes. It is raised as a Stop only where the client waits, which is in
    # wait() and within "with interruptible:", so that nothing that has arrived is lost.
    stop: Stop | None = None  # the first signal
    since = 0.0  # when it came
    waiting = False  # for something that any signal cuts short
    writing = False  # a line, which is cut short only when it is stuck
    closing = False  # a connection, which has CLOSE_SECONDS in any case

    def install(self, limit: float, feed: bool) -> None:
        """Take over the signals; SIGALRM comes in LIMIT seconds, or never if that is 0."""
        self.poll = select.poll()
        mode = os.fstat(1).st_mode
        if feed and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            self.poll.register(1, 0)  # 0: report only that its other end is closed
        signal.signal(signal.SIGALRM, self.handle)
        # An alarm that was set before the start goes on: the earlier of the two ends the run.
        limits = filter(None, (limit, signal.getitimer(signal.ITIMER_REAL)[0]))
        signal.setitimer(signal.ITIMER_REAL, min(limits, default=0.0))
        for number in SIGNALS:  # behind the alarm, which handle() sets in its own way
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it hides how a command ended
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
        self.waiting = not self.closing
        if self.stop and self.waiting:  # after the flag is set, so that no signal is missed
            self.waiting = False
            raise self.stop

    def __exit__(self, *_: object) -> None:
        self.waiting = False

    def wait(self, until: float, number: int = -1, event: int = select.POLLIN) -> None:
        """Wait until descriptor NUMBER is ready for EVENT, or UNTIL is over; or raise Stop."""
        left, ready = 1.0, {}
        if number >= 0:
            self.poll.register(number, event)
        while left > 0 and number not in ready:
            left = until - time.monotonic()
            with self:  # for a second at most: a signal may have come just before poll() began
                ready = dict(self.poll.poll(max(0.0, min(left, 1.0)) * 1000))
            if 1 in ready:
                self.poll.unregister(1)
                self.handle(signal.SIGPIPE, None)
        if number >= 0:
            self.poll.unregister(number)


interruptible = Interruption()  # a process has one set of signals


def read_token(options: argparse.Namespace) -> str:
    """Return the first line with text of the file or command that OPTIONS name, or raise Loss."""
    if options.token_command is not None:
        return token_from_command(options.token_command, options.idle_timeout)
    # The current directory's, as in the original, or else the script's, for cron. One that is
    # there, or where that can't be seen, isn't passed over: the other may be another account's.
    name = TOKEN_FILE if options.token_file is None else options.token_file
    absent = not os.path.lexists(name) and os.access(os.curdir, os.X_OK)
    script = os.path.realpath(globals().get("__file__", "-c"))  # python -c has no __file__
    beside = os.path.join(os.path.dirname(script), TOKEN_FILE)
    file = beside if options.token_file is None and absent else name
    try:
        "".encode("utf-8-sig")  # imports the codec: an import may swallow what is raised in it
        with interruptible, open(file, encoding="utf-8-sig") as lines:
            return next(filter(None, map(str.strip, lines)))
    except (OSError, ValueError, StopIteration):
        raise Loss(f"WebSocket authentication token missing ({name})") from None


def token_from_command(command: str, limit: float) -> str:
    """Return the token that a shell command prints within LIMIT seconds, or raise Loss."""
    import subprocess as sub  # outside of the wait: an import may swallow what is raised in it

    try:
        with interruptible:  # the command is the user's own
            output = sub.check_output(command, shell=True, stdin=sub.DEVNULL, timeout=limit)  # noqa: S602
        return next(filter(None, map(str.strip, output.decode().splitlines())))
    except sub.CalledProcessError as error:
        problem = f"ended with status {error.returncode}"
    except (OSError, sub.TimeoutExpired, ValueError, StopIteration):
        problem = f"printed no token within {limit:g} seconds"
    raise Loss(f"WebSocket authentication token missing (--token-command {problem})")


def load_library() -> Any:
    """Return websocket-client, or raise Failure. No later import can end a feed."""
    try:
        import ssl  # noqa: F401 - so that its failure is told here, too

        import websocket
        from websocket import WebSocketTimeoutException  # noqa: F401 - PyPI's "websocket" has none

        if tuple(map(int, re.findall("[0-9]+", websocket.__version__)[:2])) >= (1, 8):
            return websocket
        problem = f"{websocket.__version__} is too old"
    except Exception as error:  # any file of that name, or of a name that it imports
        gone = isinstance(error, ModuleNotFoundError) and error.name == "websocket"
        problem = "is missing" if gone else f"can't be imported ({type(error).__name__}: {error})"
    pip = f"{sys.executable or 'python3'} -m pip install 'websocket-client>=1.8'"
    where = "on Debian 13, apt install python3-websocket; elsewhere, in a virtual environment,"
    raise Failure(f"websocket-client {problem}: {where} {pip}")


class Connection:
    """A WebSocket: websocket-client speaks the protocol, and this object is its socket."""

    # The client connects by itself, because the library can't be interrupted, and gives up at an
    # address that does not answer. OpenSSL is used in this thread only. The socket never blocks:
    # all waiting is in attempt(), and has a deadline. After any Exception the connection is lost.
    sock: Any = None
    late = 0.0  # when reading after a Stop or the deadline ends
    data, at = b"", 0  # what was read, and how much of it is used
    fresh = False  # whether it was read after the request was sent
    early = False  # whether the latest message began before that

    def open(self, url: str, limit: float) -> None:
        """Connect to URL, or raise. LIMIT, in seconds, is for this and for each later message."""
        self.limit, self.deadline = limit, time.monotonic() + limit
        self.gettimeout = self.settimeout = lambda *_: 0.0  # the library must not wait by itself
        library, host = load_library(), url.split("/")[2]
        import ssl

        self.ssl: Any = ssl
        # UTF-8 would be checked in pure Python: receive does it. The locks are for many threads.
        self.ws: Any = library.WebSocket(skip_utf8_validation=True, enable_multithread=False)
        try:
            proxy = find_proxy(host)
            self.dial(*((proxy.hostname, proxy.port or 80) if proxy else (host, 443)))
        except ValueError:  # its words would show a part of the password
            raise ConnectionError("https_proxy is not of the form http://host:port") from None
        for option in library.DEFAULT_SOCKET_OPTION:  # keepalive, which --idle-timeout 0 needs
            self.sock.setsockopt(*option)
        if proxy:
            self.tunnel(host, proxy)
        self.secure(host)
        try:
            self.ws.connect(url, socket=self, redirect_limit=0)
        finally:
            status = self.ws.getstatus()
            if status not in (None, 101):  # 1.8 takes a redirect for open; 1.9 tells no status
                raise ConnectionError(f"HTTP {status}, and redirects are not followed")

    def dial(self, host: str, port: int) -> None:
        """Connect to the first address of HOST that answers."""
        ends: list[Any] = []  # the socket, or why there is none
        over, done = os.pipe()

        def call() -> None:
            try:
                addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                ends.append(first_to_answer([address for *_, address in addresses], self.deadline))
            except Exception as error:
                ends.append(error)
            os.close(done)

        # In a thread, because a name look-up can neither be interrupted nor limited in time.
        threading.Thread(target=call, daemon=True).start()
        try:
            interruptible.wait(self.deadline, over)
        finally:
            os.close(over)
        if not ends or is_silence(ends[0]):
            raise ConnectionError(f"no connection within {self.limit:g} seconds")
        if isinstance(ends[0], Exception):
            raise ends[0]
        self.sock = ends[0]
        self.sock.setblocking(False)

    def tunnel(self, host: str, proxy: Any) -> None:
        """Have the proxy connect to HOST."""
        from urllib.parse import unquote

        request = f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"
        if proxy.username:
            words = unquote(":".join(filter(None, (proxy.username, proxy.password))))
            secret = words.encode(errors="surrogateescape")
            encoded = b2a_base64(secret, newline=False)
            request += f"Proxy-Authorization: Basic {encoded.decode()}\r\n"
        self.sock.sendall(f"{request}\r\n".encode())  # for which a new socket has room
        answer = b""
        while not answer.endswith((b"\n\n", b"\n\r\n")) and len(answer) < CHUNK_BYTES:
            self.fill(1)  # what is behind the answer belongs to TLS
            answer += self.recv(1)
        status = re.match(rb"HTTP/\S+ +(\d+)", answer)
        code = status[1].decode() if status else "none"
        if code != "200":  # the other words of the answer may repeat the password
            raise ConnectionError(f"failed CONNECT via proxy status: {code}")

    def secure(self, host: str) -> None:
        """Begin TLS. The certificate must be HOST's, and from an authority that is trusted."""
        bundle = os.environ.get("WEBSOCKET_CLIENT_CA_BUNDLE", "")
        file = bundle if os.path.isfile(bundle) else None
        folder = bundle if os.path.isdir(bundle) else None
        context = self.ssl.create_default_context(cafile=file, capath=folder)
        # Python 3.13 is stricter than websocket-client, and refuses some companies' authorities.
        context.verify_flags = self.ssl.VERIFY_X509_TRUSTED_FIRST
        self.sock = context.wrap_socket(self.sock, False, False, server_hostname=host)
        self.attempt(self.sock.do_handshake)

    def attempt(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Return what an operation of the socket returns, or raise Stop or ConnectionError."""
        # After a Stop and after the deadline, what has arrived is still read. It may be the answer
        # to an order. It may also be a flood, and so the time for such reads is limited.
        while True:
            stopped = interruptible.stop and not interruptible.closing
            now = time.monotonic()
            over = stopped or now >= self.deadline
            self.late = (self.late or now + LATE_SECONDS) if over else 0.0
            if not over or now < self.late:
                try:
                    return operation(*arguments)
                except self.ssl.SSLWantWriteError:
                    event = select.POLLOUT
                except (BlockingIOError, self.ssl.SSLWantReadError):
                    event = select.POLLIN
            if over:
                words = "nothing received for" if self.ws.connected else "no connection within"
                with interruptible:  # raises the Stop if there is one
                    raise ConnectionError(f"{words} {self.limit:g} seconds")
            with contextlib.suppress(Stop):  # what has arrived together with it is read first
                interruptible.wait(self.deadline, self.sock.fileno(), event)

    def send(self, data: bytes) -> int:
        """Send DATA. A failure is left to the next read, because a reply may stand before it."""
        with contextlib.suppress(OSError):
            return int(self.attempt(self.sock.send, data))
        return len(data)

    def recv(self, size: int) -> bytes:
        """Return up to SIZE bytes, and at least one of them before the deadline."""
        if size and self.at == len(self.data):
            self.fill()
        chunk = self.data[self.at : self.at + size]
        self.at += len(chunk)
        return chunk

    def fill(self, size: int = CHUNK_BYTES) -> None:
        """Read into the buffer, all of which has been used."""
        self.data, self.at = self.attempt(self.sock.recv, size), 0
        self.fresh = True
        if not self.data:
            raise ConnectionError("Connection to remote host was lost.")

    def read_ahead(self) -> None:
        """Read what has arrived: it came before the request, and can't be an answer to it."""
        chunks = [self.data[self.at :]]
        with contextlib.suppress(self.ssl.SSLWantReadError):
            for _ in range(64):  # at most a megabyte: it may be a flood
                chunks.append(self.sock.recv(CHUNK_BYTES))
        self.data, self.at, self.fresh = b"".join(chunks), 0, False

    def receive(self) -> bytes:
        """Return the next message, or raise what prevents it."""
        self.deadline = time.monotonic() + self.limit
        message, usual = None, True
        while message is None:
            if self.at == len(self.data):
                self.fill()
            self.early = not self.fresh
            data, at, end = self.data, self.at, 0
            # It is usually a whole and unmasked frame in the buffer. The library takes all others.
            if usual and len(data) >= at + 4 and data[at] == TEXT_FRAME and data[at + 1] <= LONG:
                size, at = data[at + 1], at + 2
                if size == LONG:
                    size, at = data[at] << 8 | data[at + 1], at + 2
                end = at + size
            if 0 < end <= len(data):
                message, self.at = data[at:end], end
            else:
                usual, (opcode, data) = False, self.ws.recv_data(control_frame=True)
                if opcode == CLOSE_FRAME:
                    code = int.from_bytes(data[:2], "big") if data else "closed without a code"
                    raise ConnectionError(f"{code} {data[2:].decode(errors='replace')}")
                message = data if opcode < CLOSE_FRAME else None  # else it is a ping or a pong
        if not message.isascii():
            message.decode()  # checks its UTF-8, as the protocol demands
        return message

    def close(self) -> None:
        """Close the connection, within CLOSE_SECONDS; the library, too, calls this."""
        self.deadline, self.late = time.monotonic() + CLOSE_SECONDS, 0.0
        interruptible.closing = True
        if self.sock:
            self.ws.close(timeout=CLOSE_SECONDS)  # raises nothing, and does nothing a second time
            self.sock.close()
        interruptible.closing = False


def find_proxy(host: str) -> Any:
    """Return the URL in https_proxy, or None if it is not for HOST: websocket-client's rules."""
    from urllib.parse import urlsplit

    def variable(name: str) -> str:
        return os.environ.get(name, os.environ.get(name.upper(), "")).replace(" ", "")

    exempt = [name.lstrip(".") for name in variable("no_proxy").split(",") if name]
    if "*" in exempt or any(f".{host}".endswith(f".{name}") for name in exempt):
        return None
    proxy = urlsplit(variable("https_proxy"))
    return proxy if proxy.hostname else None


def first_to_answer(addresses: list[Any], deadline: float) -> socket.socket:
    """Return a connection to the first of ADDRESSES that answers by DEADLINE, or raise OSError."""
    error: OSError = socket.timeout()
    patience = PATIENCE_SECONDS
    while addresses and time.monotonic() < deadline:
        for address in list(addresses):
            left = max(0.01, min(patience, deadline - time.monotonic()))
            try:
                return socket.create_connection(address[:2], left)
            except OSError as problem:
                error = problem
                if not is_silence(error):
                    addresses.remove(address)
        patience *= 2  # for those that are silent
    raise error


def is_silence(error: object) -> bool:
    """Return whether our time for an address was over. A timeout of the system has an errno."""
    return isinstance(error, socket.timeout) and not error.errno


def reason(error: Exception) -> str:
    """Return in words, on one line, why a connection failed."""
    words = str(error) or type(error).__name__
    if hasattr(error, "status_code"):  # websocket.WebSocketBadStatusException
        names = {status.value: status.phrase for status in HTTPStatus}
        words = f"HTTP {error.status_code} {names.get(error.status_code, '')}"
    elif hasattr(error, "verify_message"):  # ssl.SSLCertVerificationError
        words = f"certificate not accepted: {error.verify_message}"
    return " ".join(words.split())


class Outcome:
    """What the exchange has answered to a request or a subscription, on one connection."""

    def __init__(self, name: str, request: dict[str, Any]) -> None:
        self.row = TABLE[name]
        self.answer = "subscriptionStatus" if self.row.feed else f"{name}Status"
        self.reqid = str(request.get("reqid", ""))
        self.due = sum(len(request.get(member, ())) for member in self.row.each) or 1
        self.asked = False  # whether the request was sent
        self.heard = 0  # the greeting, and the messages after the request
        self.accepted = 0
        self.complete = False  # whether every reply that is due has come
        self.errors: list[str] = []  # what refused it
        self.vague = False  # whether an error does not certainly refuse a request
        self.contradicted = False  # whether surplus replies contradict each other
        self.live: set[str] = set()  # the pairs subscribed to; "" on a private feed
        self.ended: list[str] = []  # what ended a subscription that was accepted

    def note(self, event: dict[str, Any]) -> str:
        """Take in an event that came after the request. Return which subscription it ends."""
        texts = [event[name] for name in ("errorMessage", "Error", "error") if name in event]
        kind = event.get("event") or ("error" if texts else None)  # a rate limit has no event
        kind, status = ("pingStatus", "ok") if kind == "pong" else (kind, event.get("status"))
        text = texts[0] if texts and isinstance(texts[0], str) else json.dumps((texts or [None])[0])
        pair, reqid, mine = str(event.get("pair") or ""), event.get("reqid"), kind == self.answer
        ended = self.live & {pair} if pair else set(self.live)
        if self.reqid and reqid is not None and str(reqid) != self.reqid:
            pass  # it answers another request; the errors of the exchange's parser have no reqid
        elif mine and status in ACCEPTED:
            self.accepted += 1
            self.live.add(pair)
        elif mine and status in ENDING and self.row.feed and ended and text != DUPLICATE:
            self.live -= ended
            text = text if status == "error" else "unsubscribed"
            self.ended.append(f"{pair}: {text}" if pair else text)
            return self.ended[-1]
        elif self.complete and self.accepted:
            pass  # the answer stands
        elif kind == "error" or (status == "error" and (mine or kind in REFUSING)):
            self.errors.append(text)
            self.vague |= not re.fullmatch(REFUSALS, text) or bool(re.search(BROKEN, text, re.I))
            if not mine or (self.row.feed and not pair):
                self.due = 0  # it goes for the whole request
        replies = self.accepted + len(self.errors)
        self.complete = replies >= self.due
        self.contradicted = bool(self.accepted and self.errors) and replies > self.due
        return ""


class Output:
    """What the client writes: whole lines, at once, with the tokens masked."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.secrets: dict[bytes, re.Pattern[bytes]] = {}  # the tokens, and how JSON may spell them
        self.masked: list[bytes] = []  # the same, the longest first: one may begin another
        self.lost = sys.stdout is None  # whether stdout takes no more

    def hide(self, token: str) -> None:
        r"""Mask TOKEN from now on; JSON can spell + as \u002B, / as \/, and so on."""
        spellings = []
        for char in token:
            escape = json.dumps(char)[1:-1] if char > "~" else rf"\u{ord(char):04x}"
            spellings.append(rf"(?:\\?{re.escape(char)}|(?i:{re.escape(escape)}))")
        pattern = re.compile("".join(spellings).encode())
        self.secrets = dict([*list(self.secrets.items())[-MOST_TOKENS:], (token.encode(), pattern)])
        self.masked = sorted(self.secrets, key=len, reverse=True)

    def message(self, message: bytes) -> None:
        """Print what the exchange sent."""
        self.write(message if self.options.raw else b"WebSocket -> Client: " + message)

    def say(self, sentence: str, aside: bool = False) -> None:
        """Write a sentence to stdout, or to stderr: ASIDE, with --raw, or once stdout is lost."""
        aside = aside or self.lost or self.options.raw
        try:
            if not aside or sys.stderr is not None:  # else 2 may be the number of something else
                self.write(sentence.encode("utf-8", "backslashreplace"), 2 if aside else 1)
        except (Failure, Stop):
            if not aside:
                self.say(sentence, aside=True)

    def write(self, line: bytes, descriptor: int = 1) -> None:
        """Write a line, now; raise Stop where its reader has left, Failure where it can't be."""
        for token in self.masked:
            line = line.replace(token, MASK)
            if b"\\" in line:
                line = self.secrets[token].sub(MASK, line)
        rest = line + b"\n"
        interruptible.writing = True
        try:
            while rest:
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except BlockingIOError:  # another program made it so
                    select.select([], [descriptor], [])
        except (OSError, Stop) as error:
            self.lost = self.lost or descriptor == 1
            if isinstance(error, (BrokenPipeError, ConnectionResetError)):
                raise Stop(signal.SIGPIPE) from None
            stuck = isinstance(error, Stop)
            words = ", while its reader was stuck: the last line is cut or missing" if stuck else ""
            raise Failure(f"stdout can't be written ({error}{words})") from None
        finally:
            interruptible.writing = False


def main(argv: list[str] | None = None) -> int:
    """Run the command line ARGV, or the process's own, and return the exit status."""
    run = Run()
    end: BaseException | None = None
    try:
        run.perform(sys.argv[1:] if argv is None else argv)
    except (Exception, Stop) as error:
        end = error
    status = run.status(end)
    if sentence := run.sentence(end, status):
        run.output.say(sentence)
    for number in SIGNALS:  # Python restores the defaults at its exit: then one would kill it
        signal.signal(number, signal.SIG_IGN)
    return status


class Run:
    """One run of the client: what is asked for, how far it has got, and how it ends."""

    def __init__(self) -> None:
        self.options = argparse.Namespace(raw=False)
        self.output = Output(self.options)
        self.row = TABLE["ping"]  # until the command line is read
        self.data = 0  # messages of a feed
        self.live = False  # whether a subscription was ever accepted
        self.token_losses = 0  # in a row
        self.outcome = Outcome("ping", {})  # of the latest connection

    def perform(self, argv: list[str]) -> None:
        """Do what the command line asks for, or raise what cuts it short."""
        options = self.options
        text = parse_options(argv, options)
        if self.output.lost:  # nothing may be sent whose answer can't be shown
            raise Failure("stdout is closed")
        self.row = TABLE.get(options.words[0], self.row)
        if options.dry_run and not text:
            text = encode(self.prepare())
        if text:
            return self.output.write(text.encode())
        limit = 0.0 if self.row.feed else ANSWER_SECONDS
        limit = limit if options.max_time is None else options.max_time
        interruptible.install(limit, self.row.feed)
        return self.stay_connected()

    def prepare(self) -> dict[str, Any]:
        """Return the request that the command line asks for, or raise Failure."""
        name, *words = self.options.words
        token = MASK.decode()
        if self.row.url == PRIVATE and not self.options.dry_run:
            token = read_token(self.options)
            self.output.hide(token)
        return build_request(name, words, token)

    def stay_connected(self) -> None:
        """Converse, and with --reconnect begin again after each loss."""
        delay = None
        request: dict[str, Any] | None = self.prepare()
        while True:
            begin = time.monotonic()
            try:
                return self.converse(request or self.prepare())  # later with a fresh token
            except Loss as loss:
                if self.options.reconnect is None:
                    raise
                delay = next_delay(self.options.reconnect, delay, time.monotonic() - begin)
                # By a factor from 0.8 to 1.2, lest all clients come back at once.
                self.pause(loss, delay * (0.8 + os.urandom(1)[0] / 637.5))
            request = None

    def pause(self, loss: Loss, wait: float) -> None:
        """Say what was lost and when the next attempt comes, WAIT seconds from now, and wait."""
        advice = ""
        rejected = self.options.token_command is not None and re.search(REJECTED, str(loss), re.I)
        self.token_losses = self.token_losses + 1 if rejected else 0
        if self.token_losses >= LOCKOUT_TRIES:
            wait = LOCKOUT_SECONDS
            advice = f", at {clock(wait)}, for a lockout lasts as long as somebody keeps trying"
        line = f"{clock()} {loss}\nConnecting again in {wait:.1f} seconds{advice}"
        if self.options.raw:
            self.output.say(line)
        else:  # what can't be written ends the run: nobody reads what would come
            self.output.write(line.encode("utf-8", "backslashreplace"))
        interruptible.wait(time.monotonic() + wait)

    def converse(self, request: dict[str, Any]) -> None:
        """Connect, send the request and print what comes, until --count is reached, or raise."""
        self.outcome = Outcome(self.options.words[0], request)
        try:
            with contextlib.closing(Connection()) as connection:
                connection.open(self.row.url, self.options.idle_timeout)
                self.talk(connection, encode(request))
        except Exception as error:
            end = error if isinstance(error, Failure) else Loss(self.failed(reason(error)))
            raise end from None

    def talk(self, connection: Connection, request: str) -> None:
        """Take the greeting, send the request, and take what comes until --count is reached."""
        self.take(connection.receive())
        if not (self.options.raw or self.options.quiet):
            self.output.write(f"Client -> WebSocket: {request}".encode())
        connection.read_ahead()
        with interruptible:  # raises what was noted, so that nothing is sent
            self.outcome.asked = True
        connection.ws.send(request)
        goal = self.options.count
        while not (goal and (self.data >= goal if self.row.feed else self.outcome.complete)):
            if interruptible.stop and self.outcome.complete:  # what has arrived decides nothing
                raise interruptible.stop
            message = connection.receive()
            if message.startswith(b"["):
                self.output.message(message)
                self.data += 1
                self.outcome.heard += 1
            else:
                self.take(message, answer=not connection.early)

    def take(self, message: bytes, answer: bool = False) -> None:
        """Print an event, unless --quiet leaves it out, and take in what it answers, or raise."""
        event: dict[str, Any] = {}
        with contextlib.suppress(ValueError, RecursionError):  # not JSON; nested too deeply
            event = json.loads(message) if message.lstrip().startswith(b"{") else event
        kind, status = event.get("event"), event.get("status")
        well = kind == "heartbeat" or (kind == "subscriptionStatus" and status in ACCEPTED)
        well = well or (not self.outcome.heard and (kind, status) == ("systemStatus", "online"))
        if not (well and self.options.quiet):
            self.output.message(message)
        self.outcome.heard += answer or not self.outcome.heard
        ended = self.outcome.note(event) if answer else ""
        if answer and self.row.feed:
            self.check_feed(ended)

    def check_feed(self, ended: str) -> None:
        """Raise Loss or Failure where no subscription is left, or one that may come back."""
        outcome, command = self.outcome, self.options.token_command is not None
        if outcome.accepted:
            self.live, self.token_losses = True, 0
        words = "; ".join(dict.fromkeys([*outcome.errors, *outcome.ended]))
        later = [BROKEN, *[LIMITED] * self.live, *[REJECTED] * (self.live and command)]
        passing = re.search("|".join(later), words, re.I)
        again = passing and self.options.reconnect is not None
        if again if outcome.live else outcome.complete:
            end = Loss if passing or outcome.ended else Failure
            raise end(self.failed(words, 2 if outcome.ended else 1))
        if ended:
            self.output.say(f"{clock()} Subscription ended: {ended}", aside=True)

    def failed(self, words: object, stage: int = 2) -> str:
        """Return the original's sentence for what failed, at a stage that was reached."""
        return f"WebSocket {STAGES[min(stage, self.outcome.heard)]} failed ({words})"

    def status(self, end: BaseException | None) -> int:
        """Return the exit status of a run that END has ended: the rows of the README's table."""
        stop = end.args[0] if isinstance(end, Stop) else None
        row, outcome = self.row, self.outcome
        unclear = row.trading and (outcome.vague or outcome.contradicted)
        if outcome.complete and not row.feed and not unclear:
            return FAILED if outcome.errors else DONE
        if outcome.asked and row.trading:
            return UNKNOWN
        if stop == signal.SIGALRM and self.options.count and not row.trading:
            return TIMED_OUT
        if end is None or (row.feed and (stop == signal.SIGPIPE or (stop and self.live))):
            return DONE
        return FAILED

    def sentence(self, end: BaseException | None, status: int) -> str:
        """Return what there is to say of a run that END has ended, with an exit status."""
        words = str(end) if isinstance(end, Failure) else f"{type(end).__name__}: {end}"
        if end is None or isinstance(end, Stop):
            words = self.failed(end) if end and end.args[0] != signal.SIGPIPE else ""
        if status == UNKNOWN:
            if self.outcome.complete and self.outcome.vague:
                words = self.failed("; ".join(dict.fromkeys(self.outcome.errors)), 1)
            return f"{words}\n{FATE}".strip()
        if self.outcome.complete and not self.row.feed:
            return words if self.output.lost else ""
        return "" if status == DONE or (status == TIMED_OUT and self.live) else words


def next_delay(reconnect: float, last: float | None, lived: float) -> float:
    """Return the seconds to wait after a connection that LIVED so; LAST was the wait before it."""
    if last is None or lived >= STEADY_SECONDS:
        return reconnect
    return max(reconnect, min(max(2 * last, DOUBLED_DELAY), LAST_DELAY))


def clock(ahead: float = 0.0) -> str:
    """Return the time, in UTC, that is AHEAD seconds from now."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead))


if __name__ == "__main__":
    raise SystemExit(main())
