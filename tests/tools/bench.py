#!/usr/bin/env python3
"""The client's speed beside that of others. Not a test: nothing is asserted.

    python tests/tools/bench.py [--runs 5] [--beside OLD_KRAKENWS]

prints one table: medians of several runs, the clients in turns, all against the same local exchange
over TLS, with stdout into a pipe that is read as fast as it comes. A client that can't be measured
is a row that says so. "defaults" is the least that one can write with
websocket-client and its defaults, which is also what the original does.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests' rooms are

from client.scripted import CHUNK, Peer, Script, ScriptedExchange, frame, running
from practice.authority import Authority
from practice.credentials import PRACTICE_TOKEN
from practice.exchange import Practice
from practice.market import BookFeed, Feed, Market
from practice.server import Server
from tools.soak import peak

SCRIPT = Path(__file__).parents[2] / "krakenws.py"
URL = "wss://ws.kraken.com/"
ACCEPTED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
PORT = "PORT"  # stands in a command for the exchange's port
# It can't use a proxy; these options lead it to the exchange
WEBSOCAT = ["websocat", "-tB1000000", f"--ws-c-uri={URL}", "--tls-domain=ws.kraken.com"]
LAST = '{"event":"the last one"}'
DEFAULTS = f"""
from websocket import create_connection
ws = create_connection("{URL}")
while message := ws.recv():
    print(message)
"""

PING = f"""
from websocket import create_connection
ws = create_connection("{URL}")
print(ws.recv())
ws.send('{{"event":"ping"}}')
print(ws.recv())
ws.close()
"""


def clients(other: str | None) -> dict[str, list[str]]:
    """Return the clients that are installed, by name, as commands that print what they receive."""
    python = sys.executable
    beside = Path(python).parent
    ours = ["-r", "ticker", "XBT/USD"]
    found = {
        "krakenws -r": [python, str(SCRIPT), *ours],
        **({f"{other} -r": [python, other, *ours]} if other else {}),
        "defaults": [python, "-c", DEFAULTS],
        "wsdump -r": [str(beside / "wsdump"), "-r", URL],
        "python -m websockets": [python, "-m", "websockets", URL],
        "websocat": [*WEBSOCAT, "-", f"ws-c:ssl-connect:tcp:127.0.0.1:{PORT}"],
        "wscat": ["wscat", "--proxy", f"http://127.0.0.1:{PORT}", "-c", URL],
    }
    return {name: command for name, command in found.items() if shutil.which(command[0])}


class Direct(ScriptedExchange):
    """An exchange without a proxy before it."""

    def tunnel(self, _sock: socket.socket) -> str:
        """Return the host that every client is led to."""
        return URL.split("/")[2]


class EndedEarly(Exception):
    """A client did not print every message. The text says how it ended."""


class Measurement(NamedTuple):
    """What was measured of one run."""

    start: float  # seconds from the start to the first line
    flow: float  # seconds from there to the last line
    cpu: float  # seconds, from the start to the end
    peak: float  # MiB


def flood(message: bytes, count: int) -> Script:
    """Return a script that sends a frame COUNT times."""
    batch = max(1, CHUNK // len(message))

    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(ACCEPTED)
        for _ in range(count // batch):
            peer.sock.sendall(message * batch)
        peer.send(LAST)
        peer.close()

    return script


def measure(exchange: ScriptedExchange, command: Sequence[str]) -> Measurement:
    """Run a client until it has printed the last message."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    with subprocess.Popen(
        [word.replace(PORT, str(exchange.server_address[1])) for word in command],
        env=exchange.environment(),
        stdin=subprocess.PIPE,  # left open: some clients end when their input ends
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        output, first = b"", 0.0
        while LAST.encode() not in output:
            data = os.read(process.stdout.fileno(), CHUNK)
            if not data:
                raise EndedEarly(f"status {process.wait()}")
            first = first or time.perf_counter()
            output = output[-len(LAST) :] + data
        last = time.perf_counter()
        most = peak(process.pid) / 1024
        process.kill()
    return Measurement(first - begin, last - first, cpu_since(before), most)


