"""What the modules of the practice exchange share: its hosts, and how it writes messages."""

from __future__ import annotations

import json

PUBLIC_HOST = "ws.kraken.com"
PRIVATE_HOST = "ws-auth.kraken.com"
REST_HOST = "api.kraken.com"
HOSTS = (PUBLIC_HOST, PRIVATE_HOST, REST_HOST)

HEARTBEAT = {"event": "heartbeat"}


class Denied(Exception):
    """Rejects a subscription or a REST call. Its text is the exchange's errorMessage."""


def compact(message: object) -> str:
    """Return a message as the exchange writes it."""
    return json.dumps(message, separators=(",", ":"))
