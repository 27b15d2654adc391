"""The local exchange as a command, and the parts of it that no test of the client meets."""

from __future__ import annotations

import re
import runpy
import signal
import socket
import sys
from pathlib import Path

import pytest
from websockets.frames import Opcode

import exchange
from client import scripted
from conftest import SCRIPT, Client, Process
from practice.authority import Authority
from practice.replay import read_messages

COMMAND = [sys.executable, exchange.__file__, "--latency", "0"]
PYTHON = [sys.executable, "-c"]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        pytest.param([*PYTHON, "raise SystemExit(7)"], 7, id="its own"),
        pytest.param([*PYTHON, "import os; os.kill(os.getpid(), 9)"], 137, id="a signal's"),
        pytest.param(["--", *PYTHON, "raise SystemExit(7)"], 7, id="behind two dashes"),
        pytest.param([], 2, id="no command"),
        pytest.param(["--replay", "/nowhere", "true"], 2, id="no such recording"),
        pytest.param(["--replay", sys.executable, "true"], 2, id="a recording that is no text"),
        pytest.param(["--speed", "0", "true"], 2, id="no time"),
        pytest.param(["--latency", "-1", "true"], 2, id="answers before questions"),
        pytest.param(["/nowhere/nothing"], 127, id="no such command"),
    ],
)
def test_exit_status(command: list[str], status: int) -> None:
    """It ends with the command's exit status, as a shell has it."""
    assert Process([*COMMAND, *command]).end().status == status


def test_any_directory(tmp_path: Path) -> None:
    """The client under its default addresses reaches it, from any directory."""
    command = [*COMMAND, sys.executable, str(SCRIPT), "-rqC1", "ping", "reqid=5"]
    status, out, err = Process(command, cwd=tmp_path).end()
    assert (status, out) == (0, '{"event":"pong","reqid":5}\n')
    assert err.startswith(
        "This is the practice exchange: no real account and no real money. Seed 0, faults: none.\n"
        "Programs find it through https_proxy. A program that ignores https_proxy reaches the real"
        " exchange; --sealed prevents that.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals(number: signal.Signals) -> None:
    """SIGTERM and SIGHUP are passed on to the command."""
    process = Process([*COMMAND, sys.executable, str(SCRIPT), "ticker", "XBT/USD"])
    process.read_until('"ticker","XBT/USD"')
    assert process.signal(number).end().status == 0


def test_replay(tmp_path: Path) -> None:
    """A recording is played back to the byte, after the request."""
    lines = ['{ "a":"\\u00e9" }', "[1, 2]", "", "\u20bf\u2028x\r", "no JSON", "x" * 200_000, ""]
    recording = tmp_path / "recording"
    recording.write_bytes(("\n".join(lines) + "\n").encode())
    command = [*COMMAND, "--replay", str(recording), sys.executable, str(SCRIPT)]
    status, out, err = Process([*command, "-r", "ticker", "XBT/USD"]).end()
    assert status == 1
    assert out.split("\n")[1:] == [*lines, ""]
    assert err.startswith("WebSocket messages failed (1000 end of the recording)\n")


DIAL = "import websocket; websocket.create_connection('wss://{}', sslopt={{'context': None}})"


@pytest.mark.parametrize("address", ["example.com:443", "ws.kraken.com:80"])
def test_leads_nowhere_else(client: Client, address: str) -> None:
    """The proxy refuses every other host and port, and so does the tests' own."""
    program = [*PYTHON, DIAL.format(address)]
    for command in ([*COMMAND, *program], program):
        process = client.start(program=command).process
        assert "403" in process.communicate()[1].decode()
    assert client.exchange.dialled == [address]


def test_errors_are_kept(client: Client) -> None:
    """A script that fails is found out."""

    def script(_: scripted.Peer) -> None:
        raise ZeroDivisionError

    client.exchange.script = script
    assert client.run("ticker", "XBT/USD").status == 1
    assert [type(error) for error in client.exchange.errors] == [ZeroDivisionError]
    client.exchange.errors.clear()


def test_receive_takes_text_only(client: Client) -> None:
    """A client's pong is no message."""

    def script(peer: scripted.Peer) -> None:
        peer.greet()
        peer.sock.sendall(scripted.frame(b"", Opcode.PING))
        peer.receive()
        peer.send('{"event":"pong"}')
        peer.wait()

    client.exchange.script = script
    assert client.run("-rqC1", "ping").status == 0
    assert client.exchange.received == ['{"event":"ping"}']


def test_leaves_before_it_asks(client: Client) -> None:
    """A client that connects and goes again is nobody's fault."""
    with socket.create_connection(("127.0.0.1", client.exchange.server_address[1])):
        pass
    assert client.run("-rqC1", "ping").status == 0


def test_replay_of_the_recorder(tmp_path: Path) -> None:
    """Of what the README's recorder has written, the messages are played back."""
    lines = ['[337,{"a":[]},"ticker","XBT/USD"]', '[[{"b":{}}],"openOrders",{"sequence":1}]', "{}"]
    recording = tmp_path / "recording"
    recording.write_text("".join(f"[1795355691.006122,{line}]\n" for line in lines) + lines[0])
    assert read_messages(recording) == [*lines, lines[0]]


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what it needs isn't installed, a sentence says how that is mended."""
    monkeypatch.setitem(sys.modules, "practice.authority", None)
    with pytest.raises(SystemExit, match=re.escape(" -m pip install '.[practice]'")):
        runpy.run_path(exchange.__file__)


def test_pace(tmp_path: Path) -> None:
    """At its own pace a recording waits at each heartbeat, and a client may leave meanwhile."""
    recording = tmp_path / "recording"
    recording.write_text(f"[1]\n{scripted.HEARTBEAT}\n[2]\n{scripted.HEARTBEAT}\n[3]\n")
    client = ["--replay", str(recording), sys.executable, str(SCRIPT), "-rq", "ticker", "XBT/USD"]
    assert Process([*COMMAND, "--pace", "0.01", *client, "-C3"]).end().out == "[1]\n[2]\n[3]\n"
    assert Process([*COMMAND, "--pace", "3600", *client, "-C1"]).end().out == "[1]\n"


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--fault", "503"], 1, "WebSocket connection failed (HTTP 503 Service Unavailable)\n"),
        (["--fault", "429"], 1, "WebSocket connection failed (HTTP 429 Too Many Requests)\n"),
        (["--fault", "cloudflare=0"], 1, "1001 CloudFlare WebSocket proxy restarting)\n"),
        (["--fault", "nosuch"], 2, "no fault is called nosuch"),
        (["--fault", "drop=soon"], 2, "could not convert"),
    ],
)
def test_faults(options: list[str], status: int, words: str, tmp_path: Path) -> None:
    """Faults are switched on by name; a wrong one is a usage error."""
    command = [*COMMAND, *options, sys.executable, str(SCRIPT), "ticker", "XBT/USD"]
    result = Process(command, cwd=tmp_path).end()
    assert result.status == status
    assert words in result.out + result.err


def test_environment(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are told whom to trust, shells where they are; no other proxy is left."""
    monkeypatch.setenv("ALL_PROXY", "http://elsewhere")
    proxied, sealed = authority.environment(8080), authority.environment()
    assert {name for name in proxied if "proxy" in name.lower()} == {"https_proxy", "HTTPS_PROXY"}
    assert not [name for name in sealed if "proxy" in name.lower()]
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        assert proxied[name] == sealed[name] == str(authority.bundle)
    assert proxied["debian_chroot"] == "practice"
