"""What can be wrong with the connection."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from client.common import (
    DATA,
    GREETED,
    SUBSCRIBED,
    TICKER,
    connection_failed,
    got,
    hang,
    messages_failed,
    request_failed,
    sent,
    set_clock,
    silence,
)
from client.scripted import Peer, Refusal, ScriptedExchange, answer, frame
from conftest import Client
from practice.authority import Authority


def say(data: bytes) -> Callable[[socket.socket], None]:
    """Return a fault: say DATA, and wait for the client to go."""

    def fault(sock: socket.socket) -> None:
        sock.sendall(data)
        hang(sock)

    return fault


def half_a_frame(peer: Peer) -> None:
    """Break off within a frame."""
    peer.sock.sendall(frame(DATA)[:-5])
    peer.sock.close()


@pytest.mark.parametrize("stage", ["proxy", "tls", "http"])
def test_no_answer(client: Client, stage: str) -> None:
    """A handshake that never comes ends at the limit on connecting."""
    client.exchange.faults[stage] = hang
    result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.2")
    assert result == (1, connection_failed("no connection within 0.2 seconds"), "")


def test_no_greeting(client: Client) -> None:
    """An exchange that doesn't greet is dead."""
    client.exchange.script = Peer.wait
    result = client.run("ticker", "XBT/USD", "--idle-timeout", "2")
    assert result == (1, connection_failed("nothing received for 2 seconds"), "")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        pytest.param(Refusal(403), "HTTP 403 Forbidden", id="403"),
        pytest.param(Refusal(429, "slow down"), "HTTP 429 Too Many Requests", id="429"),
        pytest.param(Refusal(503), "HTTP 503 Service Unavailable", id="503"),
        pytest.param(
            Refusal(301, headers=(("Location", "wss://ws.kraken.com/"),)),
            "HTTP 301, and redirects are not followed",
            id="301",
        ),
        pytest.param(
            Refusal(307, headers=(("Location", "ws://127.0.0.1:9/"),)),
            "HTTP 307, and redirects are not followed",
            id="307 to another host",
        ),
        pytest.param(Refusal(308), "HTTP 308, and redirects are not followed", id="no Location"),
        pytest.param(Refusal(200, "hello"), "HTTP 200 OK", id="200"),
    ],
)
def test_http_status(client: Client, refusal: Refusal, words: str) -> None:
    """An HTTP status instead of a WebSocket is named, and a redirect isn't followed."""
    client.exchange.refusals = iter([refusal])
    assert client.run("addOrder") == (1, connection_failed(words), "")
    assert client.exchange.dialled == ["ws-auth.kraken.com:443"]


def test_http_status_of_no_name(client: Client) -> None:
    """A status that only Cloudflare knows is named by its number."""
    client.exchange.faults["http"] = say(b"HTTP/1.1 520\r\n\r\n")
    assert client.run("ticker", "XBT/USD") == (1, connection_failed("HTTP 520"), "")


@pytest.mark.parametrize(
    ("hosts", "validity", "words"),
    [
        pytest.param(["example.com"], {}, "certificate not accepted: Hostname mismatch", id="host"),
        pytest.param(
            [],
            {"not_after": datetime.now(timezone.utc) - timedelta(days=1)},
            "certificate not accepted: certificate has expired",
            id="expired",
        ),
    ],
)
def test_certificate(
    client: Client, hosts: list[str], validity: dict[str, Any], words: str
) -> None:
    """A certificate for another host or time is not accepted."""
    client.exchange.context = client.exchange.authority.context(*hosts, **validity)
    result = client.run("addOrder")
    assert result.status == 1
    assert result.out.startswith(connection_failed(words)[:-2])
    assert client.exchange.received == []


def test_untrusted_certificate(client: Client) -> None:
    """A certificate from an unknown authority is not accepted."""
    del client.environment["WEBSOCKET_CLIENT_CA_BUNDLE"]
    del client.environment["SSL_CERT_FILE"]
    client.environment["SSL_CERT_DIR"] = str(client.folder)
    result = client.run("addOrder")
    assert result.status == 1
    assert result.out.startswith(connection_failed("certificate not accepted: ")[:-2])
    assert client.exchange.received == []


