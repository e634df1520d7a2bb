"""
How a broker keeps ten thousand tokens: start, steady state, a server that goes away, a scrape, a reload.

Prints one table and writes the same as JSON. What it is for is two promises: no issuer is ever asked faster
than configured, whatever happens, and callers get their tokens all the while.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.caller import Caller, Waits
from bench.measure import Phase, most_of_any, quantiles, table
from bench.rig import Broker, Load, TokenServer, machine, running

FULL = Load(tokens=10_000)
"""At the rate, 10,000 tokens take half a minute; each lives for a minute, and so is refreshed every 45 s."""

QUICK = Load(tokens=200, rate=100, concurrent=4, lifetime=12)
"""Few enough to be there within two seconds; each is refreshed after six."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds that the phases last which do not end by themselves."""

    steady: float = 40.0
    down: float = 6.0
    back: float = 30.0
    after: float = 5.0
    """After a scrape, a look at readiness and a reload: what they set going is theirs."""


QUICK_TIMES = Times(steady=6.0, down=1.0, back=3.0, after=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """What a phase ended in, but for what only the server knows."""

    name: str
    begin: float
    end: float
    memory: float
    processor: float
    counts: Counter[str]
    waits: Waits


@dataclass(kw_only=True)
class Run:
    """One run, from the start of the broker on."""

    server: TokenServer
    broker: Broker
    load: Load
    marks: list[_Mark] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)

    def whole(self, times: Times, say: Callable[[str], None]) -> None:
        """Go through all phases."""
        caller = Caller(self.broker.socket, lambda: self.load.names() if self._complete() else ())
        self._start(say)
        caller.start()
        try:
            with self._phase("steady", caller, say):
                time.sleep(times.steady)
            with self._phase("server down", caller, say):
                self.server.stop()
                time.sleep(times.down)
            with self._phase("server back", caller, say):
                self.server.start()
                time.sleep(times.back)
            with self._phase("scrape", caller, say):
                self._scrape()
                time.sleep(times.after)
            with self._phase("readiness", caller, say):
                self.facts["readiness_seconds"] = timed(lambda: self._ops("/readyz"))
                time.sleep(times.after)
            with self._phase("reload", caller, say):
                self.facts["reload_seconds"] = timed(self.broker.reload)
                time.sleep(times.after)
        finally:
            caller.stop()

    def phases(self) -> list[Phase]:
        """Give what the phases came to; the server has been stopped before."""
        return [self._told(mark) for mark in self.marks]

    def _start(self, say: Callable[[str], None]) -> None:
        with self._phase("start", None, say):
            self.broker.start()
            begun = time.monotonic()
            self.broker.wait_until(lambda: self.broker.counts["daemon_started"] > 0, "the broker has started")
            self.facts["load_seconds"] = time.monotonic() - begun
            self.facts["load_processor_seconds"] = self.broker.processor()
            self.facts["memory_after_load"] = self.broker.memory()
            self.broker.wait_until(self._complete, "all tokens are there", 60 + 3 * self.load.tokens / self.load.rate)

    def _complete(self) -> bool:
        return len(self.broker.refreshed) == self.load.tokens

    def _scrape(self) -> None:
        self.broker.follow()
        self.facts["scrape_seconds"] = timed(lambda: self.facts.update(scrape_bytes=len(self._ops("/metrics"))))

    def _ops(self, target: str) -> bytes:
        with urllib.request.urlopen(f"{self.broker.ops}{target}") as answer:
            return bytes(answer.read())

    @contextmanager
    def _phase(self, name: str, caller: Caller | None, say: Callable[[str], None]) -> Iterator[None]:
        say(name)
        counts, begin = Counter(self.broker.follow() if self.marks else ()), time.monotonic()
        processor = self.broker.processor() if self.marks else 0.0
        yield
        end = time.monotonic()
        self.marks.append(
            _Mark(
                name=name,
                begin=begin,
                end=end,
                memory=self.broker.memory(),
                processor=self.broker.processor() - processor,
                counts=Counter(self.broker.follow()) - counts,
                waits=Waits() if caller is None else caller.taken(),
            )
        )

    def _told(self, mark: _Mark) -> Phase:
        issuers = tuple(self.server.asked.values())
        return Phase(
            name=mark.name,
            seconds=mark.end - mark.begin,
            requests=sum(mark.begin < time <= mark.end for issuer in issuers for time in issuer),
            most_in_a_second=most_of_any(issuers, mark.begin, mark.end),
            allowed=self.load.allowed,
            memory=mark.memory,
            processor=mark.processor,
            refreshed=mark.counts["token_refreshed"],
            failed=mark.counts["token_refresh_failed"],
            expired=mark.counts["token_expired"],
            answers=len(mark.waits.seconds),
            unserved=mark.waits.unserved,
            instead=dict(mark.waits.answers),
            waits=quantiles([1_000 * seconds for seconds in mark.waits.seconds]),
        )


def timed(action: Callable[[], object]) -> float:
    """Give the seconds that *action* took."""
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def run(load: Load, times: Times, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a run in *directory*, which is empty; gives its report."""
    report: dict[str, Any] = {"machine": dict(machine()), "load": asdict(load)}
    with running(directory, load) as (server, broker):
        one = Run(server=server, broker=broker, load=load)
        one.whole(times, say)
        broker.stop()
        server.stop()
        phases = one.phases()
    report |= {"facts": one.facts, "phases": [phase.as_json() for phase in phases], "table": table(phases)}
    report["stampede"] = any(phase.most_in_a_second > phase.allowed for phase in phases)
    return report


def main(arguments: list[str]) -> int:
    """Run from the command line; 1 if an issuer was asked faster than configured."""
    parser = argparse.ArgumentParser(prog="bench.tokens", description="Measure a broker with many tokens.")
    parser.add_argument("--quick", action="store_true", help="300 tokens in seconds: shows that the program works")
    parser.add_argument("--secrets", action="store_true", help="client secrets and bearer tokens instead of signatures")
    parser.add_argument("--tokens", type=int, help=f"how many tokens (default: {FULL.tokens:,})")
    parser.add_argument("--rate", type=int, help=f"requests per second and issuer (default: {FULL.rate})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    wanted = parser.parse_args(arguments)
    load = QUICK if wanted.quick else FULL
    times = QUICK_TIMES if wanted.quick else Times()
    changes = {"tokens": wanted.tokens, "rate": wanted.rate, "secrets": wanted.secrets or None}
    load = Load(**(asdict(load) | {key: value for key, value in changes.items() if value is not None}))
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        report = run(load, times, Path(directory), lambda phase: print(f"... {phase}", file=sys.stderr, flush=True))
    print(_page(load, report))
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(report["stampede"])


def _page(load: Load, report: dict[str, Any]) -> str:
    asked = (
        f"{load.tokens:,} tokens of {load.clients} clients at {load.issuers} issuers, each asked at most {load.rate} "
        f"times a second; tokens live {load.lifetime} s, an answer takes {load.delay * 1_000:.0f} ms."
    )
    verdict = "An issuer was asked faster than configured!" if report["stampede"] else "No issuer was asked too fast."
    machine_said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["machine"].items())
    facts = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in report["facts"].items())
    return "\n".join([asked, machine_said, "", report["table"], "", facts, verdict])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
