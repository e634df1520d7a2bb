"""
How many calls of an API one caller may have at a time: fewer than there are connections to it.

A reply that nobody reads holds its connection. Without a share the callers of one uid could hold all of them, and
everybody else would take the API for slow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable

from broker.api import problems
from broker.api.problems import ProblemError

WAIT = 8.0
"""Seconds for a place of one's own share: as long as for a connection."""


class Shares:
    """Counts the calls of each caller to each API; three quarters of its connections are the most for one."""

    def __init__(self) -> None:
        self._taken: Counter[tuple[str, Hashable]] = Counter()
        self._waiting: dict[tuple[str, Hashable], list[asyncio.Future[None]]] = {}

    async def take(self, upstream: str, who: Hashable, connections: int) -> None:
        """Take a place for a call, or wait for one. Raises ProblemError: the caller's own calls are in its way."""
        key = (upstream, who)
        if self._taken[key] < share_of(connections):
            self._taken[key] += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(place)
        try:
            async with asyncio.timeout(WAIT):
                await asyncio.shield(place)  # whoever gives a place back hands it over
        except (TimeoutError, asyncio.CancelledError) as error:
            self._forget(key, place)
            if place.done():
                self.give_back(upstream, who)  # it was handed over in this very moment
            if isinstance(error, TimeoutError):
                raise ProblemError(problems.TOO_MANY_CALLS) from None
            raise

    def give_back(self, upstream: str, who: Hashable) -> None:
        """Give a place back; to the one that has waited longest, if there is one."""
        key = (upstream, who)
        for place in self._waiting.get(key, []):
            if not place.done():
                place.set_result(None)
                self._forget(key, place)
                return
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]

    def _forget(self, key: tuple[str, Hashable], place: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key, [])
        if place in waiting:
            waiting.remove(place)
        if not waiting:
            self._waiting.pop(key, None)


def share_of(connections: int) -> int:
    """Give how many of the *connections* to an API one caller may have."""
    return max(1, connections * 3 // 4)
