#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["h11>=0.14", "trustme>=1.2", "websockets>=13"]
# ///
"""The practice exchange: Kraken's WebSocket API v1 on loopback, under the real host names.

    python tests/exchange.py [options] COMMAND...

runs COMMAND and ends with its exit status. If COMMAND is bash, every client that is started in that
shell uses the practice exchange. Clients need no change for this: the environment tells them to use
a proxy (https_proxy), which leads to this exchange only, and to trust its certificates for the real
host names.

A client that ignores https_proxy reaches the real exchange. --sealed prevents that, on Linux: no
other address can be reached then.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

try:
    from practice.authority import Authority
    from practice.credentials import API_KEY, API_SECRET
    from practice.exchange import Practice
    from practice.faults import FAULTS, parse_fault
    from practice.replay import Replay, read_messages
    from practice.sealed import ADDRESSES, seal
    from practice.server import ANYWHERE, Server
except ModuleNotFoundError as error:  # most likely in a new shell
    raise SystemExit(f"{error}: {sys.executable} -m pip install '.[practice]'") from None

PROXIED = (
    "Programs find it through https_proxy. A program that ignores https_proxy reaches the real"
    " exchange; --sealed prevents that."
)
SEALED = "No program can reach any other address from here."
WIDTH, INDENT = 79, 22  # of the faults in --help
TOKEN_FILE = Path(__file__).parent.parent / "WS_Token.example"


def make_server(options: argparse.Namespace, authority: Authority) -> Server:
    """Return the exchange that is wanted."""
    practice = Practice(
        options.seed,
        options.speed,
        options.token_life,
        token=TOKEN_FILE.read_text().split()[0],
        faults=options.fault,
    )
    addresses = ADDRESSES if options.sealed else ANYWHERE
    common = practice, authority.context(), addresses, options.latency / 1000
    return Replay(options.messages, options.pace, *common) if options.replay else Server(*common)


def introduce(options: argparse.Namespace, folder: Path) -> None:
    """Say on stderr what it is, and leave an API key and its secret in the folder."""
    (folder / "API_Public_Key").write_text(API_KEY)
    (folder / "API_Private_Key").write_text(API_SECRET)
    faults = ", ".join(dict(map(parse_fault, options.fault))) or "none"
    print(
        "This is the practice exchange: no real account and no real money."
        f" Seed {options.seed}, faults: {faults}.\n"
        f"{SEALED if options.sealed else PROXIED}\n"
        f"Its token is the first line of {TOKEN_FILE}: copy that file to WS_Token.\n"
        f"Its API key, for fresh tokens, is in API_Public_Key and API_Private_Key in {folder}.",
        file=sys.stderr,
    )


async def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command, pass on the signals that end it, and return its exit status."""
    try:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
    except OSError as error:
        print(f"{command[0]} can't be run: {error.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the command as well
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, process.send_signal, number)
    status = await process.wait()
    return status if status >= 0 else 128 - status


async def serve(options: argparse.Namespace, authority: Authority) -> int:
    """Run the command of the command line while the exchange runs."""
    async with make_server(options, authority) as server:
        proxy = None if options.sealed else await server.open_proxy()
        return await run(options.command, authority.environment(proxy))


def describe_faults() -> str:
    """Return the paragraph of --help that explains the faults, a line or two for each."""
    lines = ["faults (--fault may be given several times; NAME=S sets the seconds):"]
    for name, fault in FAULTS.items():
        shown = name if fault.seconds is None else f"{name}={fault.seconds:g}"
        words = textwrap.wrap(fault.about, WIDTH - INDENT)
        lines += [
            f"{f'  {shown}':<{INDENT}}{words[0]}",
            *(" " * INDENT + line for line in words[1:]),
        ]
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description="Run a command on the practice exchange, a local imitation of Kraken's.",
        epilog=describe_faults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--sealed", action="store_true", help="make every other address unreachable (Linux)")
    option("--seed", metavar="N", type=int, default=0, help="the same N gives the same market (0)")
    option(
        "--speed",
        metavar="X",
        type=float,
        default=1.0,
        help="let the market go X times as fast (1)",
    )
    option("--latency", metavar="MS", type=float, default=20.0, help="delay in each direction (20)")
    option(
        "--token-life",
        metavar="S",
        type=float,
        default=900.0,
        help="seconds until a token expires (900)",
    )
    option(
        "--fault",
        metavar="NAME[=S]",
        action="append",
        default=[],
        help="switch on a fault of those below",
    )
    option("--replay", metavar="FILE", type=Path, help="send the messages of a recording")
    option(
        "--pace", metavar="S", type=float, default=0.0, help="wait S at each heartbeat of FILE (0)"
    )
    option("command", metavar="COMMAND", nargs="...", help="such as bash")
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command:
        parser.error("no command to run")
    try:
        options.messages = read_messages(options.replay) if options.replay else []
    except (OSError, ValueError) as error:
        parser.error(f"{options.replay} is not a recording ({error})")
    if min(options.speed, options.token_life) <= 0 or options.latency < 0:
        parser.error("--speed and --token-life must be greater than 0, and --latency at least 0")
    try:
        list(map(parse_fault, options.fault))
    except ValueError as error:
        parser.error(str(error))
    return options


def main() -> int:
    """Run the command of the command line against the exchange."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        if options.sealed:
            try:
                seal(authority.bundle, options.command[0])
            except OSError as error:
                print(
                    "--sealed needs user, network and mount namespaces, which this system forbids:"
                    f" {error.strerror} ({error.filename})",
                    file=sys.stderr,
                )
                return 1
        if not options.replay:
            introduce(options, Path(folder))
        status = asyncio.run(serve(options, authority))
        print("You have left the practice exchange.", file=sys.stderr)
        return status


if __name__ == "__main__":
    raise SystemExit(main())
