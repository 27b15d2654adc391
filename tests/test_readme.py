"""The README: every example in it is run, but for those that install something (.ci/run does)."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SCRIPT, TOKEN, Client, Process, answer
from exchange import Authority, Exchange, Peer, Refusal
from orders import Proof
from practice.account import Account
from practice.protocol import API_KEY, API_SECRET, Link, Practice, sign

from krakenws import (
    CONNECTIONS_SECONDS,
    MOST_CONNECTIONS,
    STATUSES,
    TABLE,
    UNKNOWN_FATE,
    build_parser,
)

ROOT = SCRIPT.parent
README = (ROOT / "README.md").read_text()
BLOCKS: dict[str, str] = dict(
    re.findall(r"^<!-- ([a-z-]+) -->\n```[a-z]+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
)
SUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
TRADE = '[337,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]'


class Shell(Client):
    """A directory with the client and a virtual environment, as the README leaves one."""

    def __init__(self, exchange: Exchange, folder: Path) -> None:
        super().__init__(exchange, folder)
        for name in ("krakenws.py", "tests", "WS_Token.example"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv" / "bin").mkdir(parents=True)
        for name in ("python", "python3"):
            self.stub(f".venv/bin/{name}", f'exec "{sys.executable}" "$@"')
        (folder / "bin").mkdir()
        self.environment["HOME"] = str(folder)
        path = f"{folder}/bin:{folder}/.venv/bin:{self.environment['PATH']}"
        self.environment["PATH"] = path

    def stub(self, name: str, command: str) -> None:
        """Put a program there that isn't on every machine."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    def shell(self, script: str) -> Process:
        """Start a script in Bash, in a process group of its own."""
        return self.start(program=["bash", "-c", script], start_new_session=True)


@pytest.fixture
def shell(exchange: Exchange, tmp_path: Path) -> Shell:
    """Return a shell, with a token in its directory."""
    (tmp_path / "WS_Token").write_text(TOKEN)
    return Shell(exchange, tmp_path)


def end(process: Process) -> None:
    """End a process and all that it has started, as Ctrl-C does."""
    os.killpg(process.process.pid, signal.SIGTERM)
    process.end()


def shape(text: str) -> str:
    """Return a text without what is another one each time: numbers, ids, the words for a loss."""
    text = re.sub(r"failed \([^{}]*?\)$", "failed (...)", text, flags=re.MULTILINE)
    text = re.sub(r"\b[OT][A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{6}\b", "ID", text)
    return re.sub(r"[0-9]+", "0", text)


