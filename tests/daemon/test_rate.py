"""
An issuer is never asked faster than configured, whatever happens: start, steady state, restart, reload.

The clock is the server's. Where that is late to look, the requests under way come together with those of the next
second (docs/benchmarks.md): what starts in a second and what is under way is the most that it may see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.measure import most_within
from bench.rig import Broker, Load, TokenServer, running

RATE = 50
"""Requests per second that each issuer may get."""

LOAD = Load(tokens=100, issuers=1, clients=2, rate=RATE, concurrent=4, lifetime=8, delay=0.002)
"""They live so short that each is refreshed within the test, and long enough to outlive a restart of the server."""

SEEN = int(0.955 * RATE + 1) + LOAD.concurrent
"""Requests that the server may see in a second, by the clock of a server that stood still for a moment."""


@contextmanager
def started(directory: Path, load: Load = LOAD) -> Iterator[tuple[TokenServer, Broker]]:
    with running(directory, load, pinned=False) as (server, broker):
        broker.start()
        broker.wait_until(lambda: len(broker.refreshed) == load.tokens, "all tokens are there")
        yield server, broker


def asked(server: TokenServer, broker: Broker) -> list[float]:
    """Stop both; give when the server was asked, by the clock of the machine."""
    broker.stop()
    server.stop()
    (times,) = server.asked.values()
    return sorted(times)


def test_neither_a_start_nor_a_restart_of_the_server_is_a_stampede(tmp_path: Path):
    """All tokens are wanted at once, twice: no second sees more than the rate, and no token is lost."""
    with started(tmp_path) as (server, broker):
        server.stop()
        broker.wait_until(lambda: broker.counts["token_refresh_failed"] >= LOAD.tokens // 2, "they fail")
        before = broker.follow()["token_refreshed"]
        server.start()
        broker.wait_until(lambda: broker.counts["token_refreshed"] >= before + LOAD.tokens, "they come back")

        times = asked(server, broker)

    assert len(times) >= 2 * LOAD.tokens
    assert most_within(times) <= SEEN


def test_no_reload_gives_an_issuer_more_than_its_rate(tmp_path: Path):
    """While all tokens wait for their turn: each reload begins their attempts anew, and none of them the count."""
    with running(tmp_path, replace(LOAD, lifetime=600), pinned=False) as (server, broker):
        broker.start()
        broker.wait_until(lambda: len(broker.refreshed) >= 10, "the first tokens are there")
        for _ in range(5):
            broker.reload()
        begun = len(broker.refreshed)
        broker.wait_until(lambda: len(broker.refreshed) == LOAD.tokens, "all tokens are there")

        times = asked(server, broker)

    assert begun < LOAD.tokens
    assert most_within(times) <= SEEN
    assert len(times) <= LOAD.tokens + 5 * LOAD.concurrent  # those under way are asked for again, and no other
