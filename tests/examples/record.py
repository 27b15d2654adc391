#!/usr/bin/env python3
"""Record a feed of Kraken's into one file a day (UTC), until a signal stops it.

The words are those of krakenws.py, for example:

  record.py --folder books book XBT/USD ETH/USD 1000

The file of a day is FEED-YYYY-MM-DD.jsonl. Each line is [TIME,MESSAGE]: when the message was
received, in seconds since 1970, and the message as it came. When the day is over, the file is
packed into FEED-YYYY-MM-DD.jsonl.gz. After --keep days it is deleted.

At midnight a second connection is made for the new file. The first one goes on for some seconds
into the old file, so that nothing is lost; what comes in these seconds is in both files. After a
loss the client connects again, and says so on stderr. If Kraken rejects one of several pairs, its
words are on stderr, and the other pairs are recorded.

When the disk is full, stderr says so, and every 15 seconds the recorder tries to begin anew. It
cuts off what was half written, so there are only whole lines. A folder takes one recorder.

exit status:
  0  a signal (Ctrl-C, SIGTERM, SIGHUP) stopped it
  1  it could not begin, and stderr says why
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

RECONNECT_SECONDS = 1  # that the client waits after a loss, and longer after several
START_SECONDS = 15.0  # from one start of a client to the next: Kraken bans who connects too often
OVERLAP_SECONDS = 5.0  # that the old day's client goes on, once the new day's is subscribed
END_SECONDS = 5.0  # that a client may take to end before it is killed
WAKE_SECONDS = 1.0  # the clock and the signals are looked at so often
DAY_SECONDS = 86400
CHUNK_BYTES = 65536  # that are read at once: what a pipe holds
SUBSCRIBED, ERROR = b'"subscribed"', b'"errorMessage"'
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failure(Exception):
    """Ends the program; its text is the sentence for the user."""


class Recording:
    """A client, and the file of the day that its messages go into."""

    def __init__(self, path: Path, command: list[str]) -> None:
        """Open the file, end a line that was torn, and start the client; or raise OSError."""
        self.path = path
        self.rest = b""  # the beginning of a line whose end has not come yet
        self.subscribed = 0.0  # since when, in monotonic seconds; 0: not yet
        self.stopped = 0.0  # when the client was told to end, in monotonic seconds; 0: not yet
        self.file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self.size = os.fstat(self.file).st_size  # of all whole lines
            if self.size and os.pread(self.file, 1, self.size - 1) != b"\n":
                self.append(b"\n")
            self.client = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C stops the recorder, which stops the client
            )
        except OSError:
            os.close(self.file)
            raise
        assert self.client.stdout
        self.pipe = self.client.stdout

    def append(self, lines: bytes) -> None:
        """Write whole lines; or raise OSError, and leave no half of a line."""
        rest = lines
        try:
            while rest:
                rest = rest[os.write(self.file, rest) :]
        finally:
            written = lines[: len(lines) - len(rest)]
            self.size += written.rfind(b"\n") + 1
            if rest:
                os.ftruncate(self.file, self.size)

    def take(self) -> bool:
        """Record what the client has printed; return False at its end, or raise OSError."""
        chunk = os.read(self.pipe.fileno(), CHUNK_BYTES)
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if lines:
            begin = b"[%.6f," % time.time()
            text = begin + (b"]\n" + begin).join(lines) + b"]\n"
            self.append(text)
            if not self.subscribed and SUBSCRIBED in text:
                self.subscribed = time.monotonic()
            # One pair of several may be rejected, while the others go on.
            for line in [line for line in lines if ERROR in line]:
                say(f"{now()} {line.decode(errors='backslashreplace')}")
        return bool(chunk)

    def stop(self) -> None:
        """Tell the client to end, and kill it if it has not ended in time."""
        if not self.stopped:
            self.stopped = time.monotonic()
            self.client.terminate()
        elif time.monotonic() > self.stopped + END_SECONDS:
            self.client.kill()

    def close(self) -> int:
        """Close everything, and return the exit status of the client, which ends here."""
        self.pipe.close()
        os.close(self.file)
        self.client.kill()
        return self.client.wait()


class Recorder:
    """The recordings that are under way: today's, and for some seconds also yesterday's."""

    def __init__(self, folder: Path, feed: str, keep: int, command: list[str]) -> None:
        """Lock the folder, or raise OSError or Failure. KEEP is in days, COMMAND is the client."""
        self.folder = folder
        self.feed = feed
        self.keep = keep
        self.command = command
        self.recordings: list[Recording] = []  # the newest is the last
        self.day = ""  # of the newest
        self.next_start = 0.0  # in monotonic seconds
        self.subscribed = False  # whether any client ever was
        self.stopped = False  # by a signal
        self.untidy = False  # whether there may be files to pack or to delete
        self.tidying = threading.Thread()
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"Another recorder uses the folder {folder}: choose another") from None

    def note(self, _number: int, _frame: object) -> None:
        """Note a signal, which ends run() soon."""
        self.stopped = True

    def run(self) -> None:
        """Record until a signal comes, or raise Failure."""
        try:
            while self.recordings or not self.stopped:
                if not self.stopped:
                    self.begin()
                    self.tidy()
                self.take()
                self.stop_clients()
        finally:
            for recording in self.recordings:
                recording.close()

    def begin(self) -> None:
        """Begin today's recording, unless it is under way. The days never go back."""
        today = max(self.day, time.strftime("%Y-%m-%d", time.gmtime(time.time())))
        path = self.folder / f"{self.feed}-{today}.jsonl"
        under_way = path in (recording.path for recording in self.recordings)
        if under_way or time.monotonic() < self.next_start:
            return
        self.day = today
        self.next_start = time.monotonic() + START_SECONDS
        self.untidy = True
        try:
            self.recordings.append(Recording(path, self.command))
        except OSError as error:
            self.report(str(error))

    def take(self) -> None:
        """Record what the clients print within a second, or raise Failure."""
        pipes = {recording.pipe: recording for recording in self.recordings}
        for pipe in select.select(list(pipes), [], [], WAKE_SECONDS)[0]:
            recording = pipes[pipe]
            try:
                if recording.take():
                    continue
                problem = "the client ended"
            except OSError as error:
                problem = f"{recording.path} can't be written: {error}"
            self.end(recording, problem)

    def end(self, recording: Recording, problem: str) -> None:
        """End a recording, and report why if that was not wanted."""
        self.recordings.remove(recording)
        recording.close()
        self.untidy = True
        self.subscribed = self.subscribed or recording.subscribed > 0
        if not recording.stopped:
            self.report(problem)

    def report(self, problem: str) -> None:
        """Say what interrupts the recording, or raise Failure if it has never worked."""
        if not self.subscribed:
            raise Failure(f"Nothing can be recorded ({problem})")
        say(f"{now()} The recording is interrupted ({problem})")

    def stop_clients(self) -> None:
        """Stop all clients behind a signal, and the old day's when the new day's has taken over."""
        for recording in self.recordings:
            newest = self.recordings[-1]
            lasted = time.monotonic() - newest.subscribed if newest.subscribed else 0
            if self.stopped or (recording is not newest and lasted > OVERLAP_SECONDS):
                recording.stop()

    def tidy(self) -> None:
        """Pack and delete old files, in a thread, because a large file takes minutes."""
        if self.untidy and not self.tidying.is_alive():
            self.untidy = False
            busy = [recording.path.name for recording in self.recordings]
            arguments = self.folder, self.feed, [*busy, f"{self.feed}-{self.day}.jsonl"], self.keep
            self.tidying = threading.Thread(target=tidy, args=arguments, daemon=True)
            self.tidying.start()


