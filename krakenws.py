#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["websocket-client>=1.8"]
# ///
"""Command line client for Kraken's spot WebSocket API v1.

Usage: krakenws.py feed/endpoint [parameters]

The words of the command line become one JSON request, which goes to ws.kraken.com or
ws-auth.kraken.com and nowhere else; every message that comes back is a line on stdout.
The README says what can be asked and what each exit status means.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import re
import signal
import sys
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TextIO

__version__ = "1.0.0"

# https://docs.kraken.com/api/docs/guides/spot-ws-intro
PUBLIC = "wss://ws.kraken.com/"
PRIVATE = "wss://ws-auth.kraken.com/"

TOKEN_FILE = "WS_Token"  # noqa: S105 - a name, not a secret

ANSWER_SECONDS = 3.0  # ping and requests: the whole run, connecting included
IDLE_SECONDS = 30.0  # the exchange sends a heartbeat a second: silence means a dead link
CLOSE_SECONDS = 0.25  # how long the exchange's half of a closing handshake is waited for
STUCK_SECONDS = 0.3  # how long, once the run is to end, an output that blocks is waited for

DONE, FAILED, UNKNOWN = 0, 1, 3  # the exit statuses

UNKNOWN_FATE = (
    "The request was sent and its fate is unknown: it may be live, look before sending it again"
)

SWITCHING_PROTOCOLS = 101  # the HTTP status of an open WebSocket
CLOSE_FRAME = 8  # its opcode: RFC 6455, section 5.2

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(INTEGER.pattern + r"(\.[0-9]+)?([eE][-+]?[0-9]+)?")
XSTOCK = re.compile(r"([A-Z][A-Z.]*x)(/.*)", re.DOTALL)

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
        return self.feed and self.url == PUBLIC

    @property
    def trading(self) -> bool:
        """Whether the request can change what happens to somebody's money."""
        return not self.feed and self.url == PRIVATE


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
HOUSEKEEPING = ("systemStatus", "heartbeat")


def usage() -> str:
    """Return the usage text: the original's two lines, and every name there is."""
    lines = [
        f"Usage: {sys.argv[0]} feed/endpoint [parameters]",
        f"Example: {sys.argv[0]} ticker XBT/USD",
        f"Feeds: {' '.join(name for name, row in TABLE.items() if row.feed)}",
        f"Endpoints: {' '.join(name for name, row in TABLE.items() if not row.feed)}",
    ]
    return "\n".join(lines)


def read_token() -> str:
    """Return the first line with text of WS_Token, here or else beside the script.

    A file that is here but of no use is not passed over for the other, which may be
    another account's. Raises Failure where no token can be had.
    """
    for folder in ("", os.path.dirname(os.path.realpath(__file__))):
        try:
            with open(os.path.join(folder, TOKEN_FILE), encoding="utf-8-sig") as file:
                return next(filter(None, map(str.strip, file)))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeError, StopIteration):
            break
    raise Failure(f"WebSocket authentication token missing ({TOKEN_FILE})")


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
            raise Failure(f"Parameter {word} has no value: write {word}=value")
        if not name:
            raise Failure(f"Parameter {word} has no name: write name{word}")
        if name in reserved:
            raise Failure(f"Parameter {name} can't be given: the client sets it")
        if name in parameters:
            raise Failure(f"Parameter {name} is given twice")
        parameters[name] = value
    return parameters


