"""check_books.py: right and wrong checksums, gaps, and files that can't be read."""

from __future__ import annotations

import gzip
import subprocess
from typing import Any

import pytest

from conftest import Client, Result
from examples.check_books import Side
from examples_tests.common import program
from practice.common import compact


def levels(*prices: int) -> list[list[str]]:
    """Return levels of a book."""
    return [[f"0.{price:05}", "0.00000500", "1616663113.939684"] for price in prices]


def book(pair: str, *parts: dict[str, Any]) -> list[Any]:
    """Return a message of a book."""
    return [0, *parts, "book-10", pair]


# Kraken's example of a checksum: a book that its update, one on both sides, leaves as it was.
# https://docs.kraken.com/api/docs/guides/spot-ws-book-v1
BIDS = levels(5000, 4995, 4990, *range(4980, 4949, -5))
GONE = ["0.05001", "0.00000000", "1616663113.939684"]
ASKS = {"as": levels(5001, *range(5005, 5046, 5)), "bs": BIDS[1:]}
CHECKSUM = "974947235"
SNAPSHOT = book("XBT/USD", ASKS)
UPDATE = book("XBT/USD", {"a": [GONE, *levels(5050)]}, {"b": BIDS[:1], "c": CHECKSUM})
SAME = book("XBT/USD", {"b": BIDS[:1], "c": CHECKSUM})
WRONG = book("XBT/USD", {"b": BIDS[:1], "c": "1"})
STATUS = {"event": "systemStatus", "status": "online"}
HEARTBEAT = {"event": "heartbeat"}
ENDED = {
    "event": "subscriptionStatus",
    "status": "unsubscribed",
    "channelName": "book-10",
    "pair": "XBT/USD",
}
OTHER_SNAPSHOT, OTHER_SAME = (book("ETH/USD", *message[1:-2]) for message in (SNAPSHOT, SAME))
START = [(0, STATUS), (0.5, SNAPSHOT), (1, UPDATE)]

Lines = list[tuple[float, Any]]


def recording(lines: Lines) -> str:
    """Return the text of a recording; a message may be text that is no JSON."""
    return "".join(
        f"[{time},{message if isinstance(message, str) else compact(message)}]\n"
        for time, message in lines
    )


AT_THE_END = ", until the end of the recording"


def lost(asset: str, seconds: float, since: float) -> str:
    """Return the line of a gap."""
    return f"{asset}/USD book-10: {seconds:.3f} s lost from {moment(since)} on"


def wrong(count: int, begin: float, end: float) -> str:
    """Return the line of a stretch of wrong checksums."""
    return f"XBT/USD book-10: {count} wrong checksums from {moment(begin)} to {moment(end)}"


def moment(seconds: float) -> str:
    """Return a time in the first ten seconds of 1970."""
    return f"1970-01-01T00:00:0{seconds:.6f}Z"


def check(client: Client, *texts: str) -> Result:
    """Check recordings, each in a file of its own."""
    for number, text in enumerate(texts):
        (client.folder / f"{number}.jsonl").write_text(text)
    names = [f"{number}.jsonl" for number in range(len(texts))]
    return client.run(*names, program=program("check_books"))


