"""
Feeds the watchdog of the service manager: only while the loop turns and everything looked at is well.

That the loop turns is shown by the feeding itself, which is a task like any other. It does not judge disks or servers:
a broker that cannot reach them serves what it has, and being killed would take that away, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from broker.events import Emit, WatchdogUnfed
from broker.hostenv.notify import Notifier

FEEDS = 3
"""In the time that the service manager gives: one late turn of the loop is no reason to be killed."""

LATE = 5.0
"""Seconds for which something that comes every second may be overdue: a suspended process is late, too."""

Checks = Mapping[str, Callable[[], bool]]
"""What has to be well, by name."""


class Awake(Protocol):
    """The clock that stands still while the machine sleeps."""

    def awake(self) -> float:
        """Give CLOCK_MONOTONIC in seconds."""


class Pulse:
    """Something that has to happen again and again: whoever does it says so."""

    def __init__(self, clock: Awake, *, late: float = LATE) -> None:
        self._clock = clock
        self._late = late
        self._last = clock.awake()

    def beat(self) -> None:
        """Note that it happened."""
        self._last = self._clock.awake()

    def is_on_time(self) -> bool:
        """Say whether it happened lately."""
        return self._clock.awake() - self._last <= self._late


async def feed(notifier: Notifier, seconds: float, checks: Checks, emit: Emit) -> NoReturn:
    """Feed a watchdog that waits for so many *seconds*, until cancelled; what keeps us from it is said once."""
    unwell: tuple[str, ...] = ()
    while True:
        before, unwell = unwell, tuple(name for name, is_well in checks.items() if not is_well())
        if not unwell:
            notifier.alive()
        elif unwell != before:
            emit(WatchdogUnfed(reason=",".join(unwell)))
        await asyncio.sleep(seconds / FEEDS)
