"""
Where authorizations are while nothing happens to them: in memory, sealed in the store, and gone in time.

A finished one is remembered for a while, so that who asks again is told how it ended. How one ended is kept in
memory where the disk refuses, and tried again; the store then has it as spent at the least.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from broker.consent.errors import NoSuchAuthorizationError, TooManyPendingError
from broker.consent.pending import KIND, Expired, Pending, Phase, Waiting
from broker.consent.requesting import TRANSACTION_LIFETIME
from broker.errors import LocalError
from broker.tokens.alarms import Alarms
from broker.tokens.ports import Clock
from broker.tokens.storing import Delete, Put, Store

MAX_OPEN = 1_000
MAX_OPEN_PER_OWNER = 200
"""Authorizations that wait, in all and of one workload: more people than log in within ten minutes (AC-09)."""

MAX_FINISHED = 1_000
"""Finished ones that are remembered; beyond them the oldest go."""

KEPT = 600.0
"""Seconds after its time that one is remembered."""

SAVE_AGAIN = 1.0
"""Seconds between two tries to write down how one ended."""


@dataclass(slots=True)
class Entry:
    """An authorization in memory; *deadline* by the boot clock."""

    pending: Pending
    deadline: float
    changed: asyncio.Future[None] | None = None

    def become(self, phase: Phase) -> None:
        """Go on in another phase; who waits for that is told."""
        self.pending = replace(self.pending, phase=phase)
        changed, self.changed = self.changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    def news(self) -> asyncio.Future[None]:
        """Give what is resolved with the next phase. Shared: not to be cancelled."""
        if self.changed is None:
            self.changed = asyncio.get_running_loop().create_future()
        return self.changed


class Shelf:
    """All authorizations by id."""

    def __init__(self, store: Store, *, clock: Clock, on_expired: Callable[[Pending], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_expired = on_expired
        self._entries: dict[str, Entry] = {}
        self._beginning: Counter[str] = Counter()
        self._unsaved: set[str] = set()
        self._alarms = Alarms(clock)

    def find(self, authorization_id: str) -> Entry:
        """Find one, expired if it is late. Raises NoSuchAuthorizationError."""
        entry = self._entries.get(authorization_id)
        if entry is None:
            raise NoSuchAuthorizationError
        if self._is_late(entry):
            self.expire(entry)
        return entry

    def left(self, entry: Entry) -> float:
        """Give the seconds until it expires."""
        return max(0.0, min(entry.deadline - self._clock.boot(), entry.pending.expires_at - self._clock.wall()))

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """Hold a place for one of *owner* while it is begun. Raises TooManyPendingError."""
        taken = Counter(entry.pending.owner for entry in self._entries.values() if entry.pending.is_open)
        taken += self._beginning
        if taken.total() >= MAX_OPEN or taken[owner] >= MAX_OPEN_PER_OWNER:
            raise TooManyPendingError
        self._beginning[owner] += 1
        try:
            yield
        finally:
            self._beginning[owner] -= 1

    async def add(self, pending: Pending) -> None:
        """Add one, durably. Raises LocalError ``store_unavailable``, and nothing is added."""
        await self.write(pending)
        self._take_up(pending, TRANSACTION_LIFETIME)
        finished = [entry for entry in self._entries.values() if not entry.pending.is_open]
        for entry in finished[: -MAX_FINISHED or None]:
            entry.deadline = self._clock.boot() - KEPT
            self._set_alarm(entry)

    def restored(self) -> Iterator[tuple[str, Entry | None, bool]]:
        """Take up what the store has: the name, the entry (None: it is unreadable), and whether it is doubtful."""
        wall = self._clock.wall()
        for name, record in self._store.records(KIND).items():
            try:
                pending = Pending.from_bytes(record.value)
            except LocalError:
                yield name, None, True
            else:
                # By a clock that was set back since, it might live for ever; nobody knows how long ago it was.
                left = pending.expires_at - wall if pending.created_at <= wall else 0.0
                yield name, self._take_up(pending, left), record.suspect or self._store.rolled_back

    async def write(self, pending: Pending) -> None:
        """Make *pending* durable. Raises LocalError ``store_unavailable``."""
        await self._store.write([Put(name=KIND + pending.id, value=pending.to_bytes())])

    async def save(self, entry: Entry) -> None:
        """Write down how one ended; where the disk refuses, tried again."""
        authorization_id = entry.pending.id
        self._unsaved.discard(authorization_id)
        try:
            await self.write(entry.pending)
        except LocalError:
            self._unsaved.add(authorization_id)
            self._alarms.set(authorization_id, self._clock.boot() + SAVE_AGAIN)

    def save_soon(self, entry: Entry) -> None:
        """Have ``run`` write it down."""
        self._unsaved.add(entry.pending.id)
        self._alarms.set(entry.pending.id, self._clock.boot())

    def expire(self, entry: Entry) -> None:
        """End one that nobody came back for."""
        entry.become(Expired())
        self._on_expired(entry.pending)
        self.save_soon(entry)

    async def keep_time(self) -> None:
        """Wait until something is due, and do it."""
        await self._alarms.wait()
        for authorization_id in tuple(self._alarms.ring()):
            await self._look_after(authorization_id)

    def _take_up(self, pending: Pending, left: float) -> Entry:
        entry = self._entries[pending.id] = Entry(pending, self._clock.boot() + min(left, TRANSACTION_LIFETIME))
        self._set_alarm(entry)
        return entry

    def _is_late(self, entry: Entry) -> bool:
        return isinstance(entry.pending.phase, Waiting) and not self.left(entry)

    def _set_alarm(self, entry: Entry) -> None:
        at = entry.deadline if isinstance(entry.pending.phase, Waiting) else entry.deadline + KEPT
        self._alarms.set(entry.pending.id, at)

    async def _look_after(self, authorization_id: str) -> None:
        entry = self._entries.get(authorization_id)
        if entry is None:
            return
        if self._is_late(entry):
            self.expire(entry)
        if authorization_id in self._unsaved:
            await self.save(entry)
        elif not entry.pending.is_open and self._clock.boot() >= entry.deadline + KEPT:
            await self._forget(entry)
        if authorization_id in self._entries:
            self._set_alarm(entry)

    async def _forget(self, entry: Entry) -> None:
        try:
            await self._store.write([Delete(name=KIND + entry.pending.id)])
        except LocalError:
            entry.deadline = self._clock.boot() - KEPT + SAVE_AGAIN
        else:
            self._entries.pop(entry.pending.id, None)
