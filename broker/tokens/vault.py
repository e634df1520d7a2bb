"""
The only writer of grants: what must be safe before anything else goes on, and what may follow in its time.

Where the disk refuses a refresh token that the server has just issued, it is kept here and tried again every
second, because nobody else has it (rules.md R2.2). A later write of a grant takes the place of an earlier one
that is still waiting. This module decides nothing about grants.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NoReturn

from broker.errors import LocalError
from broker.events import Emit, GrantsSaved, GrantsUnsaved
from broker.tokens.grant import Grant, Phase
from broker.tokens.storing import Change, Delete, Put, Store

RETRY_INTERVAL = 1.0
"""Seconds between two tries to write what is waiting (R2.2)."""

KIND = "grant/"
"""Grants have names of their own in the store."""


class Vault:
    """Grants on their way to the store."""

    def __init__(self, store: Store, *, emit: Emit) -> None:
        self._store = store
        self._emit = emit
        # What is not on the disk yet, with the version by which an older write does not pass for a newer one.
        self._waiting: dict[str, tuple[int, Change]] = {}
        self._versions = count(1)
        # Names that are being written by somebody who waits: the store keeps the order of calls, so that a
        # value that waits here must not be handed to it behind a newer one.
        self._under_way: Counter[str] = Counter()
        self._wanted = asyncio.Event()
        self._unsaved = False
        self._doubtful: set[str] = set()

    def load(self) -> tuple[Mapping[str, Grant], tuple[str, ...]]:
        """
        Give the stored grants by id, and the names of records that cannot be understood, which are left alone.

        One of a suspect record may have had a newer refresh token (rules.md R3). It is given as one whose answer may
        be lost, because that is what it is worth: tried once, and no refusal of it speaks against its client.
        """
        grants: dict[str, Grant] = {}
        unreadable: list[str] = []
        for name, record in self._store.records(KIND).items():
            try:
                grant = Grant.from_bytes(record.value)
            except LocalError:
                unreadable.append(name)
            else:
                may_be_older = record.suspect and grant.phase in {Phase.SETTLED, Phase.QUARANTINED}
                grants[grant.id] = replace(grant, phase=Phase.OPEN) if may_be_older else grant
        if self._store.rolled_back:
            self._doubtful = set(grants)
        return grants, tuple(unreadable)

    def is_doubtful(self, grant_id: str) -> bool:
        """Say whether there may have been a newer refresh token: the store is an older copy of itself (R3)."""
        return grant_id in self._doubtful

    def trust(self, grant_id: str) -> None:
        """Take in that a person has consented anew: what is kept of this grant is no copy."""
        self._doubtful.discard(grant_id)

    @property
    def waiting(self) -> int:
        """Count the grants that are in memory only."""
        return len(self._waiting)

    async def intend(self, grant: Grant) -> None:
        """
        Make it durable that a request is about to be sent which may spend the refresh token (R2.1).

        Raises LocalError ``store_unavailable``; the request is not to be sent then. The place of this write among
        others is that of the call.
        """
        await self._direct([Put(name=KIND + grant.id, value=grant.to_bytes())], next(self._versions))

    def is_waiting(self, grant_id: str) -> bool:
        """Say whether something about a grant is in memory only."""
        return KIND + grant_id in self._waiting

    async def prove_writable(self) -> None:
        """Show that a write would succeed now. Raises LocalError ``store_unavailable``."""
        await self._store.prove_writable()

    async def keep(self, grant: Grant) -> bool:
        """Make *grant* durable; gives False when that failed, and it is in memory until it succeeds."""
        return await self._insist(Put(name=KIND + grant.id, value=grant.to_bytes()))

    async def keep_instead(self, grant: Grant, temporary: str) -> bool:
        """Make *grant* durable and remove the record *temporary* in one transaction; gives False as ``keep`` does."""
        return await self._insist(Put(name=KIND + grant.id, value=grant.to_bytes()), Delete(name=KIND + temporary))

    async def forget(self, grant_id: str) -> bool:
        """Remove a grant; gives False when that failed, and is tried again."""
        return await self._insist(Delete(name=KIND + grant_id))

    def keep_soon(self, grant: Grant) -> None:
        """Have *grant* written down by ``run``: what it says can be found out anew after a crash."""
        name = KIND + grant.id
        self._waiting[name] = next(self._versions), Put(name=name, value=grant.to_bytes())
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Write what is waiting, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not await self.flush():
                await asyncio.sleep(RETRY_INTERVAL)
                self._wanted.set()

    async def flush(self) -> bool:
        """Write all that is waiting, in one transaction; gives False when that failed."""
        batch = {name: entry for name, entry in self._waiting.items() if not self._under_way[name]}
        if not batch:
            return True
        try:
            await self._store.write([change for _, change in batch.values()])
        except LocalError as error:
            self._report(error)
            return False
        for name, (version, _) in batch.items():
            self._written(name, version)
        return True

    async def _insist(self, *changes: Change) -> bool:
        version = next(self._versions)
        for change in changes:
            self._waiting[change.name] = version, change
        try:
            await self._direct(changes, version)
        except LocalError as error:
            self._report(error)
            return False
        return True

    async def _direct(self, changes: Sequence[Change], version: int) -> None:
        """Write *changes* now. Raises LocalError, and what was waiting under their names waits on."""
        names = [change.name for change in changes]
        self._under_way.update(names)
        try:
            await self._store.write(changes)
        finally:
            self._under_way.subtract(names)
            self._under_way += Counter()  # without those that are done
            self._wanted.set()  # what failed, or was left by whoever is cancelled, is for ``run``
        for name in names:
            self._written(name, version)

    def _written(self, name: str, version: int) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None and waiting[0] <= version:
            del self._waiting[name]
        if self._unsaved and not self._waiting:
            self._unsaved = False
            self._emit(GrantsSaved())

    def _report(self, error: LocalError) -> None:
        if not self._unsaved:
            self._unsaved = True
            self._emit(GrantsUnsaved(grants=len(self._waiting), reason=str(error.code), hint=error.hint))
