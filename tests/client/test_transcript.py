"""The transcript: what is printed, and when."""

from __future__ import annotations

import itertools
import json
import signal
import time

import pytest

from client.common import (
    ACCEPTED,
    DATA,
    FATE,
    GREETED,
    ORDER,
    ORDER_SHOWN,
    PONG,
    SUBSCRIBED,
    TICKER,
    got,
    request_failed,
    sent,
    soon,
)
from client.scripted import Peer, answer
from conftest import PATIENCE, TOKEN, Client
from krakenws import TABLE


def test_ping(client: Client) -> None:
    """Ping prints the greeting, the request and the pong, and ends after three seconds."""
    client.exchange.script = answer(PONG)
    begin = time.monotonic()
    with soon():
        assert client.run() == (0, GREETED + sent('{"event":"ping"}') + got(PONG), "")
    assert time.monotonic() - begin > 2.9
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


def escapes(char: str) -> list[str]:
    """Return all that a character may be within a string of JSON, but for mixed hex digits."""
    units = char.encode("utf-16-be").hex()
    hexes = [units[at : at + 4] for at in range(0, len(units), 4)]
    forms = [json.dumps(char)[1:-1], json.dumps(char, ensure_ascii=False)[1:-1]]
    forms += ["".join(f"\\u{digits}" for digits in hexes)]
    forms += ["".join(f"\\u{digits.upper()}" for digits in hexes)]
    return list(dict.fromkeys([*forms, *(["\\/"] if char == "/" else [])]))


def spell(token: str, *choices: int) -> str:
    """Return a spelling: the characters take turns at CHOICES of their forms."""
    forms = [escapes(char) for char in token]
    turns = itertools.cycle(choices)
    spelling = "".join(form[next(turns) % len(form)] for form in forms)
    assert json.loads(f'"{spelling}"') == token
    return spelling


SPELLINGS = {
    "in the same letters": (0,),
    "all escaped": (-1,),
    "all escaped, in upper case": (2,),
    "every second one escaped": (0, -1),
    "the others escaped": (-1, 0),
    "every third one escaped": (0, 0, -1),
    "all forms in turn": (0, 1, 2, 3),
    "all forms in another turn": (3, 0, 1, 1, 2),
}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN, id="signs"),
        pytest.param("a+b/c==", id="base64"),
        pytest.param('a/"quoted"\\one', id="quotes"),
        pytest.param("nbtu/0041", id="letters of escapes"),
        pytest.param("\u00e9\u20ac+/=", id="beyond ASCII"),
        pytest.param(
            "\U0001f511+/=",
            id="beyond 16 bits",
        ),
    ],
)
def test_token_in_every_spelling(client: Client, token: str) -> None:
    """The token is masked in every spelling that JSON allows, in replies and in data."""
    (client.folder / "WS_Token").write_text(token, encoding="utf-8")
    spellings = [spell(token, *choices) for choices in SPELLINGS.values()]
    reply = '{"event":"addOrderStatus","status":"?","x":"%s","y":["%s"]}'
    messages = [reply % (one, other) for one, other in itertools.product(spellings, repeat=2)]
    client.exchange.script = answer(*messages, f'["{spellings[0]}"]', ACCEPTED)
    result = client.run("addOrder", "-rqC1", "-W0")
    shown = [reply % ("***", "***")] * len(messages)
    assert result == (0, "\n".join([*shown, '["***"]', ACCEPTED, ""]), "")


@pytest.mark.parametrize(
    "spelling",
    [
        r"Token\u002FWith\u002BSome\u003DSigns",
        r"Token\u002fWith\u002bSome\u003dSigns",
        r"Token\u002FWith\u002bSome=Signs",
        r"Token\/With+Some\u003dSigns",
        r"Token\/With\u002BSome=Signs",
        r"\u0054oken/With+Some=Sign\u0073",
        r"Token/With+Some=Signs",
        r"\/Token\/With+Some=Signs\/",
        "".join(f"\\u{ord(char):04X}" for char in TOKEN),
    ],
)
def test_token_in_a_sentence(client: Client, spelling: str) -> None:
    """The exchange's words are masked as well where the client says them."""
    words = f"{spelling} unknown"
    client.exchange.script = answer(
        f'{{"event":"addOrderStatus","status":"error","errorMessage":"{words}"}}'
    )
    status, out, err = client.run("addOrder", "-rqC1", "-W0")
    shown = json.loads(f'"{words}"').replace(TOKEN, "***")
    assert (status, "***" in out, err) == (3, True, request_failed(shown) + FATE)


@pytest.mark.parametrize(
    "words", [[TOKEN], {TOKEN: TOKEN}, [[f"a {TOKEN} b"]]], ids=["list", "object", "nested"]
)
def test_token_in_no_text(client: Client, words: object) -> None:
    """The token is masked also where the exchange's words are no text."""
    client.exchange.script = answer(
        {"event": "addOrderStatus", "status": "error", "errorMessage": words}
    )
    shown = json.dumps(words).replace(TOKEN, "***")
    assert client.run("addOrder", "-rqC1", "-W0").err == request_failed(shown) + FATE


def test_token_in_a_reason(client: Client) -> None:
    """The token is masked also in the reason with which the exchange closes."""
    client.exchange.script = answer(then=lambda peer: peer.close(1008, f"no {TOKEN}, {TOKEN}"))
    result = client.run("openOrders", "-rq")
    assert result == (1, "", request_failed("1008 no ***, ***"))


def test_like_the_token(client: Client) -> None:
    """What isn't the token stays as it came, with all its escapes."""
    others = [
        r'["Token\u002dWith+Some=Signs"]',
        r'["Token\u002FWith+Some=Sign"]',
        r'["token\/with+some=signs"]',
        r'["\u00e9\\\"\/","***"]',
        "\\",
    ]
    client.exchange.script = answer(*others, ACCEPTED)
    out = "\n".join([*others, ACCEPTED, ""])
    assert client.run("addOrder", "-rqC1", "-W0") == (0, out, "")


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
