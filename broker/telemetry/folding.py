"""
Repeated events as one with a count, so that nobody can flood the logs by repeating himself.

The first few alike within a window are passed on one by one; then one in a while stands for all that came since,
for as long as they come that fast (rules.md R9). Alike means: all fields but the pid. Pure: the time is an
argument (seconds of the boot clock). No count is lost as long as ``due`` is called now and then and ``flush``
at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from broker.events import Event, LibraryReported, RequestRefused, UnexpectedFailure

Repeatable = RequestRefused | UnexpectedFailure | LibraryReported
"""What somebody else decides how often it happens."""

MAX_KINDS = 1_024
"""Kinds that are told apart at once. Above it the oldest is passed on early: more lines, no count lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """*limit* alike within *window* seconds are passed on one by one; above it one in *every* seconds."""

    limit: int
    window: float
    every: float


RULES: Mapping[type[Event], Rule] = MappingProxyType(
    {
        RequestRefused: Rule(limit=20, window=60.0, every=10.0),  # the numbers of rules.md R9
        # A loop that runs out of descriptors fails hundreds of times a second; one line says as much.
        UnexpectedFailure: Rule(limit=1, window=1.0, every=1.0),
        LibraryReported: Rule(limit=1, window=1.0, every=1.0),
    }
)


@dataclass(slots=True)
class _Kind:
    """How often one kind was seen in this window, and what of it is not passed on yet."""

    rule: Rule
    latest: Repeatable
    started: float
    passed: float
    seen: int = 0
    folding: bool = False
    pending: int = 0


class Folding:
    """Counts events by kind."""

    def __init__(self) -> None:
        self._kinds: dict[Repeatable, _Kind] = {}

    def offer(self, event: Repeatable, now: float) -> list[Repeatable]:
        """Take an event; give what is to be passed on now: itself, a count of several, or nothing yet."""
        key = _alike(event)
        kind = self._kinds.get(key)
        out: list[Repeatable] = []
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                out += _drain(self._kinds.pop(next(iter(self._kinds))), now)
            kind = self._kinds[key] = _Kind(rule=RULES[type(event)], latest=event, started=now, passed=now)
        _roll(kind, now)
        kind.latest = event
        kind.seen += event.count
        kind.folding = kind.folding or kind.seen > kind.rule.limit
        if not kind.folding:
            kind.passed = now
            return [*out, event]
        kind.pending += event.count
        return out + _drain_if_due(kind, now)

    def due(self, now: float) -> list[Repeatable]:
        """Give the counts whose time has come, and forget what has been quiet. To be called every second or so."""
        out: list[Repeatable] = []
        for key, kind in list(self._kinds.items()):
            out += _drain_if_due(kind, now)
            if now - kind.started >= 2 * kind.rule.window and not kind.pending:
                del self._kinds[key]
        return out

    def flush(self, now: float) -> list[Repeatable]:
        """Give all counts that were not passed on yet."""
        return [event for kind in self._kinds.values() for event in _drain(kind, now)]


def _alike(event: Repeatable) -> Repeatable:
    """Give what all events of this kind have in common."""
    if isinstance(event, RequestRefused):
        return replace(event, count=1, pid=None)
    return replace(event, count=1)


def _roll(kind: _Kind, now: float) -> None:
    """Begin a new window when the old one is over; folding goes on if the old one was above the limit."""
    elapsed = now - kind.started
    if elapsed >= kind.rule.window:
        kind.folding = elapsed < 2 * kind.rule.window and kind.seen > kind.rule.limit
        kind.started = now
        kind.seen = 0


def _drain_if_due(kind: _Kind, now: float) -> list[Repeatable]:
    return _drain(kind, now) if now - kind.passed >= kind.rule.every else []


def _drain(kind: _Kind, now: float) -> list[Repeatable]:
    if not kind.pending:
        return []
    count, kind.pending, kind.passed = kind.pending, 0, now
    # A pid is that of one caller: it is not true of all that a count stands for.
    event = kind.latest if count == kind.latest.count else _alike(kind.latest)
    return [replace(event, count=count)]
