"""The store of a daemon without a state directory: nothing outlives the process, and it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from broker.errors import LocalError
from broker.tokens.storing import Change, Durability, Put, StoredRecord


@final
class MemoryStore:
    """Implements ``tokens.storing.Store``."""

    def __init__(self) -> None:
        self._records: dict[str, StoredRecord] = {}
        self._closed = False

    @property
    def durability(self) -> Durability:
        """Nothing is durable, and nothing was promised."""
        return "none"

    @property
    def rolled_back(self) -> bool:
        """There is nothing to go back to."""
        return False

    def records(self, kind: str = "") -> Mapping[str, StoredRecord]:
        """Give what was written and not deleted, as far as its name begins with *kind*."""
        return {name: record for name, record in self._records.items() if name.startswith(kind)}

    async def write(self, changes: Sequence[Change]) -> None:
        """Do all *changes*."""
        await self.prove_writable()
        for change in changes:
            if isinstance(change, Put):
                self._records[change.name] = StoredRecord(name=change.name, value=change.value, suspect=False)
            else:
                self._records.pop(change.name, None)

    async def prove_writable(self) -> None:
        """Raise LocalError ``store_unavailable`` after ``close`` only."""
        if self._closed:
            raise LocalError("store_unavailable", "the store is closed")

    async def close(self) -> None:
        """Take nothing any more."""
        self._closed = True
