#!/usr/bin/env python3
"""Orders stopped at random moments, against the exchange's own log. Not a timed test.

    python tests/tools/stops.py [--orders 500] [--seed 0]

Each order is stopped by SIGTERM, SIGINT, SIGHUP, SIGALRM or a flood of them: some time after its
start, or around its connection, its greeting, its request or its reply, which may be an acceptance,
a refusal or none. A status of 0 says that it was accepted, one of 1 that it is not in effect, and
a death that nothing was sent: where the exchange knows better, that is a lie. It prints how often
each status met each truth, and ends with 1 where there was a lie or half a line.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests' rooms are

from client.scripted import Peer, ScriptedExchange
from practice.authority import Authority

SCRIPT = Path(__file__).parents[2] / "krakenws.py"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
FLOOD = 100  # signals
PATIENCE = 60  # seconds after which a client is considered hung
START_SECONDS, STEP_SECONDS = 0.4, 0.01  # longest delays after the start, and after other moments
MOMENTS = ("start", "connected", "greeted", "received", "answered")
REPLIES = {
    "accepted": '{"event":"addOrderStatus","status":"ok","txid":"OAAAAA-AAAAA-AAAAAA"}',
    "refused": '{"event":"addOrderStatus","status":"error","errorMessage":"EOrder:Invalid price"}',
    "unanswered": "",
}


def untraced(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which no coverage is measured.

    Its tracer takes a lock, and waits for ever where a signal's handler is traced meanwhile.
    """
    return {name: text for name, text in environment.items() if not name.startswith("COVERAGE_")}


class StoppedOrder:
    """One order, and what the exchange knows of it."""

    def __init__(self, chance: random.Random) -> None:
        self.moment = chance.choice(MOMENTS)
        longest = START_SECONDS if self.moment == "start" else STEP_SECONDS
        self.delay = chance.choice([0.0, chance.uniform(0, longest)])
        self.signals = chance.choices(SIGNALS, k=chance.choice([1, 2, FLOOD]))
        self.reply = chance.choice(list(REPLIES))
        self.truth = "never received"
        self.process: subprocess.Popen[str]
        self.started = threading.Event()

    def reach(self, moment: str) -> None:
        """Stop the client if this is the chosen moment."""
        if moment == self.moment:
            threading.Timer(self.delay, self.stop).start()

    def stop(self) -> None:
        """Send the signals."""
        self.started.wait()
        for number in self.signals:
            self.process.send_signal(number)

    def script(self, peer: Peer) -> None:
        """Play the exchange for one order."""
        self.reach("connected")
        peer.greet()
        self.reach("greeted")
        peer.receive()
        self.truth = "unanswered"
        self.reach("received")
        if REPLIES[self.reply]:
            self.truth = self.reply
            peer.send(REPLIES[self.reply])
        self.reach("answered")
        peer.wait()

    def run(self, authority: Authority, folder: str) -> tuple[str, str, bool]:
        """Place the order; return its status, the truth, and whether the two go together."""
        command = [sys.executable, str(SCRIPT), "-rq", "-W2", "addOrder", "pair=XBT/USD"]
        with ScriptedExchange(authority, self.script) as exchange:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=untraced(exchange.environment()),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self.started.set()
            self.reach("start")
            try:
                out, _ = self.process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        status = self.process.returncode
        allowed = {
            0: {"accepted"},
            1: {"refused", "never received"},
            3: {"accepted", "refused", "unanswered", "never received"},
        }.get(status, {"never received"})
        honest = self.truth in allowed and (status < 0 or status in (0, 1, 3))
        return str(status), self.truth, honest and (out == "" or out.endswith("\n"))


def stop_orders(count: int, seed: int, workers: int) -> Counter[tuple[str, str, bool]]:
    """Place and stop so many orders; return how often what came of it."""
    chance = random.Random(seed)
    orders = [StoppedOrder(chance) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        Path(folder, "WS_Token").write_text("token")
        authority = Authority(Path(folder))
        return Counter(
            pool.map(partial(StoppedOrder.run, authority=authority, folder=folder), orders)
        )


def main() -> int:
    """Stop orders, and print the results."""
    parser = argparse.ArgumentParser(description="Stop orders at random moments.")
    parser.add_argument("--orders", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    results = stop_orders(options.orders, options.seed, options.workers)
    for (status, truth, honest), count in sorted(results.items()):
        print(f"{count:6} ended with {status:>3}, {truth}{'' if honest else ': NOT TRUE'}")
    return 0 if all(honest for _, _, honest in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
