"""The README: every example in it is run. Those that install something are run by .ci/run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from client.scripted import Peer, answer
from conftest import PATIENCE, needs
from examples_tests.common import wait_until
from krakenws import FATE, STATUSES, TABLE, build_parser
from pages.common import (
    ROOT,
    SUBSCRIBED,
    TRADE,
    Shell,
    end,
    practise,
    read_blocks,
    sessions,
    shape,
)

README = (ROOT / "README.md").read_text()
BLOCKS = read_blocks(README)
LEFT = "You have left the practice exchange.\n"
EXAMPLES_PAGE = (ROOT / "tests" / "examples" / "README.md").read_text()


def test_every_example_is_run() -> None:
    """No block of code is without a name, and none without a test."""
    assert README.count("\n```") == 2 * len(BLOCKS)
    source = Path(__file__).read_text()
    assert [name for name in BLOCKS if f'"{name}"' not in source] == []


def test_length() -> None:
    """The front page is short enough to be read."""
    assert len(README.splitlines()) <= 300


def test_names() -> None:
    """The table of names has every name of the client's table, and no other."""
    [table] = re.findall(r"\| name \| what \| host \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", README)
    columns = [row.split("|")[1] for row in table.splitlines()]
    assert sorted(re.findall(r"`(\w+)`", "".join(columns))) == sorted(TABLE)


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


def test_install() -> None:
    """Each way to install is tried by .ci/run, or by .ci/debian with the very packages."""
    [table] = re.findall(
        r"\| with \| type \| you need \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", README
    )
    run = re.sub(r'"\$work/tools/bin/(\w+)"|-q ', r"\1", (ROOT / ".ci" / "run").read_text())
    for command in re.findall("`((?:uv|pipx) (?:run|install) [^` ]+)", table):
        assert command in run
    debian = (ROOT / ".ci" / "debian").read_text()
    for command in [*re.findall("`sudo apt install (python3-w[^`]*)`", table), BLOCKS["debian"]]:
        for package in re.findall("python3-[a-z0-9]+", command):
            assert package in debian


def test_transcript(shell: Shell) -> None:
    """The transcript is what happens."""
    for command, printed in sessions(BLOCKS["transcript"]):
        status, out, err = shell.shell(command).end()
        assert (status, err) == (0, "")
        assert shape(out) == shape(printed)


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


@pytest.mark.parametrize("name", ["run", "debian"])
def test_run(shell: Shell, name: str) -> None:
    """The first commands stream a market, once everything is installed."""
    *_, command = re.split("&&|\n", BLOCKS[name].strip())
    process = shell.shell(f"exec {command}")
    process.read_until('"ticker","XBT/USD"]')
    end(process)


@pytest.mark.parametrize("command", BLOCKS["usage"].splitlines())
def test_usage(shell: Shell, command: str) -> None:
    """Each example is understood and answered, if only by a rejection."""
    process = shell.shell(f"exec {command}")
    process.read_until("Client -> WebSocket: ")
    assert process.read_until("WebSocket -> Client: ")
    assert shell.exchange.received
    end(process)


def test_market(shell: Shell) -> None:
    """The first quick start answers, streams, prints one message and a book, and fills a file."""
    ping, stream, one, book, record, _ = BLOCKS["market"].splitlines()
    assert '"event":"pong"' in shell.shell(ping).end().out
    process = shell.shell(f"exec {stream}")
    for pair in ("XBT/USD", "ETH/EUR"):
        process.read_until(f'"ticker","{pair}"]')
    end(process)
    (message,) = shell.shell(one).end().out.splitlines()
    assert json.loads(message)[2:] == ["ticker", "XBT/USD"]
    (message,) = shell.shell(book).end().out.splitlines()
    assert [len(json.loads(message)[1][side]) for side in ("as", "bs")] == [25, 25]
    process = shell.shell(f"exec {record}")
    trades = shell.folder / "trades.jsonl"
    wait_until(lambda: trades.exists() and trades.read_text().endswith('"trade","XBT/USD"]\n'))
    end(process)


@needs("jq")
def test_last_price(shell: Shell) -> None:
    """The one-liner prints one price."""
    status, out, err = shell.shell(BLOCKS["market"].splitlines()[-1]).end()
    assert (status, err) == (0, "")
    assert re.fullmatch(r"[0-9]+\.[0-9]+\n", out)


def test_account(shell: Shell) -> None:
    """The second quick start goes on the practice exchange as it is shown."""
    (shell.folder / "WS_Token").unlink()
    [start] = re.findall(r"`(python3 tests/exchange.py bash)` starts a shell", README)
    [copy] = re.findall(r"`(cp -i [^`]*)`", README)
    steps = BLOCKS["account"]
    practise(shell, f"$ {start}\n$ {copy}\n{steps}$ exit\n{LEFT}")


def test_evening(shell: Shell) -> None:
    """The example of the practice exchange goes as it is shown."""
    (shell.folder / "WS_Token").unlink()
    assert FATE in practise(shell, BLOCKS["evening"])


def test_test() -> None:
    """The test command is the one that .ci/run looks for."""
    assert BLOCKS["test"].strip().endswith(" -m pytest")


@pytest.mark.parametrize("name", ["place", "switch", "token-command", "record"])
def test_programs(name: str) -> None:
    """The commands of each program are those on its own page, where they are run."""
    for command in BLOCKS[name].splitlines():
        assert f"{command}\n" in EXAMPLES_PAGE.replace("$ ", "")


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
