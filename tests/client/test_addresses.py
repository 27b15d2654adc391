"""Where the client connects to: addresses, proxies, and whose certificates it trusts."""

from __future__ import annotations

import base64
import errno
import socket
import ssl
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.common import ACCEPTED, DATA, GREETED, SUBSCRIBED, connection_failed, hang, silence
from client.scripted import GREETING, answer, frame
from conftest import Client, needs
from practice.authority import Authority
from practice.common import HOSTS

PUBLIC = "ws.kraken.com:443"
NOBODY = ("192.0.2.1", 443)  # RFC 5737: for documentation
# In the child: an address that the system refuses at once, which a test can't arrange for real.
UNREACHABLE = """
connect = socket.socket.connect
def refuse(self, address):
    if address[0].startswith("192.0.2."):
        raise OSError({code}, "no way")
    return connect(self, address)
socket.socket.connect = refuse
"""
# In the child: an address of this machine that lets whoever has less patience wait in vain.
SLOW = """
connect_at_once = socket.socket.connect
def wait(self, address):
    if self.gettimeout() is not None and 0 < self.gettimeout() < 1:
        time.sleep(self.gettimeout())
        raise socket.timeout("timed out")
    return connect_at_once(self, address)
socket.socket.connect = wait
"""


@pytest.fixture
def proxied(client: Client, request: pytest.FixtureRequest) -> bool:
    """Let the client look a name up: the proxy's, or the exchange's if there is none."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        del client.environment[name]
    if request.param:
        client.environment["https_proxy"] = "http://proxy.example:8080"
    client.exchange.script = answer(ACCEPTED)
    return bool(request.param)


both_ways = pytest.mark.parametrize(
    "proxied", [False, True], ids=["direct", "proxy"], indirect=True
)


@pytest.mark.parametrize(
    ("proxy", "looked_up"),
    [
        ("", "ws.kraken.com 443"),
        ("http://proxy.example:8080", "proxy.example 8080"),
        ("http://proxy.example", "proxy.example 80"),
    ],
    ids=["no proxy", "a port", "no port"],
)
def test_host_and_port(client: Client, proxy: str, looked_up: str) -> None:
    """The exchange is at port 443, and a proxy at its own, or at 80 if none is said."""
    client.environment.update(https_proxy=proxy, HTTPS_PROXY=proxy)
    client.patch("def getaddrinfo(host, port, *_, **__): raise OSError(f'{host} {port}')")
    assert client.run("ticker", "XBT/USD") == (1, connection_failed(looked_up), "")


@both_ways
@pytest.mark.parametrize("silent", [1, 2])
def test_silent_addresses(client: Client, proxied: bool, silent: int) -> None:
    """Addresses that don't answer leave an order enough of its three seconds."""
    with silence() as first, silence() as second:
        client.resolve(*[first, second][:silent], client.exchange.server_address)
        result = client.run("addOrder", "-rqC1")
    assert result == (0, f"{ACCEPTED}\n", "")
    assert client.exchange.dialled == ["ws-auth.kraken.com:443"] * proxied


@both_ways
@pytest.mark.parametrize(
    "code", ["EHOSTUNREACH", "ENETUNREACH", "EACCES", "EADDRNOTAVAIL", "ETIMEDOUT", "ECONNREFUSED"]
)
def test_unreachable_addresses(client: Client, proxied: bool, code: str) -> None:
    """An address that can't be reached, whatever the system says of it, isn't the last one."""
    unreachable = UNREACHABLE.format(code=getattr(errno, code))
    client.resolve(NOBODY, NOBODY, client.exchange.server_address, before=unreachable)
    assert client.run("addOrder", "-rqC1") == (0, f"{ACCEPTED}\n", "")
    assert client.exchange.dialled == ["ws-auth.kraken.com:443"] * proxied


@both_ways
@pytest.mark.usefixtures("proxied")
def test_silent_and_unreachable(client: Client) -> None:
    """Both kinds of bad addresses before a good one cost no more."""
    with silence() as silent:
        unreachable = UNREACHABLE.format(code=errno.EHOSTUNREACH)
        addresses = [NOBODY, silent, NOBODY, client.exchange.server_address]
        client.resolve(*addresses, before=unreachable)
        assert client.run("addOrder", "-rqC1") == (0, f"{ACCEPTED}\n", "")


@pytest.mark.parametrize("others", [0, 1, 2], ids=["alone", "one behind it", "two around it"])
def test_slow_address(client: Client, others: int) -> None:
    """An address that needs a second to answer is given it, also beside unreachable ones.

    A second is what a lost packet costs, and twice the way by satellite.
    """
    for name in ("https_proxy", "HTTPS_PROXY"):
        del client.environment[name]
    client.exchange.script = answer(ACCEPTED)
    good = client.exchange.server_address
    addresses = [[good], [good, NOBODY], [NOBODY, good, NOBODY]][others]
    client.resolve(*addresses, before=SLOW + UNREACHABLE.format(code=errno.ENETUNREACH))
    assert client.run("addOrder", "-rqC1", "-W0") == (0, f"{ACCEPTED}\n", "")


