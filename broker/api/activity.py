"""What still goes on, as a count that can be waited for to reach zero."""

from __future__ import annotations

import asyncio


class Activity:
    """Counts what has begun and not ended."""

    def __init__(self) -> None:
        self._running = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def begin(self) -> None:
        """Count one more."""
        self._running += 1
        self._quiet.clear()

    def end(self) -> None:
        """Count one less."""
        self._running -= 1
        if not self._running:
            self._quiet.set()

    @property
    def running(self) -> int:
        """How many have not ended."""
        return self._running

    async def quiet(self, seconds: float) -> bool:
        """Wait until nothing goes on, for *seconds* at most; gives whether it came to that."""
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True
