"""
Alarms on one heap, for a thousand keepers with one timer.

Timers of the loop stand still while the machine sleeps, so none is relied on for longer than MAX_ALARM.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator
from itertools import count

from broker.tokens.ports import Clock

MAX_ALARM = 5.0
"""Seconds: within so long after a machine woke up, everything that is due then is looked at."""


class Alarms:
    """When to look at what, by name; an alarm that came too early is set anew by whoever looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, str]] = []
        self._pending: dict[str, tuple[float, ...]] = {}  # one as a rule, for which a set would take 200 bytes
        self._order = count()
        self._woken = asyncio.Event()

    def __len__(self) -> int:
        """Count the alarms that are set."""
        return len(self._heap)

    def set(self, name: str, at: float) -> None:
        """See that an alarm for *name* rings at *at* or before (boot clock)."""
        pending = self._pending.get(name, ())
        if any(earlier <= at for earlier in pending):
            return
        self._pending[name] = (*pending, at)
        heapq.heappush(self._heap, (at, next(self._order), name))
        if self._heap[0][0] == at:
            self._woken.set()

    async def wait(self) -> None:
        """Wait for the next alarm, for at most MAX_ALARM, or until somebody sets an earlier one."""
        self._woken.clear()
        due = self._heap[0][0] - self._clock.boot() if self._heap else MAX_ALARM
        try:
            async with asyncio.timeout(max(0.0, min(due, MAX_ALARM))):
                await self._woken.wait()
        except TimeoutError:
            return

    def ring(self) -> Iterator[str]:
        """Give the names whose alarms are due, one by one."""
        now = self._clock.boot()
        while self._heap and self._heap[0][0] <= now:
            at, _, name = heapq.heappop(self._heap)
            left = tuple(later for later in self._pending[name] if later != at)
            if left:
                self._pending[name] = left
            else:
                del self._pending[name]
            yield name
