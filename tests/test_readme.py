"""The README: every example in it is run, but for those that install something (.ci/run does)."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from conftest import SCRIPT, TOKEN, Client, Process, answer
from practice.protocol import API_KEY, API_SECRET, sign
from scripted import Exchange, Peer, Refusal

from krakenws import STATUSES, TABLE, UNKNOWN_FATE, build_parser

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


@pytest.mark.parametrize(
    ("reply", "words", "status"),
    [
        ('{"event":"addOrderStatus","status":"ok","txid":"OAAAAA"}', "accepted: OAAAAA", 0),
        (
            '{"event":"addOrderStatus","status":"error","errorMessage":"EOrder:Unknown position"}',
            "refused: EOrder:Unknown position",
            1,
        ),
        (None, "never sent", 1),
        ("", "unknown: look at openOrders before sending it again", 3),
    ],
)
def test_order(shell: Shell, reply: str | None, words: str, status: int) -> None:
    """The four fates of an order are told apart."""

    def lost(peer: Peer) -> None:
        peer.greet()
        peer.receive()
        peer.close(1001, "bye")

    shell.exchange.script = answer(reply) if reply else lost
    if reply is None:
        shell.exchange.refusals = iter([Refusal(503)])
    result = shell.shell(BLOCKS["order"]).end()
    assert (result.status, result.out) == (status, f"{words}\n")


def test_switch(shell: Shell) -> None:
    """The dead man's switch is armed again and again, and disarmed at the end."""
    (shell.folder / "kraken_token.bash").write_text(f"kraken_token() {{ echo '{TOKEN}'; }}")
    shell.stub("bin/sleep", 'echo asleep; kill -INT "$PPID"')
    process = shell.shell(BLOCKS["switch"])
    _, out, err = process.end()
    assert err == ""
    timeouts = [json.loads(text)["timeout"] for text in shell.exchange.received]
    assert timeouts == [60, 0]
    assert out.count('"status":"ok"') == 2


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
    """Each message is pushed whole."""
    shell.exchange.script = answer(SUBSCRIBED, TRADE)
    shell.stub("bin/redis-cli", 'echo "$*: $(cat)"')
    process = shell.shell(BLOCKS["redis"])
    assert process.read_until(TRADE) == f"-x RPUSH trades: {TRADE}\n"
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
        inside, (_, left), rest = rest[:end], rest[end], rest[end + 1 :]
        (shell.folder / "inside").write_text("".join(f"{command}\n" for command, _ in inside))
        with (shell.folder / "inside").open() as stdin:
            command = ["bash", "-c", f"{start} 2>&1"]
            out = shell.start(program=command, stdin=stdin).end().out
        notice = out.splitlines()[:3]
        shown = out.splitlines(keepends=True)[3:]
        assert "WS_Token.example" in notice[1]
        assert shape("".join(shown)) == shape("".join(printed for _, printed in inside) + left)
    assert UNKNOWN_FATE in out
