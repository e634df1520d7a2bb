"""
The nonces that servers hand out for DPoP proofs (RFC 9449 section 8), by their origin.

The newest is what goes into the next proof. The others are remembered for a while, to know a nonce again that a
caller got from somewhere: a proof must not say what somebody made up (rules.md R7). An origin that never gave one
never gets one (DP-03).
"""

from __future__ import annotations

from collections import OrderedDict, deque

from broker.tokens.ports import Clock

MAX_ORIGINS = 64
"""Servers of one client whose nonces are kept; of more, those that were heard of last."""

MAX_RECENT = 32
"""Nonces of one origin that are known again: some servers hand out another one with each answer."""

RECENT = 300.0
"""Seconds for which a nonce is known again (rules.md R7)."""


class Nonces:
    """The nonces that one client was given by servers of one kind."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._given: OrderedDict[str, deque[tuple[str, float]]] = OrderedDict()

    def take(self, origin: str, nonce: str) -> None:
        """Take in that *origin* has just handed out *nonce*."""
        given = self._given.setdefault(origin, deque(maxlen=MAX_RECENT))
        if given and given[-1][0] == nonce:
            given.pop()  # handed out again: known for longer, and not twice
        given.append((nonce, self._clock.boot()))
        self._given.move_to_end(origin)
        if len(self._given) > MAX_ORIGINS:
            self._given.popitem(last=False)

    def newest(self, origin: str) -> str | None:
        """Give what *origin* handed out last, however long ago: a server that wants a newer one says so."""
        given = self._given.get(origin)
        return given[-1][0] if given else None

    def is_recent(self, origin: str, nonce: str) -> bool:
        """Say whether *origin* has handed out *nonce* within the last five minutes."""
        since = self._clock.boot() - RECENT
        return any(known == nonce and at >= since for known, at in self._given.get(origin, ()))
