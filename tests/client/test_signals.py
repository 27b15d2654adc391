"""How the client is stopped."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess

import pytest
from websockets.frames import Opcode

import krakenws
from client.common import (
    ACCEPTED,
    CANCELLED,
    DATA,
    ERROR,
    FATE,
    GREETED,
    ORDER_SHOWN,
    PONG,
    SUBSCRIBED,
    TIMED_OUT,
    connection_failed,
    cut,
    hang,
    messages_failed,
    request_failed,
    sent,
    soon,
)
from client.scripted import GREETING, HEARTBEAT, Peer, Refusal, answer, frame
from conftest import PATIENCE, Client, Result
from tools.stops import stop_orders

SUBSCRIBED_TO_ORDERS = (
    '{"channelName":"openOrders","event":"subscriptionStatus","status":"subscribed"}'
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_feed(client: Client, number: signal.Signals) -> None:
    """A feed that ran until it was stopped is done, and says goodbye."""
    client.exchange.script = answer(SUBSCRIBED)
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    assert process.signal(number).end() == (0, "", "")
    assert client.exchange.closed.get(timeout=PATIENCE) == 1000


def test_before_the_reply(client: Client) -> None:
    """A feed that was stopped before its first reply has failed."""
    client.exchange.script = answer(HEARTBEAT)
    process = client.start("ticker", "XBT/USD")
    process.read_until(HEARTBEAT)
    assert process.signal(signal.SIGINT).end() == (1, messages_failed("stopped by SIGINT"), "")


def test_while_connecting(client: Client) -> None:
    """A handshake that never comes doesn't delay the end."""

    def script(sock: socket.socket) -> None:
        client.barrier.wait()
        hang(sock)

    client.exchange.faults["tls"] = script
    process = client.start("ticker", "XBT/USD")
    client.barrier.wait()
    assert process.signal(signal.SIGINT).end() == (1, connection_failed("stopped by SIGINT"), "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored(client: Client, number: signal.Signals) -> None:
    """A signal that was ignored at the start, as by nohup, stays ignored."""

    def then(peer: Peer) -> None:
        client.barrier.wait()
        peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    process = client.start(
        "ticker", "XBT/USD", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)
    )
    process.read_until(SUBSCRIBED)
    process.signal(number)
    client.barrier.wait()
    process.read_until(DATA)
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def test_blocked(client: Client) -> None:
    """Signals that the parent's thread blocks are unblocked: the time limit holds."""
    client.exchange.script = answer()
    blocked = {signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    result = client.run(
        "addOrder",
        "-rq",
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked),
    )
    assert result == (3, "", request_failed(TIMED_OUT) + FATE)


def test_pongs_that_nobody_reads(client: Client) -> None:
    """A pong that is stuck, for the exchange reads nothing, doesn't delay the end."""

    def flood(peer: Peer) -> None:
        peer.sock.settimeout(0.2)
        pings = frame(b"x" * 125, Opcode.PING) * 100
        with contextlib.suppress(socket.timeout):
            while True:
                peer.sock.sendall(pings)
        client.barrier.wait()
        client.barrier.wait()

    client.exchange.script = answer(SUBSCRIBED, DATA, then=flood)
    process = client.start("ticker", "XBT/USD", "-rq", "--idle-timeout", "0")
    process.read_until(DATA)
    client.barrier.wait()
    assert process.signal(signal.SIGTERM).end() == (0, "", "")
    client.barrier.wait()


def test_in_a_flood(client: Client) -> None:
    """In a flood, what was written ends with a whole line."""

    def flood(peer: Peer) -> None:
        while True:
            peer.sock.sendall(frame(large) * 10)

    large = json.dumps(["x" * 20_000])
    client.exchange.script = answer(SUBSCRIBED, then=flood)
    process = client.start("ticker", "XBT/USD", "-rq")
    process.read_until("x")
    with soon():
        status, out, err = process.signal(signal.SIGTERM).end()
    assert (status, err) == (0, "")
    assert [len(line) for line in out.split("\n")] == [len(large)] * out.count("\n") + [0]


def test_trickle(client: Client) -> None:
    """A frame that never ends doesn't delay the end, with or without a signal."""

    def trickle(peer: Peer) -> None:
        peer.sock.sendall(frame("x" * 1_000_000)[:20])
        while peer.receive(timeout=0.01) is None:
            peer.sock.sendall(b"x")

    client.exchange.script = answer(SUBSCRIBED, DATA, then=trickle)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


