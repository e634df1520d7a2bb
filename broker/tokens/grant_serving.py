"""
What callers want of a grant: an access token, another one, or news; the half of ``grants`` that only looks and waits.

When an attempt begins is decided in ``grant_steps``, and carried out in ``grants``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from broker.tokens import grant_state as table
from broker.tokens.grant_keeper import GrantKeeper
from broker.tokens.passage import Passage
from broker.tokens.ports import Clock, Watch
from broker.tokens.serving import Serving
from broker.tokens.spec import Refresh


class GrantServing(ABC):
    """Serves the tokens of *keepers*."""

    def __init__(self, keepers: Mapping[str, GrantKeeper], *, clock: Clock, passage: Passage) -> None:
        self.__keepers = keepers
        self.__clock = clock
        self.__passage = passage

    @abstractmethod
    def handle(self, keeper: GrantKeeper, event: table.Event) -> None:
        """Take an event through the keeper, and do what it asks for."""

    @abstractmethod
    def set_alarm(self, keeper: GrantKeeper) -> None:
        """See that the keeper is looked at when it says, or before."""

    async def get(self, grant_id: str, *, min_valid: float | None, wait: float) -> Serving:
        """Give an access token. Raises KeyError, ConsentRequiredError and TokenUnavailableError."""
        keeper = self.__keepers[grant_id]
        deadline = self.__clock.boot() + wait
        self.handle(keeper, table.Tick())
        if keeper.spec.refresh is Refresh.ON_DEMAND and keeper.wants_refresh():
            self.handle(keeper, table.Wanted())
        while (serving := keeper.servable(min_valid)) is None:
            self.handle(keeper, table.Wanted())
            if not await self._next(keeper, deadline):
                return keeper.last_resort()
        return serving

    async def refresh(self, grant_id: str, *, rejected: str | None, wait: float, begun: Callable[[], None]) -> Serving:
        """Give another access token than the one in hand, as far as there is one: as ``ports.TokenSource.refresh``."""
        keeper = self.__keepers[grant_id]
        deadline = self.__clock.boot() + wait
        self.handle(keeper, table.Tick())
        if rejected is None or not keeper.has_other_than(rejected):
            before, attempts = keeper.standing().etag, keeper.attempts
            self.handle(keeper, table.Forced())
            if keeper.attempts != attempts:
                begun()
            while not keeper.has_other_than(before) and await self._next(keeper, deadline):
                self.handle(keeper, table.Forced())  # whatever overtook the attempt that was waited for
        return keeper.last_resort()

    @contextmanager
    def watch(self, grant_id: str) -> Iterator[Watch]:
        """Let a caller wait for news of a grant: as ``ports.TokenSource.watch``."""
        keeper = self.__keepers[grant_id]
        keeper.watchers += 1
        try:
            self.set_alarm(keeper)
            yield Watch(news=keeper.news(), standing=keeper.standing)
        finally:
            keeper.watchers -= 1

    async def _next(self, keeper: GrantKeeper, deadline: float) -> bool:
        """Wait for the attempt that runs or comes in time; gives whether that may have helped."""
        if self.__keepers.get(keeper.grant.id) is not keeper:
            return False
        running = keeper.is_running()
        if running:
            self.__passage.hasten((keeper.grant.id, keeper.attempts))
        left = keeper.patience(deadline - self.__clock.boot())
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(left):
                await keeper.change()
        except TimeoutError:
            return False
        state = keeper.state
        return not running or keeper.is_running() or (isinstance(state, table.Resting) and state.failure is None)
