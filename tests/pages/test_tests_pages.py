"""The pages for developers: tests/README.md and tests/client/README.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import exchange
from conftest import Client
from pages.common import ROOT, Shell, end, practise, read_blocks, slug
from practice.faults import FAULTS

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *(ROOT / "tests").rglob("README.md")]
}
TESTS = PAGES["tests/README.md"]
CLIENT = PAGES["tests/client/README.md"]
BLOCKS = read_blocks(TESTS)


def test_every_example_is_run() -> None:
    """No block of code is without a name, and none without a test."""
    assert TESTS.count("\n```") == 2 * len(BLOCKS)
    assert [name for name in BLOCKS if f'"{name}"' not in Path(__file__).read_text()] == []
    assert "```" not in CLIENT


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    """Every link of every page leads to a file that is there, and to a heading in it."""
    links = [link for link in re.findall(r"\]\(([^)]*)\)", PAGES[page]) if "://" not in link]
    assert links or page == "tests/client/README.md"
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists()
        if anchor:
            headings = re.findall(r"^##+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings)


def test_rooms() -> None:
    """The table of rooms has every file and folder of tests/."""
    [table] = re.findall(r"\| room \| .*\n\|---\|---\|\n((?:\|.*\n)+)", TESTS)
    rooms = {name.strip("/") for name in re.findall(r"^\| \[?`(.*?)`", table, re.MULTILINE)}
    there = {path.name for path in (ROOT / "tests").iterdir() if not path.name.startswith("__")}
    assert rooms == {name for name in there if not name.startswith(".")} - {"README.md"}


def test_differences() -> None:
    """Each difference names a file of tests that is there."""
    rows = re.findall(r"^\| .* \| `(test_\w+\.py)` \|$", CLIENT, re.MULTILINE)
    assert len(rows) == CLIENT.count("\n| ") - CLIENT.count("\n| the original |")
    assert [name for name in rows if not (ROOT / "tests" / "client" / name).exists()] == []


def test_one() -> None:
    """The tests that the page names as examples are there."""
    for path in re.findall(r"tests/\S+", BLOCKS["one"]):
        assert (ROOT / path).exists()


def test_checks() -> None:
    """The checks of the code are those of .ci/run."""
    run = (ROOT / ".ci" / "run").read_text()
    assert BLOCKS["checks"].splitlines() == [
        line for line in run.splitlines() if re.match("ruff|mypy|coverage", line)
    ]


def test_options(client: Client) -> None:
    """The table of the practice exchange's options has every option, and no other."""
    section = TESTS[TESTS.index("### Options") : TESTS.index("### Faults")]
    options = set(re.findall(r"--[a-z-]+", "".join(re.findall(r"^\| (.*?) \|", section, re.M))))
    told = client.start(program=[sys.executable, exchange.__file__, "--help"]).end().out
    assert options | {"--help"} == set(re.findall(r"--[a-z-]+", told))


def test_fault_names() -> None:
    """The table of faults has every fault with its seconds, and no other."""
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| (\d*) ?\| ", TESTS, re.MULTILINE)
    told = {name: seconds for names, seconds in rows for name in re.findall(r"[\w-]+", names)}
    assert told == {
        name: "" if fault.seconds is None else f"{fault.seconds:g}"
        for name, fault in FAULTS.items()
    }


@pytest.mark.parametrize("name", ["evening", "lockout"])
def test_practice(shell: Shell, name: str) -> None:
    """An example of the practice exchange goes as it is shown."""
    (shell.folder / "WS_Token").unlink()
    practise(shell, BLOCKS[name])


@pytest.mark.parametrize("command", BLOCKS["faults"].splitlines())
def test_faults(shell: Shell, command: str) -> None:
    """A feed comes back under the faults of the examples, sooner here than there."""
    sooner = re.sub("=[0-9]+", "=0.3", command).replace("--fault drop ", "--fault drop=0.3 ")
    process = shell.shell(f"exec {sooner} 2>&1")
    for words in ('"ticker","XBT/USD"]', "Connecting again in ", '"ticker","XBT/USD"]'):
        process.read_until(words)
    end(process)
