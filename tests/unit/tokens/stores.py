"""A store in memory that does as the test says: slow, failing, lost in a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.errors import LocalError
from broker.tokens.grant import Grant
from broker.tokens.storing import Change, Durability, Put, StoredRecord


@dataclass
class FakeStore:
    """
    Implements ``storing.Store``; *error* is raised by writes while it is set, *delay* passes before each.

    *suspect* are the names of records that somebody has meddled with.
    """

    values: dict[str, bytes] = field(default_factory=dict)
    error: LocalError | None = None
    delay: float = 0.0
    writes: int = 0
    proofs: int = 0
    rolled_back: bool = False
    suspect: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)

    @property
    def durability(self) -> Durability:
        return "durable" if self.error is None else "degraded"

    def records(self, kind: str = "") -> Mapping[str, StoredRecord]:
        return {
            name: StoredRecord(name=name, value=value, suspect=name in self.suspect)
            for name, value in sorted(self.values.items())
            if name.startswith(kind)
        }

    async def write(self, changes: Sequence[Change]) -> None:
        self.writes += 1
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        for change in changes:
            self.log.append(change.name)
            if isinstance(change, Put):
                self.values[change.name] = change.value
            else:
                self.values.pop(change.name, None)

    async def prove_writable(self) -> None:
        self.proofs += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        pass

    def grant(self, grant_id: str) -> Grant | None:
        """Give what a broker would find that starts now."""
        value = self.values.get(f"grant/{grant_id}")
        return None if value is None else Grant.from_bytes(value)


def unavailable() -> LocalError:
    """What a store raises whose disk is full."""
    return LocalError("store_unavailable", "the store cannot be written", hint="make room")
