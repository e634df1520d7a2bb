"""
The breaker of a client whose certificate is under suspicion (rules.md R1). Pure: a value and a table.

A suspicion is never a verdict on a token: while the breaker is open the client only probes.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.tokens.schedule import LAST_BACKOFF, SUSPECTS_CERTIFICATE

MAX_SUSPICIONS = 3
"""In a row: one reset may be a server that restarts, three fresh connections in a row hardly are."""

PROBE_INTERVAL = LAST_BACKOFF
"""Seconds between probes: a server that restarts slowly is found again as soon as by ordinary backoff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Requests pass; *suspicions* of them in a row ended in one."""

    suspicions: int = 0


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


def after(breaker: Breaker, reason: str | None, now: float, *, answered: bool) -> Breaker:
    """
    Take in how a request ended: *reason* is its failure's code or None.

    Only an answer of the server (*answered*) clears a suspicion: that nobody listened says nothing.
    """
    suspicious = reason in SUSPECTS_CERTIFICATE
    match breaker:
        case Closed(suspicions=suspicions) if suspicious:
            if suspicions + 1 >= MAX_SUSPICIONS:
                return Open(probe_at=now + PROBE_INTERVAL)
            return Closed(suspicions=suspicions + 1)
        case Open() if suspicious:
            return Open(probe_at=now + PROBE_INTERVAL)
        case Closed() | Open():
            return Closed() if answered else breaker
