"""
Calls of an API through the broker, beside the same calls through nginx: rate, latency, processor time, memory.

    python -m bench.egress [--quick] [--json FILE]

The two proxies have a core of their own and take turns at the same API, which demands a client certificate; the
API and the load have another. What counts are the ratios: both sides of each were measured within seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.load import Asking, Came, compiled, put
from bench.measure import columns
from bench.nginx import LARGE, SMALL, Trust, program, start_api, start_proxy
from bench.rig import PATIENCE, POLL, ROOT, Broker, GaveUpError, free_ports, machine, memory_of, pin, processor_of

LIFETIME = 3_600
"""Seconds that the token lives: nothing is refreshed while something is measured."""

MORE = """
[daemon]
max_requests_per_second_per_uid = 1000000

[upstream.api]
base_url = "https://localhost:{port}/api"
token = "demo"
ca_file = "ca.pem"
allow = ["GET /small", "GET /large", "POST /taken"]
"""
"""What a sandbox's configuration lacks. A cap for one user is none on what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is compared; *goal*: the ratio to nginx that is wanted, if one is. *bytes*: of one body."""

    name: str
    method: str
    path: str
    connections: int
    bytes: int
    goal: float | None = None

    def asking(self, prefix: str) -> Asking:
        """Give the request, with *prefix* before its path."""
        sent = self.method == "POST"
        return Asking(
            method=self.method,
            target=prefix + self.path,
            connections=self.connections,
            body=self.bytes if sent else 0,
            answer=0 if sent else self.bytes,
        )


CASES = (
    *(
        Case(name="10 MB down", method="GET", path="/large", connections=number, bytes=LARGE, goal=0.9)
        for number in (1, 4)
    ),
    *(
        Case(name="10 MB up", method="POST", path="/taken", connections=number, bytes=LARGE, goal=0.9)
        for number in (1, 4)
    ),
    *(
        Case(name="1 kB down", method="GET", path="/small", connections=number, bytes=SMALL, goal=goal)
        for number, goal in ((1, None), (16, 0.5), (64, None))
    ),
)
"""In this order, because memory that 64 connections took is not all given back before large bodies are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """*rounds*, and the seconds of each: what does not count, and what does."""

    rounds: int = 5
    warm: float = 0.3
    seconds: float = 1.5


QUICK_TIMES = Times(rounds=1, warm=0.05, seconds=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: where it listens, what stands before its paths, and its process."""

    name: str
    socket: Path
    prefix: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one side: what came, *processor* seconds of the side in it, and its *memory* at most, in MB."""

    came: Came
    processor: float
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One case: the runs of the broker and those of nginx, in pairs."""

    case: Case
    broker: tuple[Measured, ...]
    nginx: tuple[Measured, ...]

    @property
    def ratio(self) -> float:
        """The median of what the broker came to in proportion to nginx right after it."""
        pairs = zip(self.broker, self.nginx, strict=True)
        return statistics.median(one.came.per_second / other.came.per_second for one, other in pairs)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.case.goal is None else self.ratio >= self.case.goal

    def as_json(self) -> dict[str, Any]:
        """Give all of it, ratio first."""
        sides = {"broker": summary(self.case, self.broker), "nginx": summary(self.case, self.nginx)}
        runs = {"runs": {"broker": [asdict(run) for run in self.broker], "nginx": [asdict(run) for run in self.nginx]}}
        return {"ratio": round(self.ratio, 3), "met": self.is_met, **asdict(self.case), **sides, **runs}


def summary(case: Case, runs: Sequence[Measured]) -> dict[str, float]:
    """Give medians, and the most memory: rates a second, MB a second, microseconds."""

    def median(figure: Callable[[Measured], float]) -> float:
        return round(statistics.median(map(figure, runs)), 3)

    return {
        "per_second": median(lambda run: run.came.per_second),
        "megabytes_per_second": median(lambda run: run.came.per_second * case.bytes / 1e6),
        "p50": median(lambda run: run.came.p50),
        "p99": median(lambda run: run.came.p99),
        "processor_per_call": median(lambda run: 1e6 * run.processor / max(1, run.came.answers)),
        "percent_of_a_core": median(lambda run: 100 * run.processor / run.came.seconds),
        "memory": round(max(run.memory for run in runs), 1),
    }


def measure(load: Path, side: Side, case: Case, times: Times) -> Measured:
    """Put the load on one side."""
    memory_of(side.pid)
    begun = processor_of(side.pid)
    came = put(load, side.socket, case.asking(side.prefix), warm=times.warm, seconds=times.seconds)
    used = processor_of(side.pid) - begun
    counted = came.seconds / (came.seconds + times.warm)
    return Measured(came=came, processor=used * counted, memory=memory_of(side.pid))


def compare(load: Path, broker: Side, nginx: Side, case: Case, times: Times) -> Compared:
    """Let the two take turns."""
    pairs = [(measure(load, broker, case, times), measure(load, nginx, case, times)) for _ in range(times.rounds)]
    ours, theirs = zip(*pairs, strict=True)
    return Compared(case=case, broker=ours, nginx=theirs)


