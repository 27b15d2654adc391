"""The practice exchange's server: frames and calls as they come over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from websockets.frames import Frame, Opcode

from client.scripted import running
from conftest import PATIENCE
from exchange_tests.test_market import BookClient
from practice.authority import Authority
from practice.common import HOSTS
from practice.connection import Connection
from practice.credentials import PRACTICE_TOKEN, TOKEN_PATH
from practice.exchange import Practice
from practice.server import DelayedTransport, Line, Server

PUBLIC, PRIVATE, REST = HOSTS
PING = '{"event":"ping"}'
PONG = '{"event":"pong"}'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Yield a practice exchange without TLS."""
    with running(Server(Practice(), None)) as server:
        yield server
    assert not server.practice.connections


@contextlib.contextmanager
def dial(server: Server, host: str = PUBLIC, path: str = "/") -> Iterator[Any]:
    """Yield a connection that has been greeted."""
    address, port = server.addresses[host]
    ws: Any = websocket.create_connection(f"ws://{address}:{port}{path}", timeout=PATIENCE)
    assert json.loads(ws.recv())["event"] == "systemStatus"
    yield ws
    ws.shutdown()


def subscribe(name: str, *pairs: str, **more: Any) -> str:
    """Return a request for data."""
    subscription = {"name": name, **more}
    return json.dumps({"event": "subscribe", "pair": pairs, "subscription": subscription})


def test_a_message_in_several_frames(server: Server) -> None:
    """It makes no difference into how many frames a message is cut, pings between them."""
    with dial(server) as ws:
        for part, opcode, fin in (
            (PING[:5], Opcode.TEXT, False),
            ("", Opcode.PING, True),
            (PING[5:9], Opcode.CONT, False),
            (PING[9:], Opcode.CONT, True),
        ):
            ws.sock.sendall(Frame(opcode, part.encode(), fin).serialize(mask=True))
        assert ws.recv() == PONG
        ws.send_binary(PING.encode())  # no message
        ws.send(PING)
        assert ws.recv() == PONG


def test_pings_without_end(server: Server) -> None:
    """Thousands of pings in a row are answered, and keep nobody from being served."""
    ping = Frame(Opcode.PING, b"").serialize(mask=True)
    with dial(server) as flood, dial(server) as other:
        flood.sock.sendall(ping * 5000)
        other.send(subscribe("book", "XBT/USD", depth=1000))
        assert "subscribed" in other.recv()
        flood.sock.sendall(ping * 5000)
        flood.send(PING)
        assert flood.recv() == PONG
        assert len(other.recv()) > 10_000


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/x?y=1"])
def test_other_paths(server: Server, path: str) -> None:
    """What isn't v1 is refused, and told so."""
    with contextlib.closing(http.client.HTTPConnection(*server.addresses[PUBLIC])) as connection:
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        connection.request(
            "GET", path, headers={"Connection": "Upgrade", "Upgrade": "websocket", **key}
        )
        response = connection.getresponse()
        assert response.status == 404
        assert response.read().decode().startswith(f"{path} is not in the practice exchange")
    with dial(server, path="/?x=1"):
        pass


def test_a_client_that_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut off once so much is unread, with a reset, and the others go on."""
    unread: list[int] = []

    def later(transport: DelayedTransport, *arguments: Any) -> None:
        put(transport, *arguments)
        unread.append(transport.unread)

    put = DelayedTransport.later
    monkeypatch.setattr(DelayedTransport, "later", later)
    monkeypatch.setattr("practice.server.MOST_UNREAD", 300_000)
    slow = running(Server(Practice(), None, latency=0.1))  # hundreds of requests are on their way
    with slow as server, dial(server) as deaf, dial(server) as other:
        request = subscribe("book", "XBT/USD", depth=1000)
        requests = itertools.cycle([request, request.replace('"subscribe"', '"unsubscribe"')])
        with pytest.raises(ConnectionError):
            all(map(deaf.send, requests))  # which return how much
        other.send(PING)
        assert other.recv() == PONG
    assert max(unread) < 2_000_000


def test_a_connection_that_is_just_lost(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is still sent to it, or broken off, is nothing wrong."""
    late = []

    def leave(connection: Connection) -> None:
        connection.transport.send([PONG])
        connection.transport.reset()
        late.append(connection)

    monkeypatch.setattr(Connection, "leave", leave)
    with running(Server(Practice(), authority.context())) as server:
        address, port = server.addresses[PUBLIC]
        trust = {"ca_certs": str(authority.bundle), "server_hostname": PUBLIC}
        ws: Any = websocket.create_connection(f"wss://{address}:{port}", sslopt=trust)
        ws.recv()
        ws.shutdown()
    assert late
    assert "Traceback" not in capfd.readouterr().err


