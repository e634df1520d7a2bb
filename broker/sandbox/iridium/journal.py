"""
What reached the fake Iridium and its providers: which parameters came in which place, by name.

Nothing that is shown has a value of a parameter or a header in it. The values are kept all the same, so that a test
which knows a secret can ask where it was seen.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

from broker.sandbox.iridium.wire import Asked, raw_basic

KEPT = 1_000
"""Requests kept in detail. The counters go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One value of a request: *place* is ``path``, ``query``, ``form`` or ``header``."""

    place: str
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One request.

    *time* in Unix seconds. *listener* is ``issuer``, ``development``, ``github`` or ``google``; *endpoint* is
    ``external``, ``callback``, ``authorize``, ``token``, ``refresh``, ``logout``, ``identities``, ``api``, ``provider``
    or ``nothing``. *query*, *form* and *headers* are names; *scheme* is that of ``Authorization``. *outcome* says what
    came of it: an error as RFC 6749 calls it, or ``fault`` where the request was not looked at.
    """

    time: float
    listener: str
    endpoint: str
    method: str
    path: str
    outcome: str
    status: int
    query: tuple[str, ...] = ()
    form: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    scheme: str | None = None
    accept: str | None = None
    grant_type: str | None = None
    fault: str | None = None
    sent: tuple[Sent, ...] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Any]:
        """Give everything but the values."""
        return {name: value for name, value in asdict(self).items() if name != "sent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value was seen."""

    endpoint: str
    method: str
    place: str
    name: str


class Journal:
    """Counts and keeps entries."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter()
        self._entries: deque[Entry] = deque(maxlen=KEPT)

    def record(self, entry: Entry) -> None:
        """Count *entry* under its endpoint, and under ``endpoint.outcome``; keep it."""
        self._counters[entry.endpoint] += 1
        self._counters[f"{entry.endpoint}.{entry.outcome}"] += 1
        self._entries.append(entry)

    def count(self, name: str) -> int:
        """Say how often *name* (``token``, ``token.issued`` ...) was seen since the last ``clear``."""
        return self._counters[name]

    def entries(self, endpoint: str | None = None) -> tuple[Entry, ...]:
        """Give the entries of one endpoint, or all, oldest first."""
        return tuple(entry for entry in self._entries if endpoint in {None, entry.endpoint})

    def places_of(self, secret: str) -> tuple[Place, ...]:
        """Say where *secret* was seen, alone or within something longer, oldest first."""
        return tuple(
            Place(endpoint=entry.endpoint, method=entry.method, place=sent.place, name=sent.name)
            for entry in self._entries
            for sent in entry.sent
            if secret in sent.value
        )

    def clear(self) -> None:
        """Forget everything."""
        self._counters.clear()
        self._entries.clear()

    def as_json(self) -> dict[str, Any]:
        """Give everything that may be shown as JSON values."""
        return {"counters": dict(sorted(self._counters.items())), "requests": [one.as_json() for one in self._entries]}


def values_of(asked: Asked, headers: tuple[tuple[str, str], ...]) -> tuple[Sent, ...]:
    """List all values of a request; ``Authorization: Basic`` is there decoded, too."""
    basic = [("Authorization", raw_basic(asked.basic))] if asked.basic else []
    places = {"path": (("", asked.path),), "query": asked.query, "form": asked.form, "header": (*headers, *basic)}
    return tuple(Sent(place=place, name=name, value=value) for place, pairs in places.items() for name, value in pairs)
