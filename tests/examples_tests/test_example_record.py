"""record.py: whole lines, no gap at midnight, a full disk, kill -9, and files that are put away."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from client.scripted import GREETING, Peer
from conftest import PATIENCE, Client, Process
from examples import record
from examples_tests.common import program, wait_until

FAST = (
    "it.START_SECONDS = it.OVERLAP_SECONDS = 0",
    "it.RECONNECT_SECONDS = 0",
    "it.WAKE_SECONDS = 0.01",
)
# A clock that shows what is written in a file
CLOCK = "it.time.time = lambda: float(open('clock').read())"
EVENING, MORNING = 1795391999.0, 1795392000.5  # 2026-11-22T23:59:59, and then
OLD, NEW = "trade-2026-11-22.jsonl", "trade-2026-11-23.jsonl"
SUBSCRIBED = '{"event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}'
REFUSED = (
    '{"errorMessage":"Currency pair not supported A/B","event":"subscriptionStatus",'
    '"pair":"A/B","status":"error"}'
)


# The beginning of a program in place of the client, and its end
DRY_RUN = "import sys, time\nif '--dry-run' in sys.argv: sys.exit()"
LAST_WORDS = f"{DRY_RUN}\nprint({SUBSCRIBED!r}, flush=True)"

# A disk on which a file can't have more than 5,000 bytes
SMALL_DISK = """
import os
def write(descriptor, data, real=os.write):
    room = 5000 - os.fstat(descriptor).st_size
    if descriptor < 3 or len(data) <= room:
        return real(descriptor, data)
    if room:
        return real(descriptor, data[:room])
    raise OSError(28, "No space left on device")
os.write = write
"""


class TradesExchange:
    """An exchange whose connections send what the test says."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.connections: list[SimpleQueue[str]] = []
        client.exchange.script = self.script

    def script(self, peer: Peer) -> None:
        """Be the exchange on one connection."""
        peer.greet()
        peer.receive()
        messages: SimpleQueue[str] = SimpleQueue()
        self.connections.append(messages)
        while True:
            while not messages.empty():
                peer.send(messages.get())
            peer.receive(timeout=0.01)

    def send(self, number: int, *messages: str) -> None:
        """Send messages on a connection, once it is there."""
        wait_until(lambda: len(self.connections) > number)
        for message in messages:
            self.connections[number].put(message)


@pytest.fixture
def trades(client: Client) -> TradesExchange:
    """Return an exchange for the recorder, on which nothing happens by itself."""
    return TradesExchange(client)


def start(client: Client, *changes: str, words: tuple[str, ...] = ()) -> Process:
    """Start a recorder of trades; all that it says is in one pipe."""
    command = program("record", *FAST, *changes)
    words = words or ("trade", "XBT/USD")
    return client.start(*words, program=command, stderr=subprocess.STDOUT)


def text_of(path: Path) -> str:
    """Return the text of a file, or nothing if there is none."""
    return path.read_text() if path.exists() else ""


def messages_in(text: str) -> list[str]:
    """Return the messages of a recording, whose times have to be in order."""
    matches = [re.fullmatch(r"\[([0-9]+\.[0-9]{6}),(.*)\]", line) for line in text.splitlines()]
    assert text.endswith("\n")
    assert all(matches)
    times = [float(match[1]) for match in matches if match]
    assert times == sorted(times)
    return [match[2] for match in matches if match]


def set_clock(client: Client, seconds: float) -> None:
    """Let it be another time for the recorder."""
    (client.folder / "new").write_text(str(seconds))
    (client.folder / "new").rename(client.folder / "clock")


def today(client: Client) -> Path:
    """Return today's file."""
    return client.folder / f"trade-{time.strftime('%Y-%m-%d', time.gmtime())}.jsonl"


def test_recording(client: Client, trades: TradesExchange) -> None:
    """Each message is a line with the time of its receipt, as it came, whatever its length."""
    process = start(client, CLOCK)
    set_clock(client, EVENING)
    long = f'[1,"{"x" * 200_000}",18446744073709551615,1.50]'
    trades.send(0, SUBSCRIBED, "[1]", long, "[2]")
    path = client.folder / OLD
    wait_until(lambda: "[2]" in text_of(path))
    assert process.signal(signal.SIGTERM).end() == (0, "", "")
    assert messages_in(path.read_text()) == [GREETING, SUBSCRIBED, "[1]", long, "[2]"]
    assert f"[{EVENING:.6f},[1]]\n" in path.read_text()


