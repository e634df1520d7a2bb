"""
The breaker of a client whose certificate is under suspicion (rules.md R1). Pure: a value and a table.

A suspicion is never a verdict on a token: while the breaker is open the client only probes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from broker.tokens.schedule import LAST_BACKOFF, SUSPECTS_CERTIFICATE

MAX_SUSPICIONS = 3
"""In a row: one reset may be a server that restarts, three fresh connections in a row hardly are."""

PROBE_INTERVAL = LAST_BACKOFF
"""Seconds between probes: a server that restarts slowly is found again as soon as by ordinary backoff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Requests pass; *suspicions* of them in a row ended in one, the last at *suspected_at* (boot clock)."""

    suspicions: int = 0
    suspected_at: float = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Requests are held back until *probe_at* (boot clock), when one may pass."""

    probe_at: float


Breaker = Closed | Open


def admit(breaker: Breaker, now: float) -> tuple[Breaker, float | None]:
    """Let a request pass (None), or say how many seconds it has to wait. The one that passes is the probe."""
    match breaker:
        case Open(probe_at=probe_at) if now < probe_at:
            return breaker, probe_at - now
        case Open():
            return Open(probe_at=now + PROBE_INTERVAL), None
        case Closed():
            return breaker, None


def after(breaker: Breaker, reason: str | None, now: float, *, admitted_at: float, answered: bool) -> Breaker:
    """
    Take in how a request ended that was admitted at *admitted_at*: *reason* is its failure's code or None.

    Suspicions are in a row only if one request began after the other had ended: many at once that one
    restart of the server resets are one suspicion. Only an answer of the server (*answered*) clears it: that
    nobody listened says nothing.
    """
    suspicious = reason in SUSPECTS_CERTIFICATE
    match breaker:
        case Closed(suspected_at=suspected_at) if suspicious and admitted_at < suspected_at:
            return breaker
        case Closed(suspicions=suspicions) if suspicious:
            if suspicions + 1 >= MAX_SUSPICIONS:
                return Open(probe_at=now + PROBE_INTERVAL)
            return Closed(suspicions=suspicions + 1, suspected_at=now)
        case Open(probe_at=probe_at) if suspicious:
            is_probe = admitted_at >= probe_at - PROBE_INTERVAL
            return Open(probe_at=now + PROBE_INTERVAL) if is_probe else breaker
        case Closed() | Open():
            return Closed() if answered else breaker
