"""Says ahead of time that a person will be needed: each warning of a grant once, and again after a new consent."""

from __future__ import annotations

from broker.events import Emit, GrantExpiring
from broker.tokens.grant_ends import why_last
from broker.tokens.grant_keeper import GrantKeeper
from broker.tokens.ports import Clock

AHEAD = (30 * 86_400.0, 7 * 86_400.0, 86_400.0)
"""Seconds before the end of a consent: time to write to a person, to write again, and to call."""

SHARE = 0.2
"""Of the life of an access token that cannot be refreshed: so much is left when it is warned about."""


class Warnings:
    """Remembers what was said of which grant."""

    def __init__(self, *, clock: Clock, emit: Emit) -> None:
        self._clock = clock
        self._emit = emit
        self._said: dict[str, dict[float, float]] = {}

    def look(self, keeper: GrantKeeper) -> float | None:
        """Say what is to be said now; gives when to look again (boot clock), None for never."""
        boot, wall = self._clock.boot(), self._clock.wall()
        ends = [(keeper.grant.consent_expires_at, AHEAD)] if keeper.grant.consent_expires_at is not None else []
        looks: list[float] = []
        for end, steps in ends:
            assert end is not None
            looks += self._say(keeper, end, end - wall, steps, boot)
        token = keeper.state.token
        if token is not None and why_last(keeper.grant, keeper.terms(keeper.grant)) is not None:
            looks += self._say(keeper, token.expires_at, token.expires_at - boot, (token.lifetime * SHARE,), boot)
        return min(looks, default=None)

    def forget(self, grant_id: str) -> None:
        """Forget a grant that is gone."""
        self._said.pop(grant_id, None)

    def _say(self, keeper: GrantKeeper, end: float, left: float, steps: tuple[float, ...], boot: float) -> list[float]:
        """Say it if the next of *steps* is reached that was not said yet; gives when the one after it is."""
        said = self._said.get(keeper.grant.id, {})
        reached = [step for step in steps if 0.0 < left <= step]
        if reached and min(reached) < said.get(end, float("inf")):
            self._said[keeper.grant.id] = said | {end: min(reached)}
            self._emit(GrantExpiring(token=keeper.spec.name, grant=keeper.grant.id, expires_in=left))
        return [boot + (left - step) for step in steps if left > step]
