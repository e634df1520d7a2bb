"""
How fast and how wide an issuer may be asked: the turns of those that wait to make a request.

``Turns`` is a table of who waits and who is next; it knows no loop and is given the time. ``Limiter`` makes
requests wait for it. Neither knows tokens: a turn is asked for by the name of a client and a rank.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

SLACK = 0.1
"""
Seconds by which one more start than the rate allows misses a second, while the loop is in time.

Half of it is ``MADE_UP``. The rest is for signing, connecting and the wire, which do not take the same time
twice: so much may two requests close up on their way without the server seeing one more than configured.
"""

MADE_UP = SLACK / 2
"""
Seconds that starts may be behind and catch up.

A loop that has much else to do comes to each start a little late. If each start were counted from the last one,
all of this would add up, and the rate would be half of the configured one just when there is most to do.
"""

HASTE = float("-inf")
"""The rank of a request that somebody waits for: before every other of its client, and of all clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an issuer is asked at most: *concurrent* requests at a time, *per_second* starts in any second."""

    concurrent: int
    per_second: int

    @property
    def interval(self) -> float:
        """Seconds from one start to the next."""
        return (1.0 + SLACK) / self.per_second


class Turns:
    """
    Who is next at one issuer, and when.

    First come requests in haste, then the others. Within both the clients take turns, so that one of them
    with a thousand failing tokens leaves the next its share; within a client the lowest rank comes first.
    """

    def __init__(self) -> None:
        self._ranks: dict[int, tuple[str, float]] = {}
        self._heaps: dict[bool, dict[str, list[tuple[float, int]]]] = {True: {}, False: {}}
        self._numbers = count()
        self._next_at = 0.0
        self._running = 0
        self._last: int | None = None
        self._before_last = 0.0

    def __len__(self) -> int:
        """Count those that wait."""
        return len(self._ranks)

    def ask(self, client: str, rank: float) -> int:
        """Ask for a turn; gives its number."""
        number = next(self._numbers)
        self._put(number, client, rank)
        return number

    def hasten(self, number: int) -> None:
        """Let a turn that is waited for come first; one that is over is not touched."""
        if number in self._ranks and self._ranks[number][1] != HASTE:
            self._put(number, self._ranks[number][0], HASTE)

    def is_idle(self, now: float) -> bool:
        """Say whether nobody waits, nothing runs, and what ran is so long ago that it makes no difference."""
        return not self._ranks and not self._running and now - self._next_at >= MADE_UP

    def withdraw(self, number: int) -> None:
        """Take back a turn that was asked for and not given yet."""
        self._ranks.pop(number, None)

    def done(self) -> None:
        """Take in that a request is over which had its turn."""
        self._running -= 1

    def unused(self, number: int) -> None:
        """Take in that nothing was sent in the turn *number*: the next need not keep its distance from it."""
        if number == self._last:
            self._next_at = self._before_last
            self._last = None

    def give(self, now: float, limits: Limits) -> int | None:
        """Give the next turn, if it may begin *now*."""
        if self.wait(now, limits) != 0.0:
            return None
        number = self._pick(haste=True)
        if number is None:
            number = self._pick(haste=False)
        if number is not None:
            # From when it was due, but what was missed in a long pause is not made up for.
            self._before_last = self._next_at
            self._next_at = max(self._next_at, now - MADE_UP) + limits.interval
            self._running += 1
            self._last = number
        return number

    def wait(self, now: float, limits: Limits) -> float | None:
        """Give the seconds until the next turn may begin; None while only the end of a request can bring it."""
        if not self._ranks or self._running >= limits.concurrent:
            return None
        return max(0.0, self._next_at - now)

    def _put(self, number: int, client: str, rank: float) -> None:
        self._ranks[number] = (client, rank)
        heapq.heappush(self._heaps[rank == HASTE].setdefault(client, []), (rank, number))

    def _pick(self, *, haste: bool) -> int | None:
        """Take the first of the client that has waited longest for one; it goes to the end of the row."""
        heaps = self._heaps[haste]
        for client in tuple(heaps):
            heap = heaps.pop(client)
            number = self._first(heap)
            if heap:
                heaps[client] = heap
            if number is not None:
                del self._ranks[number]
                return number
        return None

    def _first(self, heap: list[tuple[float, int]]) -> int | None:
        while heap:
            rank, number = heapq.heappop(heap)
            # Turns that were taken back, or hastened since, are left on the heap until they come up.
            if number in self._ranks and self._ranks[number][1] == rank:
                return number
        return None


class Limiter:
    """Makes the requests to one issuer wait for their turns; *time* as that of the loop, which its timers follow."""

    def __init__(self, limits: Limits, *, time: Callable[[], float]) -> None:
        self.limits = limits
        self._time = time
        self._turns = Turns()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, client: str, rank: float, asked: Callable[[int], None]) -> AsyncIterator[int]:
        """Wait for a turn, and hold it; *asked* gets its number for ``hasten`` while it is waited for."""
        number = self._turns.ask(client, rank)
        self._waiting[number] = begun = asyncio.get_running_loop().create_future()
        try:
            asked(number)
            self._give()
            await begun
            yield number
        finally:
            del self._waiting[number]
            self._turns.withdraw(number)
            if begun.done() and not begun.cancelled():
                self._turns.done()
            self._give()

    def is_idle(self) -> bool:
        """Say whether one that is made anew would do the same from now on."""
        return self._turns.is_idle(self._time())

    def hasten(self, number: int) -> None:
        """Somebody waits for the turn *number* now."""
        self._turns.hasten(number)

    def unused(self, number: int) -> None:
        """Nothing was, nor will be, sent in the turn *number*."""
        self._turns.unused(number)

    def _give(self) -> None:
        """Give every turn that may begin, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (number := self._turns.give(self._time(), self.limits)) is not None:
            self._begin(number)
        wait = self._turns.wait(self._time(), self.limits)
        if wait is not None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._give)

    def _begin(self, number: int) -> None:
        begun = self._waiting[number]
        if begun.cancelled():
            self._turns.done()  # its task is about to take it back
        else:
            begun.set_result(None)
