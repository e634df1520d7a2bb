"""
Tokens from the broker, beside nginx that says the same to everybody: rate, latency, processor time.

    python -m bench.serve [--quick] [--json FILE] [--python INTERPRETER]

The broker checks who calls, applies the policy, looks whether the token is good, writes the audit record and counts;
nginx does none of it. They have a core of their own and take turns; the load, and the token server where tokens are
refreshed meanwhile, have another. What counts are the ratios: both sides of each were measured within seconds. Where
oidc-agent is installed, it is compared, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.agent import WORDS, agent, is_installed
from bench.canned import start_server
from bench.load import Asking, Came, Mode, compiled, put
from bench.measure import columns
from bench.nginx import Nginx, program, start_constant
from bench.rig import (
    Broker,
    GaveUpError,
    Load,
    configuration,
    first,
    free_ports,
    machine,
    make_keys,
    pin,
    processor_of,
)
from broker.cli.local_client import UnixConnection

NAME = "t00000"
"""The token that is asked for."""

SETTINGS = """[daemon]
fast_path = {fast}
max_connections = 600
max_connections_per_uid = 600
max_requests_per_second_per_uid = 1000000
"""
"""What stands before the configuration. Caps for one user are none on what is measured."""

PACE = 10_000
"""Requests a second where the time of an answer counts from when its request was due."""

CORES = frozenset(os.sched_getaffinity(0))
"""Those of the machine that we may use, before this process keeps to one of them."""

FAST, PLAIN, NGINX, AGENT = "broker", "broker, plain", "nginx", "oidc-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is compared, on so many *connections*; *plain*: also with a broker that has no fast path."""

    name: str
    connections: int
    mode: Mode = Mode.KEEP
    rate: int | None = None
    plain: bool = False
    query: str = ""


KEPT, NEW, PACED = "kept connections", "a connection each", f"{PACE:,} a second"

QUIET = (
    Case(name=KEPT, connections=1),
    Case(name=KEPT, connections=8, plain=True),
    Case(name=KEPT, connections=64, plain=True),
    Case(name=KEPT, connections=512),
    Case(name=NEW, connections=1, mode=Mode.NEW),
    Case(name=NEW, connections=8, mode=Mode.NEW, plain=True),
    Case(name=PACED, connections=8, rate=PACE),
)

BUSY = (Case(name=KEPT, connections=8), Case(name=PACED, connections=8, rate=PACE))
"""What is measured while tokens are refreshed."""


MINUTE = Load(tokens=1_340, rate=100, lifetime=16)
"""Refreshed every 8 s, which makes 10,000 a minute, and spread over these: so long the first fetches take."""

SHORT = 10
"""Seconds: tokens that live shorter than this are asked for whatever is left of them."""