@both_ways
@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("code", ["EHOSTUNREACH", "EACCES", "ETIMEDOUT"])
def test_no_address_is_reached(client: Client, code: str) -> None:
    """Where no address can be reached, the run ends at once with the words of the system."""
    unreachable = UNREACHABLE.format(code=getattr(errno, code))
    client.resolve(NOBODY, NOBODY, before=unreachable)
    result = client.run("ticker", "XBT/USD", "--idle-timeout", "1e6")
    assert result == (1, connection_failed(f"[Errno {getattr(errno, code)}] no way"), "")


@both_ways
@pytest.mark.usefixtures("proxied")
def test_only_silent_addresses(client: Client) -> None:
    """Where no address answers, the limit on connecting ends the run."""
    with silence() as first, silence() as second:
        client.resolve(first, second)
        result = client.run("ticker", "XBT/USD", "--idle-timeout", "0.5")
    assert result == (1, connection_failed("no connection within 0.5 seconds"), "")


@pytest.mark.parametrize(
    ("variables", "proxied"),
    [
        pytest.param({"https_proxy": "URL"}, True, id="lower case"),
        pytest.param({"HTTPS_PROXY": "URL"}, True, id="upper case"),
        pytest.param({"https_proxy": "URL", "HTTPS_PROXY": "http://[::1]:9"}, True, id="both"),
        pytest.param({"https_proxy": " URL "}, True, id="spaces"),
        pytest.param({"https_proxy": "URL/path?query#fragment"}, True, id="a path"),
        pytest.param({"https_proxy": "", "HTTPS_PROXY": "URL"}, False, id="an empty one"),
        pytest.param({"http_proxy": "URL", "all_proxy": "URL"}, False, id="others"),
        pytest.param({"https_proxy": "URL", "no_proxy": "*"}, False, id="*"),
        pytest.param({"https_proxy": "URL", "no_proxy": "ws.kraken.com"}, False, id="the host"),
        pytest.param(
            {"https_proxy": "URL", "no_proxy": "a.example , ws.kraken .com,::1"}, False, id="a list"
        ),
        pytest.param({"https_proxy": "URL", "no_proxy": ".kraken.com"}, False, id="a domain"),
        pytest.param({"https_proxy": "URL", "NO_PROXY": ".kraken.com"}, False, id="NO_PROXY"),
        pytest.param(
            {"https_proxy": "URL", "no_proxy": "", "NO_PROXY": "*"}, True, id="an empty no_proxy"
        ),
        pytest.param(
            {"https_proxy": "URL", "no_proxy": "ws-auth.kraken.com"}, True, id="another host"
        ),
        pytest.param({"https_proxy": "URL", "no_proxy": "WS.KRAKEN.COM"}, True, id="capitals"),
        pytest.param({"https_proxy": "URL", "no_proxy": ".krak*"}, True, id="no pattern"),
    ],
)
def test_proxy_rules(client: Client, variables: dict[str, str], proxied: bool) -> None:
    """The rules of websocket-client say whether there is a proxy."""
    url = f"http://127.0.0.1:{client.exchange.server_address[1]}"
    for name in ("https_proxy", "HTTPS_PROXY"):
        del client.environment[name]
    for name, value in variables.items():
        client.environment[name] = value.replace("URL", url)
    client.resolve()
    client.exchange.script = answer(SUBSCRIBED, DATA)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")
    assert client.exchange.dialled == [PUBLIC] * proxied


@pytest.mark.parametrize(
    ("credentials", "decoded"),
    [
        ("", None),
        ("user:secret@", "user:secret"),
        ("user@", "user"),
        ("user:@", "user"),
        (":secret@", None),
        ("us%40er:p%3A%2F%25w%20d@", "us@er:p:/%w d"),
        ("user:p%C3%A4ss@", "user:p\u00e4ss"),
        (f"user:{'x' * 200}@", f"user:{'x' * 200}"),
    ],
)
def test_credentials(client: Client, credentials: str, decoded: str | None) -> None:
    """Name and password of the proxy's URL reach the proxy, decoded, and on one line."""
    url = f"http://{credentials}127.0.0.1:{client.exchange.server_address[1]}"
    client.environment["https_proxy"] = url
    client.exchange.script = answer(SUBSCRIBED, DATA)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")
    lines = client.exchange.proxied[0].split("\r\n")
    assert lines[:2] == [f"CONNECT {PUBLIC} HTTP/1.1", f"Host: {PUBLIC}"]
    sent = [line.split(": Basic ") for line in lines if line.startswith("Proxy-")]
    assert sent == (
        [["Proxy-Authorization", base64.b64encode(decoded.encode()).decode()]] if decoded else []
    )


