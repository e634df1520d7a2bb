"""
What a broker costs a pod before it does anything: the size of its image, its start, its memory.

    python -m bench.footprint [--quick] [--image NAME] [--engine COMMAND] [--json FILE]

Prints each figure beside its goal. A real broker is started beside a token server that costs next to nothing, with
EC keys and tokens that are good for an hour; the image has to have been built (``make image``). An environment with
the tools of the tests in it has larger figures: where rich is installed, structlog imports it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.measure import columns
from bench.rig import PATIENCE, Broker, GaveUpError, Load, machine, running
from broker import __version__
from broker.cli.local_client import UnixConnection

STARTS = 9
"""Of which the median counts: a start takes a fraction of a second, and other work on the machine shows in some."""

SETTLE = 5.0
"""Seconds after the last token until memory is at rest: what a start needed for a moment is given back."""

POLL = 0.002
"""Seconds between two tries to get the first token: far below what is measured."""

ONE = Load(tokens=1, issuers=1, clients=1, lifetime=3_600, delay=0.0)

MANY = Load(tokens=10_000, rate=500, lifetime=3_600, delay=0.0)
"""As many as the sizing page speaks of, over two issuers; fast, because the way there is not what is measured."""

BASE_LABEL = "org.opencontainers.image.base.name"

MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure and its *goal*, if it has one, both in *unit*; None where it could not be measured, and *why* not."""

    what: str
    unit: str
    measured: float | None
    goal: float | None = None
    why: str = ""

    @property
    def verdict(self) -> str:
        """Say whether it is at most its goal."""
        if self.measured is None or self.goal is None:
            return self.why
        return "met" if self.measured <= self.goal else "missed"


def first_token(broker: Broker, name: str) -> float:
    """Start *broker*; give the milliseconds until its socket gives the token *name*. Raises GaveUpError."""
    begun = time.monotonic()
    broker.start()
    while not _served(broker.socket, name):
        if time.monotonic() - begun > PATIENCE:
            raise GaveUpError(f"no token came:\n{broker.log.read_text()[-2_000:]}")
        time.sleep(POLL)
    return (time.monotonic() - begun) * 1_000


def _served(path: Path, name: str) -> bool:
    connection = UnixConnection(path, PATIENCE)
    try:
        connection.request("GET", f"/v1/tokens/{name}")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False  # it does not listen yet
    finally:
        connection.close()


def resident(broker: Broker) -> float:
    """Give the memory that is resident now, in MB."""
    assert broker.process is not None
    pages = int(Path(f"/proc/{broker.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


@contextmanager
def started(load: Load) -> Iterator[Broker]:
    """Run a server and give a broker for it that has not been started."""
    with tempfile.TemporaryDirectory(prefix="token-broker-bench-") as name, running(Path(name), load) as (_, broker):
        yield broker


def starts(number: int) -> tuple[float, float, float]:
    """
    Give what a start takes until the first token, and the memory at rest with one, in MB.

    It is the medians of the milliseconds that pass, and of those that the processor works for it. On a machine that
    does nothing else they differ by little; where they do not, the second is what can be compared.
    """
    times, worked = [], []
    with started(ONE) as broker:
        for count in range(number + 1):
            took = first_token(broker, ONE.names()[0])
            if count:  # the first one fills the caches of the kernel
                times.append(took)
                worked.append(broker.processor() * 1_000)
            if count < number:
                broker.stop()
        time.sleep(SETTLE)
        return statistics.median(times), statistics.median(worked), resident(broker)


def memory(load: Load) -> float:
    """Give the memory at rest with the tokens of *load*, in MB."""
    with started(load) as broker:
        broker.start()
        patience = PATIENCE + 3 * load.tokens / load.rate
        broker.wait_until(lambda: len(broker.refreshed) == load.tokens, "all tokens are there", patience)
        time.sleep(SETTLE)
        return resident(broker)


def image_size(engine: Sequence[str], image: str) -> tuple[float | None, str]:
    """Give the size of *image* above that of its base, in MB, or None and why there is none."""
    if not engine or shutil.which(engine[0]) is None:
        return None, "not measured: no podman and no docker"
    try:
        size, labels = _inspected(engine, image)
        base, _ = _inspected(engine, labels[BASE_LABEL])
    except (subprocess.CalledProcessError, KeyError, TypeError):
        return None, f"not measured: no image {image} here, or not its base (make image)"
    return (size - base) / MB, ""


def _inspected(engine: Sequence[str], image: str) -> tuple[int, dict[str, str]]:
    asked = (*engine, "image", "inspect", image)
    found = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)[0]
    return int(found["Size"]), found["Config"].get("Labels") or {}


def figures(number: int, load: Load, engine: Sequence[str], image: str) -> Iterator[Figure]:
    """Measure all, one after the other."""
    took, worked, alone = starts(number)
    yield Figure(what="from start to first token, warm", unit="ms", goal=400, measured=took)
    yield Figure(what="- of which the processor works for it", unit="ms", measured=worked)
    yield Figure(what="resident with one token", unit="MB", goal=60, measured=alone)
    yield Figure(what=f"resident with {load.tokens:,} tokens", unit="MB", goal=95, measured=memory(load))
    size, why = image_size(engine, image)
    yield Figure(what="image above its base", unit="MB", goal=90, measured=size, why=why)


def table(found: Sequence[Figure]) -> str:
    """Write the figures beside their goals."""
    rows = [("figure", "measured", "goal", "")]
    for figure in found:
        measured = "" if figure.measured is None else f"{figure.measured:.0f} {figure.unit}"
        goal = "" if figure.goal is None else f"{figure.goal:.0f} {figure.unit}"
        rows.append((figure.what, measured, goal, figure.verdict))
    return columns(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit 0, also where a goal is missed: it says so."""
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="few starts and 200 tokens: shows that the program works")
    parser.add_argument("--image", default=f"token-broker:{__version__}", help="the image (that of `make image`)")
    parser.add_argument("--engine", type=shlex.split, help="podman or docker, with options of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args(argv)
    engine = given.engine or next(([name] for name in ("podman", "docker") if shutil.which(name)), [])
    load = Load(tokens=200, rate=500, lifetime=3_600, delay=0.0) if given.quick else MANY
    try:
        found = tuple(figures(1 if given.quick else STARTS, load, engine, given.image))
    except GaveUpError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(found))
    if given.json:
        told = {"machine": machine(), "figures": [{**asdict(one), "verdict": one.verdict} for one in found]}
        given.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
