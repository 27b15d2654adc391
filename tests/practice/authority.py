"""The exchange's own certificate authority, and how clients are told to trust it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import trustme

from practice.common import HOSTS

TRUST = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "WEBSOCKET_CLIENT_CA_BUNDLE",
)
# PYTHONUNBUFFERED changes how clients write. The others lead to a tmux or screen outside.
LEFT_OUT = ("PYTHONUNBUFFERED", "TMUX", "STY")


class Authority:
    """A certificate authority of our own, and the exchange's certificate from it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA(organization_name="krakenws", organization_unit_name="practice")
        self.bundle = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.bundle))

    def context(self, *hosts: str, **certificate: Any) -> ssl.SSLContext:
        """Return what a server needs to be HOSTS, the real ones if none are given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(hosts or HOSTS), **certificate).configure_cert(context)
        return context

    def environment(self, proxy: int | None = None) -> dict[str, str]:
        """Return an environment in which a client trusts the exchange.

        It finds the exchange behind the proxy at this port, or, in a sealed one, without.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and name not in LEFT_OUT
        }
        environment.update(dict.fromkeys(TRUST, str(self.bundle)))
        environment["debian_chroot"] = "practice"  # which Debian's and Ubuntu's prompts show
        if proxy:
            address = f"http://127.0.0.1:{proxy}"
            environment.update(dict.fromkeys(("https_proxy", "HTTPS_PROXY"), address))
        return environment