SECRET = "Qx7!zW9"  # noqa: S105 - of no proxy


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@127.0.0.1:PORT",
        f"http://user:{SECRET}@127.0.0.1:99999",
        f"http://user:{SECRET}@127.0.0.1:-1",
        f"http://user:{SECRET}@127.0.0.1:{SECRET}",
        f"http://user:{SECRET}/x@127.0.0.1:PORT",
        f"http://user:{SECRET}#x@127.0.0.1:PORT",
        f"http://user:{SECRET}?x@127.0.0.1:PORT",
        f"http://user:{SECRET}@[127.0.0.1:PORT",
        f"http://user:[{SECRET}]@127.0.0.1:PORT",
        f"http://user:{SECRET}@[{SECRET}]:PORT",
        f"http://user:{SECRET}@{'x' * 70}.example:PORT",
        f"http://user:{SECRET}@..example:PORT",
        f"http://user:{SECRET}\udcff@127.0.0.1:PORT",
        f"http://user:{SECRET}\u2100@127.0.0.1:PORT",
        f"http://{SECRET}@127.0.0.1:PORT",
        f"http://{SECRET}:99x9@127.0.0.1:PORT",
        f"http://user:{SECRET}%0d%0aX@127.0.0.1:PORT",
        f"http:user:{SECRET}@127.0.0.1:PORT",
        f"user:{SECRET}@127.0.0.1:PORT",
        f"http:///user:{SECRET}@127.0.0.1:PORT",
    ],
)
def test_password(client: Client, url: str) -> None:
    """No sentence shows any part of a proxy's password, wherever it stands in a URL."""

    def refuse(sock: socket.socket) -> None:
        answers = [SECRET, base64.b64encode(f"user:{SECRET}".encode()).decode()]
        sock.sendall(f"HTTP/1.1 407 {' '.join(answers)}\r\nX: {SECRET}\r\n\r\n".encode())
        hang(sock)

    client.exchange.faults = {"proxy": refuse, "tls": hang}
    port = client.exchange.server_address[1]
    client.environment["https_proxy"] = url.replace("PORT", str(port))
    client.patch("def getaddrinfo(host, *_, **__): raise socket.gaierror(-2, 'not known')")
    if "@127.0.0.1:PORT" in url:
        client.resolve()
    status, out, err = client.run("ticker", "XBT/USD", "--idle-timeout", "2")
    assert (status, err) == (1, "")
    assert out.startswith(connection_failed("")[:-2])
    for part in (SECRET, SECRET[:3], SECRET[3:], "99x9", "udcff", "\u2100", "407 Q"):
        assert part.lower() not in out.lower()


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", "status: 403"),
        (b"HTTP/1.1 407 \xff\r\n\r\n", "status: 407"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\n\r\n", "status: 301"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (b"\r\n\r\n", ""),
        (b"HTTP/1.1 200\r\nX", "Connection to remote host was lost."),
    ],
)
def test_other_answers(client: Client, last: bytes, words: str) -> None:
    """A proxy that answers something else is no way to the exchange, and nothing follows it."""

    def fault(sock: socket.socket) -> None:
        sock.sendall(last)
        sock.shutdown(socket.SHUT_WR)
        hang(sock)

    client.exchange.faults["proxy"] = fault
    status, out, err = client.run("addOrder", "-C1")
    assert (status, err) == (1, "")
    assert out.startswith(connection_failed("")[:-2])
    assert words in out
    assert client.exchange.dialled == ["ws-auth.kraken.com:443"]


