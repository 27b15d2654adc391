"""The README: every example in it is run, but for those that install something (.ci/run does)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.scripted import GREETING, Peer, Refusal, ScriptedExchange, answer, running
from conftest import PATIENCE, SCRIPT, TOKEN, Client, Process, Result, needs
from krakenws import FATE, STATUSES, TABLE, build_parser
from practice.account import Account
from practice.authority import Authority
from practice.common import compact
from practice.connection import Connection
from practice.credentials import API_KEY, API_SECRET, sign
from practice.exchange import Practice
from practice.server import Server
from tools.orders import Proof

ROOT = SCRIPT.parent
README = (ROOT / "README.md").read_text()
BLOCKS: dict[str, str] = dict(
    re.findall(r"^<!-- ([a-z-]+) -->\n```[a-z]+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
)
SUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
TRADE = '[337,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]'


class Shell(Client):
    """A directory with the client and a virtual environment, as the README leaves one."""

    def __init__(self, exchange: ScriptedExchange, folder: Path) -> None:
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
def shell(exchange: ScriptedExchange, tmp_path: Path) -> Iterator[Shell]:
    """Yield a shell, with a token in its directory; of a test that fails nothing lives on."""
    (tmp_path / "WS_Token").write_text(TOKEN)
    shell = Shell(exchange, tmp_path)
    yield shell
    for process in shell.processes:
        if process.process.poll() is None:
            end(process)


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


@pytest.mark.parametrize("name", ["complete-bash", "complete-zsh"])
def test_completion(name: str) -> None:
    """The completion has every name, and no other."""
    assert re.findall(r"\w+", BLOCKS[name].split('"')[1]) == list(TABLE)


@pytest.mark.parametrize("name", ["bash", pytest.param("zsh", marks=needs("zsh"))])
def test_tab(shell: Shell, name: str) -> None:
    """With this line in the file that it is meant for, Tab completes a name."""
    rest = "PS1='ready> '; krakenws() { echo \"<$*>\"; }\n"
    (shell.folder / f".{name}rc").write_text(BLOCKS[f"complete-{name}"] + rest)
    keyboard, terminal = os.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = shell.start(program=[name, "-i"], start_new_session=True, **streams)
    os.close(terminal)
    screen = b""
    for awaited, typed in ((b"ready> ", b"krakenws own\t\n"), (b"<ownTrades>", b"exit\n")):
        while awaited not in screen:
            screen += os.read(keyboard, 1000)
        os.write(keyboard, typed)
    process.end()
    os.close(keyboard)


def test_options() -> None:
    """The table of options has every option, and no other."""
    section = README[README.index("## Usage") : README.index("## The token")]
    [table] = re.findall(r"\| option \| does \|\n\|---\|---\|\n((?:\|.*\n)+?)\n", section)
    columns = " ".join(row.split("|")[1] for row in table.splitlines())
    options = {option for action in build_parser()._actions for option in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--?[\w-]+", columns)) == options


def test_statuses() -> None:
    """The list of exit statuses has every one."""
    assert list(map(int, re.findall(r"^- \*\*(\d+)\*\*: ", README, re.MULTILINE))) == list(STATUSES)


def test_links() -> None:
    """Every link within the page leads to one of its headings."""
    headings = re.findall(r"^##+ (.*)$", README, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors


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


@needs("jq")
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


def levels(*prices: int) -> list[list[str]]:
    """Return levels of a book."""
    return [[f"0.{price:05}", "0.00000500", "1616663113.939684"] for price in prices]


# A book that its update leaves as it is in Kraken's example of a checksum
BIDS = levels(5000, 4995, 4990, *range(4980, 4949, -5))
GONE = ["0.05001", "0.00000000", "1616663113.939684"]
BOOK = [
    [0, {"as": levels(5001, *range(5005, 5046, 5)), "bs": BIDS[1:]}, "book-10", "XBT/USD"],
    [0, {"a": [GONE, *levels(5050)]}, {"b": BIDS[:1], "c": "974947235"}, "book-10", "XBT/USD"],
]
HOLD = "checksums hold, 0 don't"


@needs("find", "gzip", "jq")
class TestRecorder:
    """The recorder, and the proof of what it has recorded."""

    @pytest.fixture
    def recorder(self, shell: Shell) -> Shell:
        """Return a shell with both scripts in its directory."""
        (shell.folder / "record.bash").write_text(
            BLOCKS["loop"].replace("--reconnect 1", "--reconnect 0")
        )
        (shell.folder / "check_books.py").write_text(BLOCKS["check-books"])
        return shell

    def record(self, shell: Shell, ending: Callable[[Peer], None], connections: int) -> Process:
        """Start the recorder, and return it when its last connection has brought the book.

        The connections before it end as ENDING says.
        """

        def script(peer: Peer) -> None:
            peer.greet()
            assert '"depth":1000}' in str(peer.receive())
            peer.send(SUBSCRIBED, *BOOK)
            peer.sync()
            if len(shell.exchange.received) < connections:
                return ending(peer)
            shell.barrier.wait()
            return peer.wait()

        shell.exchange.script = script
        process = shell.shell("exec bash record.bash")
        shell.barrier.wait()
        return process

    def check(self, shell: Shell) -> Result:
        """Run the README's command for it on what is recorded."""
        command, _ = sessions(BLOCKS["check"])[-1]
        return shell.shell(command.replace("/var/lib/krakenws/", "")).end()

    def test_losses(self, recorder: Shell) -> None:
        """Nothing is missing but between connections, where it is found, packed or not."""
        process = self.record(recorder, Peer.reset, connections=3)
        end(process)
        [file] = recorder.folder.glob("book-????-??-??.jsonl")
        times, messages = zip(*(line[1:-1].split(",", 1) for line in file.read_text().splitlines()))
        assert list(times) == sorted(times)
        assert list(messages) == [GREETING, SUBSCRIBED, *map(compact, BOOK)] * 3
        status, out, err = self.check(recorder)
        _, printed = sessions(BLOCKS["check"])[-1]
        assert (status, shape(out), err) == (0, shape(printed), "")
        recorder.shell("gzip book-*").end()
        assert self.check(recorder) == (0, out, "")

    def test_midnight(self, recorder: Shell) -> None:
        """A day has a file with a book of its own; the last day's is packed, an old one deleted."""
        recorder.stub("bin/sleep", "")
        recorder.stub(
            "bin/date",
            'now="2026-11-22 08:09:10"; [ -e later ] && now="2026-11-23 00:00:00"\n'
            'touch later; [ "$1" = +%F ] && echo "${now% *}" || echo "$now"',
        )
        run = f'echo "$$ $*" >> runs; exec "{sys.executable}" "$@"'
        recorder.stub(".venv/bin/python", run)

        def midnight(peer: Peer) -> None:
            process, words = (recorder.folder / "runs").read_text().split(maxsplit=1)
            assert " -W 57050 " in words
            os.kill(int(process), signal.SIGALRM)
            peer.wait()

        old = recorder.folder / "book-2026-01-01.jsonl.gz"
        old.touch()
        os.utime(old, (0, 0))
        self.record(recorder, midnight, connections=2).signal(signal.SIGTERM).end()
        files = sorted(file.name for file in recorder.folder.glob("book-*"))
        assert files == ["book-2026-11-22.jsonl.gz", "book-2026-11-23.jsonl"]
        status, out, err = self.check(recorder)
        assert (status, out.partition("; ")[2], err) == (0, f"2 {HOLD}\n", "")

    def test_broken(self, recorder: Shell) -> None:
        """Where nothing can be written, there are 15 seconds for every start."""

        def script(peer: Peer) -> None:
            while True:
                peer.send(GREETING)
                peer.receive(timeout=0.01)

        recorder.exchange.script = script
        recorder.stub("bin/jq", "exit 1")
        recorder.stub("bin/sleep", 'echo "asleep $1"')
        process = recorder.shell("exec bash record.bash")
        for _ in range(3):
            process.read_until("asleep 15\n")
        os.killpg(process.process.pid, signal.SIGTERM)
        asleep = 3 + process.end().out.count("asleep 15\n")
        assert 2 <= len(recorder.exchange.dialled) <= asleep + 1

    @pytest.mark.parametrize(
        ("old", "new", "status", "printed"),
        [
            ("", "", 0, f"1 gaps, 2.500 s; 2 {HOLD}"),
            ("[100.2,", f"[100.15,{GREETING}]\n[100.2,", 0, f"1 gaps, 2.500 s; 2 {HOLD}"),
            ('5"},"book-10","XBT/USD"]]\n', "", 0, f"1 gaps, 2.600 s; 1 {HOLD}"),
            ('["0.04990",', '["0.04991",', 1, "1 gaps, 2.500 s; 1 checksums hold, 1 don't"),
        ],
        ids=["a loss", "a status, and no loss", "half a line", "a wrong price"],
    )
    def test_check(self, recorder: Shell, old: str, new: str, status: int, printed: str) -> None:
        """What is wrong or missing is found."""
        lines = zip((100.0, 100.1, 100.2, 102.6, 102.7, 102.8), [GREETING, *map(compact, BOOK)] * 2)
        recording = "".join(f"[{time},{message}]\n" for time, message in lines)
        assert old in recording
        (recorder.folder / "book-1.jsonl").write_text(recording.replace(old, new, 1))
        result = self.check(recorder)
        assert (result.status, result.out.splitlines()[-1], result.err) == (status, printed, "")