@pytest.mark.parametrize(
    ("lines", "status", "printed"),
    [
        (START, 0, ["0 gaps, 0.000 s; 1 checksums hold, 0 don't"]),
        (
            [*START, (3, STATUS), (3.5, SNAPSHOT), (4, UPDATE)],
            0,
            [
                lost("XBT", 2.500, 1),
                "1 gaps, 2.500 s; 2 checksums hold, 0 don't",
            ],
        ),
        ([*START, (3, STATUS), (4, SAME)], 0, ["0 gaps, 0.000 s; 2 checksums hold, 0 don't"]),
        (
            [*START, (2, HEARTBEAT), (3, STATUS), (4, HEARTBEAT)],
            0,
            [
                lost("XBT", 2.000, 2) + AT_THE_END,
                "1 gaps, 2.000 s; 1 checksums hold, 0 don't",
            ],
        ),
        (
            [*START, (2, ENDED), (3, HEARTBEAT)],
            0,
            [
                lost("XBT", 1.000, 2) + AT_THE_END,
                "1 gaps, 1.000 s; 1 checksums hold, 0 don't",
            ],
        ),
        (
            [*START, (2, {**ENDED, "pair": "ETH/USD"}), (3, HEARTBEAT)],
            0,
            ["0 gaps, 0.000 s; 1 checksums hold, 0 don't"],
        ),
        (
            [*START, (2, WRONG), (3, WRONG), (4, SAME), (5, WRONG), (6, STATUS), (7, SNAPSHOT)],
            1,
            [
                wrong(2, 2, 3),
                wrong(1, 5, 5),
                lost("XBT", 2.000, 5),
                "1 gaps, 2.000 s; 2 checksums hold, 3 don't",
            ],
        ),
        (
            [*START, (2, WRONG)],
            1,
            [
                wrong(1, 2, 2),
                "0 gaps, 0.000 s; 1 checksums hold, 1 don't",
            ],
        ),
        (
            [
                (0, STATUS),
                (0.2, SAME),
                *START[1:],
                (2, {"Error": "Exceeded msg rate"}),
                (3, ["x", "trade", "A/B"]),
            ],
            0,
            ["0 gaps, 0.000 s; 1 checksums hold, 0 don't"],
        ),
        (
            [*START[:2], (0.7, OTHER_SNAPSHOT), *START[2:], (2, STATUS), (3, SNAPSHOT)],
            0,
            [
                lost("XBT", 2.000, 1),
                lost("ETH", 2.000, 1) + AT_THE_END,
                "2 gaps, 4.000 s; 1 checksums hold, 0 don't",
            ],
        ),
        ([(0, STATUS), (0.5, SNAPSHOT)], 1, ["0 gaps, 0.000 s; 0 checksums hold, 0 don't"]),
    ],
    ids=[
        "whole",
        "a loss",
        "a status of the same connection",
        "a loss without an end",
        "a subscription that the exchange ended",
        "another pair's subscription",
        "stretches of wrong checksums",
        "a stretch at the end",
        "no snapshot, errors and other feeds",
        "one of two pairs comes back",
        "no checksum",
    ],
)
def test_recordings(client: Client, lines: Lines, status: int, printed: list[str]) -> None:
    """What is wrong or missing is found and printed once, whatever else is in the recording."""
    result = check(client, recording(lines))
    shown = result.out.splitlines()
    assert (result.status, shown[:-2] + shown[-1:], result.err) == (status, printed, "")
    end = max(time for time, _ in lines)
    assert shown[-2] == f"recorded from {moment(0)} to {moment(end)}"


def test_update_without_checksum(client: Client) -> None:
    """An update without a checksum is applied: the next checksum holds only with it."""
    first = book("XBT/USD", {"a": [GONE, *levels(5050)]})
    lines = [*START[:2], (1, first), (2, SAME)]
    assert check(client, recording(lines)).status == 0
    assert check(client, recording([*lines[:2], *lines[3:]])).status == 1


def test_emptied_book(client: Client) -> None:
    """A snapshot may be empty, and one of either side alone is a snapshot."""
    empty = book("XBT/USD", {"as": [], "bs": []})
    half = book("XBT/USD", {"bs": BIDS[1:]})
    rest = book("XBT/USD", {"a": levels(*range(5005, 5051, 5))}, {"b": BIDS[:1], "c": CHECKSUM})
    assert check(client, recording([(0, empty), (1, SNAPSHOT), (2, UPDATE)])).status == 0
    assert check(client, recording([(0, SNAPSHOT), (1, half), (2, rest)])).status == 0


def test_midnight(client: Client) -> None:
    """Where the new day's recording begins before the old day's ends, there is no gap."""
    old = [*START, (9, SAME), (11, SAME)]
    new = [(9.5, STATUS), (10, SNAPSHOT), (10.5, UPDATE), (12, SAME)]
    status, out, _ = check(client, recording(old), recording(new))
    assert (status, out.splitlines()[-1]) == (0, "0 gaps, 0.000 s; 5 checksums hold, 0 don't")


