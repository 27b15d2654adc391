"""The practice exchange's server: WebSockets by websockets, HTTPS by h11, and a CONNECT proxy.

Each of the three hosts has an address of its own. A client gets there through the proxy, which
leads nowhere else, or, in a sealed exchange (sealed.py), by the hosts file. Everything happens
in one asyncio loop: market and account need no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar, cast

import h11
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from practice.common import HOSTS, REST_HOST
from practice.connection import Connection
from practice.exchange import BUSY, TICK, Practice

Item = TypeVar("Item")
Address = tuple[str, int]

CHUNK = 65536
MOST_CONNECTING = 1000  # connections that wait to be accepted
MOST_ASKED = 1000  # messages of a client that wait for an answer; more stay in its socket
MOST_UNREAD = 10_000_000  # bytes that wait for a client; with more, its connection is reset
EXTRA = 400  # bytes of memory that a waiting message takes besides its text
NARROW = 200_000  # bytes that the system buffers for a connection
AWAY = "{path} is not in the practice exchange, which has v1 only, at /\n"
ANYWHERE: dict[str, Address] = dict.fromkeys(HOSTS, ("127.0.0.1", 0))


class Line(Generic[Item]):
    """One direction of a connection: what is put in comes out after a delay in seconds."""

    def __init__(self, latency: float, most: int = 0) -> None:
        self.latency = latency
        self.queue: asyncio.Queue[tuple[float, Item]] = asyncio.Queue(most)
        self.time = asyncio.get_running_loop().time

    def put_nowait(self, item: Item) -> None:
        """Let an item in."""
        self.queue.put_nowait((self.time() + self.latency, item))

    async def put(self, item: Item) -> None:
        """Let an item in, once there is room."""
        await self.queue.put((self.time() + self.latency, item))

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Yield what comes out."""
        while True:
            due, item = await self.queue.get()
            if due > self.time():
                await asyncio.sleep(due - self.time())
            yield item


def reset(transport: Any) -> None:
    """Break a connection off with a TCP reset."""
    if sock := transport.get_extra_info("socket"):  # a lost transport may have none
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class DelayedTransport:
    """The Transport over the network, with a delay in both directions."""

    def __init__(self, ws: ServerConnection, latency: float) -> None:
        self.ws = ws
        self.asked: Line[str] = Line(latency, MOST_ASKED)
        self.told: Line[tuple[int, Callable[[], Awaitable[None]]]] = Line(latency)
        self.unread = 0  # bytes

    def later(self, act: Callable[[], Awaitable[None]], size: int = 0) -> None:
        """Queue something to be done on the connection after everything before it."""
        self.unread += size
        self.told.put_nowait((size, act))

    def send(self, texts: list[str]) -> None:
        """Send messages; a client that leaves too much unread is cut off."""
        if not self.ws.transport.get_extra_info("socket"):
            return  # just lost: before Python 3.11, a TLS transport then can't tell its buffer
        for text in texts:
            self.later(partial(self.ws.send, text), len(text) + EXTRA)
        if self.unread + self.ws.transport.get_write_buffer_size() > MOST_UNREAD:
            self.reset()

    def close(self, code: int, reason: str) -> None:
        """Close the connection, once all is sent."""
        self.later(partial(self.ws.close, code, reason))

    def reset(self) -> None:
        """Break the connection off."""
        reset(self.ws.transport)

    async def listen(self) -> None:
        """Read what the client sends, until the connection ends."""
        async for message in self.ws:
            if isinstance(message, str):
                await self.asked.put(message)

    async def talk(self) -> None:
        """Send what there is to be sent."""
        async for size, act in self.told:
            await act()
            self.unread -= size

    async def pass_on(self, connection: Connection) -> None:
        """Pass on what the client has sent."""
        async for message in self.asked:
            connection.take(message)
            await asyncio.sleep(0)  # lets other tasks run, and a reset take effect