def sessions(block: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what it printed."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2]))


def test_every_example_is_run() -> None:
    """No block of code is without a name, and none without a test."""
    assert README.count("\n```") == 2 * len(BLOCKS)
    source = Path(__file__).read_text() + (ROOT / ".ci" / "run").read_text()
    assert [name for name in BLOCKS if f'"{name}"' not in source] == []


def test_names() -> None:
    """The table of names has every name of the client's table, and no other."""
    [table] = re.findall(r"\| name \| what \| host \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", README)
    columns = [row.split("|")[1] for row in table.splitlines()]
    assert sorted(re.findall(r"`(\w+)`", "".join(columns))) == sorted(TABLE)


def test_options() -> None:
    """The table of options has every option, and no other."""
    before = README[: README.index("## The token")]
    [table] = re.findall(r"\| option \| does \|\n\|---\|---\|\n((?:\|.*\n)+?)\n", before)
    columns = " ".join(row.split("|")[1] for row in table.splitlines())
    options = {option for action in build_parser()._actions for option in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--?[\w-]+", columns)) == options


def test_statuses() -> None:
    """The table of exit statuses has every one."""
    assert set(map(int, re.findall(r"^\| (\d+) \|", README, re.MULTILINE))) == set(STATUSES)


def test_transcript(shell: Shell) -> None:
    """The transcript is what happens."""
    for command, printed in sessions(BLOCKS["transcript"]):
        status, out, err = shell.shell(command).end()
        assert (status, err) == (0, "")
        assert shape(out) == shape(printed)


@pytest.mark.parametrize("name", ["run", "live"])
def test_run(shell: Shell, name: str) -> None:
    """The first commands stream a market, once everything is installed."""
    *_, command = BLOCKS[name].split("&&")
    process = shell.shell(f"exec {command}")
    process.read_until('"ticker","XBT/USD"]')
    end(process)


def test_test() -> None:
    """The test command is the one that .ci/run looks for."""
    assert BLOCKS["test"].strip().endswith(" -m pytest")


@pytest.mark.parametrize("command", BLOCKS["usage"].splitlines())
def test_usage(shell: Shell, command: str) -> None:
    """Each example is understood and answered, if only by a refusal."""
    process = shell.shell(f"exec {command}")
    process.read_until("Client -> WebSocket: ")
    assert process.read_until("WebSocket -> Client: ")
    assert shell.exchange.received
    end(process)


def test_last_price(shell: Shell) -> None:
    """The one-liner prints one price."""
    status, out, err = shell.shell(BLOCKS["last-price"]).end()
    assert (status, err) == (0, "")
    assert re.fullmatch(r"[0-9]+\.[0-9]+\n", out)


def test_cron(shell: Shell) -> None:
    """The cron line appends one quote, in cron's shell and with cron's PATH."""
    (shell.folder / "krakenws").symlink_to(shell.folder)
    command = BLOCKS["cron"].split(maxsplit=5)[5]
    assert "%" not in command
    shell.environment["PATH"] = "/usr/bin:/bin"
    for number in (1, 2):
        assert shell.start(program=["/bin/sh", "-c", command]).end() == (0, "", "")
        lines = (shell.folder / "quotes.jsonl").read_text().splitlines()
        assert [json.loads(line)[2] for line in lines] == ["ticker"] * number
    assert (shell.folder / "quotes.err").read_text() == ""


@pytest.mark.parametrize("name", ["unit", "loop"])
def test_record(shell: Shell, name: str) -> None:
    """The service and the loop write a book into today's file, with no line lost."""

    def script(peer: Peer) -> None:
        peer.greet()
        shell.exchange.received.append(str(peer.receive()))
        peer.send(SUBSCRIBED, TRADE)
        peer.sync()
        shell.barrier.wait()
        peer.wait()

    shell.exchange.script = script
    command = BLOCKS[name]
    if name == "unit":
        [command] = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", command, re.MULTILINE)
        command = command.replace("%%", "%").replace("/opt/krakenws", str(shell.folder))
    process = shell.shell(command)
    shell.barrier.wait()
    os.killpg(process.process.pid, signal.SIGTERM)
    process.end()
    [file] = shell.folder.glob("book-????-??-??.jsonl")
    assert file.read_text().splitlines()[1:] == [SUBSCRIBED, TRADE]
    assert '"depth":1000}' in shell.exchange.received[0]


Mishap = Callable[[Practice, dict[str, Any]], list[dict[str, Any]]]
FAILED = {"event": "addOrderStatus", "status": "error", "errorMessage": "EService:Unavailable"}
REFUSED = {**FAILED, "errorMessage": "EOrder:Insufficient funds"}
LIMIT = {"pair": "XBT/USD", "type": "buy", "ordertype": "limit", "price": "9000", "volume": "0.01"}


def carry_out(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and tell of it."""
    return Account.answer(practice.account, request)


def refuse(_practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place nothing, and say so."""
    return [REFUSED]


def fail(practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place another program's order only, and tell of no fate."""
    carry_out(practice, {**LIMIT, "event": "addOrder", "userref": "7"})
    return [FAILED]


def skip(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Lose a message of every feed."""
    for link in practice.links:
        for feed in link.private.values():
            feed.sequence += 1
    return fail(practice, request)


def hush(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and tell of no fate."""
    carry_out(practice, request)
    return [FAILED]


def drop(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and lose every connection."""
    for link in practice.links:
        link.last = link.peer.reset
    return carry_out(practice, request)


def delay(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell of no fate, and place the order after the feed's next heartbeat."""
    (feed,) = (link for link in practice.links if link.private)

    def beat() -> None:
        Link.beat(feed)
        if feed.outbox:
            carry_out(practice, request)

    feed.beat = beat  # type: ignore[method-assign]
    return [FAILED]


def have(exchange: Exchange, mishap: Mishap) -> None:
    """Be the practice exchange, on which a mishap befalls every order."""
    practice = Practice(token=TOKEN)
    carry_out(practice, {**LIMIT, "event": "addOrder"})  # another program's
    practice.account.answer = lambda request: mishap(practice, request)  # type: ignore[method-assign]
    exchange.script = practice.script


def unhurried(block: str) -> str:
    """Return the order recipe with no limit that a slow machine could meet.

    Its token comes from a command, which must not read the feed.
    """
    for limit, new in (
        ("now + 5", "now + 50"),
        ("--idle-timeout 5", ""),
        ("./krakenws.py -r", "./krakenws.py -r -W 60 --token-command 'cat; cat WS_Token'"),
    ):
        assert block.count(limit) == 1
        block = block.replace(limit, new)
    return block


@pytest.mark.parametrize(
    ("mishap", "kind", "said", "status"),
    [
        (carry_out, "limit price=9000", "accepted: ID", 0),
        (refuse, "limit price=9000", "refused: EOrder:Insufficient funds", 1),
        (hush, "limit price=9000", "accepted: ID", 0),
        (hush, "market", "accepted: ID", 0),
        (fail, "limit price=9000", "never in effect", 1),
        (skip, "limit price=9000", "not known: look for userref 0", 3),
        (drop, "limit price=9000", "accepted: ID", 0),
        (drop, "market", "not known: look for userref 0", 3),
    ],
)
def test_order(shell: Shell, mishap: Mishap, kind: str, said: str, status: int) -> None:
    """Every fate of an order is told, by its reply or by what the feed says of it."""
    have(shell.exchange, mishap)
    block = unhurried(BLOCKS["order"]).replace("limit price=9000", kind)
    block = block.replace("now + 15", "now").replace("sleep 15", "")
    result = shell.shell(f"set -euo pipefail\n{block}").end()
    assert (result.status, shape(result.out)) == (status, f"{said}\n")
    assert all(re.match(f"WebSocket |{UNKNOWN_FATE}", line) for line in result.err.splitlines())


def test_order_silence(shell: Shell) -> None:
    """After a silence what comes may be old: an order is not given up, but waited for anew."""
    have(shell.exchange, delay)
    block = unhurried(BLOCKS["order"]).replace("now + 15", "now", 1)
    result = shell.shell(block.replace(".heard + 5", ".heard")).end()  # every second is a silence
    assert (result.status, shape(result.out)) == (0, "accepted: ID\n")


def test_order_never_sent(shell: Shell) -> None:
    """Where there is no feed, no order is sent."""
    shell.exchange.refusals = iter([Refusal(503)])
    result = shell.shell(BLOCKS["order"]).end()
    assert (result.status, result.out) == (1, "never sent\n")
    assert shell.exchange.received == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_order_interrupted(shell: Shell, number: signal.Signals) -> None:
    """Ctrl-C leaves nothing running and says nothing that isn't so."""
    have(shell.exchange, fail)
    process = shell.shell(f"set -euo pipefail\nexec 2>&1\n{unhurried(BLOCKS['order'])}")
    process.read_until(UNKNOWN_FATE)
    os.killpg(process.process.pid, number)
    assert process.end().out == ""  # which is all: nobody has this pipe any more


def test_orders_at_once(authority: Authority) -> None:
    """Orders at the same time, whose replies are lost, are told apart."""
    outcomes = Proof(authority, "lost-reply").run(orders=3, at_once=3)
    assert all(outcome.right and outcome.word != "not known" for outcome in outcomes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_switch(shell: Shell, number: signal.Signals) -> None:
    """The dead man's switch is armed, and disarmed at once when it is to end."""
    shell.exchange.script = Practice(token=TOKEN).script
    (shell.folder / "kraken_token.bash").write_text(f"kraken_token() {{ echo '{TOKEN}'; }}")
    shell.stub("bin/sleep", "echo asleep; exec /bin/sleep 3600")
    process = shell.shell(BLOCKS["switch"])
    out = process.read_until("asleep")
    _, rest, err = process.signal(number).end()
    assert err == ""
    timeouts = [json.loads(text)["timeout"] for text in shell.exchange.received]
    assert timeouts == [60, 0]
    assert (out + rest).count('"status":"ok"') == 2


def test_switch_again(shell: Shell) -> None:
    """The switch is tried again every 20 s, and armed as soon as the exchange is there."""
    shell.exchange.script = Practice(token=TOKEN).script
    shell.exchange.refusals = iter([Refusal(503)] * 2)
    (shell.folder / "kraken_token.bash").write_text(f"kraken_token() {{ echo '{TOKEN}'; }}")
    shell.stub("bin/sleep", 'echo "asleep $1"')
    process = shell.shell(BLOCKS["switch"])
    assert process.read_until('"status":"ok"').count("asleep 20\n") == 2
    _, _, err = process.signal(signal.SIGTERM).end()
    assert err.splitlines()[:2] == ["not armed again: 1"] * 2


def stream(peer: Peer) -> None:
    """Trade without a pause."""
    peer.greet()
    peer.receive()
    peer.send(SUBSCRIBED)
    while True:
        peer.send(TRADE)
        peer.receive(timeout=0.01)


# What a loop feeds, as a stub that is broken until it is mended, and how many loops there are
KCAT = 'test -e mended || exit 1; IFS= read -r line; echo "$*: $line"'
REDIS = 'test -e mended || exit 1; echo "$*: $(cat)" >&2; echo 1'


@pytest.mark.parametrize(
    ("name", "program", "stub", "loops"),
    [("queue", "kcat", KCAT, 2), ("redis", "redis-cli", REDIS, 1)],
    ids=["queue", "redis"],
)
def test_broken(shell: Shell, name: str, program: str, stub: str, loops: int) -> None:
    """A loop keeps far from the limit when what it feeds is broken, and goes on once it is not."""
    shell.exchange.script = stream
    shell.stub(f"bin/{program}", stub)
    shell.stub("bin/sleep", 'echo "asleep $1"')
    process = shell.shell(f"exec 2>&1\n{BLOCKS[name]}")
    out = "".join(process.read_until("asleep") for _ in range(10))
    (shell.folder / "mended").touch()
    out += process.read_until(TRADE)
    os.killpg(process.process.pid, signal.SIGTERM)
    out += process.end().out
    asleep = sum(map(int, re.findall("^asleep ([0-9]+)$", out, re.MULTILINE))) / loops
    again = len(shell.exchange.dialled) - loops
    assert again / asleep < 0.67 * MOST_CONNECTIONS / CONNECTIONS_SECONDS


def test_queue(shell: Shell) -> None:
    """Each group of pairs has a process, and each message goes to the queue."""
    shell.exchange.script = answer(SUBSCRIBED, TRADE)
    shell.stub("bin/kcat", 'IFS= read -r line; echo "$*: $line"')
    process = shell.shell(BLOCKS["queue"])
    for _ in range(2):
        assert process.read_until(TRADE) == f"-P -b localhost -t trades: {TRADE}\n"
    end(process)
    pairs = sorted(json.loads(text)["pair"] for text in shell.exchange.received)
    assert pairs == [["ETH/USD", "ETH/EUR"], ["XBT/USD", "XBT/EUR"]]


def test_redis(shell: Shell) -> None:
    """Each message is pushed whole, and once."""
    other = TRADE.replace("5541", "5542")
    shell.exchange.script = answer(SUBSCRIBED, TRADE, other)
    shell.stub("bin/redis-cli", 'echo "$*: $(cat)" >&2; echo 1')
    process = shell.shell(f"exec 2>&1\n{BLOCKS['redis']}")
    for message in (TRADE, other):
        assert process.read_until(message) == f"-x RPUSH trades: {message}\n"
    end(process)


def test_ts(shell: Shell) -> None:
    """Each message gets its time at once."""
    shell.exchange.script = answer(SUBSCRIBED, TRADE)
    shell.stub("bin/ts", 'while IFS= read -r line; do echo "$TZ $1 $line"; done')
    process = shell.shell(BLOCKS["ts"])
    assert process.read_until(TRADE) == f"UTC %FT%.TZ {TRADE}\n"
    end(process)


class TestFreshToken:
    """The functions that get a token."""

    FUNCTIONS = BLOCKS["fresh-token"]

    @pytest.fixture
    def keys(self, shell: Shell) -> Shell:
        """Return a shell with the practice account's key and secret, and its REST host."""
        (shell.folder / "kraken_token.bash").write_text(self.FUNCTIONS)
        (shell.folder / "api_key").write_text(f"{API_KEY}\n")
        (shell.folder / "api_secret").write_text(f"{API_SECRET}\n")
        practice = Practice(token=TOKEN)
        shell.exchange.script = practice.script
        shell.exchange.rest = practice.rest
        return shell

    def test_vector(self, shell: Shell) -> None:
        """The signature is the one that Kraken publishes for its example."""
        (shell.folder / "api_secret").write_text(
            "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
        )
        body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
        command = f"kraken_sign /0/private/AddOrder 1616492376594 '{body}'"
        assert shell.shell(self.FUNCTIONS + command).end().out.strip() == (
            "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
        )

    @pytest.mark.parametrize("secret", ["", "00", "ff" * 64, "00" * 3 + "80" * 61, "01" * 128])
    def test_secrets(self, shell: Shell, secret: str) -> None:
        """A secret may have any bytes, and up to a block of them."""
        encoded = base64.b64encode(bytes.fromhex(secret)).decode()
        (shell.folder / "api_secret").write_text(encoded)
        out = shell.shell(self.FUNCTIONS + "kraken_sign /path 12 nonce=12").end().out
        assert out.strip() == sign(encoded, "/path", "12", b"nonce=12")

    def test_fresh_token(self, keys: Shell) -> None:
        """A private feed is opened with a token that didn't exist before."""
        (keys.folder / "WS_Token").unlink()
        process = keys.shell(f"exec {BLOCKS['token-command']}")
        process.read_until('"status":"subscribed"')
        end(process)
        assert keys.exchange.dialled == ["api.kraken.com:443", "ws-auth.kraken.com:443"]

    def test_wrong_key(self, keys: Shell) -> None:
        """What the exchange says of a wrong key is on stderr, and the client says what follows."""
        (keys.folder / "api_key").write_text("wrong")
        status, out, err = keys.shell(BLOCKS["token-command"]).end()
        assert (status, err) == (1, '{"error":["EAPI:Invalid key"]}\n')
        assert "api.kraken.com:443" in keys.exchange.dialled
        (keys.folder / "api_secret").unlink()
        assert keys.shell(BLOCKS["token-command"].replace("--reconnect 1", "")).end().status == 1
        assert len(keys.exchange.dialled) == 1
        assert out.endswith("missing (--token-command ended with status 1)\n")


def test_evening(shell: Shell) -> None:
    """The first evening on the practice exchange goes as it is told."""
    (shell.folder / "WS_Token").unlink()
    rest = sessions(BLOCKS["evening"])
    while rest:  # a shell on the exchange, what is typed there, and exit
        (start, _), *rest = rest
        end = [command for command, _ in rest].index("exit")
        inside, rest = rest[:end], rest[end + 1 :]
        (shell.folder / "inside").write_text("".join(f"{command}\n" for command, _ in inside))
        with (shell.folder / "inside").open() as stdin:
            command = ["bash", "-c", f"{start} 2>&1"]
            out = shell.start(program=command, stdin=stdin).end().out
        notice, shown = out.splitlines(keepends=True)[:3], out.splitlines(keepends=True)[3:]
        assert "WS_Token.example" in notice[1]
        assert shape("".join(shown)) == shape("".join(printed for _, printed in inside))
    assert UNKNOWN_FATE in out