def test_gap_between_files(client: Client) -> None:
    """Between two files there is a gap like others, also where a loss follows the overlap."""
    status, out, _ = check(client, recording(START), recording([(9, STATUS), (10, SNAPSHOT)]))
    assert (status, out.splitlines()[-1]) == (0, "1 gaps, 9.000 s; 1 checksums hold, 0 don't")
    new = [(9.5, STATUS), (10, SNAPSHOT), (10.5, STATUS), (13, SNAPSHOT)]
    status, out, _ = check(client, recording([*START, (11, SAME)]), recording(new))
    assert (status, out.splitlines()[-1]) == (0, "1 gaps, 2.000 s; 2 checksums hold, 0 don't")


@pytest.mark.parametrize("torn", ['{"ev', "[0", '5]\n["x"', "1]\n1", '[["as"],"book-x","A/B"]'])
def test_torn_line(client: Client, torn: str) -> None:
    """A line that can't be read is no trouble, and what follows it may be another connection."""
    lines = recording(START) + f"[2,{torn}\n"
    status, out, _ = check(client, lines + recording([(3, SAME), (4, SAME)]))
    assert (status, out.splitlines()[-1]) == (0, "0 gaps, 0.000 s; 3 checksums hold, 0 don't")
    status, out, _ = check(client, lines + recording([(3, SNAPSHOT)]))
    assert "1 gaps, " in out


def test_packed(client: Client) -> None:
    """A packed file is read like another; of one that is cut, what is there is checked."""
    text = recording([*START, *[(2, SAME)] * 2000]).encode()
    packed = client.folder / "1.jsonl.gz"
    packed.write_bytes(gzip.compress(text))
    status, out, err = client.run("1.jsonl.gz", program=program("check_books"))
    assert (status, err) == (0, "")
    assert "; 2001 checksums hold" in out
    packed.write_bytes(gzip.compress(text)[:-9])
    status, out, err = client.run("1.jsonl.gz", program=program("check_books"))
    assert (status, err.startswith("1.jsonl.gz can't be read to its end (")) == (1, True)
    assert " checksums hold, 0 don't" in out


@pytest.mark.parametrize(("name", "content"), [("no.jsonl", None), ("x.gz", b"nothing packed")])
def test_unreadable(client: Client, name: str, content: bytes | None) -> None:
    """A file that can't be read is told, and the others are checked all the same."""
    if content:
        (client.folder / name).write_bytes(content)
    (client.folder / "good.jsonl").write_text(recording(START))
    status, out, err = client.run(name, "good.jsonl", program=program("check_books"))
    assert (status, err.startswith(f"{name} can't be read to its end (")) == (1, True)
    assert out.endswith("1 checksums hold, 0 don't\n")
    status, out, err = client.run(name, program=program("check_books"))
    assert (status, out) == (1, "0 gaps, 0.000 s; 0 checksums hold, 0 don't\n")


def test_depth() -> None:
    """A side is cut to its depth, so that a level that was pushed out does not come back."""
    side = Side(-1)
    side.update([["1", "1", "0"], ["2", "1", "0"], ["3", "1", "0"]], 2)
    side.update([["3", "0.0", "0"], ["9", "0.0", "0"]], 2)
    assert side.keys == [-2.0]
    assert list(side.levels) == [-2.0]


def test_full_disk(client: Client) -> None:
    """Sums that can't be written are a failure."""
    (client.folder / "0.jsonl").write_text(recording(START))
    with open("/dev/full", "wb") as full:
        result = client.run("0.jsonl", program=program("check_books"), stdout=full)
    assert (result.status, result.err.startswith("stdout can't be written (")) == (1, True)


def test_head(client: Client) -> None:
    """A reader that leaves ends it quietly."""
    (client.folder / "0.jsonl").write_text(recording(START))
    process = client.start("0.jsonl", program=program("check_books"), stdout=subprocess.PIPE)
    process.stop_reading()
    assert process.end().err == ""


def test_help(client: Client) -> None:
    """The help says what is printed and what each status means."""
    status, out, err = client.run("--help", program=program("check_books"))
    assert (status, err) == (0, "")
    assert all(words in out for words in ("usage: check_books.py FILE...", "exit status"))


def test_usage(client: Client) -> None:
    """Without a file there is the usage."""
    words = "usage: check_books.py FILE...\n"
    assert client.run(program=program("check_books")) == (1, "", words)
