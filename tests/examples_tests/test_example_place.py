"""place.py: every fate of an order, whatever happens to the connections, and signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from client.scripted import GREETING, Peer, Refusal, ScriptedExchange, running
from conftest import TOKEN, Client, Process, Result
from examples import place
from examples_tests.common import program
from practice.account import Account
from practice.authority import Authority
from practice.connection import Connection
from practice.exchange import Practice
from practice.server import Server
from tools.orders import Proof

LIMITS = ("it.DEADLINE_SECONDS = 50", "it.SILENT_SECONDS = 1000", "it.REPLY_SECONDS = 60")
# The deadline is over as soon as the client of the order has ended
SURE = """
it.SURE_SECONDS = 1000
def judge(order, status, words, real=it.Order.judge):
    real(order, status, words)
    order.sure = order.sure if status is None else 0
it.Order.judge = judge
"""
# After that, no connection is waited for
HURRY = """
def hurry(order, status, words, real=it.Order.judge):
    real(order, status, words)
    it.REPLY_SECONDS = 60 if status is None else 0.5
it.Order.judge = hurry
"""
OVER = "it.SURE_SECONDS = 0"  # the deadline is over at once
AT_ONCE = "it.SILENT_SECONDS = -1"  # the feed fails before it tells anything
ORDER = ("pair=XBT/USD", "type=buy", "ordertype=limit", "price=9000", "volume=0.01")
MARKET = ("pair=XBT/USD", "type=buy", "ordertype=market", "volume=0.01")
NOT_KNOWN = "not known: look for userref N"

Mishap = Callable[[Practice, dict[str, Any]], list[dict[str, Any]]]
FAILED = {"event": "addOrderStatus", "status": "error", "errorMessage": "EService:Unavailable"}
REFUSED = {**FAILED, "errorMessage": "EOrder:Insufficient funds"}
OTHER = {**dict(word.split("=") for word in ORDER), "event": "addOrder"}
SELL = {**OTHER, "type": "sell", "ordertype": "market"}


def carry_out(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and tell of it."""
    return Account.handle(practice.account, request)