def test_rejected_pair(client: Client, trades: TradesExchange) -> None:
    """A pair that Kraken rejects is told on stderr, while the other one is recorded."""
    process = start(client, words=("trade", "A/B", "XBT/USD"))
    trades.send(0, REFUSED, SUBSCRIBED, "[1]")
    assert process.read_until("Z {").endswith(f"Z {REFUSED}\n")
    wait_until(lambda: "[1]" in text_of(today(client)))
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def test_losses(client: Client) -> None:
    """After a loss the recording goes on, and stderr tells of it."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive()
        peer.send(SUBSCRIBED, f"[{len(client.exchange.received)}]")
        peer.sync()
        if len(client.exchange.received) < 3:
            return peer.reset()
        return peer.wait()

    client.exchange.script = script
    process = start(client)
    path = today(client)
    wait_until(lambda: "[3]" in text_of(path))
    status, out, _ = process.signal(signal.SIGINT).end()
    assert (status, out.count("WebSocket messages failed (")) == (0, 2)
    messages = messages_in(path.read_text())
    assert messages == [message for n in (1, 2, 3) for message in (GREETING, SUBSCRIBED, f"[{n}]")]


def test_midnight(client: Client, trades: TradesExchange) -> None:
    """At midnight nothing is lost: the old client goes on until the new one is subscribed."""
    set_clock(client, EVENING)
    put_files(client.folder, "trade-2026-11-14.jsonl.gz", "trade-2026-11-15.jsonl.gz")
    process = start(client, CLOCK, words=("--keep", "7", "trade", "XBT/USD"))
    old, new = client.folder / OLD, client.folder / NEW
    trades.send(0, SUBSCRIBED, "[1]")
    wait_until(lambda: "[1]" in text_of(old))
    set_clock(client, MORNING)
    trades.send(1)
    trades.send(0, "[2]")
    wait_until(lambda: "[2]" in text_of(old))
    trades.send(1, SUBSCRIBED, "[3]")
    packed = client.folder / f"{OLD}.gz"
    wait_until(lambda: packed.exists() and not old.exists())
    trades.send(1, "[4]")
    wait_until(lambda: "[4]" in text_of(new))
    assert process.signal(signal.SIGHUP).end() == (0, "", "")
    assert messages_in(unpack(packed)) == [GREETING, SUBSCRIBED, "[1]", "[2]"]
    assert messages_in(new.read_text()) == [GREETING, SUBSCRIBED, "[3]", "[4]"]
    assert len(trades.connections) == 2
    assert sorted(path.name for path in client.folder.glob("trade-*")) == [packed.name, NEW]


def test_failure_at_midnight(client: Client) -> None:
    """When the recorder gives up it leaves no client behind, which would still hold its stderr."""
    set_clock(client, EVENING)
    fails = f"open('clock').read() == '{MORNING}' and sys.exit(1)"
    change = fake(client, f"{DRY_RUN}\n{fails}\nopen('there', 'w')\ntime.sleep(3600)")
    process = start(client, CLOCK, change)
    wait_until((client.folder / "there").exists)
    set_clock(client, MORNING)
    assert process.end() == (1, "Nothing can be recorded (the client ended)\n", "")


def test_overlap(client: Client, trades: TradesExchange) -> None:
    """The old client stays for a while, for the snapshots of the new one to come."""
    set_clock(client, EVENING)
    process = start(client, CLOCK, "it.OVERLAP_SECONDS = 1000")
    trades.send(0, SUBSCRIBED, "[1]")
    wait_until(lambda: "[1]" in text_of(client.folder / OLD))
    set_clock(client, MORNING)
    trades.send(1, SUBSCRIBED, "[2]")
    wait_until(lambda: "[2]" in text_of(client.folder / NEW))
    trades.send(0, "[3]")
    wait_until(lambda: "[3]" in text_of(client.folder / OLD))
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def test_clock_put_back(client: Client, trades: TradesExchange) -> None:
    """When the clock is put back over midnight, the recording stays in the newer file."""
    set_clock(client, MORNING)
    process = start(client, CLOCK)
    trades.send(0, SUBSCRIBED, "[1]")
    wait_until(lambda: "[1]" in text_of(client.folder / NEW))
    set_clock(client, EVENING)
    trades.send(0, "[2]")
    wait_until(lambda: f"[{EVENING:.6f},[2]]" in text_of(client.folder / NEW))
    assert process.signal(signal.SIGTERM).end() == (0, "", "")
    assert not (client.folder / OLD).exists()


def test_killed(client: Client, trades: TradesExchange) -> None:
    """After kill -9 the next recorder can begin at once, and a torn line is ended first."""
    process = start(client)
    path = today(client)
    trades.send(0, SUBSCRIBED, "[1]")
    wait_until(lambda: "[1]" in text_of(path))
    process.signal(signal.SIGKILL).process.wait(PATIENCE)
    trades.send(0, "[never read]")  # by which the client notices that its reader is gone
    process.end()
    with path.open("a") as file:
        file.write("[1795391999.0,[2,")
    process = start(client)
    trades.send(1, SUBSCRIBED, "[3]")
    wait_until(lambda: "[3]" in text_of(path))
    process.signal(signal.SIGTERM).end()
    first, rest = path.read_text().split("[1795391999.0,[2,\n")
    assert messages_in(first) == [GREETING, SUBSCRIBED, "[1]"]
    assert messages_in(rest) == [GREETING, SUBSCRIBED, "[3]"]


def test_second_recorder(client: Client, trades: TradesExchange) -> None:
    """A folder takes one recorder."""
    process = start(client, words=("--folder", "books", "trade", "XBT/USD"))
    trades.send(0, SUBSCRIBED)
    status, out, _ = start(client, words=("--folder", "books", "trade", "XBT/USD")).end()
    assert (status, out) == (1, "Another recorder uses the folder books: choose another\n")
    assert process.signal(signal.SIGTERM).end().status == 0
    assert len(trades.connections) == 1


def test_full_disk(client: Client) -> None:
    """When a file can't grow, it has whole lines, and the recording begins anew once it can."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive()
        peer.send(SUBSCRIBED)
        while True:
            peer.send(*[f'[{number},"trade"]' for number in range(50)])
            peer.receive(timeout=0.01)

    client.exchange.script = script
    path = today(client)
    process = start(client, SMALL_DISK)
    for _ in range(3):
        line = process.read_until(f"The recording is interrupted ({path.name} can't be written: ")
        assert "Z The recording is interrupted (" in line
    first = path.read_text()
    assert 4900 < len(first) <= 5000
    assert messages_in(first)[:2] == [GREETING, SUBSCRIBED]
    path.unlink()
    wait_until(lambda: SUBSCRIBED in text_of(path))
    process.signal(signal.SIGTERM).end()
    assert messages_in(path.read_text())[:2] == [GREETING, SUBSCRIBED]