def tidy(folder: Path, feed: str, busy: list[str], keep: int) -> None:
    """Pack the days that are over, and delete those of more than KEEP days ago."""
    oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - keep * DAY_SECONDS))
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(feed + r"-(\d{4}-\d\d-\d\d)\.jsonl(\.gz|\.gz\.part)?", path.name)
        try:
            if match and path.name not in busy:
                if match[1] < oldest:
                    path.unlink()
                elif not match[2]:
                    pack(path)
        except OSError as error:
            say(f"{now()} {path} can't be packed or deleted yet ({error})")


def pack(path: Path) -> None:
    """Pack a file. Wherever this is interrupted, all lines are in one file or the other."""
    target, part = Path(f"{path}.gz"), Path(f"{path}.gz.part")
    try:
        with open(part, "wb") as file, open(path, "rb") as lines:
            if target.exists():  # after the clock was put back: gzip files can be strung together
                with open(target, "rb") as earlier:
                    shutil.copyfileobj(earlier, file)
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
                shutil.copyfileobj(lines, packed)
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    path.unlink()


def find_client() -> str:
    """Return the path of krakenws.py, beside this program or in its checkout; raise Failure."""
    here = Path(__file__).resolve().parent
    for folder in (here, here.parent.parent):
        if (folder / "krakenws.py").is_file():
            return str(folder / "krakenws.py")
    raise Failure(f"krakenws.py is neither in {here} nor in {here.parent.parent}")