def refuse(_practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place nothing, and say so."""
    return [REFUSED]


def fail(practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place another program's order only, and tell of no fate."""
    carry_out(practice, {**OTHER, "userref": "7"})
    return [FAILED]


def hush(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and tell of no fate."""
    carry_out(practice, request)
    return [FAILED]


def skip(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Lose a message of every feed, and then place another program's orders only."""
    for connection in practice.connections:
        for feed in connection.private.values():
            feed.sequence += 1
    carry_out(practice, SELL)
    return fail(practice, request)


def miss(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, of which the feed's message is lost, and then another program's."""
    for connection in [each for each in practice.connections if each.private]:
        feeds, connection.private = connection.private, {}
        carry_out(practice, request)
        connection.private = feeds
        for feed in feeds.values():
            feed.sequence += 1
    return fail(practice, request)


def drop(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and lose every connection."""
    for connection in [*practice.connections]:
        connection.end(connection.transport.reset)
    return carry_out(practice, request)


def drop_only(practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place another program's sale only, and lose every connection."""
    return drop(practice, SELL)


def sweep(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place more sales than a snapshot of trades shows, and lose every connection."""
    for _ in range(place.SHOWN_TRADES):
        carry_out(practice, SELL)
    return drop_only(practice, request)


def shut(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, lose every connection, and refuse all later ones."""
    practice.faults["503"] = 0
    return drop(practice, request)


def delay(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell of no fate, and place the order after the feed's next heartbeat."""
    (feed,) = (connection for connection in practice.connections if connection.private)

    def beat() -> None:
        Connection.beat(feed)
        if feed.outbox:
            carry_out(practice, request)

    feed.beat = beat  # type: ignore[method-assign]
    return [FAILED]


@contextlib.contextmanager
def befalling(exchange: ScriptedExchange, mishap: Mishap) -> Iterator[Practice]:
    """Be the practice exchange, on which a mishap befalls every order."""
    practice = Practice(token=TOKEN)
    carry_out(practice, OTHER)  # another program's, without a userref
    practice.account.handle = lambda request: mishap(practice, request)  # type: ignore[method-assign]
    with running(Server(practice, None)) as exchange.script:
        yield practice


def shape(text: str) -> str:
    """Return a text without what is another one each time."""
    text = re.sub(r"\bO[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{6}\b", "TXID", text)
    return re.sub(r"userref [0-9]+", "userref N", text)


def sent_orders(exchange: ScriptedExchange) -> list[dict[str, Any]]:
    """Return the orders that have reached the exchange."""
    requests = map(json.loads, exchange.received)
    return [request for request in requests if request["event"] == "addOrder"]


def check_shown(exchange: ScriptedExchange, result: Result) -> None:
    """Check that the one order that was sent is the one of which stderr told."""
    (order,) = sent_orders(exchange)
    told = f"userref {order['userref']}, deadline {order['deadline']}\n"
    assert told in result.err
    assert result.out.count("\n") == 1


@pytest.mark.parametrize(
    ("mishap", "order", "said", "status"),
    [
        (carry_out, ORDER, "accepted: TXID", 0),
        (carry_out, (*ORDER, "validate=true"), "accepted: buy 0.01000000 XBTUSD @ limit 9000.0", 0),
        (refuse, ORDER, "refused: EOrder:Insufficient funds", 1),
        (hush, ORDER, "accepted: TXID", 0),
        (hush, MARKET, "accepted: TXID", 0),
        (delay, ORDER, "accepted: TXID", 0),
        (drop, ORDER, "accepted: TXID", 0),
    ],
)
def test_fates(
    client: Client, mishap: Mishap, order: tuple[str, ...], said: str, status: int
) -> None:
    """Every fate of an order is told, by its reply, by the feed or by the open orders."""
    with befalling(client.exchange, mishap):
        result = client.run(*order, program=program("place", *LIMITS))
    assert (result.status, shape(result.out)) == (status, f"{said}\n")
    check_shown(client.exchange, result)


@pytest.mark.parametrize(
    ("mishap", "order", "said", "status"),
    [
        (fail, ORDER, "never in effect", 1),
        (skip, ORDER, "never in effect", 1),
        (miss, ORDER, "accepted: TXID", 0),
        (drop_only, ORDER, "never in effect", 1),
        (drop, MARKET, NOT_KNOWN, 3),
        (sweep, ORDER, NOT_KNOWN, 3),
        (shut, ORDER, NOT_KNOWN, 3),
    ],
)
def test_fates_after_the_deadline(
    client: Client, mishap: Mishap, order: tuple[str, ...], said: str, status: int
) -> None:
    """What is not there after the deadline is in effect no more, unless it may have been traded."""
    limits = (*LIMITS, SURE, *([HURRY] if mishap is shut else []))
    with befalling(client.exchange, mishap):
        result = client.run(*order, program=program("place", *limits))
    assert (result.status, shape(result.out)) == (status, f"{said}\n")
    check_shown(client.exchange, result)


# Each look is told, and whether the order could still come into effect
TELL_LOOKS = """
def look(order, name, real=it.Order.look):
    it.say(f"{name} {'after' if it.time.monotonic() > order.sure else 'before'}")
    return real(order, name)
it.Order.look = look
"""


def test_waits_for_the_deadline(client: Client) -> None:
    """Where connections are lost, it looks at once, and again when the deadline is over."""
    changes = "it.SURE_SECONDS = 3", TELL_LOOKS
    with befalling(client.exchange, drop_only):
        result = client.run(*ORDER, program=program("place", *LIMITS, *changes))
    assert (result.status, result.out) == (1, "never in effect\n")
    looks = re.findall("^(openOrders|ownTrades) (before|after)$", result.err, re.MULTILINE)
    assert looks[-2:] == [("openOrders", "after"), ("ownTrades", "after")]
    assert len(looks) == 3


# The first look at the open orders fails
NO_FIRST_LOOK = """
def look(order, name, looks=[], real=it.Order.look):
    looks.append(name)
    return real(order, name) if looks[1:] else None
it.Order.look = look
"""


def test_looks_again(client: Client) -> None:
    """After the deadline the open orders are looked at again: the order may have come late."""
    with befalling(client.exchange, drop):
        result = client.run(*ORDER, program=program("place", *LIMITS, SURE, NO_FIRST_LOOK))
    assert (result.status, shape(result.out)) == (0, "accepted: TXID\n")


def test_silence(client: Client) -> None:
    """After a silence the feed is believed no more: an order is looked for elsewhere."""
    with befalling(client.exchange, hush):
        result = client.run(*ORDER, program=program("place", *LIMITS, AT_ONCE))
    assert (result.status, shape(result.out)) == (0, "accepted: TXID\n")
    check_shown(client.exchange, result)
    assert len(client.exchange.dialled) == 3


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_client_in_trouble(client: Client, number: str) -> None:
    """Where the client of the order is killed or stands still, the feed tells that none came."""
    trouble = f"[ -e feed ] && kill -{number} $PPID; touch feed; cat WS_Token"
    with befalling(client.exchange, carry_out):
        result = client.run(
            "--token-command", trouble, *ORDER, program=program("place", *LIMITS, OVER)
        )
    assert (result.status, result.out) == (1, "never in effect\n")
    assert sent_orders(client.exchange) == []


@pytest.mark.parametrize(
    ("kind", "side", "count", "seconds", "maybe"),
    [
        ("type=buy", "buy", 1, 0, True),
        ("type=BUY", "buy", 1, 0, True),
        ("type=buy", "buy", 1, -9, True),
        ("type=buy", "buy", 1, -11, False),
        ("type=buy", "sell", 1, 0, False),
        ("type=sell", "buy", 1, 0, False),
        ("type=buy", "sell", 49, 0, False),
        ("type=buy", "sell", 50, 0, True),
    ],
)
def test_trades(kind: str, side: str, count: int, seconds: float, maybe: bool) -> None:
    """A trade may be the order's if it is of its side, and not older by this machine's clock."""
    order = place.Order([], [kind])
    order.since = 1000.0
    trade = {"type": side, "time": f"{1000 + seconds:.6f}"}
    assert order.may_be_traded([{f"T{number}": trade} for number in range(count)]) is maybe


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"status":"ok","txid":"OA","descr":"buy"}', "OA"),
        (b'{"status":"ok","descr":"buy 1"}', "buy 1"),
        (b'{"errorMessage":"EOrder:a\\n b"}', "EOrder:a b"),
        (b'{"Error":"Exceeded msg rate"}', "Exceeded msg rate"),
        (b'{"event":"heartbeat"}', ""),
        (b"[1]", ""),
        (b"half", ""),
    ],
)
def test_words(line: bytes, words: str) -> None:
    """The words of a reply are found in all of its forms."""
    assert place.find_words(line) == words


def test_accepted_without_words() -> None:
    """An accepted order whose reply says nothing is known by its userref."""
    order = place.Order([], [])
    with pytest.raises(place.Fate, match=f"accepted: userref {order.userref}"):
        order.judge(0, "")


def test_no_connection(client: Client) -> None:
    """Where there is no feed, no order is sent."""
    client.exchange.refusals = iter([Refusal(503)])
    result = client.run(*ORDER, program=program("place"))
    assert (result.status, result.out) == (1, "never sent\n")
    assert "HTTP 503" in result.err
    assert client.exchange.received == []


def test_no_parameters_that_can_be_right(client: Client) -> None:
    """What the client refuses is never sent, and the client says why."""
    result = client.run("pair=XBT/USD", "type", program=program("place", *LIMITS))
    assert (result.status, result.out) == (1, "never sent\n")
    assert "Parameter type is not of the form name=value\n" in result.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "An order needs parameters\n"),
        (["--foo"], "unrecognized arguments: --foo\n"),
        ([*ORDER, "userref=1"], "userref can't be given: place.py knows the order by its own"),
        ([*ORDER, "deadline=1"], "deadline can't be given"),
        ([*ORDER, "cl_ord_id=1"], "cl_ord_id can't be given"),
    ],
)
def test_usage(client: Client, words: list[str], sentence: str) -> None:
    """A wrong command line is told in a sentence, and nobody is connected to."""
    result = client.run(*words, program=program("place"))
    assert (result.status, result.out) == (1, "never sent\n")
    assert sentence in result.err
    assert client.exchange.dialled == []


