"""The store that a configuration asks for: a file in the state directory, or memory."""

from __future__ import annotations

from broker.config.settings import Settings
from broker.events import Emit
from broker.keys.sealing import SealingKey
from broker.storage.memory import MemoryStore
from broker.tokens.ports import Clock
from broker.tokens.storing import Store


def open_store(settings: Settings, key: SealingKey | None, *, clock: Clock, emit: Emit) -> Store:
    """
    Open the store of ``[store]``, or give one that keeps nothing where there is none.

    To be called by whoever holds the state directory. Blocks. Raises LocalError as ``SqliteStore.open``.
    """
    directory = settings.daemon.state_dir
    if settings.store is None or key is None or directory is None:
        return MemoryStore()
    from broker.storage.sqlite import SqliteStore  # noqa: PLC0415 - only where there is a store: 12 ms, 1.5 MB
    from broker.storage.vault import Place  # noqa: PLC0415 - as above

    place = Place(directory=directory, sealer=key, anchor=settings.store.anchor, wall=clock.wall)
    return SqliteStore.open(place, clock=clock, emit=emit)


def writes(store: Store) -> bool:
    """Say whether what writes the store goes on, however slow or full the disk is."""
    if isinstance(store, MemoryStore):
        return True
    from broker.storage.sqlite import SqliteStore  # noqa: PLC0415 - there is a store

    return not isinstance(store, SqliteStore) or store.works