def test_while_nobody_reads(client: Client) -> None:
    """A pipe that is full and that nobody empties doesn't delay the end, which tells of it."""
    client.exchange.script = answer(SUBSCRIBED, json.dumps(["x" * 1_000_000]))
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    process.wait_for_output()  # the beginning of a line that is longer than any pipe
    process.signal(signal.SIGTERM)
    with soon():
        assert process.process.wait(PATIENCE) == 1
    assert process.end().err == cut("SIGTERM")


def test_stderr_is_stuck_as_well(client: Client) -> None:
    """Nor does it where stderr is the same pipe."""
    client.exchange.script = answer(SUBSCRIBED, json.dumps(["x" * 1_000_000]))
    process = client.start("ticker", "XBT/USD", stderr=subprocess.STDOUT)
    process.read_until(SUBSCRIBED)
    process.wait_for_output()
    process.signal(signal.SIGTERM)
    with soon():
        assert process.process.wait(PATIENCE) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGALRM])
def test_answered_but_stuck(client: Client, number: signal.Signals) -> None:
    """An order that was answered before the pipe was stuck keeps its status, and stderr tells."""
    client.exchange.script = answer(ACCEPTED, json.dumps(["x" * 1_000_000]))
    process = client.start("addOrder", "-rq", "-W0")
    process.read_until(ACCEPTED)
    process.wait_for_output()
    process.signal(number)
    assert process.process.wait(PATIENCE) == 0
    assert process.end().err == cut({"SIGALRM": "the time limit"}.get(number.name, number.name))


def test_while_the_request_is_shown(client: Client) -> None:
    """A stop while the line with the request is written keeps the request from being sent."""
    client.exchange.script = answer(ACCEPTED)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        process = client.start("addOrder", f"userref={'x' * 100_000}", "-W0")
        process.read_until(GREETING)
        process.wait_for_output()  # the beginning of a line that is longer than a pipe
        status, out, err = process.signal(number).end()
        assert status == 1
        assert "stopped by" in out + err
    assert client.exchange.received == []


def interrupt(client: Client, **numbers: int) -> None:
    """Let signals hit the client in the midst of writing the lines that hold certain words."""
    client.patch(
        "import os\ngetaddrinfo, write = socket.getaddrinfo, os.write\n"
        "def interrupted(descriptor, line):\n"
        f"    for words, number in { ({word: int(numbers[word]) for word in numbers}) }.items():\n"
        "        if words.encode() in line: os.kill(os.getpid(), number)\n"
        "    return write(descriptor, line)\n"
        "os.write = interrupted"
    )


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGINT], ids=["limit", "Ctrl-C"])
def test_in_the_midst_of_a_line(client: Client, number: signal.Signals) -> None:
    """A signal that comes while the request is shown cuts no line, and nothing is sent."""
    interrupt(client, addOrder=number)
    client.exchange.script = answer(ACCEPTED)
    why = TIMED_OUT if number is signal.SIGALRM else f"stopped by {number.name}"
    out = GREETED + sent(ORDER_SHOWN) + request_failed(why)
    assert client.run("addOrder", "pair=XBT/USD", "-W0") == (1, out, "")
    assert client.exchange.received == []


def test_another_in_the_last_line(client: Client) -> None:
    """A second signal, which comes while the last sentence is written, doesn't cut it."""
    interrupt(client, Connecting=signal.SIGTERM, stopped=signal.SIGINT)
    client.exchange.refusals = iter([Refusal(503)])
    status, out, err = client.run("ticker", "XBT/USD", "--reconnect", "1000")
    assert (status, out.splitlines(keepends=True)[2:], err) == (
        1,
        [connection_failed("stopped by SIGTERM")],
        "",
    )