def test_help(client: Client) -> None:
    """The help says what each line and status means."""
    status, out, err = client.run("--help", program=program("place"))
    assert (status, err) == (0, "")
    assert all(word in out for word in ("accepted: TXID", "never in effect", "--token-command"))


def test_no_client(client: Client) -> None:
    """Without krakenws.py there is a sentence."""
    elsewhere = f"it.__file__ = '{client.folder}/place.py'"
    result = client.run(*ORDER, program=program("place", elsewhere))
    assert (result.status, result.out) == (1, "never sent\n")
    assert result.err.startswith(f"krakenws.py is neither in {client.folder} nor in ")


def test_beside(client: Client) -> None:
    """The client is found beside the program, too."""
    command = program("place")
    copy = shutil.copy(command[1], str(client.folder))
    client.copy_script().joinpath("krakenws.py").rename(client.folder / "krakenws.py")
    result = client.run(*ORDER, program=[command[0], copy])
    assert (result.status, shape(result.out)) == (0, "accepted: TXID\n")


def test_fault_of_its_own(client: Client) -> None:
    """Whatever goes wrong once the order is sent, it is not called off."""
    with befalling(client.exchange, refuse):
        result = client.run(*ORDER, program=program("place", *LIMITS, "it.find_words = None"))
    assert (result.status, shape(result.out)) == (3, f"{NOT_KNOWN}\n")
    check_shown(client.exchange, result)


