"""What the client's tests share: messages, lines of the transcript, and the client's sentences."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import krakenws
from client.scripted import GREETING
from conftest import TOKEN, Client

TICKER = '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["XBT/USD"]}'
SUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
REFUSED = (
    '{"errorMessage":"Currency pair not supported A/B","event":"subscriptionStatus",'
    '"pair":"A/B","status":"error"}'
)
REFUSED_WHOLE = (
    '{"errorMessage":"Subscription name invalid","event":"subscriptionStatus","status":"error"}'
)
DATA = '[340,["5541.2","5542.0"],"spread","XBT/USD"]'

ORDER = f'{{"event":"addOrder", "token":"{TOKEN}", "pair":"XBT/USD"}}'
ORDER_SHOWN = '{"event":"addOrder", "token":"***", "pair":"XBT/USD"}'
ACCEPTED = '{"descr":"buy","event":"addOrderStatus","status":"ok","txid":"OXXXXX-XXXXX-XXXXXX"}'
ALL_CANCELLED = '{"count":0,"event":"cancelAllStatus","status":"ok"}'
ERROR = '{"errorMessage":"EOrder:Insufficient funds","event":"addOrderStatus","status":"error"}'
MALFORMED = '{"errorMessage":"Malformed request","event":"error"}'
CANCELLED = '{"event":"cancelOrderStatus","status":"ok"}'
NOT_CANCELLED = (
    '{"errorMessage":"EOrder:Unknown order","event":"cancelOrderStatus","status":"error"}'
)
PONG = '{"event":"pong"}'

FATE = f"{krakenws.FATE}\n"
TIMED_OUT = "stopped by the time limit"
GREETED = f"WebSocket -> Client: {GREETING}\n"


def sent(request: str) -> str:
    """Return the line of the transcript that shows a request."""
    return f"Client -> WebSocket: {request}\n"


def got(*messages: str) -> str:
    """Return the lines of the transcript that show messages."""
    return "".join(f"WebSocket -> Client: {message}\n" for message in messages)


def failed(stage: str, why: str) -> str:
    """Return one of the three sentences, as a line."""
    return f"WebSocket {stage} failed ({why})\n"


def connection_failed(why: str) -> str:
    """Return the first sentence."""
    return failed("connection", why)


def request_failed(why: str) -> str:
    """Return the second sentence."""
    return failed("subscription/request", why)


def messages_failed(why: str) -> str:
    """Return the third sentence."""
    return failed("messages", why)


def cut(stopped_by: str) -> str:
    """Return the sentence for a line that was stuck when the run had to end."""
    stuck = "while its reader was stuck: the last line is cut or missing"
    return f"stdout can't be written (stopped by {stopped_by}, {stuck})\n"


# In the child: the date stands still. Its clock is ahead by what a file says. The waits between its
# attempts, in which it polls nothing but its stdout, pass at once up to MOST seconds in all. The
# times at which it looks up localhost are in the file "dialled".
CLOCK = """
import select
look_up, clock, poll, waited = socket.getaddrinfo, time.monotonic, select.poll, [0.0]
class Poll:
    def __init__(self):
        self.real, self.numbers = poll(), set()
    def register(self, number, *events):
        self.numbers.add(number)
        self.real.register(number, *events)
    def unregister(self, number):
        self.numbers.discard(number)
        self.real.unregister(number)
    def poll(self, limit=None):
        if self.numbers - {1} or waited[0] > MOST:
            return self.real.poll(limit)
        waited[0] += (limit or 0) / 1000
        return self.real.poll(0)
def getaddrinfo(host, *port, **options):
    if host == "localhost":
        with open("dialled", "a") as file:
            print(time.monotonic(), file=file)
    return look_up(host, *port, **options)
select.poll = Poll
time.time = lambda: 1e9
time.monotonic = lambda: clock() + waited[0] + float(open(AHEAD).read())
"""


NOW = "2001-09-09T01:46:40Z"


def set_clock(client: Client, ahead: float, most: float = 1e9) -> None:
    """Let the client's clock be ahead by so many seconds, from the next look at it.

    Its waits between attempts pass at once, up to MOST seconds in all. The date is always NOW.
    """
    path = client.folder / "ahead"
    path.with_suffix(".new").write_text(str(ahead))
    path.with_suffix(".new").replace(path)
    if "PYTHONPATH" not in client.environment:
        client.patch(f"AHEAD, MOST = {os.fspath(path)!r}, {most}\n{CLOCK}")


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """Fail where it takes ten seconds: a slow machine needs one for what should come at once."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < 10


def hang(sock: socket.socket) -> None:
    """Say nothing until the client goes."""
    while sock.recv(65536):
        pass


@contextlib.contextmanager
def silence() -> Iterator[tuple[str, int]]:
    """Yield an address that answers no packet: the queue of those who call is full."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        yield full.getsockname()
