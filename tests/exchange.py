#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["trustme>=1.2", "websockets>=13"]
# ///
"""A local exchange: Kraken's WebSocket API v1 on loopback, under the real host names.

    python tests/exchange.py [options] COMMAND...

runs COMMAND against it and ends with COMMAND's exit status; with bash for a COMMAND every client
that is started there is on the practice exchange (practice/). A client needs no hook for this:
it finds the exchange behind a CONNECT proxy (https_proxy), with a certificate for the real host
names from an authority that the environment tells it to trust. The proxy leads nowhere else.

The tests use the same server with a script of their own: a function of a Peer that says what the
exchange does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from practice.protocol import API_KEY, API_SECRET, FAULTS, Practice, parse_fault
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

REST_HOST = "api.kraken.com"
HOSTS = ("ws.kraken.com", "ws-auth.kraken.com", REST_HOST)
CHUNK = 65536

GREETING = (
    '{"event":"systemStatus","version":"1.9.6","status":"online",'
    '"connectionID":14463420050456470503,"upcoming_maintenance":[],"emergency":[]}'
)
HEARTBEAT = '{"event":"heartbeat"}'
TOKEN_FILE = Path(__file__).parent.parent / "WS_Token.example"


class Gone(Exception):
    """The client closed the connection, or left it."""


def frame(message: object, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    """Return a message as the bytes of one frame: text as it is, all else as compact JSON."""
    if not isinstance(message, (str, bytes)):
        message = json.dumps(message, separators=(",", ":"))
    data = message.encode() if isinstance(message, str) else message
    return Frame(opcode, data, fin).serialize(mask=False)


class Peer:
    """One client's connection, seen from the exchange, and open to every kind of mischief.

    websockets' sans-I/O protocol reads and makes the frames. The socket is ours, so that a script
    can also send half a frame, reset the connection or just stay silent.
    """

    def __init__(self, sock: ssl.SSLSocket, exchange: Exchange, host: str) -> None:
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
        except socket.timeout:
            return None
        finally:
            self.sock.settimeout(None)
        if event.opcode is Opcode.CLOSE:
            self.exchange.closed.append(int.from_bytes(event.data[:2], "big"))
            raise Gone
        if event.opcode is not Opcode.TEXT:
            return self.receive(timeout)
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


class Authority:
    """A certificate authority of our own, and the exchange's certificate from it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.bundle = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.bundle))

    def context(self, *hosts: str, **certificate: Any) -> ssl.SSLContext:
        """Return what a server needs to be HOSTS, the real ones if none are given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(hosts or HOSTS), **certificate).configure_cert(context)
        return context


class Exchange(socketserver.ThreadingTCPServer):
    """The CONNECT proxy and, behind it, the exchange. A context manager: it runs within."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(
        self,
        authority: Authority,
        script: Script,
        rest: Callable[[ssl.SSLSocket], None] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.authority = authority
        self.context = authority.context()
        self.script = script
        self.rest = rest  # serves the REST host, where there is one
        self.refusals: Iterator[Refusal] = iter(())  # each answers one handshake
        self.faults: dict[str, Callable[[socket.socket], None]] = {}  # at "proxy", "tls", "http"
        self.dialled: list[str] = []
        self.received: list[str] = []
        self.closed: list[int] = []
        self.errors: list[Exception] = []

    def __enter__(self) -> Exchange:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def environment(self) -> dict[str, str]:
        """Return an environment in which a client finds the exchange and trusts it."""
        proxy = f"http://127.0.0.1:{self.server_address[1]}"
        trust = ("WEBSOCKET_CLIENT_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
        removed = ("NO_PROXY", "no_proxy", "PYTHONUNBUFFERED")
        environment = {name: value for name, value in os.environ.items() if name not in removed}
        environment.update(dict.fromkeys(trust, str(self.authority.bundle)))
        environment.update(dict.fromkeys(("https_proxy", "HTTPS_PROXY"), proxy))
        return environment

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
        host = self.tunnel(sock)
        self.misbehave("tls", sock)
        with self.context.wrap_socket(sock, server_side=True) as tls:
            self.misbehave("http", tls)
            if host == REST_HOST and self.rest:
                self.rest(tls)
                return
            peer = Peer(tls, self, host)
            peer.handshake(next(self.refusals, None))
            self.script(peer)

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
        method, address = request.split()[:2]
        host, _, port = address.decode().partition(":")
        self.dialled.append(address.decode())
        self.misbehave("proxy", sock)
        if (method, host in HOSTS, port) != (b"CONNECT", True, "443"):
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            raise Gone
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return host


def play(recording: Path, pace: float) -> Script:
    """Return a script that sends a recording, one message a line, once a request has come.

    A heartbeat was sent a second after the one before, which is the only clock that a recording
    has: PACE is how many seconds to wait at each, 0 to send everything at once.
    """
    *messages, rest = recording.read_bytes().decode().split("\n")
    messages += [rest] if rest else []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive()
        for message in messages:
            if pace and message == HEARTBEAT:
                peer.receive(timeout=pace)
            peer.send(message)
        peer.close(1000, "end of the recording")

    return script


def practise(options: argparse.Namespace, authority: Authority) -> Exchange:
    """Return the practice exchange, its time running, and say on stderr what it is."""
    token = TOKEN_FILE.read_text().split()[0]
    practice = Practice(
        options.seed, options.speed, options.token_life, token=token, faults=options.fault
    )
    exchange = Exchange(authority, practice.script, practice.rest)
    if practice.refusal:
        exchange.refusals = itertools.repeat(Refusal(*practice.refusal))
    threading.Thread(target=practice.keep_time, args=(threading.Event(),), daemon=True).start()
    folder = authority.bundle.parent
    (folder / "api_key").write_text(API_KEY)
    (folder / "api_secret").write_text(API_SECRET)
    faults = ", ".join(practice.faults) or "none"
    print(
        "This is the practice exchange: no network, no account, no money."
        f" Seed {options.seed}, faults: {faults}.\n"
        f"Its token is the first line of {TOKEN_FILE}: copy that file to WS_Token.\n"
        f"Its API key and secret, for fresh tokens, are in {folder}/api_key and api_secret.",
        file=sys.stderr,
    )
    return exchange


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command, pass on the signals that end it, and return its exit status."""
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"{command[0]} can't be run: {error.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the command as well
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    status = process.wait()
    return status if status >= 0 else 128 - status


def parse_options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description="Run a command against a local Kraken: the practice exchange, or a recording.",
        epilog="faults: " + "; ".join(f"{name}: {fault.about}" for name, fault in FAULTS.items()),
    )
    option = parser.add_argument
    option("--seed", metavar="N", type=int, default=0, help="the same market for the same N")
    option("--speed", metavar="X", type=float, default=1.0, help="market seconds a second")
    option("--token-life", metavar="S", type=float, default=900.0, help="seconds a token lasts")
    option("--fault", metavar="NAME[=S]", action="append", default=[], help="what goes wrong")
    option("--replay", metavar="FILE", type=Path, help="send the messages of FILE, one a line")
    option("--pace", metavar="S", type=float, default=0.0, help="seconds at each heartbeat of FILE")
    option("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command:
        parser.error("no command to run")
    if options.replay and not options.replay.is_file():
        parser.error(f"{options.replay} is no file")
    if min(options.speed, options.token_life) <= 0:
        parser.error("--speed and --token-life are greater than 0")
    try:
        list(map(parse_fault, options.fault))
    except ValueError as error:
        parser.error(str(error))
    return options


def main() -> int:
    """Run the command of the command line against the exchange."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        if options.replay:
            exchange = Exchange(authority, play(options.replay, options.pace))
        else:
            exchange = practise(options, authority)
        with exchange:
            return run(options.command, exchange.environment())


if __name__ == "__main__":
    raise SystemExit(main())