async def first(*works: Awaitable[None]) -> None:
    """Run several coroutines until one of them ends or fails."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on bytes until there are no more."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.contextmanager
def seen() -> Iterator[None]:
    """Print errors on stderr, except that a client has left."""
    try:
        yield
    except (ConnectionClosed, OSError, EOFError, h11.RemoteProtocolError):
        pass
    except Exception:
        traceback.print_exc()
        raise


class Server:
    """The exchange on its addresses. An async context manager: it runs within."""

    def __init__(
        self,
        practice: Practice,
        context: ssl.SSLContext | None,
        addresses: Mapping[str, Address] = ANYWHERE,
        latency: float = 0.0,
    ) -> None:
        self.practice = practice
        self.context = context
        self.addresses = dict(addresses)
        self.latency = latency
        self.running = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Server:
        for host, address in self.addresses.items():
            door = self.open_rest if host == REST_HOST else self.open_websocket
            self.addresses[host] = await door(host, *address)
        self.running.callback(asyncio.ensure_future(self.keep_time()).cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.running.aclose()

    async def keep_time(self) -> None:
        """Let the exchange's time pass. Half of the time is left to the connections."""
        with seen():
            while True:
                behind = self.practice.tick()
                await asyncio.sleep(BUSY if behind else TICK)

    async def open_websocket(self, host: str, *address: Any) -> Address:
        """Open a host for WebSockets, and return its address."""
        server = await self.running.enter_async_context(
            serve(
                partial(self.serve, host),
                *address,
                ssl=self.context,
                backlog=MOST_CONNECTING,
                process_request=self.refuse,
                compression=None,
                ping_interval=None,
                close_timeout=1,
                logger=logging.Logger("websockets", logging.CRITICAL),  # seen() prints what matters
            )
        )
        return address_of(server)

    async def open_rest(self, _: str, *address: Any) -> Address:
        """Open the host for REST, and return its address."""
        server = await asyncio.start_server(
            self.serve_rest, *address, ssl=self.context, backlog=MOST_CONNECTING
        )
        self.running.callback(server.close)
        return address_of(server)

    async def open_proxy(self) -> int:
        """Open a CONNECT proxy that leads to the hosts and nowhere else, and return its port."""
        server = await asyncio.start_server(self.lead, "127.0.0.1", 0, backlog=MOST_CONNECTING)
        self.running.callback(server.close)
        return address_of(server)[1]

    def refuse(self, ws: ServerConnection, request: Request) -> Response | None:
        """Return an HTTP response instead of a WebSocket if a fault asks for it, or None."""
        status, body, headers = self.practice.refusal or (0, "", ())
        if not status and request.path.partition("?")[0] != "/":
            status, body = HTTPStatus.NOT_FOUND, AWAY.format(path=request.path)
        if not status:
            return None
        response = ws.respond(HTTPStatus(status), body)
        response.headers.update(headers)
        return response

    async def serve(self, host: str, ws: ServerConnection) -> None:
        """Serve a WebSocket to its end."""
        transport = DelayedTransport(ws, self.latency)
        connection = Connection(self.practice, host, transport)
        with seen(), contextlib.ExitStack() as stack:
            stack.callback(connection.leave)
            works = transport.listen(), transport.talk(), transport.pass_on(connection)
            await first(*works, ws.wait_closed())  # notices a reset even while all of them wait

    async def serve_rest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve an HTTPS connection to its end."""
        http = h11.Connection(h11.SERVER)
        with seen(), contextlib.closing(writer):
            while call := await receive(http, reader, writer):
                await asyncio.sleep(2 * self.latency)
                writer.write(self.reply(http, *call))
                await writer.drain()
                if http.our_state is not h11.DONE:
                    break
                http.start_next_cycle()

    def reply(self, http: h11.Connection, request: h11.Request, body: bytes) -> bytes:
        """Return the bytes that answer a call."""
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        method, path = request.method.decode(), request.target.decode()
        data = self.practice.call(method, path, headers, body).encode()
        response = h11.Response(
            status_code=200,
            headers=[("Content-Type", "application/json"), ("Content-Length", str(len(data)))],
        )
        parts = [response, *([] if method == "HEAD" else [h11.Data(data)]), h11.EndOfMessage()]
        return b"".join(http.send(part) or b"" for part in parts)

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client of the proxy with the host that it asks for."""
        with seen(), contextlib.closing(writer):
            method, target = (await reader.readuntil(b"\r\n\r\n")).decode().split()[:2]
            host, _, port = target.partition(":")
            if (method, host in self.addresses, port) != ("CONNECT", True, "443"):
                writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            inner_reader, inner = await asyncio.open_connection(*self.addresses[host])
            narrow(inner.get_extra_info("socket"))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                await asyncio.gather(pump(reader, inner), pump(inner_reader, writer))
            except ConnectionError:  # a reset on one side becomes a reset on the other
                reset(inner.transport)
                reset(writer.transport)


def address_of(server: Any) -> Address:
    """Return the address of a server, and give its connections small buffers."""
    (sock,) = server.sockets
    narrow(sock)
    host, port = sock.getsockname()
    return host, port


def narrow(sock: Any) -> None:
    """Give a connection small buffers, so that a client that does not read is noticed soon."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, NARROW)


async def receive(
    http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[h11.Request, bytes] | None:
    """Return an HTTP request and its body, or None if the client has left."""
    request, body = cast(h11.Request, None), b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])))
            http.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            return None
    return request, body
