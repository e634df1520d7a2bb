"""
The store of a daemon with a state directory: one thread writes, and whoever waits shares one sync.

The thread takes everything that has gathered while it was syncing and makes one transaction of it (group
commit). A batch fails or succeeds as a whole; nobody is told of success before the sync has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self, final

from broker.errors import LocalError
from broker.events import Emit, StoreDegraded, StoreRecovered
from broker.storage.sealer import Sealer
from broker.storage.troubles import StoreUnavailableError
from broker.storage.vault import Place, Vault, open_vault
from broker.tokens.ports import Clock
from broker.tokens.storing import Change, Durability, StoredRecord

MAX_BATCH = 1_000
"""Changes in one transaction, about: so that the first of many does not wait for all of them."""

PROOF_SECONDS = 1.0
"""How long a successful write is taken as proof of the next: R2 asks again before each refresh token is spent."""

ANCHOR = "anchor"
"""The reason of ``StoreDegraded`` when only the anchor cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What somebody waits for; *work* instead of *changes* is done alone, between two batches."""

    changes: tuple[Change, ...] = ()
    work: Callable[[Vault], None] | None = None
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


@final
class SqliteStore:
    """Implements ``tokens.storing.Store``. Made by ``open``; its coroutines belong to one loop."""

    def __init__(self, vault: Vault, *, clock: Clock, emit: Emit) -> None:
        self._vault = vault
        self._clock = clock
        self._emit = emit
        self._degraded = False
        self._closed = False
        self._proved_until = float("-inf")
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(vault, self._orders), name="store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, place: Place, *, clock: Clock, emit: Emit) -> Self:
        """
        Open the store in *place*, or make one; says by events what was not as it should be.

        Blocks. Raises LocalError: ``store_key_wrong``, ``store_unsafe``, ``store_unavailable``.
        """
        vault = open_vault(place)
        store = cls(vault, clock=clock, emit=emit)
        store._tell()
        if not vault.writable:
            store._note("unwritable")
        return store

    @property
    def durability(self) -> Durability:
        """``degraded`` from a write that failed to the next that succeeds."""
        return "degraded" if self._degraded else "durable"

    @property
    def works(self) -> bool:
        """Say whether the writer is there: without it whoever writes waits for ever, and only a restart helps."""
        return self._closed or self._thread.is_alive()

    @property
    def rolled_back(self) -> bool:
        """Say whether the anchor knows of a newer store."""
        return self._vault.rolled_back

    def records(self, kind: str = "") -> Mapping[str, StoredRecord]:
        """Give what is stored under names that begin with *kind*, as it was last acknowledged."""
        return {record.name: record for record in self._vault.records(kind)}

    async def write(self, changes: Sequence[Change]) -> None:
        """Do all *changes*, durably, or none; see ``Store``."""
        if changes:
            await self._ordered(changes=tuple(changes))

    async def prove_writable(self) -> None:
        """Write and sync something, unless that was done within the last second; see ``Store``."""
        if self._degraded or self._clock.boot() >= self._proved_until:
            await self._ordered(changes=())

    async def accept(self) -> None:
        """Take the store as it is for the newest. Raises LocalError ``store_anchor_failed``."""
        await self._ordered(work=Vault.accept)
        await self._ordered(changes=())

    async def rekey(self, sealer: Sealer) -> None:
        """Seal everything with another key. Raises LocalError ``store_unavailable``."""
        await self._ordered(work=lambda vault: vault.rekey(sealer))
        await self._ordered(changes=())

    async def close(self) -> None:
        """Finish what was begun and let go of the file."""
        if not self._closed:
            self._closed = True
            self._orders.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    async def _ordered(self, *, changes: tuple[Change, ...] = (), work: Callable[[Vault], None] | None = None) -> None:
        if self._closed:
            raise LocalError("store_unavailable", "the store is closed")
        loop = asyncio.get_running_loop()
        order = _Order(changes=changes, work=work, loop=loop, done=loop.create_future())
        self._orders.put(order)
        begun = self._clock.boot()
        try:
            await order.done
        except StoreUnavailableError as error:
            self._tell()
            self._note(error.reason)
            raise
        self._tell()
        if work is None:  # a transaction was synced
            self._proved_until = begun + PROOF_SECONDS
            self._note(ANCHOR if self._vault.anchor_behind else None)

    def _tell(self) -> None:
        """Emit what has happened in the vault since."""
        happened = self._vault.happened
        while happened:
            self._emit(happened.pop(0))

    def _note(self, reason: str | None) -> None:
        """Say once that the store has become degraded, for *reason*, or that it is no more."""
        if reason is not None and not self._degraded:
            self._degraded = True
            self._emit(StoreDegraded(reason=reason))
        elif reason is None and self._degraded:
            self._degraded = False
            self._emit(StoreRecovered())


def _work(vault: Vault, orders: queue.SimpleQueue[_Order | None]) -> None:
    """Do orders until there is a None among them."""
    going = True
    while going:
        batch, going = _gather(orders)
        proofs = [order for order in batch if not order.changes and order.work is None]
        if proofs and not _do(proofs, vault.hold_reserve, only_failure=True):
            proofs = []
        _commit(vault, [order for order in batch if order.changes] + proofs)
        for order in batch:
            if order.work is not None:
                _do([order], partial(order.work, vault))
        vault.tidy()
    vault.close()


def _commit(vault: Vault, orders: list[_Order]) -> None:
    if orders:
        _do(orders, partial(vault.commit, [change for order in orders for change in order.changes]))


def _gather(orders: queue.SimpleQueue[_Order | None]) -> tuple[list[_Order], bool]:
    """Wait for an order and take all that have come meanwhile; say whether there will be more."""
    batch: list[_Order] = []
    size = 0
    order = orders.get()
    while order is not None:
        batch.append(order)
        size += len(order.changes)
        if size >= MAX_BATCH:
            return batch, True
        try:
            order = orders.get_nowait()
        except queue.Empty:
            return batch, True
    return batch, False


def _do(orders: list[_Order], work: Callable[[], None], *, only_failure: bool = False) -> bool:
    """Do *work* for all who wait for it, and tell each what became of it; say whether it succeeded."""
    failure: BaseException | None = None
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - it goes to whoever waits, and the thread goes on
        failure = error
    if failure is not None or not only_failure:
        for order in orders:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                order.loop.call_soon_threadsafe(_settle, order.done, failure)
    return failure is None


def _settle(done: asyncio.Future[None], failure: BaseException | None) -> None:
    if done.done():  # whoever waited was cancelled
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
