"""What the project says of itself in more than one place."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import exchange
import krakenws
from conftest import SCRIPT
from practice.credentials import PRACTICE_TOKEN

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = SCRIPT.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def script_block(path: Path) -> dict[str, Any]:
    """Return what a script's PEP 723 block says."""
    pattern = r"(?m)^# /// script$\n((?:^#(?: .*)?$\n)+)^# ///$"
    [block] = re.findall(pattern, path.read_text())
    return tomllib.loads(re.sub(r"(?m)^# ?", "", block))


def test_script_block() -> None:
    """The script's block and pyproject.toml ask for the same."""
    block = script_block(SCRIPT)
    assert block["dependencies"] == PROJECT["dependencies"]
    assert block["requires-python"] == PROJECT["requires-python"]


def test_exchange_block() -> None:
    """The exchange's block asks for what the extra of the practice exchange asks for."""
    block = script_block(Path(exchange.__file__))
    assert block["dependencies"] == PROJECT["optional-dependencies"]["practice"]
    assert block["requires-python"] == PROJECT["requires-python"]


def test_version() -> None:
    """The version is a plain literal, which flit reads without running the script."""
    assert f'\n__version__ = "{krakenws.__version__}"\n' in SCRIPT.read_text()


@pytest.mark.parametrize("path", [SCRIPT, Path(exchange.__file__)], ids=["client", "exchange"])
def test_executable(path: Path) -> None:
    """The scripts can be run by their names."""
    assert path.read_text().startswith("#!/usr/bin/env python3\n# /// script\n")
    assert path.stat().st_mode & 0o111


def test_token_is_ignored_by_git() -> None:
    """A token is not committed by accident."""
    assert "WS_Token" in (ROOT / ".gitignore").read_text().splitlines()


def test_practice_token() -> None:
    """The example's token is the one that is good on the practice exchange."""
    assert exchange.TOKEN_FILE.read_text().split()[0] == PRACTICE_TOKEN
