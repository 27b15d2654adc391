"""What the tests of the programs share: how a program is run, and the limits that it has."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import PATIENCE, SCRIPT

TESTS = SCRIPT.parent / "tests"
EXAMPLES = TESTS / "examples"


def program(name: str, *changes: str) -> list[str]:
    """Return the command of a program.

    Each change is a statement about the program as a module called "it". Tests use this for limits
    that a slow machine could meet, and for what would take minutes.
    """
    if not changes:
        return [sys.executable, str(EXAMPLES / f"{name}.py")]
    first = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from examples import {name} as it"
    return [sys.executable, "-c", "\n".join([first, *changes, "sys.exit(it.main())"])]


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true that nobody tells us of, such as that a file is there."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def stub(path: Path, command: str) -> Path:
    """Put a shell script there that can be run, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return path