def test_refused_by_the_proxy(client: Client) -> None:
    """A proxy that refuses is named as such."""
    client.exchange.faults["proxy"] = say(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    result = client.run("ticker", "XBT/USD")
    assert result == (1, connection_failed("failed CONNECT via proxy status: 403"), "")


def test_nobody_listens(client: Client) -> None:
    """A port at which nobody listens is a connection refused."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client.environment["https_proxy"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = client.run("ticker", "XBT/USD")
    assert result.status == 1
    assert result.out.endswith("Connection refused)\n")


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (
            1001,
            "CloudFlare WebSocket proxy restarting",
            "1001 CloudFlare WebSocket proxy restarting",
        ),
        (1000, "", "1000"),
        (1012, "", "1012"),
        (4000, "\x1b[31m two\nlines \u20bf", "4000 \x1b[31m two lines \u20bf"),
        (None, "", "closed without a code"),
    ],
)
def test_closed(client: Client, code: int | None, reason: str, words: str) -> None:
    """The code and the reason that the exchange gave are said, on one line."""
    client.exchange.script = answer(SUBSCRIBED, then=lambda peer: peer.close(code, reason))
    result = client.run("ticker", "XBT/USD", "-rq")
    assert result == (1, "", messages_failed(words))


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\x03\xe9bye", "1001 bye"), (b"\x03\xe9\xffbye", "1001 \ufffdbye"), (b"\x03\xe8", "1000")],
    ids=["text", "not UTF-8", "no reason"],
)
def test_closed_and_reset(client: Client, data: bytes, words: str) -> None:
    """The code and the reason are said also where a reset follows, and what isn't UTF-8 is marked.

    The client is stopped meanwhile, so that both are there before it reads on.
    """

    def then(peer: Peer) -> None:
        peer.sync()
        process = client.running().freeze()
        peer.sock.sendall(frame(data, Opcode.CLOSE))
        peer.reset()
        process.thaw()

    client.exchange.script = answer(SUBSCRIBED, then=then)
    assert client.run("ticker", "XBT/USD", "-rq") == (1, "", messages_failed(words))


@pytest.mark.parametrize(
    ("messages_sent", "out", "sentence"),
    [
        pytest.param(0, "", connection_failed, id="before the greeting"),
        pytest.param(1, GREETED + sent(TICKER), request_failed, id="before the reply"),
        pytest.param(
            2, GREETED + sent(TICKER) + got(SUBSCRIBED), messages_failed, id="in the stream"
        ),
    ],
)
@pytest.mark.parametrize(
    ("end", "words"),
    [
        pytest.param(lambda peer: peer.close(1001, "bye"), "1001 bye", id="closed"),
        pytest.param(
            lambda peer: peer.sock.close(), "Connection to remote host was lost.", id="dropped"
        ),
        pytest.param(Peer.reset, "[Errno 104] Connection reset by peer", id="reset"),
        pytest.param(
            half_a_frame,
            "Connection to remote host was lost.",
            id="half a frame",
        ),
        pytest.param(
            lambda peer: peer.sock.sendall(b"\xff\xff"),
            "rsv is not implemented, yet",
            id="no frame",
        ),
        pytest.param(
            lambda peer: peer.sock.sendall(frame(b"\xff", Opcode.TEXT)),
            "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
            id="not UTF-8",
        ),
    ],
)
def test_lost(
    client: Client,
    messages_sent: int,
    out: str,
    sentence: Callable[[str], str],
    end: Callable[[Peer], object],
    words: str,
) -> None:
    """A connection that is lost ends the run, with the sentence of its stage."""

    def script(peer: Peer) -> None:
        if messages_sent > 0:
            peer.greet()
            peer.receive()
        if messages_sent > 1:
            peer.send(SUBSCRIBED)
            peer.sync()
        end(peer)

    client.exchange.script = script
    result = client.run("ticker", "XBT/USD")
    if words.startswith("[Errno") or "rsv" in words:
        # The errno is the system's; of a broken frame, one part or another is noticed first.
        assert result.status == 1
        assert result.out.startswith(out + sentence("")[:-2])
    else:
        assert result == (1, out + sentence(words), "")


@pytest.mark.parametrize(
    ("first", "life", "slow"),
    [
        pytest.param(b"", frame(b"", Opcode.PING), True, id="pings"),
        pytest.param(b"", frame(b"", Opcode.PONG), True, id="pongs"),
        pytest.param(frame("x" * 1_000_000)[:20], b"x", True, id="an endless frame"),
        pytest.param(
            frame("[", fin=False),
            frame(b"", Opcode.CONT, False) * 1000,
            False,
            id="an endless message",
        ),
    ],
)
def test_dead_but_not_silent(client: Client, first: bytes, life: bytes, slow: bool) -> None:
    """Only a whole message is life: what else comes, slowly or fast, keeps no dead stream."""

    def live(peer: Peer) -> None:
        peer.sock.sendall(first)
        while True:  # until the client has gone
            if slow:
                peer.receive(timeout=0.05)
            peer.sock.sendall(life)

    client.exchange.script = answer(SUBSCRIBED, then=live)
    result = client.run("ticker", "XBT/USD", "--idle-timeout", "2", "-rq")
    assert result == (1, "", messages_failed("nothing received for 2 seconds"))


def test_close_frame_is_awaited(client: Client) -> None:
    """The client closes, and waits for the exchange to answer that before it hangs up.

    Its clock stands still, for it doesn't wait long.
    """
    client.patch("getaddrinfo = socket.getaddrinfo\ntime.monotonic = lambda: 1000.0")
    waited = []

    def then(peer: Peer) -> None:
        peer.flush = lambda: None  # type: ignore[method-assign] # it would answer at once
        while peer.next_event().opcode is not Opcode.CLOSE:
            pass
        peer.sock.settimeout(0.2)
        with contextlib.suppress(socket.timeout):
            waited.append(peer.sock.recv(1))
        Peer.flush(peer)

    client.exchange.script = answer(SUBSCRIBED, DATA, then=then)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")
    assert waited == []


def look_at_the_clock(peer: Peer) -> None:
    """Give the client more pings than it reads after a deadline."""
    for _ in range(100):
        peer.sync()


def test_healthy(client: Client) -> None:
    """A feed with a message now and then outlives --idle-timeout, which is 30 seconds."""
    set_clock(client, 0)

    def then(peer: Peer) -> None:
        for ahead in (25, 50, 75):
            peer.sync()
            set_clock(client, ahead)
            look_at_the_clock(peer)
            peer.send(DATA)
        peer.sync()
        set_clock(client, 106)
        look_at_the_clock(peer)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    result = client.run("ticker", "XBT/USD", "-rq")
    assert result == (1, f"{DATA}\n" * 3, messages_failed("nothing received for 30 seconds"))


def test_no_idle_timeout(client: Client) -> None:
    """--idle-timeout 0 waits for ever."""
    result = client.time_out("ticker", "XBT/USD", "-rq", "--idle-timeout", "0", say=[SUBSCRIBED])
    assert result == (0, "", "")


def test_pings_are_answered(client: Client) -> None:
    """The server's pings are answered and shown to nobody."""
    pongs = []

    def ping(peer: Peer) -> None:
        peer.sock.sendall(frame(b"are you there", Opcode.PING))
        pongs.append(peer.next_event())
        peer.send(SUBSCRIBED, DATA)

    client.exchange.script = answer(then=ping)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")
    assert [(event.opcode, bytes(event.data)) for event in pongs] == [
        (Opcode.PONG, b"are you there")
    ]


def test_fragments(client: Client) -> None:
    """A message in a thousand fragments, and one of 16 MB, arrive whole."""
    parted = json.dumps(["\u20bf" * 100_000], ensure_ascii=False)
    large = json.dumps(["\u20bf" * 5_400_000], ensure_ascii=False)

    def part(peer: Peer) -> None:
        data = parted.encode()
        parts = [data[at : at + 300] for at in range(0, len(data), 300)]
        opcodes = [Opcode.TEXT] + [Opcode.CONT] * (len(parts) - 1)
        for number, part in enumerate(parts):
            peer.sock.sendall(frame(part, opcodes[number], number == len(parts) - 1))
        peer.send(large)

    client.exchange.script = answer(then=part)
    assert client.run("ticker", "XBT/USD", "-rqC2") == (0, f"{parted}\n{large}\n", "")


def test_name_not_found(client: Client) -> None:
    """A host that has no address is said as the system says it."""
    client.patch("def getaddrinfo(*_, **__): raise socket.gaierror(-2, 'not known')")
    result = client.run("ticker", "XBT/USD")
    assert result == (1, connection_failed("[Errno -2] not known"), "")


def test_name_look_up_hangs(client: Client) -> None:
    """A name look-up can't be interrupted, and yet doesn't delay the end.

    The end is the usual one, which clears away what others have left for it.
    """
    client.patch(
        "import atexit; atexit.register(print, 'cleared away')\n"
        "def getaddrinfo(*_, **__): print('looking', flush=True); time.sleep(1000)"
    )
    process = client.start("ticker", "XBT/USD")
    process.read_until("looking")
    stopped = connection_failed("stopped by SIGINT") + "cleared away\n"
    assert process.signal(signal.SIGINT).end() == (1, stopped, "")
    result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.2")
    too_late = connection_failed("no connection within 0.2 seconds")
    assert result == (1, f"looking\n{too_late}cleared away\n", "")


def test_unreachable(client: Client) -> None:
    """A host that answers no packet is given up at the limit on connecting."""
    with silence() as (host, port):
        client.environment["https_proxy"] = f"http://{host}:{port}"
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.5")
    assert result == (1, connection_failed("no connection within 0.5 seconds"), "")


def test_binary(client: Client) -> None:
    """A binary message, which v1 doesn't send, is a line like any other."""
    binary = frame(DATA.encode(), Opcode.BINARY)
    client.exchange.script = answer(SUBSCRIBED, then=lambda peer: peer.sock.sendall(binary))
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


def test_pings_in_a_flood(client: Client) -> None:
    """In a flood, too, every ping is answered, in its turn."""
    pongs: list[bytes] = []

    def flood(peer: Peer) -> None:
        for number in range(20):
            peer.sock.sendall(frame(DATA) * 500 + frame(b"%d" % number, Opcode.PING))
        pongs.extend(bytes(peer.next_event().data) for _ in range(20))
        peer.close()

    client.exchange.script = answer(SUBSCRIBED, then=flood)
    result = client.run("ticker", "XBT/USD", "-rq")
    assert result == (1, f"{DATA}\n" * 10_000, messages_failed("1000"))
    assert pongs == [b"%d" % number for number in range(20)]


@settings(max_examples=10)
@given(data=st.binary(max_size=200), opcode=st.sampled_from([None, *Opcode]))
@example(data=b"\x88\x7e" + b"\x7f" * 200, opcode=None)
@example(data=b"\x03", opcode=Opcode.CLOSE)
@example(data=b"\x03\xe7\xff", opcode=Opcode.CLOSE)
def test_any_bytes(authority: Authority, data: bytes, opcode: Opcode | None) -> None:
    """Whatever the exchange sends: a clean end, and UTF-8 on stdout."""

    def leave(peer: Peer) -> None:
        peer.sock.sendall(data if opcode is None else frame(data, opcode))
        peer.sock.close()

    script = answer(then=leave)
    with ScriptedExchange(authority, script) as exchange, tempfile.TemporaryDirectory() as folder:
        result = Client(exchange, Path(folder)).run("ticker", "XBT/USD", "--idle-timeout", "5")
    assert (result.status, result.err) == (1, "")
    assert result.out.splitlines()[-1].startswith("WebSocket ")
