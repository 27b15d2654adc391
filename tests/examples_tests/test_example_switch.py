"""switch.bash: armed, disarmed at once, and patient where the key is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import pytest

from client.scripted import Peer, Refusal
from conftest import PATIENCE, SCRIPT, TOKEN, Client, Process
from examples_tests.common import EXAMPLES, stub
from practice.credentials import API_KEY, API_SECRET

ASLEEP = 'echo "asleep $1"'
FOR_EVER = f"{ASLEEP}; exec /bin/sleep 3600"


class Switch:
    """The switch in a folder of its own, with krakenws.py and a program for tokens beside it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        folder = client.folder
        (folder / "WS_Token").unlink()
        self.script = folder / "switch.bash"
        shutil.copy(str(EXAMPLES / "switch.bash"), str(self.script))
        (folder / "krakenws.py").symlink_to(SCRIPT)
        for name in ("python", "python3"):
            stub(folder / "bin" / name, f'exec "{sys.executable}" "$@"')
        client.environment["PATH"] = f"{folder}/bin:{client.environment['PATH']}"
        self.token(f"echo '{TOKEN}'")
        self.sleep(FOR_EVER)

    def token(self, command: str) -> None:
        """Let tokens come from a command."""
        stub(self.client.folder / "kraken_token.py", command)

    def sleep(self, command: str) -> None:
        """Let each sleep be a command."""
        stub(self.client.folder / "bin" / "sleep", command)

    def start(self, *words: str) -> Process:
        """Start the switch."""
        return self.client.start(*words, program=[str(self.script)])

    def timeouts(self) -> list[int]:
        """Return the timeouts that have reached the exchange."""
        return [json.loads(text)["timeout"] for text in self.client.exchange.received]


@pytest.fixture
def switch(client: Client) -> Switch:
    """Return a switch."""
    return Switch(client)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_switch(switch: Switch, number: signal.Signals) -> None:
    """It is armed, and a signal disarms it at once."""
    process = switch.start()
    out = process.read_until("asleep 20")
    status, rest, err = process.signal(number).end()
    assert (status, err) == (0, "")
    assert switch.timeouts() == [60, 0]
    assert (out + rest).count('"status":"ok"') == 2
    assert '"triggerTime":"0"' in rest


def test_real_token(switch: Switch) -> None:
    """With a key it has a fresh token each time."""
    (switch.client.folder / "kraken_token.py").unlink()
    (switch.client.folder / "kraken_token.py").symlink_to(EXAMPLES / "kraken_token.py")
    (switch.client.folder / "API_Public_Key").write_text(API_KEY)
    (switch.client.folder / "API_Private_Key").write_text(API_SECRET)
    process = switch.start()
    process.read_until("asleep")
    assert process.signal(signal.SIGTERM).end().status == 0
    tokens = [json.loads(text)["token"] for text in switch.client.exchange.received]
    assert len(set(tokens)) == 2


def test_in_flight(switch: Switch) -> None:
    """It is disarmed at once also while it is being armed, and not armed again behind that."""

    def script(peer: Peer) -> None:
        peer.greet()
        if json.loads(peer.receive() or "")["timeout"] == 60:
            switch.client.barrier.wait()
            peer.wait()
        peer.send({"event": "cancelAllOrdersAfterStatus", "status": "ok"})
        peer.wait()

    switch.client.exchange.script = script
    switch.script.write_text(switch.script.read_text().replace("-W 10", "-W 0 --idle-timeout 0"))
    process = switch.start()
    switch.client.barrier.wait()
    assert process.signal(signal.SIGTERM).end().status == 0
    assert switch.timeouts() == [60, 0]


def test_one_after_the_other(switch: Switch) -> None:
    """The request that disarms is made when the one that was under way has ended."""
    (switch.client.folder / "krakenws.py").unlink()
    client = """case $* in *=0) echo disarmed >> log; exit ;; esac
trap 'kill $!; /bin/sleep 0.3; echo ended >> log; exit' TERM
echo started
/bin/sleep 60 & wait"""
    stub(switch.client.folder / "krakenws.py", client)
    process = switch.start()
    process.read_until("started")
    process.signal(signal.SIGTERM)
    assert process.process.wait(PATIENCE) == 0
    assert (switch.client.folder / "log").read_text() == "ended\ndisarmed\n"


def test_impatient(switch: Switch) -> None:
    """While it is being disarmed, more Ctrl-C change nothing, neither for it nor for the client."""

    def script(peer: Peer) -> None:
        peer.greet()
        if json.loads(peer.receive() or "")["timeout"] == 0:
            switch.client.barrier.wait()
            switch.client.barrier.wait()
        peer.send({"event": "cancelAllOrdersAfterStatus", "status": "ok"})
        peer.wait()

    switch.client.exchange.script = script
    switch.script.write_text(switch.script.read_text().replace("-W 10", "-W 0"))
    process = switch.client.start(program=[str(switch.script)], start_new_session=True)
    process.read_until("asleep")
    os.killpg(process.process.pid, signal.SIGINT)
    switch.client.barrier.wait()
    os.killpg(process.process.pid, signal.SIGINT)
    process.signal(signal.SIGTERM)
    switch.client.barrier.wait()
    assert process.end().status == 0
    assert switch.timeouts() == [60, 0]


