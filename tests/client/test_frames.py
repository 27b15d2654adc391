"""What the client reads from a stream of bytes is what websocket-client itself reads."""

from __future__ import annotations

import random
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import websocket

import krakenws
from client.common import ACCEPTED, DATA
from client.scripted import HEARTBEAT
from conftest import THOROUGH

STREAMS = 5000 if THOROUGH else 60  # of each seed
SIZES = (0, 1, 2, 3, 30, 124, 125, 126, 127, 128, 255, 256, 511, 16379, 16380, 16381, 65535, 65536)
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
NO_MASK = bytes(4)


class Reading(NamedTuple):
    """All that comes of a stream."""

    messages: list[bytes]
    sentence: str
    sent: bytes


class Wire:
    """A socket from which a stream comes in given pieces, and then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.sent = b""
        self.readable, other = socket.socketpair()  # for poll(): its end has come
        other.close()

    def recv(self, size: int) -> bytes:
        """Return the next piece, or as much of it as is asked for."""
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece[size:]:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def send(self, data: bytes) -> int:
        """Take a frame."""
        self.sent += data
        return len(data)

    def fileno(self) -> int:
        """Return a descriptor that is always readable."""
        return self.readable.fileno()

    def pending(self) -> int:
        """Return how much OpenSSL would have deciphered already."""
        return 0

    def gettimeout(self) -> None:
        """Return that it blocks."""

    def settimeout(self, limit: object) -> None:
        """Change nothing."""

    def close(self) -> None:
        """Close the descriptor."""
        self.readable.close()


class Stuttering(Wire):
    """The same without blocking: before each piece there is once nothing to read."""

    ready = True

    def recv(self, size: int) -> bytes:
        """Return a piece, or raise what OpenSSL raises where there is none yet."""
        self.ready = not self.ready
        if not self.ready:
            raise ssl.SSLWantReadError
        return super().recv(size)


def read_all(receive: Callable[[], bytes]) -> tuple[list[bytes], str]:
    """Return all messages, and in the client's words why there are no more."""
    messages = []
    while True:
        try:
            messages.append(receive())
        except Exception as error:
            return messages, krakenws.reason(error)


def client_reads(wire: Wire) -> Reading:
    """Return what the client makes of a stream."""
    connection: Any = krakenws.Connection()
    connection.sock, connection.ssl, connection.limit = wire, ssl, 30
    connection.gettimeout = lambda: 0
    connection.ws = websocket.WebSocket(skip_utf8_validation=True, enable_multithread=False)
    connection.ws.sock, connection.ws.connected = connection, True
    connection.ws.set_mask_key(lambda _: NO_MASK)
    messages, sentence = read_all(connection.receive)
    wire.close()
    return Reading(messages, sentence, wire.sent)


def library_reads(wire: Wire) -> Reading:
    """Return what websocket-client makes of it by itself."""
    library: Any = websocket.WebSocket(skip_utf8_validation=True)
    library.sock, library.connected = wire, True
    library.set_mask_key(lambda _: NO_MASK)

    def receive() -> bytes:
        opcode, data = library.recv_data()
        if opcode == CLOSE:
            code = int.from_bytes(data[:2], "big") if data else "closed without a code"
            raise ConnectionError(f"{code} {data[2:].decode(errors='replace')}")
        data.decode()
        return bytes(data)

    messages, sentence = read_all(receive)
    wire.close()
    return Reading(messages, sentence, wire.sent)


def build(first: int, payload: bytes, mask: bytes = b"", form: int = 0) -> bytes:
    """Return a frame. FORM is the least number of bytes for the length: 0, 2 or 8."""
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126 and form < 2:
        head = bytes([first, bit | size])
    elif size < 65536 and form < 8:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


def payload(chance: random.Random) -> bytes:
    """Return a message."""
    kind = chance.randrange(8)
    if kind < 4:
        return chance.choice([DATA, HEARTBEAT, ACCEPTED, "[]", "{}"]).encode()
    if kind == 4:
        return '["\u20bf\u00e4"]'.encode()
    if kind == 5:
        return chance.randbytes(chance.randrange(9))
    return b"x" * chance.choice(SIZES)


def closing(chance: random.Random) -> bytes:
    """Return the content of a close frame."""
    code = chance.choice([1000, 1001, 1005, 1006, 1012, 2999, 3000, 4999, 5000, 0, 65535])
    reason = chance.choice([b"", b"bye", "\u20bf".encode(), b"\xff", b"x" * 123, b"x" * 124])
    return chance.choice([b"", b"\x03", code.to_bytes(2, "big") + reason])


