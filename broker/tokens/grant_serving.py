"""
What callers want of grants: how they stand, an access token, news; the half of ``grants`` that looks and waits.

When an attempt begins is decided in ``grant_steps``, and carried out in ``grants``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from broker.tokens import grant_state as table
from broker.tokens.grant import Grant, GrantStatus, Page
from broker.tokens.grant_index import GrantIndex
from broker.tokens.grant_keeper import GrantKeeper
from broker.tokens.grant_steps import is_settled
from broker.tokens.passage import Passage
from broker.tokens.ports import Clock, Watch
from broker.tokens.serving import Serving
from broker.tokens.spec import IssuedToken, Refresh


class GrantServing(ABC):
    """Serves the tokens of *keepers*."""

    def __init__(self, keepers: GrantIndex, *, clock: Clock, passage: Passage) -> None:
        self.__keepers = keepers
        self.__clock = clock
        self.__passage = passage

    @abstractmethod
    def handle(self, keeper: GrantKeeper, event: table.Event) -> None:
        """Take an event through the keeper, and do what it asks for."""

    @abstractmethod
    def set_alarm(self, keeper: GrantKeeper) -> None:
        """See that the keeper is looked at when it says, or before."""

    def one(self, token: str) -> str | None:
        """Give the id of the grant of a token that has one for all, None where there is none yet."""
        return next(iter(self.__keepers.of(token)), None)

    def came_of(self, authorization_id: str) -> str | None:
        """Give the id of the grant that an authorization has led to, None where there is none."""
        return self.__keepers.came_of(authorization_id)

    def count(self, token: str) -> int:
        """Count the grants of a token."""
        return len(self.__keepers.of(token))

    def has_usable(self, token: str) -> bool:
        """Say whether any grant of a token has an access token in hand."""
        return any(keeper.state.token is not None for keeper in self.__keepers.of(token).values())

    def is_idle(self, grant_id: str) -> bool:
        """Say whether a grant lacks an access token only because nobody asks for one. Raises KeyError."""
        return self.__keepers[grant_id].is_idle()

    def token_of(self, grant_id: str) -> str:
        """Give the name of the token of a grant. Raises KeyError."""
        return self.__keepers[grant_id].spec.name

    def grant(self, grant_id: str) -> Grant:
        """Give what is known of a grant. Raises KeyError."""
        return self.__keepers[grant_id].grant

    def status(self, grant_id: str) -> GrantStatus:
        """Say how a grant stands. Raises KeyError."""
        return self.__keepers[grant_id].status()

    async def page(
        self, visible: Mapping[str, frozenset[str] | None], *, subject: str | None, limit: int, cursor: str | None
    ) -> Page:
        """
        Give grants sorted by id, after *cursor*; of one *subject* where given. Others have their turn meanwhile.

        *visible* has the tokens whose grants are looked at, with the owners that count, None for all of them.
        """
        first = await self.__keepers.first(limit + 1, visible, subject=subject, after=cursor)
        present = (self.__keepers.get(grant_id) for grant_id in first[:limit])
        statuses = tuple(keeper.status() for keeper in present if keeper is not None)
        return Page(grants=statuses, cursor=first[limit - 1] if len(first) > limit else None)

    def survey(self) -> Iterator[tuple[str, str, float | None, float | None]]:
        """
        Look at one grant after the other, for metrics: however many there are, others have their turn meanwhile.

        Gives token, state, and the Unix times when access token and consent end, None where there is none.
        """
        for keeper in tuple(self.__keepers.values()):
            token = keeper.state.token
            boot, wall = self.__clock.boot(), self.__clock.wall()
            ends = None if token is None else token.expires_at_by(boot=boot, wall=wall)
            yield keeper.spec.name, keeper.status().state, ends, keeper.grant.consent_expires_at

    def in_hand(self) -> Iterator[tuple[str, IssuedToken]]:
        """Give each access token in hand with the name of its section; there may be ten thousand."""
        for keeper in tuple(self.__keepers.values()):  # whoever takes its time sees them come and go
            token = keeper.in_hand()
            if token is not None:
                yield keeper.spec.name, token

    def at_once(self, grant_id: str, *, min_valid: float | None) -> Serving | None:
        """Give an access token where that takes no wait and changes nothing: as ``ports.TokenSource.at_once``."""
        keeper = self.__keepers.get(grant_id)
        if keeper is None or not is_settled(keeper.state, self.__clock.boot()):
            return None
        if keeper.spec.refresh is Refresh.ON_DEMAND and keeper.wants_refresh():
            return None
        return keeper.servable(min_valid)

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
