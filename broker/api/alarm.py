"""
One thing that is to happen after a while, and is put off before that nearly every time.

A request sets three alarms of its connection, of which hardly any rings. A timer of the loop for each would cost
more than what it guards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls what it was set to last; has at most one timer, and keeps one that is early enough."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is set."""
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._ring: Callable[[], None] | None = None
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When it rings, by the loop; None where nothing is set."""
        return None if self._ring is None else self._due

    def set(self, seconds: float, ring: Callable[[], None]) -> None:
        """Let *ring* be called in *seconds*, and what was to be called before not at all."""
        self._due, self._ring = self._loop.time() + seconds, ring
        if self._timer is None or self._timer.when() > self._due:
            self._cancel()
            self._timer = self._loop.call_at(self._due, self._wake, self._due)

    def stop(self) -> None:
        """Let nothing be called. The timer may stay, for the next time."""
        self._ring = None

    def close(self) -> None:
        """Let nothing be called any more, and hold nothing."""
        self.stop()
        self._cancel()

    def _wake(self, at: float) -> None:
        """Ring, or wait on where it was put off."""
        self._timer = None
        if self._ring is None:
            return
        if self._due > at:
            self._timer = self._loop.call_at(self._due, self._wake, self._due)
            return
        ring, self._ring = self._ring, None
        ring()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
