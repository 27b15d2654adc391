"""Fixtures for the tests of the pages."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.scripted import ScriptedExchange
from conftest import TOKEN
from pages.common import Shell


@pytest.fixture
def shell(exchange: ScriptedExchange, tmp_path: Path) -> Iterator[Shell]:
    """Yield a shell, with a token in its directory; of a test that fails nothing lives on."""
    (tmp_path / "WS_Token").write_text(TOKEN)
    shell = Shell(exchange, tmp_path)
    yield shell
    for process in shell.processes:
        process.process.kill()
        with process.process, contextlib.suppress(OSError):
            os.killpg(process.process.pid, signal.SIGKILL)  # what it may have left behind