def test_cut_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines that fit only in part the whole ones are kept, and the torn one is cut off."""
    path = tmp_path / "trade.jsonl"
    path.write_text("[0,0]\n")
    recording = record.Recording(path, ["true"])
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if os.fstat(descriptor).st_size >= 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:5])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        recording.append(b"[1,1]\n[2,2]\n[3,3]\n")
    monkeypatch.undo()
    recording.append(b"[4,4]\n")
    recording.close()
    assert path.read_text() == "[0,0]\n[1,1]\n[4,4]\n"


def fake(client: Client, command: str) -> str:
    """Return the change that puts a Python program in the place of the client."""
    (client.folder / "fake.py").write_text(command)
    return "it.find_client = lambda: 'fake.py'"


def test_client_that_ends(client: Client) -> None:
    """A client that ends by itself is started again, and half a message is no line."""
    process = start(client, fake(client, f"{LAST_WORDS}\nprint('[1', end='')"))
    for _ in range(3):
        process.read_until("Z The recording is interrupted (the client ended)")
    process.signal(signal.SIGTERM).end()
    assert set(messages_in(today(client).read_text())) == {SUBSCRIBED}


def test_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one start to the next there are 15 seconds, so that no address is banned."""
    recorder = record.Recorder(tmp_path, "trade", 90, ["true"])
    recorder.subscribed = True
    for seconds, count in ((100.0, 1), (114.9, 0), (115.0, 1), (129.9, 0), (130.0, 1)):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: seconds)
        recorder.begin()
        assert len(recorder.recordings) == count
        for recording in [*recorder.recordings]:
            recorder.end(recording, "a test")
    os.close(recorder.lock)