@contextmanager
def sides(directory: Path) -> Iterator[tuple[Side, Side]]:
    """Run everything for the length of a measurement; gives the broker and nginx."""
    program()
    cores: Sequence[int | None] = sorted(os.sched_getaffinity(0))
    beside, own = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    home = directory / "sandbox"
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        pin(0, beside)
        _start_sandbox(home, stack)
        (port,) = free_ports(1)
        server = Trust(ca=home / "ca.pem", certificate=home / "server/good.pem", key=home / "server/good.key")
        client = Trust(ca=home / "ca.pem", certificate=home / "client.pem", key=home / "client.key")
        stack.callback(start_api(directory / "api", port, server, core=beside).stop)
        broker = _start_broker(home, port, stack, core=own)
        token = _token(broker.socket)
        proxy = start_proxy(directory / "proxy", port, client, token=token, core=own)
        stack.callback(proxy.stop)
        assert broker.process is not None
        yield (
            Side(name="broker", socket=broker.socket, prefix="/v1/egress/api", pid=broker.process.pid),
            Side(name="nginx", socket=proxy.home / "proxy.sock", prefix="/api", pid=proxy.process.pid),
        )


def _start_sandbox(home: Path, stack: ExitStack) -> None:
    """Start the authorization server, and wait for the configuration that it writes last."""
    arguments = ["sandbox", "--directory", str(home), "--lifetime", str(LIFETIME)]
    with (home.parent / "sandbox.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "broker", *arguments], cwd=ROOT, stdout=log, stderr=log)
    stack.callback(process.wait, PATIENCE)
    stack.callback(process.terminate)
    deadline = time.monotonic() + PATIENCE
    while not (home / "consents.toml").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise GaveUpError(f"the sandbox does not start:\n{(home.parent / 'sandbox.log').read_text()[-2_000:]}")
        time.sleep(POLL)


def _start_broker(home: Path, port: int, stack: ExitStack, *, core: int | None) -> Broker:
    """Start the broker with the API as an upstream, and wait until it has its token."""
    text = (home / "config.toml").read_text().replace('may = ["get"]', 'may = ["get", "egress"]\nupstreams = ["api"]')
    config = home / "bench.toml"
    config.write_text(text + MORE.format(port=port))
    broker = Broker(config=config, core=core)
    stack.callback(broker.stop)
    broker.start()
    broker.wait_until(lambda: bool(broker.refreshed), "it has its token")
    return broker


def _token(path: Path) -> str:
    """Get the token from the broker, so that nginx sends as much as the broker does."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/v1/tokens/demo")
    token = json.loads(connection.getresponse().read())["access_token"]
    connection.close()
    return str(token)


def run(times: Times, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare everything in *directory*, which is empty; gives the report."""
    load = compiled(directory)
    with sides(directory) as (broker, nginx):
        quiet = {side.name: memory_of(side.pid) for side in (broker, nginx)}
        cases = []
        for case in CASES:
            say(f"{case.name}, {case.connections} connections")
            cases.append(compare(load, broker, nginx, case, times))
    return {
        "machine": dict(machine()),
        "times": asdict(times),
        "memory_before": quiet,
        "cases": [case.as_json() for case in cases],
        "table": table([case.as_json() for case in cases]),
    }


HEADER = ("call", "conns", "of nginx", "goal", "a second", "MB/s", "p50 ms", "p99 ms", "CPU µs", "RSS MB")


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Give a table in which each figure stands before that of nginx."""
    return columns([HEADER, *(_row(case) for case in cases)])


def _row(case: dict[str, Any]) -> tuple[str, ...]:
    def both(name: str, form: str, scale: float = 1.0) -> str:
        return " / ".join(format(case[side][name] * scale, form) for side in ("broker", "nginx"))

    goal = "" if case["goal"] is None else f"{case['goal']} {'met' if case['met'] else 'missed'}"
    return (
        case["name"],
        str(case["connections"]),
        f"{case['ratio']:.2f}",
        goal,
        both("per_second", ",.0f"),
        both("megabytes_per_second", ",.0f"),
        both("p50", ".2f", 1e-3),
        both("p99", ".2f", 1e-3),
        both("processor_per_call", ",.0f"),
        both("memory", ".0f"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 if something that it needs is missing or does not work."""
    parser = argparse.ArgumentParser(prog="bench.egress", description="Compare the broker's calls of APIs with nginx.")
    parser.add_argument("--quick", action="store_true", help="in seconds: shows that the program works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    wanted = parser.parse_args(arguments)
    times = QUICK_TIMES if wanted.quick else Times()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            report = run(times, Path(directory), lambda what: print(f"... {what}", file=sys.stderr, flush=True))
    except GaveUpError as error:
        print(f"bench.egress: {error}", file=sys.stderr)
        return 2
    print(_page(report))
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _page(report: dict[str, Any]) -> str:
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["machine"].items())
    before = " / ".join(f"{value:.0f}" for value in report["memory_before"].values())
    return "\n".join(
        [
            "Calls of an API through the broker / through nginx; medians, and the most memory.",
            said,
            "",
            report["table"],
            "",
            f"Memory before: {before} MB.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
