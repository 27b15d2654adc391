"""A server that sends a recording instead of the market."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection

from practice.common import HEARTBEAT, compact
from practice.server import Server, first, seen

RECEIVED = r"\[[0-9.]+,([\[{].*[\]}])\]"  # [time,message]; a market message ends with its pair


def read_messages(recording: Path) -> list[str]:
    """Return the messages of a recording, or raise OSError, or ValueError if it is not text.

    A line is a message, or [time,message] as examples/record.py writes it.
    """
    *lines, rest = recording.read_bytes().decode().split("\n")
    lines += [rest] if rest else []
    return [match[1] if (match := re.fullmatch(RECEIVED, line)) else line for line in lines]


class Replay(Server):
    """An exchange that sends a recording, one message a line, once a request has come.

    A heartbeat was sent a second after the one before, which is the only clock that a recording
    has: PACE is how many seconds to wait at each, 0 to send everything at once.
    """

    def __init__(self, messages: list[str], pace: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.messages = messages
        self.pace = pace

    async def serve(self, _: str, ws: ServerConnection) -> None:
        """Serve a WebSocket to its end."""
        with seen():
            await first(self.play(ws), ws.wait_closed())

    async def play(self, ws: ServerConnection) -> None:
        """Send the recording."""
        await ws.send(compact(self.practice.greeting()))
        await ws.recv()
        for message in self.messages:
            if message == compact(HEARTBEAT):
                await asyncio.sleep(self.pace)
            await ws.send(message)
        await ws.close(1000, "end of the recording")