WHATEVER = "?min_valid=0"
"""For a token that lives two seconds: by default a caller wants one of these left, and waits for the next token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """*rounds*, the seconds of each that do not count and those that do, and the tokens of each *busy* time."""

    rounds: int = 5
    warm: float = 0.3
    seconds: float = 1.5
    busy: tuple[tuple[str, Load], ...] = field(
        default_factory=lambda: (
            ("10,000 refreshes a minute", MINUTE),
            ("every token replaced each second", Load(tokens=20, rate=200, lifetime=2)),
        )
    )


QUICK_TIMES = Times(
    rounds=1,
    warm=0.05,
    seconds=0.2,
    busy=(("every token replaced each second", Load(tokens=5, rate=100, lifetime=2)),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of those that are compared: where it listens, its processes, and what is sent to it."""

    name: str
    socket: Path
    pids: tuple[int, ...]
    words: bytes = b""

    def asking(self, case: Case) -> Asking:
        """Give the request of *case*."""
        mode = Mode.RAW if self.words else case.mode
        target = f"/v1/tokens/{NAME}{case.query}"
        return Asking(
            method="GET", target=target, connections=case.connections, mode=mode, rate=case.rate, words=self.words
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one side: what came, and the *processor* seconds of the side in it."""

    came: Came
    processor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One case, in quiet or while *meanwhile* goes on: the runs of each side, those of one round in one place."""

    case: Case
    meanwhile: str = ""
    refreshes: float = 0.0
    runs: Mapping[str, tuple[Measured, ...]]

    def ratio(self, one: str, other: str) -> float | None:
        """Give the median of what *one* came to in proportion to *other* in the same round, where both took part."""
        if one not in self.runs or other not in self.runs:
            return None
        pairs = zip(self.runs[one], self.runs[other], strict=True)
        return statistics.median(ours.came.per_second / theirs.came.per_second for ours, theirs in pairs)

    def figure(self, side: str, figure: Callable[[Measured], float]) -> float | None:
        """Give the median of a *figure* of *side*, None where it did not take part."""
        return statistics.median(map(figure, self.runs[side])) if side in self.runs else None

    def as_json(self) -> dict[str, Any]:
        """Give all of it, ratios first."""
        return {
            "case": self.case.name,
            "connections": self.case.connections,
            "meanwhile": self.meanwhile,
            "refreshes_per_second": round(self.refreshes, 1),
            "of_nginx": self.ratio(FAST, NGINX),
            "of_agent": self.ratio(FAST, AGENT),
            "of_plain": self.ratio(FAST, PLAIN),
            "sides": {name: summary(runs) for name, runs in self.runs.items()},
            "runs": {name: [asdict(run) for run in runs] for name, runs in self.runs.items()},
        }


def each(run: Measured) -> float:
    """Give the microseconds of processor time for one answer."""
    return 1e6 * run.processor / max(1, run.came.answers)


def summary(runs: Sequence[Measured]) -> dict[str, float]:
    """Give medians: answers a second, microseconds."""
    figures: dict[str, Callable[[Measured], float]] = {
        "per_second": lambda run: run.came.per_second,
        "p50": lambda run: run.came.p50,
        "p99": lambda run: run.came.p99,
        "p999": lambda run: run.came.p999,
        "max": lambda run: run.came.max,
        "processor": each,
    }
    return {name: round(statistics.median(map(figure, runs)), 2) for name, figure in figures.items()}


def measure(load: Path, side: Side, case: Case, times: Times) -> Measured:
    """Put the load on one side."""
    begun = sum(map(processor_of, side.pids))
    came = put(load, side.socket, side.asking(case), warm=times.warm, seconds=times.seconds)
    used = sum(map(processor_of, side.pids)) - begun
    return Measured(came=came, processor=used * came.seconds / (came.seconds + times.warm))


def compare(load: Path, sides: Sequence[Side], case: Case, times: Times) -> Compared:
    """Let all take turns that can do it; the one that has a connection for each request can do nothing else."""
    partners = [
        side
        for side in sides
        if not (side.words and case.mode is Mode.KEEP) and not (side.name == PLAIN and not case.plain)
    ]
    rounds = [[measure(load, side, case, times) for side in partners] for _ in range(times.rounds)]
    return Compared(
        case=case, runs={side.name: runs for side, runs in zip(partners, zip(*rounds, strict=True), strict=True)}
    )


@contextmanager
def brokers(directory: Path, load: Load, python: Path, *, fast: bool = True) -> Iterator[tuple[Side, Broker]]:
    """Run a broker with all tokens of *load*."""
    cores: Sequence[int | None] = sorted(CORES)
    beside, own = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    directory.mkdir(mode=0o700)
    make_keys(directory)
    ports = free_ports(load.issuers)
    broker = Broker(config=directory / "config.toml", core=own, python=python)
    broker.config.write_text(SETTINGS.format(fast=json.dumps(fast)) + configuration(load, ports))
    with ExitStack() as stack:
        stack.callback(start_server(directory, ports, lifetime=load.lifetime, core=beside).stop)
        stack.callback(broker.stop)
        broker.start()
        everything = 60 + 3 * load.tokens / load.rate
        broker.wait_until(lambda: len(broker.refreshed) >= load.tokens, "all tokens are there", everything)
        assert broker.process is not None
        first(broker.process.pid)
        yield Side(name=FAST if fast else PLAIN, socket=broker.socket, pids=(broker.process.pid,)), broker


def body_of(broker: Side) -> bytes:
    """Give what the broker answers."""
    connection = UnixConnection(broker.socket, timeout=10.0)
    connection.request("GET", f"/v1/tokens/{NAME}")
    body = connection.getresponse().read()
    connection.close()
    return body


def quiet(directory: Path, load: Path, times: Times, python: Path, say: Callable[[str], None]) -> list[Compared]:
    """Compare all while nothing is refreshed."""
    tokens = Load(tokens=8, lifetime=36_000)
    with ExitStack() as stack:
        fast, _ = stack.enter_context(brokers(directory / "fast", tokens, python))
        plain, _ = stack.enter_context(brokers(directory / "plain", tokens, python, fast=False))
        body = body_of(fast)
        core = min(os.sched_getaffinity(fast.pids[0]))
        nginx = _constant(directory / "nginx", len(body), core, stack)
        sides = [fast, nginx, plain]
        if is_installed():
            where, token = directory / "agent", json.loads(body)["access_token"]
            where.mkdir(mode=0o700)
            socket, pids = stack.enter_context(agent(where, token, core=core))
            for pid in pids:
                first(pid)
            sides.append(Side(name=AGENT, socket=socket, pids=pids, words=WORDS))
        compared = []
        for case in QUIET:
            say(f"{case.name}, {case.connections} at a time")
            compared.append(_compared(load, sides, case, times))
        return compared


def busy(directory: Path, load: Path, times: Times, python: Path, say: Callable[[str], None]) -> list[Compared]:
    """Compare while tokens are refreshed."""
    found = []
    for number, (meanwhile, tokens) in enumerate(times.busy):
        with ExitStack() as stack:
            fast, broker = stack.enter_context(brokers(directory / f"busy{number}", tokens, python))
            core = min(os.sched_getaffinity(fast.pids[0]))
            nginx = _constant(directory / f"nginx{number}", len(body_of(fast)), core, stack)
            for case in BUSY:
                before, begun = broker.follow()["token_refreshed"], time.monotonic()
                say(f"{case.name}, {case.connections} at a time, {meanwhile}")
                asked = replace(case, query=WHATEVER) if tokens.lifetime < SHORT else case
                one = _compared(load, [fast, nginx], asked, times)
                refreshed = broker.follow()["token_refreshed"] - before
                found.append(replace(one, meanwhile=meanwhile, refreshes=refreshed / (time.monotonic() - begun)))
    return found


def _constant(home: Path, size: int, core: int, stack: ExitStack) -> Side:
    nginx: Nginx = start_constant(home, size, core=core)
    stack.callback(nginx.stop)
    first(nginx.process.pid)
    return Side(name=NGINX, socket=home / "constant.sock", pids=(nginx.process.pid,))


def _compared(load: Path, sides: Sequence[Side], case: Case, times: Times) -> Compared:
    for side in sides:
        if not side.words:  # each caller's first request of its kind is parsed, and known from then on
            put(load, side.socket, side.asking(replace(case, rate=None, connections=1)), warm=0.0, seconds=0.01)
    return compare(load, sides, case, times)


def run(times: Times, directory: Path, python: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare everything in *directory*, which is empty; gives the report."""
    program()
    load = compiled(directory)
    pin(0, min(CORES))
    first(0)
    try:
        compared = [*quiet(directory, load, times, python, say), *busy(directory, load, times, python, say)]
    finally:
        os.sched_setaffinity(0, CORES)
    cases = [one.as_json() for one in compared]
    return {
        "machine": dict(machine()),
        "interpreter": str(python.name),
        "agent": is_installed(),
        "cases": cases,
        "table": table(cases),
    }


HEADER = ("case", "at a time", "side", "of nginx", "a second", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "CPU µs")


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Give a table with a row for each side of each case."""
    rows = [HEADER]
    for case in cases:
        reference = case["sides"][NGINX]["per_second"]
        name = case["case"] + (f", {case['meanwhile']}" if case["meanwhile"] else "")
        for side, figures in case["sides"].items():
            ratio = case["of_nginx"] if side == FAST else figures["per_second"] / reference
            timed = tuple(f"{figures[figure]:,.0f}" for figure in ("per_second", "p50", "p99", "p999", "max"))
            rows.append((name, str(case["connections"]), side, f"{ratio:.2f}", *timed, f"{figures['processor']:.1f}"))
    return columns(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 if something that it needs is missing or does not work."""
    parser = argparse.ArgumentParser(prog="bench.serve", description="Compare the broker's tokens with nginx.")
    add_options(parser)
    wanted = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            report = run(QUICK_TIMES if wanted.quick else Times(), Path(directory), wanted.python, told)
    except GaveUpError as error:
        print(f"bench.serve: {error}", file=sys.stderr)
        return 2
    print(page(report))
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this program and ``bench.goals`` take."""
    parser.add_argument("--quick", action="store_true", help="in seconds: shows that the program works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        metavar="INTERPRETER",
        help="run the broker on this one, of the same version, with the same packages",
    )


def told(what: str) -> None:
    """Say what is being measured."""
    print(f"... {what}", file=sys.stderr, flush=True)


def page(report: dict[str, Any]) -> str:
    """Give what is printed of a report."""
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["machine"].items())
    lines = ["Tokens from the broker, and a constant from nginx; medians.", f"{said}, run on {report['interpreter']}"]
    lines += ["", report["table"]]
    if not report["agent"]:
        lines += ["", "oidc-agent is not installed (Debian, Ubuntu: apt-get install oidc-agent-cli)."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
