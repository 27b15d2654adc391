"""The option --reconnect."""

from __future__ import annotations

import functools
import itertools
import json
import re
import signal
import socket
from collections.abc import Callable

import pytest

from client.common import (
    DATA,
    GREETED,
    NOW,
    REFUSED,
    SUBSCRIBED,
    TICKER,
    connection_failed,
    got,
    messages_failed,
    request_failed,
    sent,
    set_clock,
)
from client.scripted import Peer, Refusal, answer
from conftest import TOKEN, Client
from krakenws import STEADY_SECONDS, next_delay

UNSUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"unsubscribed"}'


def scripts(client: Client, *scripts: Callable[[Peer], None]) -> None:
    """Let each connection meet the next script."""
    rest = list(scripts)

    def script(peer: Peer) -> None:
        rest.pop(0)(peer)

    client.exchange.script = script


def closing(*replies: str) -> Callable[[Peer], None]:
    """Return a script that closes after these messages."""
    return answer(*replies, then=lambda peer: peer.close(1001, "bye"))


def lines(text: str) -> list[str]:
    """Return lines without the time of a loss and the seconds to wait."""
    text = re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?=WebSocket)", "Z ", text, flags=re.M)
    return re.sub(r"(?<=^Connecting again in ).*", "", text, flags=re.M).splitlines()


def test_transcript(client: Client) -> None:
    """After a loss: its sentence, the wait, and the transcript of the next connection."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-C2", "--reconnect", "0.01")
    connected = (GREETED + sent(TICKER) + got(SUBSCRIBED, DATA)).splitlines()
    lost = ["Z " + messages_failed("1001 bye").rstrip(), "Connecting again in "]
    assert (status, err) == (0, "")
    assert lines(out) == [*connected, *lost, *connected]


def test_raw(client: Client) -> None:
    """With -r both sentences go to stderr; -q hides the second greeting, too."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-rqC2", "--reconnect", "0")
    assert (status, out) == (0, f"{DATA}\n{DATA}\n")
    assert lines(err) == ["Z " + messages_failed("1001 bye").rstrip(), "Connecting again in "]


def test_cannot_connect(client: Client) -> None:
    """A connection that can't be made is tried again, the first one as well."""
    client.exchange.refusals = iter([Refusal(503), Refusal(429)])
    client.exchange.script = answer(SUBSCRIBED, DATA)
    status, out, err = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0.01")
    assert (status, out) == (0, f"{DATA}\n")
    again = "Connecting again in "
    words = ["HTTP 503 Service Unavailable", "HTTP 429 Too Many Requests"]
    assert lines(err) == [
        line for why in words for line in ("Z " + connection_failed(why).rstrip(), again)
    ]


def test_refused_at_first(client: Client) -> None:
    """A subscription that is refused at the first connection ends it."""
    client.exchange.script = answer(REFUSED)
    result = client.run("ticker", "A/B", "-rq", "--reconnect", "0")
    assert result == (1, f"{REFUSED}\n", request_failed("Currency pair not supported A/B"))


