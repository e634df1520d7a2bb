"""
Repeated refusals as one record with a count (rules.md R9), so that a denied caller cannot flood the logs.

The first 20 identical refusals within a minute are passed on one by one; then one in 10 s stands for all
that came since, for as long as more than 20 a minute come. Identical means: all fields but the pid. Pure:
the time is an argument (seconds of the boot clock), and no refusal is lost as long as ``flush`` is called at
the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.events import RequestRefused

LIMIT = 20
"""Identical refusals that are recorded one by one within a window (rules.md R9)."""

WINDOW = 60.0
"""Seconds of a window (rules.md R9)."""

EVERY = 10.0
"""Seconds between records while refusals are folded (rules.md R9)."""

MAX_KINDS = 1_024
"""Kinds of refusals that are told apart at once. Above it the oldest is written out early: more records, none lost."""


@dataclass(slots=True)
class _Kind:
    """How often one kind of refusal was seen in this window, and what of it is not written yet."""

    started: float
    written: float
    latest: RequestRefused
    seen: int = 0
    folding: bool = False
    pending: int = 0


class Folding:
    """Counts refusals by kind."""

    def __init__(self) -> None:
        self._kinds: dict[RequestRefused, _Kind] = {}

    def offer(self, event: RequestRefused, now: float) -> list[RequestRefused]:
        """Take a refusal; give what is to be recorded now, itself or a count of several."""
        key = replace(event, pid=None)
        kind = self._kinds.get(key)
        out: list[RequestRefused] = []
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                out += _drain(self._kinds.pop(next(iter(self._kinds))), now)
            kind = self._kinds[key] = _Kind(started=now, written=now, latest=event)
        _roll(kind, now)
        kind.seen += event.count
        kind.latest = event
        kind.folding = kind.folding or kind.seen > LIMIT
        if not kind.folding:
            kind.written = now
            return [*out, event]
        kind.pending += event.count
        if now - kind.written >= EVERY:
            out += _drain(kind, now)
        return out

    def due(self, now: float) -> list[RequestRefused]:
        """Give the counts whose time has come, and forget what has been quiet. To be called every second or so."""
        out: list[RequestRefused] = []
        for key, kind in list(self._kinds.items()):
            if now - kind.written >= EVERY:
                out += _drain(kind, now)
            if now - kind.started >= 2 * WINDOW and not kind.pending:
                del self._kinds[key]
        return out

    def flush(self, now: float) -> list[RequestRefused]:
        """Give all counts that are not written yet: at the end, or before the log changes files."""
        return [event for kind in self._kinds.values() for event in _drain(kind, now)]


def _roll(kind: _Kind, now: float) -> None:
    """Begin a new window when the old one is over; folding goes on if the old one was above the limit."""
    elapsed = now - kind.started
    if elapsed < WINDOW:
        return
    kind.folding = elapsed < 2 * WINDOW and kind.seen > LIMIT
    kind.started = now
    kind.seen = 0


def _drain(kind: _Kind, now: float) -> list[RequestRefused]:
    if not kind.pending:
        return []
    count, kind.pending, kind.written = kind.pending, 0, now
    # Several connections may be behind a count: the pid is that of one refusal, or of none.
    return [replace(kind.latest, count=count, pid=kind.latest.pid if count == 1 else None)]