def split_pairs(row: Row, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the pairs and the name=value words; a bare number becomes one of these."""
    pairs, number, rest = [], 0, []
    for word in words:
        if "=" in word:
            rest.append(word)
        elif word.isdecimal():
            number = decimal(word)
        else:
            pairs.append(pair_name(word))
    if not pairs:
        raise Failure(usage())
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


class Session:
    """What is asked of the exchange, how far it has got and what was answered."""

    row = TABLE["ping"]
    answer = ""
    due = 1

    def __init__(self) -> None:
        self.stage = "connection"  # in the original's words
        self.sent = False
        self.accepted = 0
        self.errors: list[str] = []
        self.live = False  # a feed that has brought data or an accepted subscription

    def expect(self, name: str, request: dict[str, Any]) -> None:
        """Learn what is going to be asked, and so what answers it."""
        self.row = TABLE[name]
        self.answer = "subscriptionStatus" if self.row.feed else ANSWERS.get(name, f"{name}Status")
        self.due = sum(len(request.get(member, ())) for member in self.row.each) or 1

    @property
    def complete(self) -> bool:
        """Whether every reply that is due has come."""
        return self.accepted + len(self.errors) >= self.due

    @property
    def refused(self) -> bool:
        """Whether this is a subscription of which nothing was accepted."""
        return self.row.feed and self.complete and not self.accepted

    def note(self, event: dict[str, Any]) -> None:
        """Take in what came after the request was sent: an event, or {} for all else."""
        kind = event.get("event")
        status = "ok" if kind == "pong" else event.get("status")
        if kind == "error" or (status == "error" and kind in (self.answer, *REFUSALS)):
            self.errors.append(str(event.get("errorMessage")))
            if kind != self.answer or (self.row.feed and "pair" not in event):
                self.due = 0  # one reply for the whole request: no other will come
        elif kind not in HOUSEKEEPING:
            self.live = True
            self.accepted += kind == self.answer and status in ("ok", "subscribed")

    def verdict(self, end: Exception | Stop) -> tuple[int, str]:
        """Return the exit status of a run that ended so, and the sentence that is due, if any."""
        sentence = f"WebSocket {self.stage} failed ({end})" if isinstance(end, Stop) else str(end)
        if self.complete and not self.row.feed:
            return FAILED if self.errors else DONE, sentence if isinstance(end, OutputLost) else ""
        if self.row.trading and self.sent:
            return UNKNOWN, f"{sentence}\n{UNKNOWN_FATE}".strip()
        if self.row.feed and self.live and (isinstance(end, Stop) or not sentence):
            return DONE, ""
        return FAILED, sentence


class Signals:
    """Turns signals and the time limit into Stop, but never within a line of output."""

    def __init__(self) -> None:
        self.stopped = ""  # by what, once the run is to end
        self.busy = False  # with a line of output or the last close, which are not to be cut

    def install(self) -> None:
        """Take over the signals that end a run, save those that were ignored at the start."""
        signal.signal(signal.SIGALRM, self.handle)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """End the run at the first signal, and from then on whatever is stuck."""
        if not signal.getitimer(signal.ITIMER_REAL)[1]:
            signal.setitimer(signal.ITIMER_REAL, STUCK_SECONDS, STUCK_SECONDS)
        alarm = number == signal.SIGALRM
        first, self.stopped = (
            not self.stopped,
            self.stopped
            or (
                "stopped by the time limit"
                if alarm
                else f"stopped by {signal.Signals(number).name}"
            ),
        )
        if (alarm and not first) if self.busy else first:
            raise Stop(self.stopped)

    def check(self) -> None:
        """Raise the Stop that was held back while busy."""
        if self.stopped:
            raise Stop(self.stopped)

    def finish(self) -> None:
        """Let no signal end anything any more but what is stuck."""
        self.stopped = self.stopped or "finished"


class Output:
    """stdout, a whole line at a time, with the token masked."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.token: re.Pattern[str] | None = None
        self.lost = False
        # A terminal or pipe that another program left non-blocking would lose lines.
        with contextlib.suppress(AttributeError, OSError):
            os.set_blocking(sys.stdout.fileno(), True)

    def hide(self, token: str) -> None:
        """Mask TOKEN from now on, in every spelling that JSON has for its characters."""
        spellings = (
            {
                char,
                json.dumps(char)[1:-1],
                f"\\{char}",
                f"\\u{ord(char):04x}",
                f"\\u{ord(char):04X}",
            }
            for char in token
        )
        self.token = re.compile(
            "".join(f"(?:{'|'.join(map(re.escape, sorted(each)))})" for each in spellings)
        )

    def line(self, text: str) -> None:
        """Write a line to stdout, now; raise OutputLost when it can't be."""
        self.signals.busy = True
        try:
            self.write(sys.stdout, text)
        except BrokenPipeError:  # nobody reads any more: a quiet end
            raise OutputLost from None
        except OSError as error:
            raise OutputLost(f"stdout can't be written ({error})") from None
        finally:
            self.signals.busy = False

    def say(self, sentence: str) -> None:
        """Write a last sentence to stdout, or to stderr once stdout is lost."""
        self.signals.busy = True
        for stream in (None if self.lost else sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, Stop):
                self.write(stream, sentence)
                break

    def write(self, stream: TextIO | None, text: str) -> None:
        """Write a line to STREAM as UTF-8, whatever the locale, or raise OSError."""
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        text = self.token.sub("***", text) if self.token else text
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        try:
            while data:  # with PYTHONUNBUFFERED the stream has no buffer and may take a part
                data = data[stream.buffer.write(data) :]
            stream.flush()
        except (OSError, Stop):
            self.lost = True
            # At its exit the interpreter would try again what is still in the buffer.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise


def load_library() -> Any:
    """Return websocket-client's WebSocket class, or raise Failure where it isn't installed."""
    try:
        # PyPI's package "websocket" has a WebSocket as well, but no such exception.
        from websocket import WebSocket, WebSocketTimeoutException  # noqa: F401
    except Exception:  # whatever else is called websocket may fail in any way
        raise Failure(
            "websocket-client is missing, or another package called websocket is in its place:"
            " python3 -m pip install websocket-client"
        ) from None
    return WebSocket


def dial(ws: Any, url: str, result: queue.SimpleQueue[Exception | None]) -> None:
    """Open WS to URL, and put None into RESULT or the exception that prevented it."""
    error: Exception | None = None
    try:
        # Twice the limit on connecting: late, but an abandoned thread ends as well.
        ws.connect(url, timeout=2 * IDLE_SECONDS, redirect_limit=0)
    except Exception as exception:
        error = exception
    if ws.getstatus() not in (None, SWITCHING_PROTOCOLS):
        # websocket-client 1.8 takes a redirect that it doesn't follow for a success
        error = ConnectionError(f"HTTP {ws.getstatus()}, and redirects are not followed")
    result.put(error)


def connect(url: str) -> Any:
    """Return an open connection to URL, a WebSocket, or raise what prevented it.

    A thread dials, because a name look-up can neither be interrupted nor limited in time.
    """
    ws = load_library()(skip_utf8_validation=True)  # in pure Python; decoding checks the same
    result: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    threading.Thread(target=dial, args=(ws, url, result), daemon=True).start()
    try:
        error = result.get(timeout=IDLE_SECONDS)
    except queue.Empty:
        error = TimeoutError(f"no connection within {IDLE_SECONDS:g} seconds")
    if error:
        raise error
    ws.settimeout(IDLE_SECONDS)
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
    signals.busy = True
    with contextlib.suppress(Stop):
        ws.close(timeout=CLOSE_SECONDS)
    ws.shutdown()
    signals.busy = False


def reason(error: Exception) -> str:
    """Return in words, on one line, what was wrong with the connection."""
    from websocket import WebSocketBadStatusException, WebSocketTimeoutException

    text = str(error) or type(error).__name__
    if isinstance(error, WebSocketBadStatusException):
        text = f"HTTP {error.status_code} {error.status_message or ''}"
    elif isinstance(error, WebSocketTimeoutException):
        text = f"nothing received for {IDLE_SECONDS:g} seconds"
    elif hasattr(error, "verify_message"):  # ssl.SSLCertVerificationError
        text = f"certificate not accepted: {error.verify_message}"
    return " ".join(text.split())


def converse(session: Session, request: str, output: Output, signals: Signals) -> NoReturn:
    """Connect, send the request and print what comes, until something ends it."""
    ws = connect(session.row.url)
    try:
        output.line(f"WebSocket -> Client: {receive(ws)}")
        session.stage = "subscription/request"
        output.line(f"Client -> WebSocket: {request}")
        signals.check()
        session.sent = True
        ws.send(request)
        while not session.refused:
            message = receive(ws)
            output.line(f"WebSocket -> Client: {message}")
            session.note(parse_event(message))
            signals.check()
            session.stage = "messages"
    finally:
        close(ws, signals)
    words = "; ".join(dict.fromkeys(session.errors))
    raise Failure(f"WebSocket subscription/request failed ({words})")


def prepare(words: list[str], session: Session, output: Output) -> str:
    """Return the text of the request that the command line asks for, or raise Failure."""
    name = words[0] if words else "ping"
    if name not in TABLE:
        raise Failure(usage())
    if not TABLE[name].feed:
        signal.setitimer(signal.ITIMER_REAL, ANSWER_SECONDS)
    token = ""
    if TABLE[name].url == PRIVATE:
        token = read_token()
        output.hide(token)
    request = build_request(name, words[1:], token)
    session.expect(name, request)
    return encode(request)


def run(words: list[str], session: Session, output: Output, signals: Signals) -> Exception | Stop:
    """Do what the command line asks for, and return what ended it."""
    end: Exception | Stop
    try:
        try:
            converse(session, prepare(words, session, output), output, signals)
        except (Failure, OutputLost) as error:
            end = error
        except Exception as error:
            end = Failure(f"WebSocket {session.stage} failed ({reason(error)})")
        signals.finish()
    except Stop as stop:  # wherever it struck, also in the lines above
        end = stop
    return end


def main(argv: list[str] | None = None) -> int:
    """Run the command line ARGV, or the process's own, and return the exit status."""
    signals = Signals()
    output = Output(signals)
    session = Session()
    signals.install()
    end = run(sys.argv[1:] if argv is None else argv, session, output, signals)
    status, sentence = session.verdict(end)
    if sentence:
        output.say(sentence)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