@needs("systemd-analyze")
def test_unit(shell: Shell) -> None:
    """The commands put everything in its place, and systemd finds nothing wrong with the unit."""
    root = shell.folder / "root"
    root.mkdir()
    (shell.folder / "record.bash").write_text(BLOCKS["loop"])
    unit = BLOCKS["unit"].replace("/opt/", f"{root}/")
    (shell.folder / "krakenws-book.service").write_text(unit)
    shell.stub("bin/sudo", '[ "$1" = install ] && exec "$@" || echo "$*"')
    commands = re.sub("/opt/|/etc/systemd/system/", f"{root}/", BLOCKS["enable"])
    status, out, err = shell.shell(f"set -e; {commands}").end()
    assert (status, err) == (0, "")
    [user] = re.findall("^User=(.*)$", unit, re.MULTILINE)
    assert out.startswith(f"useradd --system {user}\n")
    assert out.endswith("systemctl enable --now krakenws-book\n")
    verify = ["systemd-analyze", "verify", str(root / "krakenws-book.service")]
    assert shell.start(program=verify).end() == (0, "", "")


Mishap = Callable[[Practice, dict[str, Any]], list[dict[str, Any]]]
FAILED = {"event": "addOrderStatus", "status": "error", "errorMessage": "EService:Unavailable"}
REFUSED = {**FAILED, "errorMessage": "EOrder:Insufficient funds"}
LIMIT = {"pair": "XBT/USD", "type": "buy", "ordertype": "limit", "price": "9000", "volume": "0.01"}


