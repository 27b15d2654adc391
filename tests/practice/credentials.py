"""The practice account's credentials: its API key, the signature of a call, and its tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qs

from practice.common import Denied

PRACTICE_TOKEN = "Practice/token+for+the+local+exchange+only0"  # noqa: S105 - of no value
API_KEY = base64.b64encode(b"the key to the practice account").decode()
API_SECRET = base64.b64encode(b"the secret of the practice account, known to everybody").decode()
TOKEN_PATH = "/0/private/GetWebSocketsToken"  # noqa: S105 - a path
INVALID_SESSION = "ESession:Invalid session"


def sign(secret: str, path: str, nonce: str, body: bytes) -> str:
    """Return the API-Sign of a REST call."""
    digest = hashlib.sha256(nonce.encode() + body).digest()
    mac = hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512)
    return base64.b64encode(mac.digest()).decode()


def read_nonce(body: bytes) -> str:
    """Return the nonce in the body of a call, form or JSON, or raise Denied."""
    try:
        text = body.decode()
        values = json.loads(text) if text.startswith("{") else parse_qs(text)
        nonce = values["nonce"]
        nonce = str(nonce[0] if isinstance(nonce, list) else nonce)
    except (ValueError, KeyError, IndexError):
        raise Denied("EAPI:Invalid nonce") from None
    if not re.fullmatch("[0-9]{1,20}", nonce):
        raise Denied("EAPI:Invalid nonce")
    return nonce


class Tokens:
    """The tokens that were issued, and until when they are valid."""

    def __init__(self, life: float, clock: Callable[[], float], seed: int) -> None:
        self.life = life
        self.clock = clock
        self.random = random.Random(f"{seed} tokens")
        self.ends: dict[str, float] = {}
        self.nonce = -1  # the greatest that was used

    def answer_call(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Return the result of GetWebSocketsToken, or raise Denied."""
        if headers.get("api-key") != API_KEY:
            raise Denied("EAPI:Invalid key")
        nonce = read_nonce(body)
        signature = headers.get("api-sign", "").encode()
        if not hmac.compare_digest(sign(API_SECRET, TOKEN_PATH, nonce, body).encode(), signature):
            raise Denied("EAPI:Invalid signature")
        if int(nonce) <= self.nonce:
            raise Denied("EAPI:Invalid nonce")
        self.nonce = int(nonce)
        return {"token": self.issue(), "expires": int(self.life)}

    def issue(self) -> str:
        """Return a new token."""
        token = base64.b64encode(self.random.getrandbits(256).to_bytes(32, "big")).decode()
        self.renew(token.rstrip("="))
        return token.rstrip("=")

    def renew(self, token: str) -> None:
        """Extend a token by its full life."""
        self.ends[token] = self.clock() + self.life

    def revoke(self) -> None:
        """Make all tokens invalid that were issued before, used or not."""
        self.ends.clear()

    def use(self, token: object, kept: bool) -> None:
        """Check a token, or raise Denied if it has expired and no subscription keeps it valid.

        Kraken's support says that trading keeps a token valid as well. Its reference does not say
        so, and this exchange is the stricter one: what works here works with both.
        """
        good = isinstance(token, str) and token in self.ends
        if not good or not (kept or self.clock() <= self.ends[cast(str, token)]):
            raise Denied(INVALID_SESSION)
