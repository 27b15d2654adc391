"""A sealed exchange, on Linux: namespaces in which the three hosts are this exchange.

seal() takes this process, and all that it starts from then on, into a user, a network and a mount
namespace. The network has nothing but its loopback: there is no other address that could be
reached. The hosts file, the resolver's files and the system's trust store are others there.
Nothing outside changes, and it takes no more than a user's own rights.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from practice.common import HOSTS

ADDRESSES = {host: (f"127.0.0.{number}", 443) for number, host in enumerate(HOSTS, 1)}

NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # of unshare(2)
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000  # of mount(2)
SET_FLAGS, UP = 0x8914, 1  # of netdevice(7)

HASHED = "d7c63ecb.0"  # where OpenSSL looks for the authority, by its name, in a folder
FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs")
BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)
CERTIFI = "lib/python3*/*-packages/certifi/cacert.pem"
# Sockets of services outside that look names up or start programs
HIDDEN = (
    "/run/nscd",
    "/run/systemd",
    "/run/avahi-daemon",
    "/run/dbus",
    "/run/user",
    "/run/docker.sock",
    "/run/podman",
    "/run/containerd",
    "/run/screen",
    f"{os.environ.get('TMUX_TMPDIR', '/tmp')}/tmux-{os.getuid()}",  # noqa: S108
)


def seal(bundle: Path, program: str) -> None:
    """Make every other address unreachable, or raise OSError if the system forbids it."""
    if sys.platform != "linux":
        raise OSError(0, "they exist only on Linux", sys.platform)
    enter()
    raise_loopback()
    call("mount", None, b"/", None, ctypes.c_ulong(RECURSIVE | PRIVATE), None)
    replace_files(bundle.parent)
    replace_trust(bundle, program)
    for path in filter(os.path.exists, HIDDEN):
        hide(path)


def call(name: str, *arguments: Any) -> None:
    """Call a function of the C library, and raise OSError unless it returns 0."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def enter() -> None:
    """Enter new namespaces, with the same user id as before."""
    user, group = os.geteuid(), os.getegid()
    call("unshare", NEW_USER | NEW_NETWORK | NEW_MOUNTS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        Path("/proc/self", name).write_text(text)


def raise_loopback() -> None:
    """Switch on the loopback interface, the only one of this network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SET_FLAGS, struct.pack("16sh22x", b"lo", UP))


def bind(source: Path, target: str) -> None:
    """Mount a file or folder over another one."""
    call("mount", bytes(source), os.fsencode(target), None, ctypes.c_ulong(BIND), None)


def hide(path: str) -> None:
    """Mount something empty over a file or folder."""
    if os.path.isdir(path):
        call("mount", b"none", os.fsencode(path), b"tmpfs", ctypes.c_ulong(0), b"mode=700")
    else:
        bind(Path(os.devnull), path)


def replace_files(folder: Path) -> None:
    """Replace the resolver's files, so that names are looked up only in our hosts file."""
    names = {"localhost": "127.0.0.1", socket.gethostname(): "127.0.0.1"}
    names.update({host: address for host, (address, _) in ADDRESSES.items()})
    texts = {
        "/etc/hosts": "".join(f"{address} {name}\n" for name, address in names.items()),
        "/etc/resolv.conf": "nameserver 127.0.0.1\n",  # nobody answers there
    }
    services = Path("/etc/nsswitch.conf")  # not on Alpine
    text = services.read_text() if services.exists() else ""
    texts[str(services)] = re.sub("(?m)^hosts:.*", "hosts: files", text)
    for path in filter(os.path.exists, texts):
        source = folder / Path(path).name
        source.write_text(texts[path])
        bind(source, path)


def replace_trust(bundle: Path, program: str) -> None:
    """Make our authority the only one that the system and the clients that we find trust."""
    store = bundle.parent / "certs"
    store.mkdir()
    for name in (HASHED, "ca-certificates.crt", "ca-bundle.crt"):
        (store / name).write_bytes(bundle.read_bytes())
    for path in filter(os.path.isdir, FOLDERS):
        bind(store, path)
    for path in filter(os.path.isfile, [*BUNDLES, *bundles(program)]):
        if Path(path).read_bytes() != bundle.read_bytes():
            bind(bundle, path)


def bundles(program: str) -> Iterator[str]:
    """Yield the bundles of this Python's OpenSSL and of the certifi that programs use."""
    yield ssl.get_default_verify_paths().openssl_cafile
    for folder in {os.path.dirname(program), *os.get_exec_path()}:
        with contextlib.suppress(PermissionError):  # then no program in it can be run, either
            yield from map(str, Path(folder).absolute().parent.glob(CERTIFI))