def write(descriptor: int, text: str) -> None:
    """Write a line at once, or raise OSError; print() would end with 120 on a full disk."""
    rest = f"{text}\n".encode(errors="backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def say(sentence: str) -> None:
    """Write a sentence to stderr, if that is possible."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:  # else 2 may be the descriptor of a recording
            write(2, sentence)


def now() -> str:
    """Return the time (UTC)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are failures like the others: argparse ends with 2."""

    def error(self, message: str) -> NoReturn:
        """Raise Failure."""
        raise Failure(f"{self.format_usage()}{message}")


def days(text: str) -> int:
    """Return a number of days, or raise ValueError."""
    if not 0 < int(text) < 100_000:
        raise ValueError
    return int(text)


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        usage="record.py [options] FEED WORDS...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    option = parser.add_argument_group("options").add_argument
    option("--folder", metavar="DIR", type=Path, default=Path(), help="where the files are (.)")
    option("--keep", metavar="DAYS", type=days, default=90, help="then a file is deleted (90)")
    option("--token-file", metavar="FILE", help="read the token from FILE (WS_Token)")
    option("--token-command", metavar="CMD", help="take the token from what CMD prints")
    option("-h", "--help", action="store_true", help="print this")
    return parser


def build_command(options: argparse.Namespace) -> list[str]:
    """Return the command of the client, once it has found no fault in it; or raise Failure."""
    if not options.words:
        build_parser().error("what is to be recorded?")
    token = {"--token-file": options.token_file, "--token-command": options.token_command}
    given = [f"{option}={text}" for option, text in token.items() if text is not None]
    command = [sys.executable, find_client(), "-r", "--reconnect", str(RECONNECT_SECONDS), *given]
    words = ["--", *options.words]
    check = subprocess.run([*command, "--dry-run", *words], stdout=subprocess.DEVNULL, check=False)
    if check.returncode:
        raise Failure("record.py --help tells more")  # the client has told what is wrong
    return [*command, *words]


def record(options: argparse.Namespace) -> None:
    """Record what the command line asks for until a signal comes, or raise Failure."""
    command = build_command(options)
    try:
        recorder = Recorder(options.folder, options.words[0], options.keep, command)
    except OSError as error:
        raise Failure(f"Nothing can be recorded ({error})") from None
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, recorder.note)
    recorder.run()


def main() -> int:
    """Run the command line, and return the exit status."""
    try:
        options = build_parser().parse_intermixed_args()
        if options.help:
            write(1, build_parser().format_help().rstrip())
        else:
            record(options)
    except (Failure, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