def elapsed(
    command: Sequence[str], environment: dict[str, str], folder: Path
) -> tuple[float, float]:
    """Return how many seconds a command takes, and how many of them of the CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    null = subprocess.DEVNULL
    subprocess.run(command, env=environment, cwd=folder, stdout=null, stderr=null, check=False)
    return time.perf_counter() - begin, cpu_since(before)


def cpu_since(before: resource.struct_rusage) -> float:
    """Return the seconds of CPU that children have taken since."""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(
    authority: Authority, found: dict[str, list[str]], message: bytes, count: int, runs: int
) -> dict[str, Measurement | str]:
    """Return for each client the medians of its runs, taken in turns, or why there are none."""
    taken: dict[str, list[Measurement]] = {name: [] for name in found}
    failed: dict[str, Measurement | str] = {}
    for _ in range(runs):
        for name in [name for name in found if name not in failed]:
            kind = Direct if name == "websocat" else ScriptedExchange
            with kind(authority, flood(message, count)) as exchange:
                try:
                    taken[name].append(measure(exchange, found[name]))
                except EndedEarly as end:
                    failed[name] = f"not measured: it ended early, with {end}"
    medians = {
        name: Measurement(*map(statistics.median, zip(*each)))
        for name, each in taken.items()
        if each
    }
    return {**medians, **failed}


def show(title: str, count: int, results: dict[str, Measurement | str]) -> None:
    """Print a part of the table."""
    print(f"\n| {title} | messages/s | ratio | CPU \u00b5s/message | first line ms | peak MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    base = results["defaults"]
    assert isinstance(base, Measurement)
    for name, run in results.items():
        if isinstance(run, str):
            print(f"| {name} | {run} |")
            continue
        row = [
            f"{count / run.flow:,.0f}",
            f"{base.flow / run.flow:.1f}",
            f"{run.cpu / count * 1e6:,.0f}",
            f"{run.start * 1000:.0f}",
            f"{run.peak:.0f}",
        ]
        print(f"| {name} | {' | '.join(row)} |")


def show_times(authority: Authority, folder: Path, other: str | None, runs: int) -> None:
    """Print how long the shortest things take, start and end included."""
    (folder / "WS_Token").write_text(PRACTICE_TOKEN)
    python = [sys.executable]
    order = "addOrder pair=XBT/USD type=buy ordertype=limit price=9000 volume=0.01"
    cases = {
        "python -c pass": [*python, "-c", "pass"],
        "python -c 'import websocket'": [*python, "-c", "import websocket"],
        "defaults, a ping": [*python, "-c", PING],
    }
    for name, script in {"krakenws": str(SCRIPT), **({other: other} if other else {})}.items():
        cases[f"{name} --version"] = [*python, script, "--version"]
        cases[f"{name} -C 1 ping"] = [*python, script, "-C1", "ping"]
        cases[f"{name} -C 1 addOrder"] = [*python, script, "-C1", *order.split()]
    with (
        running(Server(Practice(), None)) as server,
        ScriptedExchange(authority, server) as exchange,
    ):
        environment = exchange.environment()
        refused = {**environment, "https_proxy": "http://127.0.0.1:9"}
        taken: dict[str, list[tuple[float, float]]] = {}
        for _ in range(4 * runs):
            for name, command in cases.items():
                taken.setdefault(name, []).append(elapsed(command, environment, folder))
                if "ping" in name:
                    times = elapsed(command, refused, folder)
                    taken.setdefault(f"{name}, connection refused", []).append(times)
    print("\n| whole command | ms | CPU ms |\n|---|---:|---:|")
    for name, each in taken.items():
        whole, cpu = map(statistics.median, zip(*each))
        print(f"| `{name}` | {whole * 1000:.0f} | {cpu * 1000:.0f} |")


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Measure the client beside others.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--snapshots", type=int, default=500)
    parser.add_argument("--beside", metavar="FILE", help="another krakenws.py, to compare with")
    options = parser.parse_args()
    book = Market().books["XBT/USD"]
    small, large = (
        frame(Feed("ticker", book).opening()[0]),
        frame(BookFeed("book", book, 1000).opening()[0]),
    )
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        for title, message, count in (
            (f"ticker, {len(small)} bytes", small, options.messages),
            (f"book-1000 snapshot, {len(large):,} bytes", large, options.snapshots),
        ):
            found = clients(options.beside)
            show(title, count, compare(authority, found, message, count, options.runs))
        show_times(authority, Path(folder), options.beside, options.runs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
