"""
What callers see of a token that is kept, whoever keeps it: the token for an answer, and waiting for another.

The part that ``keeper`` and ``grant_keeper`` have in common. It decides nothing about attempts; what becomes of
the token is in their tables.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Container
from dataclasses import replace

from broker.errors import BrokerError
from broker.tokens.ports import Clock
from broker.tokens.schedule import min_valid_of
from broker.tokens.serving import Serving, Standing
from broker.tokens.spec import IssuedToken

MIN_SERVED = 1.0
"""Seconds: ``expires_in`` is floored, and a token with 0 s left is of no use to anybody."""

LAST_MOMENT = 2.0
"""Seconds before a token's end when a caller gets it rather than wait on: time for the answer, and to use it."""


class Served(ABC):
    """
    A token with its callers.

    Those that have to wait share one future, which every change of state resolves; those that wait for news
    share another, which only a change resolves that they can see.
    """

    __slots__ = ("_changed", "_clock", "_news", "watchers")

    def __init__(self, *, clock: Clock) -> None:
        self.watchers = 0  # callers that wait for news: as long as there are some, somebody asks
        self._clock = clock
        self._changed: asyncio.Future[None] | None = None
        self._news: asyncio.Future[None] | None = None

    @abstractmethod
    def in_hand(self) -> IssuedToken | None:
        """Give the token, if there is one."""

    @abstractmethod
    def standing(self) -> Standing:
        """Give what callers can see of the token."""

    @abstractmethod
    def is_running(self) -> bool:
        """Say whether an attempt is under way."""

    @abstractmethod
    def is_stale(self) -> bool:
        """Say whether the time of the token to be refreshed has passed."""

    @abstractmethod
    def wake_at(self) -> float | None:
        """Say when the keeper needs the next ``Tick``, if it does."""

    @abstractmethod
    def nothing(self) -> BrokerError:
        """Make the error for a caller where there is nothing to serve."""

    def left(self) -> float:
        """Give the seconds until the end of the token in hand, 0 where there is none."""
        token = self.in_hand()
        return 0.0 if token is None else token.left(boot=self._clock.boot(), wall=self._clock.wall())

    def is_bound_to(self, thumbprints: Container[str]) -> bool:
        """Say whether the token in hand is bound to a certificate or a DPoP key with one of *thumbprints*."""
        token = self.in_hand()
        return token is not None and (token.certificate_thumbprint in thumbprints or token.jkt in thumbprints)

    def servable(self, min_valid: float | None) -> Serving | None:
        """Give the token if it has the validity that a caller needs."""
        token = self.in_hand()
        return None if token is None else self._serve(token, max(min_valid_of(token, min_valid), MIN_SERVED))

    def last_resort(self) -> Serving:
        """
        Give the token however little is left of it.

        Raises ConsentRequiredError when only a person can help, TokenUnavailableError when nothing valid is there.
        """
        token = self.in_hand()
        serving = None if token is None else self._serve(token, MIN_SERVED)
        if serving is None:
            raise self.nothing()
        return replace(serving, enough=False)

    def has_other_than(self, etag: str | None) -> bool:
        """Say whether there is a good token, and it is not the one of *etag*."""
        serving = self.servable(0.0)
        return serving is not None and serving.token.etag != etag

    def patience(self, wait: float) -> float:
        """
        Give the seconds for which it is worth waiting, of the *wait* that a caller has; 0 if for none.

        With a token in hand only an attempt under way is waited for, and never so long that the token ends
        meanwhile. Without one, the next attempt is waited for if it comes in time.
        """
        left = self.left()
        if left >= MIN_SERVED:
            return min(wait, left - LAST_MOMENT) if self.is_running() else 0.0
        at = self.wake_at()
        return wait if self.is_running() or (at is not None and at - self._clock.boot() <= wait) else 0.0

    def news(self) -> asyncio.Future[None]:
        """Give what is resolved when the standing changes, or the configuration. Shared: not to be cancelled."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    async def change(self) -> None:
        """Wait for the next change of state."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def announce(self, *, news: bool = True) -> None:
        """Wake those who wait: for a change, and where it is *news*, for that."""
        changed, self._changed = self._changed, None
        told, self._news = (self._news, None) if news else (None, self._news)
        for future in (changed, told):
            if future is not None and not future.done():
                future.set_result(None)

    def _serve(self, token: IssuedToken, needed: float) -> Serving | None:
        now, wall = self._clock.boot(), self._clock.wall()
        left = token.left(boot=now, wall=wall)
        if left < needed:
            return None
        return Serving(
            token=token,
            expires_in=math.floor(left),
            expires_at=math.floor(token.expires_at_by(boot=now, wall=wall)),
            stale=self.is_stale(),
        )