def test_orders_at_once(authority: Authority) -> None:
    """Orders at the same time, whose replies are lost, are told apart."""
    outcomes = Proof(authority, "lost-reply").run(orders=3, at_once=3)
    assert all(outcome.right and outcome.word != "not known" for outcome in outcomes)


def full(client: Client, stream: str) -> Result:
    """Return the result of an order where stdout or stderr is on a full disk."""
    with open("/dev/full", "wb") as disk:
        return client.run(*ORDER, program=program("place", *LIMITS), **{stream: disk})


def test_stdout_full(client: Client) -> None:
    """A fate that can't be written to stdout is written to stderr, and is no success."""
    status, _, err = full(client, "stdout")
    assert (status, "accepted: TXID\nstdout can't be written (" in shape(err)) == (3, True)


def test_stderr_full(client: Client) -> None:
    """An order of which the user can't be told is not sent."""
    assert full(client, "stderr") == (1, "never sent\n", "")
    assert sent_orders(client.exchange) == []


@pytest.mark.parametrize("descriptor", [1, 2])
def test_closed(client: Client, descriptor: int) -> None:
    """Where stdout or stderr is closed, nobody is connected to."""
    close = ["sh", "-c", f'exec "$@" {descriptor}>&-', "sh"]
    assert client.run(*ORDER, program=[*close, *program("place")]) == (1, "", "")
    assert client.exchange.dialled == []


SNAPSHOT = [[], "openOrders", {"sequence": 1}]
REPLY = {"event": "addOrderStatus", "status": "ok", "txid": "OAAAAA-AAAAA-AAAAAA"}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# A signal that comes when the order is announced, or many from the last line on to the very end
KILL = """
import os
def write(descriptor, text, real=it.write):
    real(descriptor, text)
    os.kill(os.getpid(), 15)
it.write = write
"""
FLOOD = """
import os, subprocess
def write(descriptor, text, real=it.write):
    streams = "stdin", "stdout", "stderr"
    if descriptor == 1:
        flood = "while kill -INT $0 && kill -TERM $0 && kill -HUP $0; do :; done"
        subprocess.Popen(["sh", "-c", flood, str(os.getpid())], **dict.fromkeys(streams, -3))
    real(descriptor, text)
it.write = write
"""