def test_no_connection(switch: Switch) -> None:
    """It tries again every 20 s, and is armed as soon as the exchange is there."""
    switch.client.exchange.refusals = iter([Refusal(503)] * 4)
    switch.sleep(ASLEEP)
    process = switch.start()
    assert process.read_until('"status":"ok"').count("asleep 20\n") == 4
    _, _, err = process.signal(signal.SIGTERM).end()
    assert err.count("Not armed again (status 1). Next try in 20 seconds\n") == 4
    assert "NOT ARMED" not in err


def test_kraken_out_of_reach(switch: Switch) -> None:
    """Where Kraken can't be asked for a token, it goes on trying every 20 s as well."""
    switch.token("exit 75")
    switch.sleep(f"{ASLEEP}; [ -e there ] && exec /bin/sleep 3600; exit 0")
    process = switch.start()
    for _ in range(5):
        assert process.read_until("asleep") == "asleep 20\n"
    switch.token(f"echo '{TOKEN}'")
    assert process.read_until('"status":"ok"')
    _, _, err = process.signal(signal.SIGTERM).end()
    assert "Not armed again (status 175). Next try in 20 seconds\n" in err
    assert "NOT ARMED" not in err


def test_lockout(switch: Switch) -> None:
    """When the key was refused three times, it tries again only every 16 minutes, and says so."""
    switch.token("exit 1")
    switch.sleep(f"{ASLEEP}; [ -e last ] && exec /bin/sleep 3600; [ $1 = 20 ] || touch last")
    process = switch.start()
    pauses = [process.read_until("asleep") for _ in range(4)]
    assert pauses == ["asleep 20\n", "asleep 20\n", "asleep 960\n", "asleep 960\n"]
    status, _, err = process.signal(signal.SIGTERM).end()
    assert status == 1
    first, second, third, fourth, end = err.splitlines()
    assert first == second == "Not armed again (status 101). Next try in 20 seconds"
    assert third.startswith("NOT ARMED: no token, 3 times.")
    assert fourth.startswith("NOT ARMED: no token, 4 times.")
    assert end == "Not disarmed: Kraken cancels the orders when the last minute is over"
    assert switch.timeouts() == []


def test_success_between(switch: Switch) -> None:
    """Only refusals in a row count: a success between them begins the count anew."""
    switch.token(f"echo x >> calls; [ $(wc -l < calls) = 3 ] && echo '{TOKEN}'")
    switch.sleep(f"{ASLEEP}; [ $(wc -l < calls) = 5 ] && exec /bin/sleep 3600; exit 0")
    process = switch.start()
    out = process.read_until('"status":"ok"')
    pauses = [process.read_until("asleep")[-10:] for _ in range(3)]
    assert out.count("asleep 20\n") == 2
    assert pauses == ["asleep 20\n"] * 3
    process.signal(signal.SIGTERM).end()


def test_not_disarmed(switch: Switch) -> None:
    """Where it can't be disarmed it says what follows, and the status is 1."""
    process = switch.start()
    process.read_until("asleep")
    switch.token("exit 75")
    status, _, err = process.signal(signal.SIGTERM).end()
    assert status == 1
    assert err == "Not disarmed: Kraken cancels the orders when the last minute is over\n"
    assert switch.timeouts() == [60]


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["-h"], 0), (["60"], 1)])
def test_help(switch: Switch, words: list[str], status: int) -> None:
    """The help is there, also for whoever types something else, and nothing is armed."""
    result = switch.start(*words).end()
    assert (result.status, result.err) == (status, "")
    assert result.out.startswith("A dead man's switch for the orders of a Kraken account.\n")
    assert "exit status" in result.out
    assert "#" not in result.out
    assert switch.timeouts() == []


def test_checkout(client: Client) -> None:
    """In the checkout it finds the client and the program for tokens."""
    (client.folder / "API_Public_Key").write_text("d3Jvbmc=")
    (client.folder / "API_Private_Key").write_text(API_SECRET)
    stub(client.folder / "bin" / "sleep", FOR_EVER)
    client.environment["PATH"] = f"{client.folder}/bin:{client.environment['PATH']}"
    process = client.start(program=[str(EXAMPLES / "switch.bash")])
    process.read_until("asleep")
    _, _, err = process.signal(signal.SIGTERM).end()
    assert err.startswith("No token: Kraken says EAPI:Invalid key\nNot armed again")


def test_no_client(switch: Switch) -> None:
    """Without krakenws.py there is a sentence."""
    (switch.client.folder / "krakenws.py").unlink()
    status, out, err = switch.start().end()
    assert (status, out) == (1, "")
    assert err.startswith("krakenws.py is neither in ")
