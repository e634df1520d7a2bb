"""
Notices that the wall clock was set and that the machine slept, by comparing clocks once in a while.

Nothing that is measured in seconds from now depends on either: deadlines stand on the boot clock. But what was
judged by the wall clock may be judged otherwise now, and an operator wants to know. This module only notices
and says so; what follows from it is the business of whoever asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.events import ClockJumped, Emit, MachineResumed

THRESHOLD = 1.0
"""
Seconds by which the clocks may drift apart from one look to the next.

NTP slews: the kernel by at most 0.0005 s in a second, chrony by at most 0.084. Whoever looks once a second
sees a twelfth of this from the fastest of them. On the other side, a second is the unit of ``iat``, ``exp``
and ``expires_at``: a smaller step changes none of them by more than rounding does.
"""

INSTANT = 0.1
"""Seconds: readings that took longer (the process was stopped between two of them) say nothing of each other."""

TRIES = 3
"""To read all clocks within an instant: the second is enough unless the machine is drowning; then the next look."""


class Clocks(Protocol):
    """The clocks of the machine, in seconds: ``clock.SystemClock``."""

    def boot(self) -> float:
        """Give CLOCK_BOOTTIME."""

    def wall(self) -> float:
        """Give CLOCK_REALTIME."""

    def awake(self) -> float:
        """Give CLOCK_MONOTONIC, which stands still while the machine sleeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offsets:
    """*wall* ahead of the boot clock; the boot clock ahead of the one that sleeps with the machine (*asleep*)."""

    wall: float
    asleep: float


class ClockWatch:
    """Compares the clocks each time it is told to look."""

    def __init__(self, clocks: Clocks, emit: Emit) -> None:
        self._clocks = clocks
        self._emit = emit
        self._last = self._read()

    def look(self) -> bool:
        """Report what happened since the last look; says whether anything did."""
        last, found = self._last, self._read()
        if found is None:
            return False
        self._last = found
        if last is None:
            return False
        by, asleep = found.wall - last.wall, found.asleep - last.asleep
        jumped, slept = abs(by) > THRESHOLD, asleep > THRESHOLD
        if slept:
            self._emit(MachineResumed(asleep=asleep))
        if jumped:
            self._emit(ClockJumped(by=by))
        return jumped or slept

    def _read(self) -> _Offsets | None:
        for _ in range(TRIES):
            began = self._clocks.boot()
            wall, awake = self._clocks.wall(), self._clocks.awake()
            if self._clocks.boot() - began < INSTANT:
                return _Offsets(wall=wall - began, asleep=began - awake)
        return None