def carry_out(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and tell of it."""
    return Account.handle(practice.account, request)


def refuse(_practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place nothing, and say so."""
    return [REFUSED]


def fail(practice: Practice, _request: object) -> list[dict[str, Any]]:
    """Place another program's order only, and tell of no fate."""
    carry_out(practice, {**LIMIT, "event": "addOrder", "userref": "7"})
    return [FAILED]


def skip(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Lose a message of every feed."""
    for connection in practice.connections:
        for feed in connection.private.values():
            feed.sequence += 1
    return fail(practice, request)


def hush(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and tell of no fate."""
    carry_out(practice, request)
    return [FAILED]


def drop(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Place the order, and lose every connection."""
    for connection in [*practice.connections]:
        connection.end(connection.transport.reset)
    return carry_out(practice, request)


def delay(practice: Practice, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell of no fate, and place the order after the feed's next heartbeat."""
    (feed,) = (connection for connection in practice.connections if connection.private)

    def beat() -> None:
        Connection.beat(feed)
        if feed.outbox:
            carry_out(practice, request)

    feed.beat = beat  # type: ignore[method-assign]
    return [FAILED]


@contextlib.contextmanager
def befalling(exchange: ScriptedExchange, mishap: Mishap) -> Iterator[None]:
    """Be the practice exchange, on which a mishap befalls every order."""
    practice = Practice(token=TOKEN)
    carry_out(practice, {**LIMIT, "event": "addOrder"})  # another program's
    practice.account.handle = lambda request: mishap(practice, request)  # type: ignore[method-assign]
    with running(Server(practice, None)) as exchange.script:
        yield


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


@needs("jq")
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
    block = unhurried(BLOCKS["order"]).replace("limit price=9000", kind).replace("sleep 15", "")
    if mishap is fail:  # else news may come behind a heartbeat, and is waited for
        block = block.replace("now + 15", "now")
    with befalling(shell.exchange, mishap):
        result = shell.shell(f"set -euo pipefail\n{block}").end()
    assert (result.status, shape(result.out)) == (status, f"{said}\n")
    assert all(re.match(f"WebSocket |{FATE}", line) for line in result.err.splitlines())


@needs("jq")
def test_order_silence(shell: Shell) -> None:
    """After a silence what comes may be old: an order is not given up, but waited for anew."""
    block = unhurried(BLOCKS["order"]).replace("now + 15", "now", 1)
    with befalling(shell.exchange, delay):
        result = shell.shell(block.replace(".heard + 5", ".heard")).end()  # each second a silence
    assert (result.status, shape(result.out)) == (0, "accepted: ID\n")


@needs("jq")
def test_order_never_sent(shell: Shell) -> None:
    """Where there is no feed, no order is sent."""
    shell.exchange.refusals = iter([Refusal(503)])
    result = shell.shell(BLOCKS["order"]).end()
    assert (result.status, result.out) == (1, "never sent\n")
    assert shell.exchange.received == []


@needs("jq")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_order_interrupted(shell: Shell, number: signal.Signals) -> None:
    """Ctrl-C leaves nothing running and says nothing that isn't so."""
    with befalling(shell.exchange, fail):
        process = shell.shell(f"set -euo pipefail\nexec 2>&1\n{unhurried(BLOCKS['order'])}")
        process.read_until(FATE)
        os.killpg(process.process.pid, number)
        assert process.end().out == ""  # which is all: nobody has this pipe any more


def test_ctrl_c(shell: Shell) -> None:
    """With the trap that the page tells of, Ctrl-C ends a script before its next order."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.wait()

    shell.exchange.script = script
    [trap] = re.findall(r"`(trap .*)`", README)
    process = shell.shell(f"{trap}\nuntil ./krakenws.py -W 0 addOrder pair=XBT/USD; do :; done")
    process.read_until("Client -> WebSocket: ")
    os.killpg(process.process.pid, signal.SIGINT)
    assert process.end().status == 130


@needs("jq")
def test_orders_at_once(authority: Authority) -> None:
    """Orders at the same time, whose replies are lost, are told apart."""
    outcomes = Proof(authority, "lost-reply").run(orders=3, at_once=3)
    assert all(outcome.right and outcome.word != "not known" for outcome in outcomes)


@pytest.fixture
def switch(shell: Shell) -> Shell:
    """Return a shell in which the dead man's switch has its tokens."""
    (shell.folder / "kraken_token.bash").write_text(f"kraken_token() {{ echo '{TOKEN}'; }}")
    return shell


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_switch(switch: Shell, number: signal.Signals) -> None:
    """The dead man's switch is armed, and disarmed at once when it is to end."""
    switch.stub("bin/sleep", "echo asleep; exec /bin/sleep 3600")
    process = switch.shell(BLOCKS["switch"])
    out = process.read_until("asleep")
    _, rest, err = process.signal(number).end()
    assert err == ""
    timeouts = [json.loads(text)["timeout"] for text in switch.exchange.received]
    assert timeouts == [60, 0]
    assert (out + rest).count('"status":"ok"') == 2


def test_switch_in_flight(switch: Shell) -> None:
    """It is disarmed at once also while it is being armed, and not armed again behind that."""

    def script(peer: Peer) -> None:
        peer.greet()
        if json.loads(peer.receive() or "")["timeout"] == 60:
            switch.barrier.wait()
            peer.wait()
        peer.send({"event": "cancelAllOrdersAfterStatus", "status": "ok"})
        peer.wait()

    switch.exchange.script = script
    process = switch.shell(BLOCKS["switch"].replace("-W 10", "-W 0 --idle-timeout 0"))
    switch.barrier.wait()
    assert process.signal(signal.SIGTERM).end().status == 0
    assert [json.loads(text)["timeout"] for text in switch.exchange.received] == [60, 0]


def test_switch_again(switch: Shell) -> None:
    """The switch is tried again every 20 s, and armed as soon as the exchange is there."""
    switch.exchange.refusals = iter([Refusal(503)] * 2)
    switch.stub("bin/sleep", 'echo "asleep $1"')
    process = switch.shell(BLOCKS["switch"])
    assert process.read_until('"status":"ok"').count("asleep 20\n") == 2
    _, _, err = process.signal(signal.SIGTERM).end()
    assert err.splitlines()[:2] == ["not armed again: 1"] * 2


def stream(peer: Peer) -> None:
    """Trade without a pause."""
    while True:
        peer.send(TRADE)
        peer.receive(timeout=0.01)


# What a loop feeds, as a stub that is broken until it is mended, and how many loops there are
KCAT = 'test -e mended || exit 1; IFS= read -r line; echo "$*: $line"'
REDIS = 'test -e mended || exit 1; echo "$*: $(cat)" >&2; echo 1'


@needs("grep", "xargs")
@pytest.mark.parametrize(
    ("name", "program", "stub", "loops"),
    [("queue", "kcat", KCAT, 2), ("redis", "redis-cli", REDIS, 1)],
    ids=["queue", "redis"],
)
def test_broken(shell: Shell, name: str, program: str, stub: str, loops: int) -> None:
    """A loop keeps far from the limit when what it feeds is broken, and goes on once it is not."""
    shell.exchange.script = answer(SUBSCRIBED, then=stream)
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
    assert again / asleep < 0.67 * 150 / 600  # the limit is 150 connections in ten minutes


@needs("kcat", "xargs")
def test_queue(shell: Shell) -> None:
    """Each group of pairs has a process, and each message goes to the queue.

    Kafka is librdkafka's own test broker, which lives in a kcat while its stdin is open.
    """
    shell.exchange.script = answer(SUBSCRIBED, *[TRADE] * 20)  # kcat 1.7 waits for a kilobyte
    kafka = ["kcat", "-P", "-b", "mock", "-t", "none", "-X", "test.mock.num.brokers=1"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    broker = shell.start(program=kafka, start_new_session=True, **streams)
    address = broker.read_until("Mock cluster enabled").split()[-1]
    shell.stub("bin/kcat", f'exec {shutil.which("kcat")} "$@" -b {address}')
    process = shell.shell(BLOCKS["queue"])
    consumer = shell.shell("kcat -C -t trades -c 20")
    assert consumer.end().out == f"{TRADE}\n" * 20
    end(process)
    broker.end()
    pairs = sorted(json.loads(text)["pair"] for text in shell.exchange.received)
    assert pairs == [["ETH/USD", "ETH/EUR"], ["XBT/USD", "XBT/EUR"]]


@needs("grep", "redis-cli", "redis-server")
def test_redis(shell: Shell) -> None:
    """Each message is pushed whole, and once."""
    other = TRADE.replace("5541", "5542")
    shell.exchange.script = answer(SUBSCRIBED, TRADE, other)
    redis = ["redis-server", "--port", "0", "--unixsocket", "redis", "--save", ""]
    server = shell.start(program=redis, start_new_session=True)
    server.read_until("accept connections")
    client = shutil.which("redis-cli")
    shell.stub("bin/redis-cli", f'exec {client} -s "$HOME/redis" "$@"')
    process = shell.shell(BLOCKS["redis"])
    for message in (TRADE, other):
        popped = shell.shell(f"redis-cli BLPOP trades {PATIENCE}").end().out
        assert popped == f"trades\n{message}\n"
    end(process)
    server.signal(signal.SIGTERM).end()


@needs("ts")
def test_ts(shell: Shell) -> None:
    """Each message gets its time at once."""
    shell.exchange.script = answer(SUBSCRIBED, TRADE)
    process = shell.shell(BLOCKS["ts"])
    time, _, message = process.read_until(TRADE).partition(" ")
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z", time)
    assert message == f"{TRADE}\n"
    end(process)


@needs("jq")
def test_received(shell: Shell) -> None:
    """Each message gets its time at once, and stays as it came."""
    message = '[337,[["5541.20","0.10"],18446744073709551615,1.50],"trade","XBT/USD"]'
    shell.exchange.script = answer(SUBSCRIBED, message)
    process = shell.shell(BLOCKS["received"])
    time, _, rest = process.read_until("trade").partition(",")
    assert time.startswith("[")
    assert float(time[1:]) > 1.7e9
    assert rest == f"{message}]\n"
    end(process)


@needs("curl", "grep", "openssl")
class TestFreshToken:
    """The functions that get a token."""

    FUNCTIONS = BLOCKS["fresh-token"]

    @pytest.fixture
    def keys(self, shell: Shell) -> Shell:
        """Return a shell with the practice account's key and secret, and its REST host."""
        (shell.folder / "kraken_token.bash").write_text(self.FUNCTIONS)
        (shell.folder / "api_key").write_text(f"{API_KEY}\n")
        (shell.folder / "api_secret").write_text(f"{API_SECRET}\n")
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


@needs("jq")
def test_evening(shell: Shell) -> None:
    """The first evening on the practice exchange goes as it is told."""
    (shell.folder / "WS_Token").unlink()
    rest = sessions(BLOCKS["evening"])
    while rest:  # a shell on the exchange, what is typed there, and exit
        (start, _), *rest = rest
        end = [command for command, _ in rest].index("exit")
        inside, (_, left), rest = rest[:end], rest[end], rest[end + 1 :]
        (shell.folder / "inside").write_text("".join(f"{command}\n" for command, _ in inside))
        with (shell.folder / "inside").open() as stdin:
            command = ["bash", "-c", f"{start} 2>&1"]
            out = shell.start(program=command, stdin=stdin).end().out
        notice = out.splitlines()[:4]
        shown = out.splitlines(keepends=True)[4:]
        assert "WS_Token.example" in notice[2]
        assert shape("".join(shown)) == shape("".join(printed for _, printed in inside) + left)
    assert FATE in out
