"""The transcript: what is printed, and when."""

from __future__ import annotations

import json
import signal

import pytest

from client.common import (
    ACCEPTED,
    DATA,
    GREETED,
    ORDER,
    ORDER_SHOWN,
    PONG,
    SUBSCRIBED,
    TICKER,
    got,
    sent,
)
from client.scripted import Peer, answer
from conftest import PATIENCE, TOKEN, Client
from krakenws import TABLE


def test_ping(client: Client) -> None:
    """Ping prints the greeting, the request and the pong, and ends after three seconds."""
    client.exchange.script = answer(PONG)
    assert client.run() == (0, GREETED + sent('{"event":"ping"}') + got(PONG), "")
    assert client.exchange.dialled == ["ws.kraken.com:443"]
    assert client.exchange.closed.get(timeout=PATIENCE) == 1000


def test_order(client: Client) -> None:
    """An order shows no token, neither sent nor received, and goes to the private host."""
    client.exchange.script = answer(ACCEPTED[:-1] + f',"token":"{TOKEN}"}}')
    shown = ACCEPTED[:-1] + ',"token":"***"}'
    result = client.run("addOrder", "pair=XBT/USD", "-C1")
    assert result == (0, GREETED + sent(ORDER_SHOWN) + got(shown), "")
    assert client.exchange.dialled == ["ws-auth.kraken.com:443"]
    assert client.exchange.received == [ORDER]


def test_every_message_as_it_came(client: Client) -> None:
    """A feed prints every message exactly as it came, each when it comes."""
    odd = ['{ "event" : "heartbeat" }', '[ 340, {"é":"\\u00e9"} ]', "", "no JSON", "[[[", "{}"]
    client.exchange.script = answer(SUBSCRIBED, *odd, DATA)
    process = client.start("ticker", "xbt/usd")
    assert process.read_until(DATA) == GREETED + sent(TICKER) + got(SUBSCRIBED, *odd, DATA)
    assert process.signal(signal.SIGINT).end() == (0, "", "")
    assert client.exchange.received == [TICKER]
    assert client.exchange.closed.get(timeout=PATIENCE) == 1000


def test_every_line_comes_at_once(client: Client) -> None:
    """A line is there before the next message is sent, also in a pipe."""

    def then(peer: Peer) -> None:
        for _ in range(2):
            client.barrier.wait()
            peer.send(DATA)

    client.exchange.script = answer(SUBSCRIBED, then=then)
    process = client.start("ticker", "XBT/USD")
    process.read_until(SUBSCRIBED)
    for _ in range(2):
        client.barrier.wait()
        process.read_until(DATA)
    assert process.signal(signal.SIGTERM).end().status == 0


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_name(client: Client, name: str) -> None:
    """Every name is answered by the practice exchange, at the host where it belongs."""
    words, status = {
        "addOrder": ("pair=XBT/USD type=buy ordertype=market volume=0.01 validate=true", 0),
        "amendOrder": ("txid=OAAAAA-AAAAA-AAAAAA", 1),
        "balances": ("", 1),
        "cancelOrder": ("txid=OAAAAA-AAAAA-AAAAAA", 1),
        "cancelAllOrdersAfter": ("timeout=0", 0),
        "editOrder": ("orderid=OAAAAA-AAAAA-AAAAAA pair=XBT/USD", 1),
    }.get(name, ("XBT/USD" if "pair" in TABLE[name].each else "", 0))
    assert client.run(name, *words.split(), "-rqC1", "-W0").status == status
    assert client.exchange.dialled == [TABLE[name].url[len("wss://") : -1] + ":443"]


@pytest.mark.parametrize("token", [TOKEN, 'a/"quoted"\\one'])
def test_token_in_another_spelling(client: Client, token: str) -> None:
    """The token is masked also where JSON escapes it, with or without the slash."""
    (client.folder / "WS_Token").write_text(token)
    escaped = json.dumps(token)[1:-1]
    spellings = [token, escaped, escaped.replace("/", "\\/")]
    reply = '{"event":"addOrderStatus","status":"error","x":"%s"}'
    client.exchange.script = answer(*[reply % spelling for spelling in spellings])
    result = client.run("addOrder", "-C1", "-W0")
    assert got(reply % "***") in result.out
    assert token not in result.out
    assert escaped not in result.out
    assert client.exchange.received == [f'{{"event":"addOrder", "token":"{escaped}"}}']


@pytest.mark.parametrize(
    ("locale", "mode", "encoding"), [("C", "0", "ascii"), ("C.UTF-8", "1", "iso-8859-1")]
)
def test_locale(client: Client, locale: str, mode: str, encoding: str) -> None:
    """Output is UTF-8 whatever the locale."""
    settings = {"LC_ALL": locale, "PYTHONUTF8": mode, "PYTHONCOERCECLOCALE": "0"}
    client.environment.update(settings, PYTHONIOENCODING=encoding)
    client.exchange.script = answer(SUBSCRIBED, '["é","\u20bf"]')
    result = client.run("ticker", "XBT/USD", "-rqC1")
    assert result == (0, '["é","\u20bf"]\n', "")
