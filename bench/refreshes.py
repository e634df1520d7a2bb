"""
How many people's grants a broker refreshes in a second on one core, each of them on the disk before it is used.

    python -m bench.refreshes [--grants N] [--json FILE] [--python INTERPRETER]

A real broker starts on a store with N grants whose access tokens are about to end, so that all are due at once. Each
refresh is signed (ES256) and goes over mutual TLS 1.3 to nginx, which answers with a new access token, bound to the
certificate, and a new refresh token; both are in the store, synced, before they are served. The broker has a core of
its own. The first and the last tenth do not count: connections are made there, and the last ones wait for their turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.canned import start_server
from bench.grants import fill
from bench.measure import columns
from bench.rig import Broker, GaveUpError, first, free_ports, machine, make_keys, pin

GRANTS = 20_000
QUICK_GRANTS = 100

LEFT = 30.0
"""Seconds until the access tokens end that are in the store at the start: due, and not yet over."""

LIFETIME = 3_600
"""Seconds that the new ones live: nothing is due twice."""

CONFIG = """
[daemon]
state_dir = "state"
[store]
key = {{ file = "store.key" }}
[audit]
file = "audit.log"
key = {{ file = "audit.key" }}
[ops]
listen = "127.0.0.1:0"
[certificate.bench]
cert_file = "client.pem"
key_file = "client.key"
[key.bench]
file = "signing.pem"
alg = "ES256"
[listener.app]
path = "api.sock"
mode = "0600"
[workload.app]
listener = ["app"]
tokens = {tokens}
may = ["get", "authorize", "list"]
"""

ISSUERS = 6
"""Each may be asked a thousand times in a second at the most, which is not what is measured."""

ISSUER = """
[issuer.as{number}]
issuer = "{issuer}"
profile = "fapi2"
ca_file = "ca.pem"
max_requests_per_second = 1000
max_concurrent_requests = 16
[client.app{number}]
issuer = "as{number}"
client_id = "app"
signing_keys = ["bench"]
certificate = "bench"
redirect_uris = ["https://app.example/callback"]
[token.people{number}]
client = "app{number}"
grant_type = "authorization_code"
scope = ["accounts"]
grants = "many"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What came of it: *per_second* on one core, and *processor*, the microseconds that each took of it."""

    grants: int
    per_second: float
    processor: float
    failed: int


def measure(directory: Path, grants: int, python: Path, say: Callable[[str], None]) -> Refreshed:
    """Have all refreshed that are in a store in *directory*, which is empty."""
    cores: Sequence[int | None] = sorted(os.sched_getaffinity(0))
    beside, own = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    make_keys(directory)
    (directory / "state").mkdir(mode=0o700)
    (directory / "store.key").touch(mode=0o600)
    (directory / "store.key").write_bytes(os.urandom(32))
    ports = free_ports(ISSUERS)
    issuers = {f"people{number}": f"https://localhost:{port}" for number, port in enumerate(ports)}
    sections = [ISSUER.format(number=number, issuer=issuer) for number, issuer in enumerate(issuers.values())]
    (directory / "config.toml").write_text(CONFIG.format(tokens=json.dumps(list(issuers))) + "".join(sections))
    say(f"refreshes of {grants:,} grants")
    fill(directory, grants, issuers=issuers, left=LEFT)
    broker = Broker(config=directory / "config.toml", core=own, python=python)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        pin(0, beside)
        stack.callback(start_server(directory, ports, lifetime=LIFETIME, refresh_tokens=True, core=beside).stop)
        stack.callback(broker.stop)
        broker.start()
        assert broker.process is not None
        first(broker.process.pid)
        begun, used_before, some = _mark(broker, grants // 10)
        ended, used, most = _mark(broker, grants - grants // 10)
        counted = most - some
        return Refreshed(
            grants=grants,
            per_second=round(counted / (ended - begun), 1),
            processor=round(1e6 * (used - used_before) / counted, 1),
            failed=broker.counts["token_refresh_failed"],
        )


def _mark(broker: Broker, wanted: int) -> tuple[float, float, int]:
    """Wait until so many are refreshed; gives the time, the processor seconds until then, and how many are."""
    broker.wait_until(lambda: broker.counts["token_refreshed"] >= wanted, f"{wanted:,} grants are refreshed")
    return time.monotonic(), broker.processor(), broker.counts["token_refreshed"]


def table(found: Refreshed) -> str:
    """Give one row."""
    header = ("refreshes on one core", "a second", "CPU µs each", "failed")
    row = (f"{found.grants:,} grants", f"{found.per_second:,.0f}", f"{found.processor:,.0f}", str(found.failed))
    return columns([header, row])


def report(grants: int, python: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        found = measure(Path(directory), grants, python, say)
    return {"machine": dict(machine()), "refreshes": asdict(found), "table": table(found)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 if something that it needs is missing or does not work."""
    parser = argparse.ArgumentParser(prog="bench.refreshes", description="Measure refreshes of people's grants.")
    parser.add_argument("--grants", type=int, default=GRANTS, help="how many (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="run the broker on this one")
    wanted = parser.parse_args(arguments)
    try:
        found = report(wanted.grants, wanted.python, lambda what: print(f"... {what}", file=sys.stderr, flush=True))
    except GaveUpError as error:
        print(f"bench.refreshes: {error}", file=sys.stderr)
        return 2
    print(found["table"])
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
