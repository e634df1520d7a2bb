"""
Is it the grants that are refused, or the client? (rules.md R2.7.) Pure: a value and functions over it.

A server that loses its keys, its database or its mind says ``invalid_grant`` to everybody. When several
grants of one client meet it within a minute, the client is suspect: no verdict counts, those of that minute
are taken back, and one request every few minutes finds out whether the server believes us again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

WINDOW = 60.0
"""Seconds within which refusals count together."""

MANY = 3
"""Grants: so many people do not withdraw their consents in one minute."""

SHARE = 0.1
"""Of a client's grants; matters where a tenth is fewer than ``MANY``."""

FEW = 2
"""
Grants: of a client that has a dozen, two are enough, but one is never.

By the letter of the rule one grant is a tenth of ten; but then the one grant of a small client could never
come to an end, however often the server said so.
"""

PROBE_INTERVAL = 180.0
"""Seconds between the requests of a suspect client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """
    What is held against a client.

    *refused* are the grants that met ``invalid_grant``, each with the last time of it (boot clock); *probe_at*
    is when a suspect client may ask next, None for one that is not suspect.
    """

    refused: tuple[tuple[str, float], ...] = ()
    probe_at: float | None = None

    @property
    def is_suspect(self) -> bool:
        """Say whether the client is suspect."""
        return self.probe_at is not None

    def lately(self, now: float) -> tuple[str, ...]:
        """Give the grants that were refused within the window."""
        return tuple(grant for grant, at in self.refused if now - at < WINDOW)


def threshold(grants: int) -> int:
    """Give how many of a client's *grants* make it suspect."""
    return min(MANY, max(FEW, math.ceil(grants * SHARE)))


def after_refusal(suspicion: Suspicion, grant: str, *, now: float, grants: int) -> Suspicion:
    """Take in that *grant*, one of so many *grants*, met ``invalid_grant``; a lost answer is none (R2.7)."""
    kept = tuple((name, at) for name, at in suspicion.refused if name != grant and now - at < WINDOW)
    suspicion = replace(suspicion, refused=(*kept, (grant, now)))
    if suspicion.is_suspect or len(suspicion.refused) < threshold(grants):
        return suspicion
    return replace(suspicion, probe_at=now + PROBE_INTERVAL)


def after_client_error(suspicion: Suspicion, *, now: float) -> Suspicion:
    """Take in that the server refuses the client itself: what it said of grants just before counts no more."""
    if suspicion.is_suspect or not suspicion.lately(now):
        return suspicion
    return replace(suspicion, probe_at=now + PROBE_INTERVAL)


def after_success(suspicion: Suspicion) -> Suspicion:
    """Take in that a refresh succeeded: the server believes the client. What it refused lately still counts."""
    return suspicion if suspicion.probe_at is None else replace(suspicion, probe_at=None)


def bears_another(suspicion: Suspicion, *, now: float, grants: int) -> bool:
    """Say whether one more grant may be refused without making the client suspect."""
    return len(suspicion.lately(now)) + 1 < threshold(grants)


def admit(suspicion: Suspicion, now: float) -> tuple[Suspicion, float | None]:
    """Let a request pass (None), or say how many seconds it has to wait; of a suspect client one is the probe."""
    if suspicion.probe_at is None:
        return suspicion, None
    if now < suspicion.probe_at:
        return suspicion, suspicion.probe_at - now
    return replace(suspicion, probe_at=now + PROBE_INTERVAL), None