def test_what_goes_wrong_is_seen(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fault of the exchange's own ends the connection with 1011, and is on stderr."""
    monkeypatch.setattr(Connection, "handle", lambda *_: 1 / 0)
    with dial(server) as ws:
        ws.send(PING)
        opcode, data = ws.recv_data()
    assert (opcode, data[:2]) == (Opcode.CLOSE, (1011).to_bytes(2, "big"))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_latency() -> None:
    """What goes in comes out as much later as it has to, and in order."""

    async def pass_on() -> float:
        line: Line[int] = Line(0.01)
        begin = line.time()
        for number in range(3):
            await line.put(number)
        out = line.__aiter__()
        assert [await out.__anext__() for _ in range(3)] == [0, 1, 2]
        return line.time() - begin

    assert asyncio.run(pass_on()) >= 0.01


def call(server: Server, method: str, path: str, *bodies: bytes, **options: Any) -> list[Any]:
    """Return the answers to calls over one connection."""
    connection = http.client.HTTPConnection(*server.addresses[REST])
    answers = []
    for body in bodies:
        connection.request(method, path, body, **options)
        response = connection.getresponse()
        assert response.status == 200
        answers.append(json.loads(response.read() or b"null"))
    connection.close()
    return answers


@pytest.mark.parametrize("chunked", [False, True])
def test_calls(server: Server, chunked: bool) -> None:
    """A connection carries many calls, whose bodies come whole or in chunks."""
    key = {"API-Key": "mine"}
    bodies = [b"nonce=1", b"nonce=2"]
    options: Any = {"encode_chunked": True, "headers": {**key, "Transfer-Encoding": "chunked"}}
    answers = call(
        server, "POST", TOKEN_PATH, *bodies, **(options if chunked else {"headers": key})
    )
    assert answers == [{"error": ["EAPI:Invalid key"]}] * 2


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_calls(server: Server, method: str) -> None:
    """What there isn't is answered in the exchange's words, whatever the method."""
    answers = call(server, method, "/0/public/Nothing", b"", b"")
    assert answers == [None if method == "HEAD" else {"error": ["EGeneral:Unknown method"]}] * 2


def test_a_call_in_pieces(server: Server) -> None:
    """A client may wait for the word to send its body, want to be alone, or speak no HTTP."""
    with socket.create_connection(server.addresses[REST]) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert b"100" in sock.recv(1000)
        sock.sendall(b"x")
        assert b"EGeneral:Unknown method" in b"".join(iter(lambda: sock.recv(1000), b""))
    with socket.create_connection(server.addresses[REST]) as sock:
        sock.sendall(b"what?\r\n\r\n")
        assert sock.recv(1000) == b""


def test_two_hundred_connections(server: Server) -> None:
    """Two hundred connections at once have an answer each."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(dial(server)) for _ in range(200)]
        for ws in connections:
            ws.send(PING)
        assert [ws.recv() for ws in connections] == [PONG] * 200


def test_a_book_and_an_order(server: Server) -> None:
    """Over a real connection a book holds, and an order is placed."""
    with dial(server) as ws:
        ws.send(subscribe("book", "XBT/USD", depth=1000))
        assert json.loads(ws.recv())["status"] == "subscribed"
        client = BookClient(1000)
        while client.checked < 3:
            message = json.loads(ws.recv())
            if isinstance(message, list):
                client.receive(message)
    order = {"event": "addOrder", "token": PRACTICE_TOKEN, "type": "buy", "ordertype": "market"}
    with dial(server, PRIVATE) as ws:
        ws.send(json.dumps({**order, "pair": "XBT/USD", "volume": "0.01"}))
        assert json.loads(ws.recv())["status"] == "ok"
