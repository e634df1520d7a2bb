"""
How many writes a second the store acknowledges, and how long it takes to open.

    python -m bench.store [DIRECTORY]

Beside each rate stands that of a bare file that is written and synced as often, measured in the same run: what
the disk gives is the disk's, the ratio is the store's. DIRECTORY is on the disk that is meant.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from broker.events import Event
from broker.hostenv.clock import SystemClock
from broker.keys.sealing import SealingKey
from broker.storage.sqlite import SqliteStore
from broker.storage.vault import Place
from broker.tokens.storing import Put

SECONDS = 2.0
"""For each rate: a few thousand syncs."""

WRITERS = (1, 100)
RECORDS = 10_000
VALUE = os.urandom(1_200)
"""As large as a grant with a JWT for an access token."""


def bare_syncs(directory: Path) -> float:
    """Give how often in a second a file can be written to and synced."""
    descriptor = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT, 0o600)
    done, begun = 0, time.monotonic()
    while time.monotonic() - begun < SECONDS:
        os.pwrite(descriptor, VALUE, 4_096 * (done % 1_000))
        os.fdatasync(descriptor)
        done += 1
    os.close(descriptor)
    return done / SECONDS


def _ignore(_: Event) -> None:
    """Tell nobody."""


def opened(directory: Path) -> SqliteStore:
    """Open the store as the broker does."""
    clock = SystemClock()
    place = Place(directory=directory, sealer=SealingKey(bytes(32)), wall=clock.wall)
    return SqliteStore.open(place, clock=clock, emit=_ignore)


async def rate(store: SqliteStore, writers: int) -> float:
    """Give how many writes are acknowledged in a second when each of *writers* waits for its own."""
    done = 0
    end = time.monotonic() + SECONDS

    async def write(number: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            await store.write([Put(name=f"grant/{number:043}", value=VALUE)])
            done += 1

    await asyncio.gather(*(write(number) for number in range(writers)))
    return done / SECONDS


async def measure(directory: Path) -> None:
    """Print the table."""
    bare = bare_syncs(directory)
    print(f"{bare:>10,.0f}  syncs of a bare file in a second")
    (directory / "state").mkdir(mode=0o700)
    store = opened(directory / "state")
    for writers in WRITERS:
        acknowledged = await rate(store, writers)
        print(f"{acknowledged:>10,.0f}  writes in a second by {writers} at once: {acknowledged / bare:.2f} for a sync")
    await store.write([Put(name=f"grant/{number:043}", value=VALUE) for number in range(RECORDS)])
    large = await rate(store, 1)
    print(f"{large:>10,.0f}  writes in a second by one, with {RECORDS:,} records: {large / bare:.2f} for a sync")
    await store.close()
    begun = time.monotonic()
    store = opened(directory / "state")
    records = len(store.records())
    print(f"{time.monotonic() - begun:>10.2f}  seconds to open and read {records:,} records of {len(VALUE):,} bytes")
    await store.close()


def main() -> None:
    """Measure in a directory of its own."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        asyncio.run(measure(Path(name)))


if __name__ == "__main__":
    main()
