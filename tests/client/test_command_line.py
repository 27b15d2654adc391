"""The command line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import krakenws
from client.common import ACCEPTED, DATA, GREETED, ORDER_SHOWN, SUBSCRIBED, TICKER, got, sent
from client.scripted import Peer, ScriptedExchange, answer
from conftest import SCRIPT, TOKEN, Client
from krakenws import TABLE
from practice.authority import Authority

USAGE = ["Usage: ", "Example: ", "Feeds: ", "Endpoints: ", "Options: "]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        pytest.param(["nosuch"], "no feed or endpoint is called nosuch", id="an unknown name"),
        *[
            pytest.param(
                [slip], f"no feed or endpoint is called {slip}: did you mean {name}?", id=slip
            )
            for slip, name in (
                ("TICKER", "ticker"),
                ("tiker", "ticker"),
                ("addorder", "addOrder"),
                ("cancelAllOrderAfter", "cancelAllOrdersAfter"),
            )
        ],
        pytest.param([""], "no feed or endpoint is called ", id="an empty name"),
        pytest.param(["ticker"], "A market feed needs a pair", id="a feed with no pair"),
        pytest.param(["ticker", "5"], "A market feed needs a pair", id="a number only"),
        pytest.param(["--nosuch"], "unrecognized arguments: --nosuch", id="an unknown option"),
        pytest.param(["--cou", "1"], "unrecognized arguments: --cou", id="no abbreviations"),
        pytest.param(["-C"], "argument -C/--count: expected one argument", id="no value"),
        *[
            pytest.param(["-C", value], f"argument -C/--count: invalid count value: '{value}'")
            for value in ("0", "x", "1.5")
        ],
        *[
            pytest.param(["-W", value], f"argument -W/--max-time: invalid seconds value: '{value}'")
            for value in ("nan", "inf", "x", "1000001", "-1")
        ],
        pytest.param(
            ["ping", "--reconnect", "1"],
            "--reconnect is for feeds: no request is ever sent twice",
            id="reconnect for ping",
        ),
        pytest.param(
            ["addOrder", "--reconnect", "0"],
            "--reconnect is for feeds: no request is ever sent twice",
            id="reconnect at once for an order",
        ),
        pytest.param(
            ["addOrder", "--reconnect", "1"],
            "--reconnect is for feeds: no request is ever sent twice",
            id="reconnect for an order",
        ),
        pytest.param(
            ["openOrders", "--token-file", "x", "--token-command", "y"],
            "--token-file and --token-command exclude each other",
            id="two tokens",
        ),
    ],
)
def test_usage(client: Client, argv: list[str], words: str) -> None:
    """A wrong command line gets the usage text, and what is wrong with it."""
    status, out, err = client.run(*argv)
    lines = out.splitlines()
    assert (status, err) == (1, "")
    assert [line.split()[0] + " " for line in lines[:5]] == USAGE
    assert lines[0] == f"Usage: {SCRIPT} feed/endpoint [parameters]"
    assert lines[1] == f"Example: {SCRIPT} ticker XBT/USD"
    assert lines[4] == f"Options: {SCRIPT} --help"
    assert "\n".join(lines[5:]) == words
    assert client.exchange.dialled == []


def test_parameter(client: Client) -> None:
    """A wrong parameter is a sentence, and nothing is dialled."""
    result = client.run("addOrder", "price")
    assert result == (1, "Parameter price is not of the form name=value\n", "")
    assert client.exchange.dialled == []


def test_token_as_a_parameter(client: Client) -> None:
    """A token among the words is masked where they are repeated, and sent as what it was typed."""
    sentence = "Parameter token can't be given: the client sets it\n"
    assert client.run("addOrder", f"token={TOKEN}") == (1, sentence, "")
    assert client.run("openOrders", f"token={TOKEN}") == (1, sentence, "")
    token = TOKEN.replace("=", "")
    (client.folder / "WS_Token").write_text(token)
    sentence = "Parameter *** is not of the form name=value\n"
    assert client.run("addOrder", token) == (1, sentence, "")
    assert client.run("openOrders", "-r", token) == (1, "", sentence)
    assert client.exchange.dialled == []
    client.exchange.script = answer(ACCEPTED)
    shown = sent('{"event":"addOrder", "token":"***", "userref":"***"}')
    result = client.run("addOrder", "-C1", f"userref={token}")
    assert result == (0, GREETED + shown + got(ACCEPTED), "")
    assert client.exchange.received == [shown[len(sent("")) - 1 : -1].replace("***", token)]


@pytest.mark.parametrize("argv", [["ticker", b"\xff/USD"], ["addOrder", b"userref=\xff"]])
def test_not_text(client: Client, argv: list[Any]) -> None:
    """A word that is no text is refused."""
    status, out, err = client.run(*argv)
    assert (status, err) == (1, "")
    assert out.endswith("is not text in the locale's encoding\n")


@settings(max_examples=15)
@given(argv=st.lists(st.text().filter(lambda word: "\0" not in word)))
@example(argv=["--", "-C", "\x1b[2J"])
@example(argv=["addOrder", '"}', "="])
@example(argv=["", "-r"])
def test_any_words(authority: Authority, argv: list[str]) -> None:
    """Whatever is typed: a clean end, and JSON or a sentence."""
    words = [word.encode("utf-8", "surrogatepass") for word in argv]
    with (
        ScriptedExchange(authority, Peer.wait) as exchange,
        tempfile.TemporaryDirectory() as folder,
    ):
        client = Client(exchange, Path(folder))
        status, out, err = client.run("-n", *words)  # type: ignore[arg-type]
        assert exchange.dialled == []
    assert status in (0, 1)
    assert bool(out) != bool(err)  # with -r among the words a sentence is on stderr
    if status == 0 and not out.startswith(("usage:", krakenws.__version__)):
        json.loads(out)


def test_help(client: Client) -> None:
    """The help names every feed and endpoint and every exit status, and dials nothing."""
    status, out, err = client.run("--help")
    assert (status, err) == (0, "")
    words = out.split()
    assert set(TABLE) <= set(words)
    statuses = dict(line.split(maxsplit=1) for line in out.split("exit status:\n")[1].splitlines())
    assert list(statuses) == ["0", "1", "3", "124"]
    assert "accepted request" in statuses["0"]
    assert "certainly not in effect" in statuses["1"]
    assert "its fate is unknown: it may be live" in statuses["3"]
    assert "time limit" in statuses["124"]
    assert client.run("nosuch", "-h").out == out
    assert client.exchange.dialled == []


def test_version(client: Client) -> None:
    """The version is the script's."""
    assert client.run("--version") == (0, f"{krakenws.__version__}\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        ["-rqC1", "ticker", "XBT/USD"],
        ["ticker", "-r", "XBT/USD", "-C", "1", "-q"],
        ["ticker", "XBT/USD", "--raw", "--quiet", "--count=1"],
        ["-r", "-q", "-C1", "--", "ticker", "XBT/USD"],
    ],
)
def test_options_anywhere(client: Client, argv: list[str]) -> None:
    """Options combine and may stand anywhere."""
    client.exchange.script = answer(SUBSCRIBED, DATA)
    assert client.run(*argv) == (0, f"{DATA}\n", "")
    assert client.exchange.received == [TICKER]


def test_after_two_dashes(client: Client) -> None:
    """Behind -- nothing is an option."""
    result = client.run("-n", "--", "ticker", "-r", "--", "--count")
    text = TICKER.replace('"XBT/USD"', '"-R","--","--COUNT"')
    assert result == (0, f"{text}\n", "")


def test_dry_run(client: Client) -> None:
    """-n prints the request with the token masked, needs none, and connects to nothing."""
    (client.folder / "WS_Token").unlink()
    assert client.run("-n", "addOrder", "pair=XBT/USD") == (0, f"{ORDER_SHOWN}\n", "")
    assert client.run("-n", "ticker", "xbt/usd") == (0, f"{TICKER}\n", "")
    assert client.run("-n", "addOrder", "reqid=x").status == 1
    assert client.exchange.dialled == []