def test_ping_stopped(client: Client) -> None:
    """A ping that any signal stops before its pong has failed."""
    client.exchange.script = answer("{}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = client.start("ping", "-rq", "-W0")
        process.read_until("{}")
        result = process.signal(number).end()
        assert result == (1, "", messages_failed(f"stopped by {number.name}"))


def test_order_while_nobody_reads(client: Client) -> None:
    """A reply that is stuck in the pipe leaves an unknown fate, which stderr tells."""
    client.exchange.script = answer(ACCEPTED[:-1] + f',"x":"{"x" * 1_000_000}"}}')
    process = client.start("addOrder", "-rq", "-W0")
    process.wait_for_output()
    process.signal(signal.SIGALRM)
    assert process.process.wait(PATIENCE) == 3
    assert process.end().err == cut("the time limit") + FATE


def test_random_stops() -> None:
    """An order that is stopped at any moment ends with no status that the exchange belies."""
    results = stop_orders(40, seed=7, workers=2)
    assert [result for result in results if not result[2]] == []


def test_twice(client: Client) -> None:
    """A second signal changes nothing, and neither does one during the close."""

    def interrupt(peer: Peer) -> None:
        while peer.next_event().opcode is not Opcode.CLOSE:
            pass
        process.signal(signal.SIGINT).signal(signal.SIGTERM)

    client.exchange.script = answer(SUBSCRIBED, then=interrupt)
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    process.signal(signal.SIGINT).signal(signal.SIGINT)
    assert process.end() == (0, "", "")


def test_while_exiting(client: Client) -> None:
    """Nor does one after all is done, while the interpreter clears away what there was."""
    client.patch(
        "import os\nclass Late:\n"
        "    def __del__(self, kill=os.kill, write=os.write, process=os.getpid()):\n"
        "        write(1, b'late\\n')\n"
        "        for number in (1, 2, 14, 15): kill(process, number)\n"
        "late, getaddrinfo = Late(), socket.getaddrinfo"
    )
    client.exchange.script = answer(PONG)
    assert client.run("ping", "-rqC1") == (0, f"{PONG}\nlate\n", "")


def stopped_while_frozen(
    client: Client, number: signal.Signals, *argv: str, last: bytes, records: int = 1
) -> Result:
    """Run an order that stands still while its reply comes, and then a signal.

    The reply is sent in so many TLS records.
    """

    def then(peer: Peer) -> None:
        client.barrier.wait()
        client.barrier.wait()
        size = -(-len(last) // records)
        for at in range(0, len(last), size):
            peer.sock.sendall(last[at : at + size])
        client.barrier.wait()

    client.exchange.script = answer(then=then)
    process = client.start(*argv, "-rq")
    client.barrier.wait()
    process.freeze()
    client.barrier.wait()
    client.barrier.wait()
    return process.signal(number).thaw().end()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM], ids=str
)
@pytest.mark.parametrize(
    ("name", "reply", "status"),
    [
        pytest.param("addOrder", ACCEPTED, 0, id="accepted"),
        pytest.param("addOrder", ERROR, 1, id="refused"),
        pytest.param("ping", PONG, 0, id="pong"),
        pytest.param("openOrders", SUBSCRIBED_TO_ORDERS, 0, id="subscribed"),
    ],
)
def test_reply_has_arrived(
    client: Client, number: signal.Signals, name: str, reply: str, status: int
) -> None:
    """A reply that had arrived when the signal came decides the status, and is shown."""
    noise = frame(HEARTBEAT) * 20 + frame(b"", Opcode.PING)
    result = stopped_while_frozen(client, number, name, "-W0", last=noise + frame(reply))
    out = "" if name == "openOrders" else f"{reply}\n"
    assert result == (status, out, "")


def test_reply_in_parts(client: Client) -> None:
    """It may also have come in fragments, and be larger than what is read at once."""
    large = ACCEPTED[:-1] + f',"x":"{"x" * 50_000}"}}'
    parts = frame(large[:9], fin=False) + frame(b"", Opcode.PING)
    parts += frame(large[9:], Opcode.CONT)
    result = stopped_while_frozen(client, signal.SIGTERM, "addOrder", "-W0", last=parts)
    assert result == (0, f"{large}\n", "")


def test_reply_in_many_records(client: Client) -> None:
    """It may also stand behind many records of TLS."""
    last = frame(HEARTBEAT) * 20 + frame(ACCEPTED)
    result = stopped_while_frozen(client, signal.SIGTERM, "addOrder", "-W0", last=last, records=100)
    assert result == (0, f"{ACCEPTED}\n", "")


def test_two_alarms_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second alarm cuts no line short; only one that comes when the line is stuck does.

    GNU timeout sends two alarms at once: to the process and to its group.
    """
    now = [100.0]
    interruption = krakenws.Interruption()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("signal.setitimer", lambda *_: None)
    interruption.writing = True
    for now[0] in (100.0, 100.001, 100.29):
        interruption.handle(signal.SIGALRM, None)
    now[0] = 100.31
    with pytest.raises(krakenws.Stop):
        interruption.handle(signal.SIGALRM, None)


def test_half_a_reply(client: Client) -> None:
    """A reply of which only a part has arrived isn't waited for."""
    last = frame(ACCEPTED)[:-1]
    result = stopped_while_frozen(client, signal.SIGTERM, "addOrder", "-W0", last=last)
    assert result == (3, "", request_failed("stopped by SIGTERM") + FATE)


