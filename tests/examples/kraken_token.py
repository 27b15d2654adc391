#!/usr/bin/env python3
"""Print a fresh token for Kraken's WebSocket API.

usage: kraken_token.py [--help]

Each run asks Kraken's REST endpoint GetWebSocketsToken for a new token, which must be used within
15 minutes. The token is the only line on stdout, so this program can be a --token-command:

  krakenws.py --token-command tests/examples/kraken_token.py openOrders

The API key is in two files, API_Public_Key and API_Private_Key, as Kraken's own krakenapi.py has
them. Both are in the current directory, or else both are beside this program. Make them readable
for nobody else (chmod 600). The key needs the permission "Access WebSockets API" and the
permissions for what you want to do with the token.

The nonce is the time in milliseconds, as in krakenapi.py. If the key was ever used with greater
nonces, such as microseconds, Kraken answers EAPI:Invalid nonce: make a new key. Several programs
on this machine can share a key, because each one locks API_Private_Key until its reply has come.

exit status:
  0   the token was printed
  1   Kraken refused, or there is no usable key. Do not repeat this in a loop: when Kraken has
      locked a key out, that ends only after some 15 minutes without a try
  75  Kraken could not be asked, or gave no usable answer. It may work later
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import signal
import sys
import time
import urllib.request
from http.client import HTTPException
from urllib.error import HTTPError

# https://docs.kraken.com/api/docs/rest-api/get-websockets-token
PATH = "/0/private/GetWebSocketsToken"
PUBLIC_FILE, PRIVATE_FILE = "API_Public_Key", "API_Private_Key"

LIMIT_SECONDS = 20  # for all of it, also for the lock; the client gives its token command 30
MOST_BYTES = 65536  # of a reply, which has about 100

DONE, FAILED, UNREACHABLE = 0, 1, 75  # 75 is EX_TEMPFAIL of sysexits.h


class Failure(Exception):
    """Ends the program with a sentence for the user and an exit status."""

    def __init__(self, sentence: str, status: int = FAILED) -> None:
        super().__init__(sentence)
        self.status = status


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send the key and the signature to the other host."""

    def redirect_request(self, *_: object) -> None:
        """Return that there is nothing to follow, so that the redirect is an HTTPError."""


def key_folder() -> str:
    """Return the folder of the key: the current directory, or else the one of this program.

    A key file that is there, or where nobody can see whether it is, is never passed over: the key
    in the other folder may belong to another account.
    """
    there = any(map(os.path.lexists, (PUBLIC_FILE, PRIVATE_FILE)))
    if there or not os.access(os.curdir, os.X_OK):
        return os.curdir
    return os.path.dirname(os.path.realpath(__file__))


def read_key(path: str) -> str:
    """Return the first line with text of a key file, which is base64, or raise Failure."""
    try:
        with open(path, encoding="utf-8-sig") as lines:
            line = next(filter(None, map(str.strip, lines)))
        base64.b64decode(line, validate=True)
    except OSError as error:
        raise Failure(f"No token: the API key can't be read ({error})") from None
    except (ValueError, StopIteration):
        raise Failure(f"No token: the first line of {path} is no API key") from None
    return line


def sign(secret: str, path: str, nonce: int, body: str) -> str:
    """Return the API-Sign of a REST call; SECRET is the private key as Kraken shows it.

    https://docs.kraken.com/api/docs/guides/spot-rest-auth
    """
    message = path.encode() + hashlib.sha256(f"{nonce}{body}".encode()).digest()
    mac = hmac.digest(base64.b64decode(secret), message, "sha512")
    return base64.b64encode(mac).decode()


def new_nonce() -> int:
    """Return the time in milliseconds, as soon as a new millisecond begins.

    Only the program that holds the lock calls this, so no nonce is ever used twice.
    """
    begun = now = time.time_ns() // 10**6
    while now <= begun:
        time.sleep(0.0002)
        now = time.time_ns() // 10**6
    return now


def ask(public: str, secret: str) -> bytes:
    """Return the body of Kraken's reply, or raise what urllib raises."""
    nonce = new_nonce()
    body = f"nonce={nonce}"
    signature = sign(secret, PATH, nonce, body)
    headers = {"API-Key": public, "API-Sign": signature, "User-Agent": "krakenws"}
    request = urllib.request.Request(f"https://api.kraken.com{PATH}", body.encode(), headers)
    with urllib.request.build_opener(NoRedirect).open(request) as reply:
        return bytes(reply.read(MOST_BYTES))


def read_reply(reply: bytes) -> str:
    """Return the token in Kraken's reply, or raise Failure."""
    try:
        answer = json.loads(reply)
        if errors := answer["error"]:
            raise Failure(f"No token: Kraken says {', '.join(map(str, errors))}")
        return str(answer["result"]["token"])
    except (ValueError, LookupError, TypeError):
        raise Failure("No token: there is none in Kraken's reply", UNREACHABLE) from None


def get_token() -> str:
    """Return a fresh token, or raise Failure."""
    public_file, private_file = (
        os.path.join(key_folder(), name) for name in (PUBLIC_FILE, PRIVATE_FILE)
    )
    public, secret = read_key(public_file), read_key(private_file)
    try:
        with open(private_file, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            reply = ask(public, secret)
    except OSError as error:
        words = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        raise Failure(f"No token: Kraken can't be asked ({words})", UNREACHABLE) from None
    except (HTTPException, ValueError) as error:  # their texts may show the password of a proxy
        words = type(error).__name__
        raise Failure(f"No token: Kraken can't be asked ({words})", UNREACHABLE) from None
    return read_reply(reply)


def give_up(*_: object) -> None:
    """Raise TimeoutError, because the time is over."""
    raise TimeoutError(f"there is no reply after {LIMIT_SECONDS} seconds")


def write(descriptor: int, text: str) -> None:
    """Write a line at once, or raise OSError; print() would end with 120 on a full disk."""
    rest = f"{text}\n".encode(errors="backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def run(words: list[str]) -> None:
    """Do what the command line asks for, or raise Failure."""
    wants_help = words in (["-h"], ["--help"])
    if words and not wants_help:
        raise Failure("usage: kraken_token.py [--help]")
    if sys.stdout is None:  # then descriptor 1 could become the connection to Kraken
        raise Failure("No token: stdout is closed")
    text = str(__doc__).rstrip() if wants_help else get_token()
    try:
        write(1, text)
    except OSError as error:
        raise Failure(f"No token: stdout can't be written ({error})") from None


def main() -> int:
    """Print a token, and return the exit status."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_SECONDS)
    try:
        run(sys.argv[1:])
    except Failure as failure:
        with contextlib.suppress(OSError):
            if sys.stderr is not None:
                write(2, str(failure))
        return failure.status
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
