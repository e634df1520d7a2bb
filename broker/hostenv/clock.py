"""The real clock and real chance: the only place in the broker that reads either."""

from __future__ import annotations

import random
import secrets
import time

_DICE = random.Random()  # noqa: S311 - spreads attempts, and is no secret
"""Seeded by the system. To ask the system each time would let go of the interpreter, and wait for another thread."""


class SystemClock:
    """Implements ``tokens.ports.Clock``."""

    __slots__ = ()

    def boot(self) -> float:
        """Give CLOCK_BOOTTIME in seconds: it goes on while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def awake(self) -> float:
        """Give CLOCK_MONOTONIC in seconds: it stands still while the machine sleeps, as timers of the loop do."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def wall(self) -> float:
        """Give Unix time in seconds."""
        return time.clock_gettime(time.CLOCK_REALTIME)


SYSTEM_CLOCK = SystemClock()
"""There is but one."""


class SystemRandomness:
    """Implements ``tokens.ports.Randomness``."""

    __slots__ = ()

    def token(self, nbytes: int) -> str:
        """Give *nbytes* random bytes as base64url."""
        return secrets.token_urlsafe(nbytes)

    def uniform(self) -> float:
        """Give a number in [0, 1)."""
        return _DICE.random()