def test_refused_later(client: Client) -> None:
    """A subscription that is refused as a whole ends it after a connection that worked, too."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(REFUSED))
    status, out, err = client.run("ticker", "A/B", "-rqC2", "--reconnect", "0.01")
    assert (status, out) == (1, f"{DATA}\n{REFUSED}\n")
    assert lines(err)[2:] == [request_failed("Currency pair not supported A/B").rstrip()]


def test_service_broken(client: Client) -> None:
    """A subscription at which a service failed was not refused: it is tried again."""
    broken = '{"errorMessage":"EService:Unavailable","event":"subscriptionStatus","status":"error"}'
    scripts(client, answer(broken), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("openOrders", "-rqC1", "--reconnect", "0.01")
    assert (status, out) == (0, f"{broken}\n{DATA}\n")
    assert lines(err)[0] == "Z " + request_failed("EService:Unavailable").rstrip()


def refused(words: str, pair: str = "XBT/USD") -> str:
    """Return a refusal of a pair, or of all if PAIR is empty."""
    return json.dumps(
        {"errorMessage": words, "event": "subscriptionStatus", "status": "error"}
        | ({"pair": pair} if pair else {})
    )


BOTH = [SUBSCRIBED, SUBSCRIBED.replace("XBT", "ETH")]
LIMITS = [
    pytest.param('{"Error":"Exceeded msg rate"}', "Exceeded msg rate", id="without an event"),
    pytest.param(
        '{"errorMessage":"Exceeded msg rate","event":"error"}', "Exceeded msg rate", id="an error"
    ),
    *[
        pytest.param(refused(words), words, id=words)
        for words in (
            "Exceeded msg rate",
            "EGeneral:Too many requests",
            "EGeneral:Temporary lockout",
            "EAPI:Rate limit exceeded",
            "exceeded MSG RATE",
            "Sorry: EGeneral: too many requests, wait",
        )
    ],
]
BROKEN = [
    pytest.param(refused(words), words, id=words)
    for words in (
        "EService:Unavailable",
        "EService: Busy",
        "EDatabase:Busy",
        "eservice:timeout",
        "EGeneral:Internal error:7",
        "EGeneral:internal error",
        "Sorry, EService:Unavailable",
    )
]


FORMS = [*LIMITS[:3], BROKEN[0]]  # one of each


@pytest.mark.parametrize(("reply", "words"), LIMITS)
def test_limited_at_first(client: Client, reply: str, words: str) -> None:
    """A limit that is met before a subscription was ever accepted ends the run."""
    client.exchange.script = answer(reply)
    result = client.run("ticker", "XBT/USD", "-rq", "--reconnect", "0")
    assert result == (1, f"{reply}\n", request_failed(words))


@pytest.mark.parametrize(("reply", "words"), [*LIMITS, *BROKEN])
def test_passes_later(client: Client, reply: str, words: str) -> None:
    """After a subscription was accepted once, an error that passes is a loss like another."""
    scripts(client, closing(SUBSCRIBED, DATA), answer(reply), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-rqC2", "--reconnect", "0")
    assert (status, out) == (0, f"{DATA}\n{reply}\n{DATA}\n")
    assert lines(err)[2:] == ["Z " + request_failed(words).rstrip(), "Connecting again in "]


@pytest.mark.parametrize(("reply", "words"), BROKEN)
def test_broken_at_first(client: Client, reply: str, words: str) -> None:
    """An error of a service is a loss even before a subscription was accepted."""
    scripts(client, answer(reply), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-rqC1", "--reconnect", "0")
    assert (status, out) == (0, f"{reply}\n{DATA}\n")
    assert lines(err) == ["Z " + request_failed(words).rstrip(), "Connecting again in "]


@pytest.mark.parametrize(("reply", "words"), FORMS)
def test_without_reconnect(client: Client, reply: str, words: str) -> None:
    """Without --reconnect nothing is waited for."""
    client.exchange.script = answer(reply)
    result = client.run("ticker", "XBT/USD", "-rq")
    assert result == (1, f"{reply}\n", request_failed(words))


@pytest.mark.parametrize(("reply", "words"), FORMS)
@pytest.mark.parametrize("first", [True, False], ids=["behind the other", "before the other"])
def test_one_pair_of_two(client: Client, first: bool, reply: str, words: str) -> None:
    """Where one of two pairs meets what passes, both are subscribed to again."""
    replies = [BOTH[1], reply] if first else [reply, BOTH[1]]
    scripts(client, closing(*BOTH, DATA), answer(*replies), answer(*BOTH, DATA))
    argv = ["ticker", "XBT/USD", "ETH/USD", "-rqC2", "--reconnect", "0"]
    status, out, err = client.run(*argv)
    assert (status, out) == (0, f"{DATA}\n{reply}\n{DATA}\n")
    lost = [line for line in lines(err) if line.startswith("Z")]
    assert len(lost) == 2
    assert lost[1].endswith(f" failed ({words})")


@pytest.mark.parametrize(("reply", "words"), FORMS)
def test_one_pair_of_two_at_first(client: Client, reply: str, words: str) -> None:
    """One pair that was accepted is enough to wait for the other."""
    scripts(client, answer(BOTH[1], reply), answer(*BOTH, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "ETH/USD", "-rqC1", "--reconnect", "0")
    assert (status, out) == (0, f"{reply}\n{DATA}\n")
    assert lines(err)[0].endswith(f" failed ({words})")


@pytest.mark.parametrize(("reply", "words"), FORMS)
def test_one_pair_of_two_without_reconnect(client: Client, reply: str, words: str) -> None:
    """Without --reconnect the other pair goes on."""
    client.exchange.script = answer(BOTH[1], reply, DATA)
    result = client.run("ticker", "XBT/USD", "ETH/USD", "-rqC1")
    assert words in reply
    assert result == (0, f"{reply}\n{DATA}\n", "")


def test_one_pair_of_two_for_good(client: Client) -> None:
    """A pair that isn't supported doesn't keep the other from going on."""
    first = closing(*BOTH, DATA)
    scripts(client, first, answer(refused("Currency pair not supported"), BOTH[1], DATA))
    argv = ["ticker", "XBT/USD", "ETH/USD", "-rqC2", "--reconnect", "0"]
    assert client.run(*argv).status == 0
    assert len(client.exchange.received) == 2


def test_for_good_and_for_a_while(client: Client) -> None:
    """Where one pair isn't supported and the other meets a limit, it is tried again."""
    replies = [refused("Currency pair not supported"), refused("Exceeded msg rate", "ETH/USD")]
    scripts(client, closing(*BOTH, DATA), answer(*replies), answer(replies[0], BOTH[1], DATA))
    argv = ["ticker", "XBT/USD", "ETH/USD", "-rqC2", "--reconnect", "0"]
    status, _, err = client.run(*argv)
    assert status == 0
    words = "Currency pair not supported; Exceeded msg rate"
    assert lines(err)[2] == "Z " + request_failed(words).rstrip()


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        pytest.param([UNSUBSCRIBED], "XBT/USD: unsubscribed", id="unsubscribed"),
        pytest.param([refused("Something new")], "XBT/USD: Something new", id="an error"),
        pytest.param([refused("EService:Busy", "")], "EService:Busy", id="a service, for all"),
        pytest.param([refused("Exceeded msg rate")], "XBT/USD: Exceeded msg rate", id="a limit"),
    ],
)
def test_ended(client: Client, replies: list[str], words: str) -> None:
    """A subscription that the exchange ends, the only one, is a loss."""
    scripts(client, answer(SUBSCRIBED, DATA, *replies), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-rqC2", "--reconnect", "0")
    assert (status, out) == (0, "".join(f"{line}\n" for line in (DATA, *replies, DATA)))
    assert lines(err) == ["Z " + messages_failed(words).rstrip(), "Connecting again in "]


@pytest.mark.parametrize(
    ("event", "connections"),
    [
        pytest.param(UNSUBSCRIBED, 1, id="unsubscribed: the other goes on"),
        pytest.param(refused("Something new"), 1, id="an error: the other goes on"),
        pytest.param(refused("EService:Busy"), 2, id="a service: both begin again"),
        pytest.param(refused("Exceeded msg rate"), 2, id="a limit: both begin again"),
    ],
)
def test_ended_in_part(client: Client, event: str, connections: int) -> None:
    """Where one of two ends, it is fetched back if what ended it passes."""
    scripts(client, answer(*BOTH, DATA, event, *[DATA] * (2 - connections)), answer(*BOTH, DATA))
    argv = ["ticker", "XBT/USD", "ETH/USD", "-rqC2", "--reconnect", "0"]
    status, _, err = client.run(*argv)
    assert (status, len(client.exchange.received)) == (0, connections)
    assert err.count("Subscription ended: XBT/USD") == 2 - connections


def test_limited_again_and_again(client: Client) -> None:
    """The waits grow as after any other loss: no more than 47 connections in ten minutes."""
    scripts(client, closing(SUBSCRIBED, DATA), *[answer('{"Error":"Exceeded msg rate"}')] * 2)
    process = client.start("ticker", "XBT/USD", "--reconnect", "0.01")
    waits = [float(process.read_until("Connecting again").split()[-2]) for _ in range(2)]
    assert waits[0] <= 0.1
    assert 0.8 <= waits[1] <= 1.2
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def wait(line: str) -> float:
    """Return the seconds that a line says will be waited."""
    return float(re.findall(r"again in ([0-9.]+) seconds$", line)[0])


def test_waits_of_a_running_client(client: Client) -> None:
    """The wait doubles up to a minute, and begins again only after a connection that lasted one."""
    lives = [0, 0, 0, 40, 0, 0, 0, 0, 0, 61, 0]
    nominal = [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0.5, 1]
    set_clock(client, 0)
    client.environment["https_proxy"] = client.environment["https_proxy"].replace(
        "127.0.0.1", "localhost"
    )
    waited = [0.0]

    def then(peer: Peer) -> None:
        peer.sync()
        number = len(client.exchange.received)
        set_clock(client, sum(lives[:number]))
        peer.close(1001, "bye")

    client.exchange.script = answer(SUBSCRIBED, then=then)
    argv = ["ticker", "XBT/USD", "--reconnect", "0.5", "--idle-timeout", "0"]
    process = client.start(*argv)
    for seconds in nominal:
        line = process.read_until("Connecting again").splitlines()[-1]
        assert 0.8 * seconds - 0.05 <= wait(line) <= 1.2 * seconds + 0.05
        waited.append(waited[-1] + wait(line))
    process.process.kill()
    dialled = [float(line) for line in (client.folder / "dialled").read_text().split()]
    for attempt, seconds in enumerate(waited[: len(nominal)]):
        lived = sum(lives[:attempt])
        assert dialled[attempt] - dialled[0] >= seconds + lived - 0.05 * attempt


def test_spread_of_the_waits(client: Client) -> None:
    """Each wait is a random one from 0.8 to 1.2 of the nominal value, and its line is in UTC."""
    set_clock(client, 0)
    client.environment["TZ"] = "XXX-9"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client.environment["https_proxy"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        process = client.start("ticker", "XBT/USD", "--reconnect", "100")
        said = [process.read_until("Connecting again").splitlines() for _ in range(100)]
    process.process.kill()
    waits = [wait(line) for _, line in said]
    assert 80 <= min(waits) < 86
    assert 114 < max(waits) <= 120
    assert {loss.split()[0] for loss, _ in said} == {NOW}


def test_stopped_before_the_second_reply(client: Client) -> None:
    """After a reconnect, a stop before the subscription is accepted anew is still a success."""
    scripts(client, closing(SUBSCRIBED, DATA), answer("{}"))
    process = client.start("ticker", "XBT/USD", "--reconnect", "0")
    process.read_until("{}")
    assert process.signal(signal.SIGINT).end() == (0, "", "")


def test_refused_connection_later(client: Client) -> None:
    """A connection that is refused after one that worked is called a connection, too."""
    client.exchange.refusals = (refusal for refusal in (None, Refusal(503)))  # type: ignore[misc]
    scripts(client, closing(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    status, out, err = client.run("ticker", "XBT/USD", "-rqC2", "--reconnect", "0")
    assert (status, out) == (0, f"{DATA}\n{DATA}\n")
    assert lines(err)[2] == "Z " + connection_failed("HTTP 503 Service Unavailable").rstrip()


def test_dead(client: Client) -> None:
    """A dead connection is a lost one."""
    scripts(client, answer(SUBSCRIBED, DATA), answer(SUBSCRIBED, DATA))
    argv = ["ticker", "XBT/USD", "-rqC2", "--reconnect", "0", "--idle-timeout", "2"]
    status, out, err = client.run(*argv)
    assert (status, out) == (0, f"{DATA}\n{DATA}\n")
    assert lines(err)[0] == "Z " + messages_failed("nothing received for 2 seconds").rstrip()


def test_token_file_again(client: Client) -> None:
    """The token's file is read again for each connection, and its token masked as before."""
    echo = f'[["{TOKEN}"],"openOrders",{{"sequence":1}}]'
    scripts(client, closing(SUBSCRIBED, echo), answer(SUBSCRIBED, echo))
    status, out, _ = client.run("openOrders", "-rqC2", "--reconnect", "0.01")
    assert (status, out) == (0, f"{echo}\n{echo}\n".replace(TOKEN, "***"))


def test_fresh_token(client: Client) -> None:
    """Every connection has a token of its own; one that can't be had is a lost connection."""
    command = (
        "n=$(cat n 2>/dev/null); echo $((n + 1)) > n; "
        f'if [ "$n" = 1 ]; then exit 1; fi; echo "{TOKEN}$n"'
    )
    update = '[["***"],"openOrders",{"sequence":1}]'
    echoes = [update.replace("***", token) for token in (TOKEN, f"{TOKEN}2")]
    scripts(client, *[closing(SUBSCRIBED, echo) for echo in echoes])
    argv = ["openOrders", "-rqC2", "--reconnect", "0.01", "--token-command", command]
    status, out, err = client.run(*argv)
    assert (status, out) == (0, f"{update}\n{update}\n")
    assert lines(err)[2:] == [
        "Z WebSocket authentication token missing (--token-command ended with status 1)",
        "Connecting again in ",
    ]
    tokens = [json.loads(text)["subscription"]["token"] for text in client.exchange.received]
    assert tokens == [TOKEN, f"{TOKEN}2"]


PRIVATE = '{"channelName":"openOrders","event":"subscriptionStatus","status":"subscribed"}'
REJECTED = refused("ESession:Invalid session", "")
COUNTED = f'echo run >> runs; echo "{TOKEN}$(grep -c . runs)"'  # another token at each run


def tokens(client: Client) -> list[str]:
    """Return the tokens that the exchange received."""
    return [json.loads(text)["subscription"]["token"] for text in client.exchange.received]


@pytest.mark.parametrize(
    "words",
    [
        "ESession:Invalid session",
        "EAPI:Invalid token",
        "esession: invalid SESSION",
        "Invalid token",
    ],
)
def test_token_rejected(client: Client, words: str) -> None:
    """A token that a command can replace is a loss when it is rejected at a reconnect."""
    rejected = refused(words, "")
    scripts(client, closing(PRIVATE, DATA), answer(rejected), answer(PRIVATE, DATA))
    argv = ["openOrders", "-rqC2", "--reconnect", "0", "--token-command", COUNTED]
    status, out, err = client.run(*argv)
    assert (status, out) == (0, f"{DATA}\n{rejected}\n{DATA}\n")
    assert lines(err)[2] == "Z " + request_failed(words).rstrip()
    assert tokens(client) == [f"{TOKEN}{number}" for number in (1, 2, 3)]


def test_token_rejected_at_first(client: Client) -> None:
    """A token that is rejected before any subscription was accepted ends the run."""
    scripts(client, answer(REJECTED), answer(PRIVATE, DATA))
    argv = ["openOrders", "-rqC1", "--reconnect", "0", "--token-command", COUNTED]
    words = request_failed("ESession:Invalid session")
    assert client.run(*argv) == (1, f"{REJECTED}\n", words)


@pytest.mark.parametrize("options", [[], ["--token-file", "WS_Token"]], ids=["default", "option"])
def test_token_of_a_file_rejected(client: Client, options: list[str]) -> None:
    """A token of a file that is rejected at a reconnect ends the run: nothing brings another."""
    scripts(client, closing(PRIVATE, DATA), answer(REJECTED))
    status, out, err = client.run("openOrders", "-rqC2", "--reconnect", "0", *options)
    assert (status, out) == (1, f"{DATA}\n{REJECTED}\n")
    assert lines(err)[2:] == [request_failed("ESession:Invalid session").rstrip()]


def test_session_ended(client: Client) -> None:
    """A session that ends while its subscription lives is a loss; with a file the next tells."""
    scripts(client, answer(PRIVATE, DATA, REJECTED), answer(REJECTED))
    status, _, err = client.run("openOrders", "-rqC2", "--reconnect", "0")
    why = "ESession:Invalid session"
    assert (status, lines(err)) == (
        1,
        [
            "Z " + messages_failed(why).rstrip(),
            "Connecting again in ",
            request_failed(why).rstrip(),
        ],
    )


def test_earlier_tokens(client: Client) -> None:
    """The tokens of earlier connections are masked too, in every spelling."""
    spelled = TOKEN.replace("/", r"\u002F").replace("=", r"\u003d")
    echo = f'[["{TOKEN}1","{TOKEN}2","{TOKEN}3","{spelled}1","{spelled}2"],"openOrders"]'
    scripts(client, *[closing(PRIVATE)] * 2, answer(PRIVATE, echo))
    argv = ["openOrders", "-rqC1", "--reconnect", "0", "--token-command", COUNTED]
    shown = '[["***","***","***","***","***"],"openOrders"]\n'
    assert client.run(*argv)[:2] == (0, shown)


def test_a_token_that_begins_another(client: Client) -> None:
    """Of a token that begins another, nothing of the longer one is left over."""
    command = f'echo run >> runs; echo "{TOKEN}$(grep -c . runs | tr 123 -A-)" | tr -d -'
    echo = f'["{TOKEN}A","{TOKEN}",0]'
    scripts(client, *[closing(PRIVATE)] * 2, answer(PRIVATE, echo))
    argv = ["openOrders", "-rqC1", "--reconnect", "0", "--token-command", command]
    assert client.run(*argv)[:2] == (0, '["***","***",0]\n')
    assert tokens(client) == [TOKEN, f"{TOKEN}A", TOKEN]


LOCKOUT = (
    r"Connecting again in 960\.0 seconds, at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, "
    r"for a lockout lasts as long as somebody keeps trying"
)


def command(pattern: str) -> str:
    """Return a token command that works at each y of PATTERN, fails at each n, and then works."""
    return (
        f'echo run >> runs; case "$(echo {pattern} | cut -c "$(grep -c . runs)")" in '
        f'n) exit 7;; *) echo "{TOKEN}";; esac'
    )


def private(
    client: Client, token_command: str, *scripts_: Callable[[Peer], None], losses: int = 4
) -> list[str]:
    """Run a private feed until it waits for the lockout's end; return what it said.

    Before that there are so many LOSSES: one, and three of the token.
    """
    set_clock(client, 0, most=60)  # the wait for the lockout's end doesn't pass
    scripts(client, *scripts_)
    argv = ["openOrders", "-q", "--reconnect", "0", "--token-command", token_command]
    process = client.start(*argv)
    out: list[str] = []
    waits = 0
    while waits < losses and "960" not in "".join(out):
        out += process.read_until("Connecting again").splitlines()
        waits += 1
    assert process.signal(signal.SIGTERM).end() == (0, "", "")
    assert re.fullmatch(LOCKOUT, out[-1])
    assert waits == losses
    return out


def runs(client: Client) -> int:
    """Return how often the token command was run."""
    return len((client.folder / "runs").read_text().split())


def test_three_failures(client: Client) -> None:
    """After three failures in a row the token command is left alone for 16 minutes, said once."""
    out = private(client, command("ynnn"), closing(PRIVATE))
    assert runs(client) == 4
    assert [line for line in out if "960" in line] == out[-1:]
    said = "WebSocket authentication token missing (--token-command ended with status 7)"
    assert [line for line in lines("\n".join(out)) if "missing" in line] == [f"Z {said}"] * 3
    assert out[-2].split()[0] == NOW
    assert ", at 2001-09-09T02:02:40Z, " in out[-1]


def test_three_rejections(client: Client) -> None:
    """A token that is rejected three times in a row counts like a command that failed."""
    private(client, COUNTED, closing(PRIVATE), *[answer(REJECTED)] * 3)
    assert len(client.exchange.received) == runs(client) == 4


def test_failures_and_rejections(client: Client) -> None:
    """Failures and rejections are counted together."""
    private(client, command("ynyn"), closing(PRIVATE), answer(REJECTED))
    assert (len(client.exchange.received), runs(client)) == (2, 4)


def test_session_ended_and_failures(client: Client) -> None:
    """A session that ended is the first rejection in a row."""
    private(client, command("ynn"), answer(PRIVATE, REJECTED), losses=3)
    assert runs(client) == 3


@pytest.mark.parametrize("words", ["EGeneral:Temporary lockout", "egeneral: temporary LOCKOUT"])
def test_lockouts(client: Client, words: str) -> None:
    """A lockout that the exchange reports counts as well."""
    private(client, COUNTED, closing(PRIVATE), *[answer(refused(words, ""))] * 3)
    assert runs(client) == 4


@pytest.mark.parametrize(("pattern", "lockouts"), [("ynnny", 1), ("ynnnny", 2)])
def test_after_a_lockout(client: Client, pattern: str, lockouts: int) -> None:
    """After 16 minutes the command is run again, and 16 minutes after each further failure."""
    set_clock(client, 0)
    scripts(client, closing(PRIVATE, DATA), answer(PRIVATE, DATA))
    argv = ["openOrders", "-rqC2", "--reconnect", "0", "--idle-timeout", "0"]
    status, out, err = client.run(*argv, "--token-command", command(pattern))
    assert (status, out, runs(client)) == (0, f"{DATA}\n{DATA}\n", len(pattern))
    assert len(re.findall(LOCKOUT, err)) == lockouts


def accept_and_close(peer: Peer) -> None:
    """Accept a subscription, and lose the connection."""
    closing(PRIVATE)(peer)


def greet_and_close(peer: Peer) -> None:
    """Lose the connection before there is a subscription."""
    peer.greet()
    peer.receive()
    peer.close(1001, "bye")


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(accept_and_close, id="and its token was accepted"),
        pytest.param(
            greet_and_close,
            id="and its token was not tried",
        ),
    ],
)
def test_a_success_between(client: Client, between: Callable[[Peer], None]) -> None:
    """Failures are in a row only where the command has not succeeded between them."""
    set_clock(client, 0)
    scripts(client, closing(PRIVATE), between, answer(PRIVATE, DATA))
    argv = ["openOrders", "-rqC1", "--reconnect", "0", "--idle-timeout", "0"]
    status, _, err = client.run(*argv, "--token-command", command("ynynny"))
    assert (status, runs(client), "lockout" in err) == (0, 6, False)


def test_file_missing_again_and_again(client: Client) -> None:
    """A token file that is missing locks nobody out: it is looked for as after any loss."""
    set_clock(client, 0)

    def script(peer: Peer) -> None:
        (client.folder / "WS_Token").unlink()
        closing(PRIVATE, DATA)(peer)

    client.exchange.script = script
    process = client.start(
        "openOrders", "--reconnect", "0", "--idle-timeout", "0", "--token-file", "WS_Token"
    )
    said = [process.read_until("Connecting again") for _ in range(5)]
    assert "token missing (WS_Token)" in said[-1]
    assert "960" not in "".join(said)
    client.exchange.script = answer(PRIVATE, "[1]")
    (client.folder / "WS_Token").write_text(TOKEN)
    process.read_until("[1]")
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def test_command_cannot_be_started(client: Client) -> None:
    """A token command that the system can't start at a loss is tried again."""
    client.patch(
        "import subprocess\ngetaddrinfo, run, calls = socket.getaddrinfo, subprocess.Popen, []\n"
        "def start(*words, **named):\n    calls.append(1)\n"
        "    if len(calls) == 2: raise OSError(11, 'no process')\n"
        "    return run(*words, **named)\nsubprocess.Popen = start"
    )
    scripts(client, closing(PRIVATE, DATA), answer(PRIVATE, DATA))
    argv = ["openOrders", "-rqC2", "--reconnect", "0.01", "--token-command", f"echo {TOKEN}"]
    assert client.run(*argv)[:2] == (0, f"{DATA}\n{DATA}\n")


def test_kraken_could_not_be_asked(client: Client) -> None:
    """A token command that ends with 75 could not ask Kraken: that leads to no lockout."""
    set_clock(client, 0)
    client.exchange.script = closing(PRIVATE, DATA)
    (client.folder / "status").write_text("0")
    token_command = f'echo "{TOKEN}"; exit "$(cat status)"'
    process = client.start(
        "openOrders", "--reconnect", "0", "--idle-timeout", "0", "--token-command", token_command
    )
    process.read_until(DATA)
    (client.folder / "status").write_text("75")
    process.read_until("ended with status 75")
    said = [process.read_until("Connecting again") for _ in range(5)]
    assert "960" not in "".join(said)
    client.exchange.script = answer(PRIVATE, "[1]")
    (client.folder / "status").write_text("0")
    process.read_until("[1]")
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_waiting(client: Client, number: signal.Signals) -> None:
    """The wait ends at once on a signal."""
    client.exchange.script = closing(SUBSCRIBED, DATA)
    process = client.start("ticker", "XBT/USD", "--reconnect", "1000")
    process.read_until("Connecting again")
    assert process.signal(number).end() == (0, "", "")


def test_time_limit_while_waiting(client: Client) -> None:
    """The wait ends at the time limit, which goes over all connections together."""
    client.exchange.script = closing(SUBSCRIBED, DATA)
    process = client.start("ticker", "XBT/USD", "--reconnect", "1000", "-C2")
    process.read_until("Connecting again")
    assert process.signal(signal.SIGALRM).end() == (124, "", "")


@pytest.mark.parametrize("reconnect", [0, 0.1, 0.5, 1, 2, 5])
def test_not_too_often(reconnect: float) -> None:
    """Three processes may share an address, whatever lives how long: 150 in ten minutes."""

    @functools.lru_cache(None)
    def most(delay: float | None, left: float) -> int:
        """Return how many connections there can be in the seconds left, after such a wait."""
        if left < 0:
            return 0
        waits = [(lived, next_delay(reconnect, delay, lived)) for lived in (0, STEADY_SECONDS)]
        return 1 + max(most(wait, left - lived - 0.8 * wait) for lived, wait in waits)

    delays: list[float | None] = [None]
    while len(delays) < 10:
        delays.append(next_delay(reconnect, delays[-1], 0))
    assert 3 * max(most(delay, 600) for delay in delays) < 150


def test_waits() -> None:
    """The wait doubles up to a minute, and begins again after a connection that lived long."""
    waits: list[float] = []
    for lived in [*[0] * 9, STEADY_SECONDS, 0]:
        waits.append(next_delay(0.5, waits[-1] if waits else None, lived))
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0.5, 1]
    assert next_delay(1000, 1000, 0) == 1000


def test_never_connected(client: Client) -> None:
    """Stopped without ever having had a connection, it has failed."""
    client.exchange.refusals = iter([Refusal(503)])
    process = client.start("ticker", "XBT/USD", "--reconnect", "1000")
    process.read_until("Connecting again")
    result = process.signal(signal.SIGTERM).end()
    assert result == (1, connection_failed("stopped by SIGTERM"), "")


def test_nobody_reads(client: Client) -> None:
    """A reader that goes away ends it, reconnecting or not."""
    client.exchange.script = answer(SUBSCRIBED, *[DATA] * 10_000)
    process = client.start("ticker", "XBT/USD", "--reconnect", "0")
    process.read_until(DATA)
    process.stop_reading()
    assert process.end() == (0, "", "")


def test_nobody_reads_of_losses(client: Client) -> None:
    """It doesn't dial on for a reader that has left while the exchange is down."""

    def leave(peer: Peer) -> None:
        client.barrier.wait()
        peer.sock.close()

    client.exchange.script = answer(SUBSCRIBED, DATA, then=leave)
    process = client.start("ticker", "XBT/USD", "--reconnect", "0.01")
    process.read_until(DATA)
    client.exchange.refusals = itertools.repeat(Refusal(503))
    process.stop_reading()
    client.barrier.wait()
    assert process.end() == (0, "", "")
