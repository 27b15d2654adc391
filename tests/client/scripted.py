"""A scripted exchange: what a test wants a client to meet, down to half a frame or a reset.

A script is a function of a Peer that says what the exchange does. Like the practice exchange
(practice/) this one is found behind a CONNECT proxy, under the real host names; in place of a
script there may be the practice exchange itself. A client that begins with TLS has found the
exchange without the proxy, at the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import socketserver
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, NamedTuple

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from practice.authority import Authority
from practice.common import HOSTS, REST_HOST, compact
from practice.server import Server

CHUNK = 65536
HANDSHAKE = b"\x16"  # with which TLS begins
GREETING = (
    '{"event":"systemStatus","version":"1.9.6","status":"online",'
    '"connectionID":14463420050456470503,"upcoming_maintenance":[],"emergency":[]}'
)
HEARTBEAT = '{"event":"heartbeat"}'


class Gone(Exception):
    """The client closed the connection, or left it."""


def frame(message: object, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    """Return a message as the bytes of one frame: text as it is, all else as compact JSON."""
    if not isinstance(message, (str, bytes)):
        message = compact(message)
    data = message.encode() if isinstance(message, str) else message
    return Frame(opcode, data, fin).serialize(mask=False)


class Peer:
    """One client's connection, seen from the exchange, and open to every kind of mischief.

    websockets' sans-I/O protocol reads and makes the frames. The socket is ours, so that a script
    can also send half a frame, reset the connection or just stay silent.
    """

    def __init__(self, sock: ssl.SSLSocket, exchange: ScriptedExchange, host: str) -> None:
        self.sock = sock
        self.exchange = exchange
        self.host = host
        self.protocol = ServerProtocol(max_size=None)
        self.events: deque[Any] = deque()

    def next_event(self) -> Any:
        """Return the client's next frame, having answered it if it is a ping or a close."""
        while not self.events:
            data = self.sock.recv(CHUNK)
            if not data:
                raise Gone
            self.protocol.receive_data(data)
            self.events.extend(self.protocol.events_received())
            self.flush()
        return self.events.popleft()

    def flush(self) -> None:
        """Send what the protocol has to say."""
        self.sock.sendall(b"".join(self.protocol.data_to_send()))

    def handshake(self, refusal: Refusal | None = None) -> None:
        """Accept the client's request for a WebSocket, or refuse it with an HTTP status."""
        response = self.protocol.accept(self.next_event())
        if refusal:
            response = self.protocol.reject(refusal.status, refusal.body)
            response.headers.update(refusal.headers)
        self.protocol.send_response(response)
        self.flush()
        if refusal:
            raise Gone

    def receive(self, timeout: float | None = None) -> str | None:
        """Return the client's next message, or None where none comes within TIMEOUT seconds."""
        self.sock.settimeout(timeout)
        try:
            event = self.next_event()
            while event.opcode not in (Opcode.TEXT, Opcode.CLOSE):
                event = self.next_event()
        except socket.timeout:
            return None
        finally:
            self.sock.settimeout(None)
        if event.opcode is Opcode.CLOSE:
            self.exchange.closed.put(int.from_bytes(event.data[:2], "big"))
            raise Gone
        message = bytes(event.data).decode()
        self.exchange.received.append(message)
        return message

    def greet(self) -> None:
        """Send the message with which every connection begins."""
        self.send(GREETING)

    def send(self, *messages: object) -> None:
        """Send messages, each in a frame of its own."""
        self.sock.sendall(b"".join(map(frame, messages)))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the connection as the protocol has it, and wait for the client's answer."""
        self.protocol.send_close(code, reason)
        self.flush()
        self.wait()

    def sync(self) -> None:
        """Return once the client has dealt with all that was sent: then it answers a ping."""
        self.sock.sendall(frame(b"", Opcode.PING))
        while self.next_event().opcode is not Opcode.PONG:
            pass

    def wait(self) -> None:
        """Stay silent until the client is gone."""
        while True:
            self.receive()

    def reset(self) -> None:
        """Break the connection off with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Peer], None]


class Refusal(NamedTuple):
    """An HTTP response in place of a WebSocket."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class ScriptedExchange(socketserver.ThreadingTCPServer):
    """The CONNECT proxy and, behind it, the exchange. A context manager: it runs within."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(
        self,
        authority: Authority,
        script: Script | Server,
    ) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.authority = authority
        self.context = authority.context()
        self.script = script
        self.refusals: Iterator[Refusal] = iter(())  # each answers one handshake
        self.faults: dict[str, Callable[[socket.socket], None]] = {}  # at "proxy", "tls", "http"
        self.dialled: list[str] = []
        self.proxied: list[str] = []  # the requests to the proxy
        self.received: list[str] = []
        self.closed: SimpleQueue[int] = SimpleQueue()
        self.errors: list[Exception] = []

    def __enter__(self) -> ScriptedExchange:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def environment(self) -> dict[str, str]:
        """Return an environment in which a client finds the exchange and trusts it."""
        return self.authority.environment(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Serve one connection, from the proxy's handshake to its end."""
        try:
            self.converse(request)
        except (Gone, OSError):
            pass
        except Exception as error:
            self.errors.append(error)

    def converse(self, sock: socket.socket) -> None:
        """Lead a client through the proxy, TLS and HTTP to the script."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host = "" if sock.recv(1, socket.MSG_PEEK) == HANDSHAKE else self.tunnel(sock)
        self.misbehave("tls", sock)
        tls = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with tls:  # which closes it wherever the client leaves
            tls.do_handshake()
            self.misbehave("http", tls)
            refusal = None if host == REST_HOST else next(self.refusals, None)
            if isinstance(self.script, Server) and not refusal:
                self.relay(tls, host, self.script.addresses[host])
                return
            peer = Peer(tls, self, host)
            peer.handshake(refusal)
            assert not isinstance(self.script, Server)
            self.script(peer)

    def relay(self, tls: ssl.SSLSocket, host: str, address: tuple[str, int]) -> None:
        """Pass on what is said between a client and another server, to the end of either."""
        protocol = ServerProtocol(max_size=None)
        with socket.create_connection(address) as inner:
            other: dict[Any, socket.socket] = {tls: inner, inner: tls}
            while True:
                for source in select.select([tls, inner], [], [])[0]:
                    data = source.recv(CHUNK)
                    if not data:
                        return
                    if source is tls and host != REST_HOST:
                        self.overhear(protocol, data)
                    other[source].sendall(data)

    def overhear(self, protocol: ServerProtocol, data: bytes) -> None:
        """Note what a client sends to another server."""
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.received.append(bytes(event.data).decode())

    def misbehave(self, stage: str, sock: socket.socket) -> None:
        """Do what a test wants done at this stage in place of the usual."""
        if stage in self.faults:
            self.faults[stage](sock)
            raise Gone

    def tunnel(self, sock: socket.socket) -> str:
        """Answer a CONNECT request, and return the host that it asks for."""
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)  # not one more: TLS begins behind it
            if not byte:
                raise Gone
            request += byte
        self.proxied.append(request.decode())
        method, address = request.split()[:2]
        host, _, port = address.decode().partition(":")
        self.dialled.append(address.decode())
        self.misbehave("proxy", sock)
        if (method, host in HOSTS, port) != (b"CONNECT", True, "443"):
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            raise Gone
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return host


def answer(*messages: object, then: Callable[[Peer], object] | None = None) -> Script:
    """Return a script: greet, take the request, send MESSAGES, and wait for the client to go.

    What else is to happen before the wait is in THEN.
    """

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive()
        peer.send(*messages)
        if then:
            then(peer)
        peer.wait()

    return script


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a practice exchange in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
