"""
How long a scrape of the metrics keeps the event loop from callers at a time.

    python -m bench.scrape

The page is written in pieces, with a turn of the loop between two. What counts is the longest piece: so long a caller
waits at the most. Written here without a server, with a series for each of so many tokens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.measure import columns
from broker.telemetry.metrics import Metrics

TOKENS = (1_000, 10_000)

ROUNDS = 5
"""Of which the one with the shortest longest piece counts: what else the machine did shows in the others."""

GOAL = 2.0
"""Milliseconds for the longest piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: its *pieces*, its size in *bytes*, and milliseconds for the *longest* piece and for *all*."""

    tokens: int
    pieces: int
    bytes: int
    longest: float
    all: float


def metrics_of(tokens: int) -> Metrics:
    """Make metrics with so many tokens, each of which can be served for an hour."""
    names = [f"t{number:05}" for number in range(tokens)]
    metrics = Metrics()
    metrics.expect(tokens=names, issuers=["i0", "i1"], routes=["/v1/tokens/{name}", "/metrics"], clients=["c0"])
    ends_at = time.time() + 3_600.0
    metrics.watch_tokens(lambda: ((name, ends_at) for name in names))
    metrics.watch_availability(lambda: ((name, True) for name in names))
    return metrics


def measure(tokens: int) -> Page:
    """Write one page as a scrape does: each step of the coroutine is a turn of the loop."""
    writing = metrics_of(tokens).page()
    took: list[float] = []
    body: bytes | None = None
    while body is None:
        begun = time.perf_counter()
        try:
            writing.send(None)
        except StopIteration as written:
            body = written.value[0]
        took.append(1e3 * (time.perf_counter() - begun))
    return Page(tokens=tokens, pieces=len(took), bytes=len(body), longest=max(took), all=sum(took))


def main() -> None:
    """Print the table."""
    rows = [("scrape", "pieces", "bytes", "longest ms", "goal ms", "all ms")]
    for tokens in TOKENS:
        page = min((measure(tokens) for _ in range(ROUNDS)), key=lambda page: page.longest)
        figures = (f"{page.pieces:,}", f"{page.bytes:,}", f"{page.longest:.2f}", f"{GOAL:g}", f"{page.all:.1f}")
        rows.append((f"{tokens:,} tokens", *figures))
    print(columns(rows))


if __name__ == "__main__":
    main()