def test_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is closed nothing is written: descriptor 2 may be a recording's."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(os, "write", pytest.fail)
    record.say("lost")


def test_client_that_hangs(client: Client) -> None:
    """A client that does not end is killed, and what it has printed before is there."""
    hang = "import signal; signal.signal(15, lambda *_: print('[2]', flush=True))"
    loop = "print('[1]', flush=True)\nwhile True: time.sleep(60)"
    change = fake(client, f"{hang}\n{LAST_WORDS}\n{loop}")
    process = start(client, change, "it.END_SECONDS = 0.5")
    wait_until(lambda: "[1]" in text_of(today(client)))
    assert process.signal(signal.SIGTERM).end() == (0, "", "")
    assert messages_in(today(client).read_text()) == [SUBSCRIBED, "[1]", "[2]"]


def test_refused(client: Client) -> None:
    """What the exchange refuses from the start ends the recorder, too."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive()
        peer.send(REFUSED)
        peer.wait()

    client.exchange.script = script
    status, out, _ = start(client, words=("trade", "A/B")).end()
    assert status == 1
    assert "(Currency pair not supported A/B)\n" in out
    assert out.endswith("Nothing can be recorded (the client ended)\n")


def test_no_file(client: Client, trades: TradesExchange) -> None:
    """Where there can be no file, the recorder ends, and connects to nobody."""
    today(client).mkdir()
    status, out, _ = start(client).end()
    assert (status, out.startswith("Nothing can be recorded ([Errno ")) == (1, True)
    status, out, _ = start(client, words=("--folder", "WS_Token", "trade", "A/B")).end()
    assert (status, out.startswith("Nothing can be recorded ([Errno ")) == (1, True)
    assert trades.connections == []


def test_program_that_can_not_be_run(tmp_path: Path) -> None:
    """A client that can't be started leaves no file open."""
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="missing"):
        record.Recording(tmp_path / "trade.jsonl", [str(tmp_path / "missing")])
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored(client: Client, trades: TradesExchange, number: signal.Signals) -> None:
    """A signal that the parent ignores does nothing."""
    command = ["sh", "-c", f'trap "" {number.value}; exec "$@"', "sh", *program("record", *FAST)]
    process = client.start("trade", "XBT/USD", program=command)
    trades.send(0, SUBSCRIBED)
    process.signal(number)
    trades.send(0, "[1]")
    wait_until(lambda: "[1]" in text_of(today(client)))
    assert process.signal(signal.SIGTERM).end().status == 0


def test_ctrl_c(client: Client, trades: TradesExchange) -> None:
    """Ctrl-C reaches only the recorder, which records all that its client still prints."""
    command = program("record", *FAST)
    process = client.start("trade", "XBT/USD", program=command, start_new_session=True)
    trades.send(0, SUBSCRIBED, "[1]")
    wait_until(lambda: "[1]" in text_of(today(client)))
    os.killpg(process.process.pid, signal.SIGINT)
    assert process.end() == (0, "", "")


def test_token(client: Client) -> None:
    """A private feed is recorded with the token that is wanted, which is not in the file."""
    (client.folder / "WS_Token").rename(client.folder / "other")
    command = program("record", *FAST)
    words = "--token-command", "cat other", "openOrders"
    process = client.start(*words, program=command, stderr=subprocess.STDOUT)
    path = Path(str(today(client)).replace("trade-", "openOrders-"))
    wait_until(lambda: '"openOrders",{"sequence":1}]' in text_of(path))
    assert process.signal(signal.SIGTERM).end() == (0, "", "")


def unpack(path: Path) -> str:
    """Return the text of a packed file."""
    return gzip.decompress(path.read_bytes()).decode()


