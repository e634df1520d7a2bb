"""Stores in a temporary directory, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from broker.keys.sealing import SealingKey
from broker.storage.sqlite import SqliteStore
from broker.storage.vault import Disk, Place, Vault, open_vault
from broker.tokens.storing import Change, Put
from tests.fakes import WALL_AT_BOOT, Events, HandClock

KEY = SealingKey(b"k" * 32)
OTHER_KEY = SealingKey(b"o" * 32)


def wall() -> float:
    """Give the time of every test: 2026-09-21 14:13:20 UTC."""
    return WALL_AT_BOOT


def place(directory: Path, **changes: object) -> Place:
    """Give a place for a store in *directory*, which is made."""
    directory.mkdir(0o700, exist_ok=True)
    values = {"directory": directory, "sealer": KEY, "wall": wall} | changes
    return Place(**values)  # type: ignore[arg-type]


def put(name: str, value: bytes | str) -> Put:
    return Put(name=name, value=value.encode() if isinstance(value, str) else value)


def contents(vault: Vault) -> dict[str, tuple[bytes, bool]]:
    """Give values and suspicions by name."""
    return {record.name: (record.value, record.suspect) for record in vault.records()}


def good(**values: bytes | str) -> dict[str, tuple[bytes, bool]]:
    """Give what ``contents`` gives for grants that are as they should be."""
    return {f"grant/{n}": (v.encode() if isinstance(v, str) else v, False) for n, v in values.items()}


def write(where: Place, *batches: list[Change]) -> None:
    """Open a store, write, close it."""
    vault = open_vault(where)
    for batch in batches:
        vault.commit(batch)
    vault.close()


def read(where: Place) -> dict[str, tuple[bytes, bool]]:
    """Open a store, give what is in it, close it."""
    vault = open_vault(where)
    try:
        return contents(vault)
    finally:
        vault.close()


@asynccontextmanager
async def opened(
    where: Place, *, events: Events | None = None, clock: HandClock | None = None
) -> AsyncIterator[SqliteStore]:
    """A running store that is closed in the end."""
    store = SqliteStore.open(where, clock=clock or HandClock(), emit=events if events is not None else Events())
    try:
        yield store
    finally:
        await store.close()


def failing(where: Place, **operations: Callable[..., object]) -> Place:
    """Give the same place with some operations of its disk exchanged."""
    return replace(where, disk=Disk(**operations))  # type: ignore[arg-type]
