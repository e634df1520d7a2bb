"""An event loop whose clock jumps to the next timer when there is nothing else to do."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

MAX_JUMP = 366 * 86_400.0
"""Seconds; a longer one is a bug of the test, not a story."""


class _JumpingSelector(selectors.DefaultSelector):
    """Finds out what is ready now; instead of waiting it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # only a thread or a signal can wake us
        ready = super().select(0)
        if not ready and timeout > 0:
            if timeout > MAX_JUMP:
                raise RuntimeError("the clock would jump by more than a year")
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop for unit tests with fakes only: with real sockets it would jump while bytes are in flight."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.slow_callback_duration = 10.0

    def time(self) -> float:
        return self._jumping.now

    def advance(self, seconds: float) -> None:
        """Move the clock by hand, as a suspended machine would."""
        self._jumping.now += seconds


def loop_time() -> float:
    """Give the time of the running loop, whatever kind it is."""
    return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Move the clock of the running jumping loop."""
    loop: Any = asyncio.get_running_loop()
    loop.advance(seconds)