def put_files(folder: Path, *names: str) -> None:
    """Put files into a folder that have their names in them."""
    for name in names:
        if name.endswith(".gz"):
            (folder / name).write_bytes(gzip.compress(name.encode()))
        else:
            (folder / name).write_text(name)


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days that are over are packed, old ones deleted, and no other file is touched."""
    monkeypatch.setattr(time, "time", lambda: MORNING)
    others = ("book-2026-11-01.jsonl", "trade-2026-1.jsonl", "trade-2020-01-01.txt")
    old = ("trade-2026-11-12.jsonl", "trade-2026-11-12.jsonl.gz", "trade-2026-11-10.jsonl.gz.part")
    kept = ("trade-2026-11-13.jsonl.gz", "trade-2026-11-14.jsonl.gz.part")
    put_files(tmp_path, *others, *old, *kept, "trade-2026-11-20.jsonl", OLD, NEW)
    record.tidy(tmp_path, "trade", [OLD, NEW], keep=10)
    assert names_in(tmp_path) == sorted([*others, *kept, "trade-2026-11-20.jsonl.gz", OLD, NEW])
    assert unpack(tmp_path / "trade-2026-11-20.jsonl.gz") == "trade-2026-11-20.jsonl"


def test_pack_again(tmp_path: Path) -> None:
    """What was packed of the same day before is kept."""
    put_files(tmp_path, OLD, f"{OLD}.gz")
    record.pack(tmp_path / OLD)
    assert names_in(tmp_path) == [f"{OLD}.gz"]
    assert unpack(tmp_path / f"{OLD}.gz") == f"{OLD}.gz{OLD}"


def test_pack_on_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that can't be packed stays as it is, and nothing else is left."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    put_files(tmp_path, OLD)
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    record.tidy(tmp_path, "trade", [], keep=100_000)
    assert names_in(tmp_path) == [OLD]
    assert " can't be packed or deleted yet ([Errno 28] No space" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "what is to be recorded?\n"),
        (("bok", "XBT/USD"), "no feed or endpoint is called bok: did you mean book?\n"),
        (("trade",), "A market feed needs a pair\n"),
        (("ping",), "--reconnect is for feeds"),
        (("--foo", "trade", "XBT/USD"), "unrecognized arguments: --foo\n"),
        (("--keep", "0", "trade", "XBT/USD"), "argument --keep: invalid days value: '0'\n"),
        (("--keep", "x", "trade", "XBT/USD"), "argument --keep: invalid days value: 'x'\n"),
        (("--token-file", "a", "--token-command", "b", "openOrders"), "exclude each other\n"),
    ],
)
def test_usage(client: Client, words: tuple[str, ...], sentence: str) -> None:
    """A wrong command line is told in a sentence; there is no file and no connection."""
    result = client.run(*words, program=program("record"))
    assert (result.status, result.out) == (1, "")
    assert sentence in result.err
    assert list(client.folder.glob("*.jsonl")) == []
    assert client.exchange.dialled == []


def test_help(client: Client) -> None:
    """The help says what is recorded, and what each option and status means."""
    status, out, err = client.run("--help", program=program("record"))
    assert (status, err) == (0, "")
    assert all(word in out for word in ("FEED-YYYY-MM-DD.jsonl", "--keep DAYS", "exit status"))
    with open("/dev/full", "wb") as full:
        result = client.run("--help", program=program("record"), stdout=full)
    assert (result.status, "No space" in result.err) == (1, True)


def test_no_client(client: Client) -> None:
    """Without krakenws.py there is a sentence."""
    elsewhere = f"it.__file__ = '{client.folder}/record.py'"
    result = client.run("trade", "XBT/USD", program=program("record", elsewhere))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"krakenws.py is neither in {client.folder} nor in ")


def test_stderr_closed(client: Client) -> None:
    """What can't be said disturbs no recording."""
    change = fake(client, f"{LAST_WORDS}\nprint('[1]')")
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *program("record", *FAST, change)]
    process = client.start("trade", "A/B", program=command)
    wait_until(lambda: text_of(today(client)).count("[1]") > 1)
    process.signal(signal.SIGTERM).end()
    assert set(messages_in(today(client).read_text())) == {SUBSCRIBED, "[1]"}
