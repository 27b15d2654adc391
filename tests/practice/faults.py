"""The faults of the practice exchange: what goes wrong on purpose, once it is switched on."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """What goes wrong on purpose."""

    about: str
    seconds: float = 0.0  # after which it goes wrong, on each connection


FAULTS = {
    "drop": Fault("reset a connection when it is some seconds old", 10),
    "stall": Fault("fall silent when a connection is some seconds old, and leave it open", 10),
    "cloudflare": Fault("close a connection with 1001 when it is some seconds old", 10),
    "429": Fault("refuse connections with HTTP 429, as for too many of them"),
    "503": Fault("refuse connections with HTTP 503"),
    "lost-reply": Fault("carry an order out, then reset the connection instead of answering"),
    "no-reply": Fault("carry an order out, then stay silent instead of answering"),
    "unavailable": Fault("answer EService:Unavailable to an order, carried out or not by chance"),
    "maintenance": Fault("stand still and refuse orders and cancels"),
}
# In place of a WebSocket: HTTP status, body and headers
REFUSALS: dict[str, tuple[int, str, tuple[tuple[str, str], ...]]] = {
    "429": (429, "error code: 1015\n", (("Server", "cloudflare"), ("Retry-After", "600"))),
    "503": (503, "Service Unavailable\n", (("Server", "cloudflare"),)),
}


def parse_fault(text: str) -> tuple[str, float]:
    """Return a fault's name and seconds, from NAME or NAME=SECONDS; raise ValueError."""
    name, _, seconds = text.partition("=")
    if name not in FAULTS:
        raise ValueError(f"no fault is called {name}; there are {', '.join(FAULTS)}")
    return name, float(seconds) if seconds else FAULTS[name].seconds
