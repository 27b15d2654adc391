"""websocket-client missing or too old, or something else in its place."""

from __future__ import annotations

import sys

import pytest

from conftest import Client

MISSING = "is missing, or another package called websocket is in its place"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param("raise ImportError", MISSING, id="missing"),
        pytest.param("class WebSocket: pass", MISSING, id="another package of the name"),
        pytest.param("print 'Python 2'", MISSING, id="a package for Python 2"),
        pytest.param(
            "__version__, WebSocketTimeoutException = '1.2.3', OSError",
            "1.2.3 is too old",
            id="old",
        ),
        pytest.param(
            "__version__, WebSocketTimeoutException = '1.7rc1', OSError",
            "1.7rc1 is too old",
            id="old, and not a number",
        ),
    ],
)
def test_sentence(client: Client, source: str, problem: str) -> None:
    """One sentence says what this very Python needs."""
    (client.folder / "websocket.py").write_text(source)
    client.environment["PYTHONPATH"] = str(client.folder)
    install = f"{sys.executable} -m pip install 'websocket-client>=1.8'"
    result = client.run("ticker", "XBT/USD")
    assert result == (1, f"websocket-client {problem}: {install}\n", "")
    assert client.exchange.dialled == []