@pytest.mark.parametrize(
    "injected",
    [
        frame(GREETING) + frame(ACCEPTED),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + frame(GREETING) + frame(ACCEPTED),
        b"\n",
    ],
    ids=["frames", "HTTP and frames", "a line"],
)
def test_nothing_is_injected(client: Client, injected: bytes) -> None:
    """What a proxy puts behind its answer belongs to TLS, which doesn't accept it."""

    class Proxy:
        """The proxy's socket, which says more than it should."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.recv = sock, sock.recv

        def sendall(self, data: bytes) -> None:
            self.sock.sendall(data + injected)

    honest = client.exchange.tunnel
    client.exchange.tunnel = lambda sock: honest(Proxy(sock))  # type: ignore
    client.exchange.script = answer(ACCEPTED)
    status, out, err = client.run("addOrder", "-C1")
    assert (status, err) == (1, "")
    assert out.startswith(connection_failed("")[:-2])
    assert GREETED not in out
    assert client.exchange.received == []


def trust(client: Client, **variables: str) -> None:
    """Let the client trust nobody but whom these variables name."""
    for name in ("WEBSOCKET_CLIENT_CA_BUNDLE", "SSL_CERT_FILE"):
        del client.environment[name]
    nobody = client.folder / "nobody"
    nobody.mkdir()
    client.environment["SSL_CERT_DIR"] = str(nobody)
    client.environment["SSL_CERT_FILE"] = str(nobody / "none")
    client.environment.update(variables)
    client.exchange.script = answer(SUBSCRIBED, DATA)


def hashed(bundle: Path, folder: Path) -> Path:
    """Return a folder that holds a certificate in the way of OpenSSL."""
    name = subprocess.check_output(["openssl", "x509", "-hash", "-noout", "-in", bundle])  # noqa: S607
    folder.mkdir()
    (folder / f"{name.decode().strip()}.0").write_text(bundle.read_text())
    return folder


@pytest.mark.parametrize(
    "name", ["WEBSOCKET_CLIENT_CA_BUNDLE", "SSL_CERT_FILE"], ids=["the library's", "OpenSSL's"]
)
def test_trusted_file(client: Client, authority: Authority, name: str) -> None:
    """A file of authorities that a variable names is trusted."""
    trust(client, **{name: str(authority.bundle)})
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


@needs("openssl")
@pytest.mark.parametrize(
    "name", ["WEBSOCKET_CLIENT_CA_BUNDLE", "SSL_CERT_DIR"], ids=["the library's", "OpenSSL's"]
)
def test_trusted_folder(client: Client, authority: Authority, name: str) -> None:
    """A folder of authorities that a variable names is trusted."""
    trust(client, **{name: str(hashed(authority.bundle, client.folder / "trusted"))})
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


@pytest.mark.parametrize("bundle", ["", "nowhere"])
def test_no_bundle(client: Client, authority: Authority, bundle: str) -> None:
    """A bundle that isn't there leaves the system's authorities."""
    good = str(authority.bundle)
    trust(client, WEBSOCKET_CLIENT_CA_BUNDLE=bundle, SSL_CERT_FILE=good)
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


def test_bundle_alone(client: Client, authority: Authority) -> None:
    """The library's variable names all who are trusted: the system's authorities aren't."""
    other = Authority(client.folder)
    good, bad = str(authority.bundle), str(other.bundle)
    trust(client, WEBSOCKET_CLIENT_CA_BUNDLE=bad, SSL_CERT_FILE=good)
    status, out, _ = client.run("addOrder")
    assert status == 1
    assert out.startswith(connection_failed("certificate not accepted: ")[:-2])
    assert client.exchange.received == []


def test_bundle_of_nonsense(client: Client) -> None:
    """A bundle that holds no certificate is said, and nobody is trusted."""
    bundle = client.folder / "bundle"
    bundle.write_text("nothing")
    trust(client, WEBSOCKET_CLIENT_CA_BUNDLE=str(bundle))
    status, out, err = client.run("addOrder")
    assert (status, err) == (1, "")
    assert out.startswith(connection_failed("")[:-2])
    assert client.exchange.received == []


def lax_context(bundle: Path) -> ssl.SSLContext:
    """Write an authority into BUNDLE, and return a context with a certificate of it.

    Both hold only what they can't do without: no key usage and no key identifiers.
    """
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    issuer = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "A company")])
    now = datetime.now(timezone.utc)
    pem = b""
    for key, name, extension in (
        (keys[1], x509.Name([]), x509.SubjectAlternativeName(list(map(x509.DNSName, HOSTS)))),
        (keys[0], issuer, x509.BasicConstraints(ca=True, path_length=None)),
    ):
        builder = x509.CertificateBuilder(issuer, name, key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(extension, critical=True)
        pem += builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    own = keys[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    bundle.write_bytes(b"".join(pem.rpartition(b"-----BEGIN")[1:]))
    chain = bundle.with_suffix(".chain")
    chain.write_bytes(own + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def test_lax_authority(client: Client) -> None:
    """An authority that lacks what Python 3.13 wants of new ones is trusted where it was.

    Companies' proxies that look into TLS have such ones, and websocket-client takes them.
    """
    bundle = client.folder / "company.pem"
    client.exchange.context = lax_context(bundle)
    trust(client, WEBSOCKET_CLIENT_CA_BUNDLE=str(bundle))
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")


def test_lax_authority_is_checked(client: Client) -> None:
    """Its certificates are for their hosts alone, too."""
    bundle = client.folder / "company.pem"
    client.exchange.context = lax_context(bundle)
    trust(client, SSL_CERT_FILE=str(bundle))
    assert client.run("ticker", "XBT/USD", "-rqC1") == (0, f"{DATA}\n", "")
    client.exchange.context = client.exchange.authority.context()
    status, out, _ = client.run("addOrder")
    assert status == 1
    assert out.startswith(connection_failed("certificate not accepted: ")[:-2])