def test_second_reply_is_missing(client: Client) -> None:
    """One of two replies has arrived: it is shown, and the fate of the other is unknown."""
    argv = ["cancelOrder", "txid=A,B", "-W0"]
    result = stopped_while_frozen(client, signal.SIGTERM, *argv, last=frame(CANCELLED))
    assert result == (3, f"{CANCELLED}\n", messages_failed("stopped by SIGTERM") + FATE)


@pytest.mark.parametrize(
    ("last", "status", "out"),
    [
        pytest.param(frame(ACCEPTED), 0, f"{ACCEPTED}\n", id="a reply"),
        pytest.param(frame(b"", Opcode.PING) + frame(ACCEPTED), 0, f"{ACCEPTED}\n", id="a ping"),
        pytest.param(
            frame(b"", Opcode.PING) * 9 + frame(HEARTBEAT) + frame(ERROR),
            1,
            f"{ERROR}\n",
            id="pings, and a refusal",
        ),
        pytest.param(
            (frame(b"", Opcode.PING) + frame(HEARTBEAT)) * 2000 + frame(ACCEPTED),
            0,
            f"{ACCEPTED}\n",
            id="pings, and more than is read at once",
        ),
    ],
)
def test_reply_before_a_reset(client: Client, last: bytes, status: int, out: str) -> None:
    """A reply counts though a reset stands behind it, and a pong before it can't be sent."""

    def then(peer: Peer) -> None:
        process = client.running().freeze()
        peer.sock.sendall(last)
        peer.reset()
        process.thaw()

    client.exchange.script = answer(then=then)
    assert client.run("addOrder", "-rqC1") == (status, out, "")


def test_longer_frozen_than_idle(client: Client) -> None:
    """What came while the process stood still is read, however long that was."""

    def then(peer: Peer) -> None:
        peer.sync()
        process = client.running().freeze()
        peer.sock.sendall((frame(DATA) + frame(b"", Opcode.PING)) * 1000)
        peer.receive(timeout=2.5)  # more than the idle timeout passes
        process.thaw()

    client.exchange.script = answer(SUBSCRIBED, then=then)
    result = client.run("ticker", "XBT/USD", "-rqC1000", "--idle-timeout", "2")
    assert result == (0, f"{DATA}\n" * 1000, "")


def test_dead_when_frozen(client: Client) -> None:
    """Where nothing came meanwhile, the connection is taken for dead."""

    def then(peer: Peer) -> None:
        peer.sync()
        process = client.running().freeze()
        peer.receive(timeout=2.5)
        process.thaw()

    client.exchange.script = answer(SUBSCRIBED, then=then)
    result = client.run("ticker", "XBT/USD", "-rq", "--idle-timeout", "2")
    assert result == (1, "", messages_failed("nothing received for 2 seconds"))


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(HEARTBEAT), id="heartbeats"),
        pytest.param(frame(b"", Opcode.PING), id="pings"),
        pytest.param(frame(b"", Opcode.PONG), id="pongs"),
        pytest.param(frame(b"x" * 100, Opcode.BINARY), id="messages that say nothing"),
        pytest.param(frame("[", Opcode.CONT, fin=False), id="a message without end"),
        pytest.param(frame("{}")[:1] + b"\x7f" + bytes(3) + b"\x01" * 5, id="a frame without end"),
    ],
)
@pytest.mark.parametrize("argv", [["addOrder"], ["ticker", "XBT/USD"]], ids=["order", "feed"])
def test_flood(client: Client, argv: list[str], flood: bytes) -> None:
    """What comes without end keeps no stopped client alive, also while a reply is due."""

    def then(peer: Peer) -> None:
        begin = frame("[", fin=False) if flood[0] == Opcode.CONT else b""
        peer.sock.sendall(begin + flood)
        client.barrier.wait()
        while True:  # until the client has gone
            peer.sock.sendall(flood * 1000)

    client.exchange.script = answer(then=then)
    process = client.start(*argv, "-rq", "-W0")
    client.barrier.wait()
    result = process.signal(signal.SIGTERM).end()
    assert result.status == (3 if argv == ["addOrder"] else 1)
    assert result.out.replace("x" * 100 + "\n", "") == ""
    assert "stopped by SIGTERM" in result.err
