"""Fixtures: the local exchange, and krakenws.py as a process that is run against it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

import krakenws
from client.scripted import Peer, ScriptedExchange, answer, running
from practice.authority import Authority
from practice.exchange import Practice
from practice.server import Server

SCRIPT = Path(krakenws.__file__)
TOKEN = "Token/With+Some=Signs"  # noqa: S105 - it opens nothing
PATIENCE = 30  # seconds after which a process that should have ended is taken for hung

# What the README's recipes use and a plain Python image may lack: real where it is there.
PROGRAMS = (
    "grep",
    "jq",
    "kcat",
    "openssl",
    "redis-cli",
    "redis-server",
    "systemd-analyze",
    "ts",
    "xargs",
    "zsh",
)
MISSING = [program for program in PROGRAMS if not shutil.which(program)]

# The tests try few examples by default, and many with HYPOTHESIS_PROFILE=thorough.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

# A shell makes what a script starts with & ignore SIGINT, and nohup makes it ignore SIGHUP. Each
# client would inherit that; a handler isn't inherited, and this one keeps what nohup is for.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


class Result(NamedTuple):
    """How a process ended, and all that it wrote."""

    status: int
    out: str
    err: str


class Process:
    """A running krakenws.py, of which a test reads a line before it does something to it."""

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        streams = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        # Without a buffer of ours: what read_until leaves is there for end.
        self.process = subprocess.Popen(argv, **{"bufsize": 0, **streams, **options})

    def read_until(self, text: str) -> str:
        """Return the lines up to the first one that holds TEXT."""
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(line.decode())
            assert TOKEN not in lines[-1], "the token is shown"
            if text in lines[-1]:
                return "".join(lines)
        raise AssertionError(f"{text!r} not in {lines} and {self.end()}")

    def wait_for_output(self) -> None:
        """Wait until there is something to read, and leave it there."""
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], PATIENCE)[0]

    def stop_reading(self) -> None:
        """Close our end of the pipe that is the process's stdout."""
        assert self.process.stdout
        self.process.stdout.close()
        self.process.stdout = None

    def signal(self, number: signal.Signals) -> Process:
        """Send a signal."""
        self.process.send_signal(number)
        return self

    def freeze(self) -> Process:
        """Stop the process as Ctrl-Z does, and return once it stands still."""
        self.signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(self.process.pid, os.WUNTRACED)[1])
        return self

    def thaw(self) -> Process:
        """Let the process go on."""
        return self.signal(signal.SIGCONT)

    def count(self, kind: str) -> int:
        """Return how many threads ("task") or descriptors ("fd") the process has, on Linux."""
        return len(os.listdir(f"/proc/{self.process.pid}/{kind}"))

    def end(self) -> Result:
        """Wait for the end, and return what has not been read yet."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        result = Result(self.process.returncode, (out or b"").decode(), (err or b"").decode())
        assert TOKEN not in result.out + result.err, "the token is shown"
        assert "Traceback" not in result.err, result.err
        return result


class Client:
    """krakenws.py with the local exchange around it, in a directory of its own."""

    script = SCRIPT

    def __init__(self, exchange: ScriptedExchange, folder: Path) -> None:
        self.exchange = exchange
        self.folder = folder
        self.environment: dict[str, str] = exchange.environment()
        self.processes: list[Process] = []
        self.barrier = threading.Barrier(2, timeout=PATIENCE)  # for the test and its script
        self.started: SimpleQueue[Process] = SimpleQueue()  # for a script that needs its client

    def start(self, *argv: str, program: Sequence[str] | None = None, **options: Any) -> Process:
        """Start krakenws.py, or another PROGRAM, with these words."""
        command = [*(program or (sys.executable, str(self.script))), *argv]
        process = Process(command, **{"cwd": self.folder, "env": self.environment, **options})
        self.processes.append(process)
        self.started.put(process)
        return process

    def copy_script(self) -> Path:
        """Run a copy of the script from now on, and return the directory that it is in.

        Beside the script itself there may be a developer's token.
        """
        home = self.folder / "home"
        home.mkdir()
        self.script = home / SCRIPT.name
        self.script.write_text(SCRIPT.read_text())
        return home

    def patch(self, function: str) -> None:
        """Put a function of the socket module's name in its place, for what no machine can do."""
        (self.folder / "sitecustomize.py").write_text(
            f"import socket, time\n{function}\nsocket.getaddrinfo = getaddrinfo\n"
        )
        self.environment["PYTHONPATH"] = str(self.folder)

    def resolve(self, *addresses: Any, before: str = "") -> None:
        """Let every name have these addresses, in this order, or the exchange's."""
        found = [
            (socket.AF_INET.value, socket.SOCK_STREAM.value, socket.IPPROTO_TCP, "", address)
            for address in addresses or [self.exchange.server_address]
        ]
        real = "def getaddrinfo(host, *rest, real=socket.getaddrinfo, **named):\n"
        number = "    if host[:1].isdigit(): return real(host, *rest, **named)\n"
        self.patch(f"{before}\n{real}{number}    return {found!r}")

    def time_out(self, *argv: str, say: Sequence[str] = (), **options: Any) -> Result:
        """Run krakenws.py until it has dealt with what the exchange says; then its alarm rings.

        The test sends the signal itself: no machine is too slow for that.
        """

        def then(peer: Peer) -> None:
            peer.sync()
            self.barrier.wait()

        self.exchange.script = answer(*say, then=then)
        process = self.start(*argv, "-W0", **options)
        self.barrier.wait()
        return process.signal(signal.SIGALRM).end()

    def running(self) -> Process:
        """Return the process, to a script that may be quicker than the test that started it."""
        process = self.started.get(timeout=PATIENCE)
        self.started.put(process)
        return process

    def run(self, *argv: str, **options: Any) -> Result:
        """Run krakenws.py to its end."""
        return self.start(*argv, **options).end()


def pytest_report_header() -> str:
    """Say which programs the tests run for real, and which they have to do without."""
    there = ", ".join(program for program in PROGRAMS if program not in MISSING)
    return f"run for real: {there or 'none'}\nmissing, skipped: {', '.join(MISSING) or 'none'}"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test where a program is missing, and says which."""
    assert set(programs) <= set(PROGRAMS)
    missing = [program for program in programs if program in MISSING]
    return pytest.mark.skipif(bool(missing), reason=f"missing here: {', '.join(missing)}")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the certificate authority of the whole test run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def practice() -> Iterator[Server]:
    """Yield the practice exchange, for clients that have the tests' token."""
    with running(Server(Practice(token=TOKEN), None)) as server:
        yield server


@pytest.fixture
def exchange(authority: Authority, practice: Server) -> Iterator[ScriptedExchange]:
    """Yield a running exchange: the practice exchange, or the test gives it a script."""
    with ScriptedExchange(authority, practice) as server:
        yield server
    assert not server.errors


@pytest.fixture
def client(exchange: ScriptedExchange, tmp_path: Path) -> Iterator[Client]:
    """Yield the client, with a token in its directory."""
    (tmp_path / "WS_Token").write_text(f"{TOKEN}\n")
    client = Client(exchange, tmp_path)
    yield client
    for process in client.processes:
        process.process.kill()
        with process.process:  # waits, and closes its pipes
            pass