class Scene:
    """An order that is under way: the exchange waits with its feed, or with its reply."""

    def __init__(self, client: Client, waits_with: str) -> None:
        self.client = client
        self.waits_with = waits_with
        client.exchange.script = self.script

    def script(self, peer: Peer) -> None:
        """Be the exchange."""
        peer.greet()
        event = json.loads(peer.receive() or "")["event"]
        if event == self.waits_with:
            self.client.barrier.wait()
            self.client.barrier.wait()
        peer.send(SNAPSHOT if event == "subscribe" else REPLY)
        peer.wait()

    def start(self, *prefix: str, **options: Any) -> Process:
        """Return place.py, of which all that it says is in one pipe, when the exchange waits."""
        command = [*prefix, *program("place", *LIMITS)]
        streams = {"stderr": subprocess.STDOUT, **options}
        process = self.client.start(*ORDER, program=command, **streams)
        self.client.barrier.wait()
        return process

    def go_on(self) -> None:
        """Let the exchange go on."""
        self.client.barrier.wait()


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_before(client: Client, number: signal.Signals) -> None:
    """Before anything is sent, a signal ends it."""
    process = Scene(client, "subscribe").start()
    assert process.signal(number).end() == (1, "never sent\n", "")
    assert sent_orders(client.exchange) == []


def test_signal_between(client: Client) -> None:
    """A signal that comes when the order was announced still prevents it."""
    with befalling(client.exchange, carry_out):
        result = client.run(*ORDER, program=program("place", *LIMITS, KILL))
    assert (result.status, result.out) == (1, "never sent\n")
    assert result.err.startswith("userref ")
    assert sent_orders(client.exchange) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_behind(client: Client, number: signal.Signals) -> None:
    """Once the order may be sent, the first signal ends nothing: the fate is still told."""
    scene = Scene(client, "addOrder")
    process = scene.start(start_new_session=True)
    os.killpg(process.process.pid, number)  # as a terminal does, which reaches no client
    process.read_until("The order may already be sent: ")
    scene.go_on()
    assert process.end() == (0, f"accepted: {REPLY['txid']}\n", "")


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal(client: Client, number: signal.Signals) -> None:
    """The second signal ends it, and nobody knows the fate."""
    process = Scene(client, "addOrder").start()
    process.signal(signal.SIGINT).read_until("The order may already be sent: ")
    status, out, _ = process.signal(number).end()
    (order,) = sent_orders(client.exchange)
    assert (status, out) == (3, f"not known: look for userref {order['userref']}\n")


def test_ignored_signal(client: Client) -> None:
    """Under nohup a SIGHUP does nothing."""
    scene = Scene(client, "addOrder")
    process = scene.start("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    process.signal(signal.SIGHUP)
    scene.go_on()
    status, out, _ = process.end()
    assert (status, "already be sent" in out) == (0, False)


def test_signal_at_the_end(client: Client) -> None:
    """Signals that come when the fate is told change neither the line nor the status."""
    with befalling(client.exchange, carry_out):
        result = client.run(*ORDER, program=program("place", *LIMITS, FLOOD))
    assert (result.status, shape(result.out)) == (0, "accepted: TXID\n")


def test_ctrl_c(client: Client) -> None:
    """Ctrl-C in a terminal does what the signal does."""
    keyboard, terminal = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    scene = Scene(client, "addOrder")
    process = scene.start(stdin=terminal, preexec_fn=take_terminal)
    os.write(keyboard, b"\x03")
    process.read_until("The order may already be sent: ")
    scene.go_on()
    assert process.end().status == 0
    os.close(terminal)
    os.close(keyboard)


def test_nothing_is_left(client: Client) -> None:
    """At the end no client is left: the feed's connection is closed."""

    def script(peer: Peer) -> None:
        try:
            peer.send(GREETING)
            event = json.loads(peer.receive() or "")["event"]
            peer.send(SNAPSHOT if event == "subscribe" else REPLY)
            peer.wait()
        finally:
            if event == "subscribe":
                client.barrier.wait()

    client.exchange.script = script
    process = client.start(*ORDER, program=program("place", *LIMITS))
    client.barrier.wait()
    assert process.end().status == 0