def frames(chance: random.Random) -> Iterator[bytes]:
    """Yield the frames of one message, or of none, of which some may be wrong."""
    mask = chance.randbytes(4) if chance.random() < 0.1 else b""
    form = chance.choice([0, 0, 0, 0, 2, 8])
    kind = chance.randrange(20)
    if kind < 10:
        yield build(0x80 | TEXT, payload(chance), mask, form)
    elif kind < 13:
        message, opcode = payload(chance), chance.choice([TEXT, TEXT, TEXT, BINARY])
        cuts = sorted(chance.randint(0, len(message)) for _ in range(chance.randrange(1, 5)))
        for start, end in zip([0, *cuts], [*cuts, len(message)]):
            last = 0x80 if end == len(message) and chance.random() < 0.9 else 0
            yield build(last | opcode, message[start:end], mask, form)
            opcode = CONT
            if chance.random() < 0.2:
                yield build(0x80 | PING, b"within")
    elif kind < 16:
        size = chance.choice([0, 4, 124, 125, 125, 126])
        yield build(0x80 | chance.choice([PING, PING, PONG]), b"p" * size, mask, form)
    elif kind == 16:
        yield build(0x80 | CLOSE, closing(chance), mask)
    elif kind == 17:
        yield build(0x80 | BINARY, payload(chance), mask, form)
    elif kind == 18:
        first = chance.choice([0xC1, 0xA1, 0x91, 0x83, chance.randrange(256)])  # RSV bits, opcodes
        yield build(first, payload(chance)[:200], mask, form)
    else:
        yield chance.randbytes(chance.randrange(1, 20))


def stream(chance: random.Random) -> bytes:
    """Return what an exchange may send, sometimes cut at any byte."""
    sound = chance.random() < 0.3  # else the first wrong frame comes soon
    data = b""
    for _ in range(chance.randrange(1, 12)):
        data += build(0x80 | TEXT, DATA.encode()) if sound else b"".join(frames(chance))
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.4 else data


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Return the stream as it may arrive: as one, a byte at a time, or cut anywhere."""
    kind = chance.randrange(4)
    if kind == 0:
        return [data]
    if kind == 1 and len(data) < 5000:
        return [data[at : at + 1] for at in range(len(data))]
    longest = 8 if kind == 2 and len(data) < 5000 else max(1, len(data) // 2)
    cut, at = [], 0
    while at < len(data):
        size = chance.randint(1, longest)
        cut.append(data[at : at + size])
        at += size
    return cut


@pytest.fixture
def poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the client what it polls with, without its signals."""
    monkeypatch.setattr(krakenws.interruptible, "poll", select.poll(), raising=False)


@pytest.mark.usefixtures("poll")
@pytest.mark.parametrize("wire", [Wire, Stuttering])
@pytest.mark.parametrize("seed", range(4))
def test_any_stream(seed: int, wire: type[Wire]) -> None:
    """Messages, the sentence of the end, and what is sent are the library's own, for any bytes."""
    chance = random.Random(seed)
    for _ in range(STREAMS):
        data = stream(chance)
        cut = pieces(chance, data)
        expected = library_reads(Wire(cut))
        assert client_reads(wire(cut)) == expected, data[:1000]


@pytest.mark.usefixtures("poll")
@pytest.mark.parametrize("form", [0, 2, 8])
@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: int, form: int) -> None:
    """Messages of every size, with lengths of every form, are read between others."""
    data = b"".join(build(0x81, text) for text in (b"[1]", b"[2]"))
    data = data[:5] + build(0x81, b"x" * size, form=form) + data[5:]
    assert client_reads(Wire([data])).messages == [b"[1]", b"x" * size, b"[2]"]


@pytest.mark.usefixtures("poll")
def test_within_fragments() -> None:
    """Between the fragments of a message there may be pings, and no other message."""
    begun = build(TEXT, b"[1") + build(0x80 | PING, b"within")
    assert client_reads(Wire([begun + build(0x80 | CONT, b"]")])).messages == [b"[1]"]
    data = begun + build(0x80 | TEXT, b"[2]")
    assert client_reads(Wire([data])) == library_reads(Wire([data]))
    assert client_reads(Wire([data])).messages == []
