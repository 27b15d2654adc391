"""The sealed exchange: nothing else is there, whatever a program does about it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import exchange
from conftest import SCRIPT, Process, Result
from practice import sealed
from practice.authority import Authority

COMMAND = [sys.executable, exchange.__file__, "--latency", "0", "--sealed"]
# Without any help from the environment
LOOK = """
import os, socket, ssl, urllib.request
os.environ.clear()
folder = "/etc/ssl/certs" if os.path.isdir("/etc/ssl/certs") else None
store = ssl.create_default_context(capath=folder)
with urllib.request.urlopen("https://api.kraken.com/0/public/Time", context=store) as reply:
    print(reply.status)
print(os.getuid())
for host in ("192.0.2.1", "2001:db8::1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        print(sock.connect_ex((host, 443)))
try:
    socket.getaddrinfo("example.com", 443)
except OSError as error:
    print(type(error).__name__)
"""


def run_sealed(*command: str) -> Result:
    """Return how a command ended on the sealed exchange; skip where there can be none."""
    result = Process([*COMMAND, *command]).end()
    if "namespaces" in result.err:
        pytest.skip(result.err)
    return result


def test_nothing_else() -> None:
    """The hosts are the exchange, whom the system trusts; no other address is reached or known."""
    status, out, err = run_sealed(sys.executable, "-c", LOOK)
    unreachable = str(errno.ENETUNREACH)
    assert out.split() == ["200", str(os.getuid()), unreachable, unreachable, "gaierror"], err
    assert status == 0


def test_client() -> None:
    """The client finds it without a proxy, and the first lines say that nothing else is there."""
    status, out, err = run_sealed(sys.executable, str(SCRIPT), "-rqC1", "ping")
    assert (status, out) == (0, '{"event":"pong"}\n')
    assert err.splitlines()[1] == "No program can reach any other address from here."
    assert "https_proxy" not in err


def test_where_it_can_not_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the system has no namespaces, or none for us, one sentence says so."""
    monkeypatch.setattr(sys, "argv", ["exchange.py", "--sealed", "true"])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert exchange.main() == 1
    assert capsys.readouterr().err == (
        "--sealed needs user, network and mount namespaces, which this system forbids:"
        " they exist only on Linux (darwin)\n"
    )
    with pytest.raises(OSError, match="Bad file descriptor: 'close'"):
        sealed.call("close", -1)


def test_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles beside the program are replaced, too; what others listen at is hidden."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sealed, "call", lambda *arguments: calls.append(arguments))
    bundle = Authority(tmp_path).bundle
    certifi = tmp_path / "lib" / "python3.9" / "site-packages" / "certifi" / "cacert.pem"
    certifi.parent.mkdir(parents=True)
    certifi.write_text("others")
    sealed.replace_trust(bundle, str(tmp_path / "bin" / "python"))
    assert ("mount", bytes(bundle), bytes(certifi)) in [call[:3] for call in calls]
    calls.clear()
    sealed.hide(str(certifi))
    sealed.hide(str(tmp_path))
    assert [call[1:4:2] for call in calls] == [(b"/dev/null", None), (b"none", b"tmpfs")]
