"""Those who wait share one sync, everybody is told the truth, and trouble is said once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.events import StoreDegraded, StoreMovedAside, StoreRecovered
from broker.storage.database import Database
from broker.storage.files import StoreFile
from broker.storage.ledger import Step
from broker.storage.sqlite import PROOF_SECONDS, SqliteStore
from broker.storage.vault import Disk, Vault, open_vault
from broker.tokens.storing import Change
from tests.fakes import Events, HandClock
from tests.unit.storage.places import KEY, OTHER_KEY, good, opened, place, put, read, write

pytestmark = pytest.mark.real_time


class Gate(Database):
    """Lets no transaction through until it is opened; counts them; fails those it is told to."""

    opened_gate: threading.Event
    arrived: threading.Event
    steps: list[Step]
    errors: list[int]

    def apply(self, step: Step) -> None:
        self.arrived.set()
        self.opened_gate.wait(10.0)
        self.steps.append(step)
        if self.errors and (code := self.errors.pop(0)):
            error = sqlite3.OperationalError("scripted")
            error.sqlite_errorcode = code
            raise error
        super().apply(step)


def gate(*errors: int) -> type[Gate]:
    """Give an open gate of its own; each *error* is one transaction, 0 for one that succeeds."""

    class Mine(Gate):
        opened_gate = threading.Event()
        arrived = threading.Event()

    Mine.steps, Mine.errors = [], list(errors)
    Mine.opened_gate.set()
    return Mine


async def failed(attempt: object) -> str:
    with pytest.raises(LocalError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value.code


async def test_a_writer_that_is_gone_is_noticed(tmp_path: Path):
    """Whoever writes would wait for ever; its end in an orderly close is something else."""
    closed, broken = (
        SqliteStore(open_vault(place(tmp_path / name)), clock=HandClock(), emit=Events()) for name in "ab"
    )
    before = (closed.works, broken.works)

    await closed.close()
    broken._orders.put(None)  # it ends, and nobody had asked for that
    broken._thread.join(10.0)

    assert (before, closed.works, broken.works) == ((True, True), True, False)


async def test_all_who_wait_share_one_transaction(tmp_path: Path):
    """A hundred writers cost two syncs: one that runs, and one for all who came meanwhile."""
    mine = gate()
    async with opened(place(tmp_path / "state", disk=Disk(open=mine))) as store:
        mine.opened_gate.clear()
        first = asyncio.ensure_future(store.write([put("grant/first", "1")]))
        await until(mine.arrived.is_set)
        others = [asyncio.ensure_future(store.write([put(f"grant/{number}", "1")])) for number in range(100)]
        await asyncio.sleep(0)

        assert not first.done()
        mine.opened_gate.set()
        await asyncio.gather(first, *others)

    assert [len(step.put) for step in mine.steps] == [1, 100]


async def until(holds: object) -> None:
    """Wait until *holds* gives True."""
    deadline = time.monotonic() + 10.0
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_a_transaction_has_an_end(tmp_path: Path):
    """The first of many is not kept waiting for all."""
    mine = gate()
    async with opened(place(tmp_path / "state", disk=Disk(open=mine))) as store:
        mine.opened_gate.clear()
        first = asyncio.ensure_future(store.write([put("grant/first", "1")]))
        await until(mine.arrived.is_set)
        changes: Sequence[Change] = [put(f"grant/{number}", "1") for number in range(600)]
        others = [asyncio.ensure_future(store.write(changes)) for _ in range(4)]
        await asyncio.sleep(0)
        mine.opened_gate.set()
        await asyncio.gather(first, *others)

    assert len(mine.steps) == 3


async def test_a_failure_reaches_all_who_shared_it_and_nobody_else(tmp_path: Path):
    """It is said once, and once that it is over."""
    mine = gate(0, sqlite3.SQLITE_READONLY)
    events = Events()
    async with opened(place(tmp_path / "state", disk=Disk(open=mine)), events=events) as store:
        mine.opened_gate.clear()
        first = asyncio.ensure_future(store.write([put("grant/first", "1")]))
        await until(mine.arrived.is_set)
        others = [asyncio.ensure_future(store.write([put(f"grant/{number}", "1")])) for number in range(5)]
        await asyncio.sleep(0)
        mine.opened_gate.set()
        await first
        told = await asyncio.gather(*others, return_exceptions=True)

        assert {type(error).__name__ for error in told} == {"StoreUnavailableError"}
        assert store.durability == "degraded"
        assert events.seen == [StoreDegraded(reason="read_only")]
        assert set(store.records()) == {"grant/first"}
        await store.write([put("grant/0", "1")])
        assert durability(store) == "durable"
        assert events.seen[1:] == [StoreRecovered()]


def durability(store: SqliteStore) -> str:
    return store.durability


async def test_a_proof_is_a_real_write_and_good_for_a_moment(tmp_path: Path):
    """Shared by those who ask together; a write is one too."""
    mine = gate()
    clock = HandClock()
    async with opened(place(tmp_path / "state", disk=Disk(open=mine)), clock=clock) as store:
        mine.opened_gate.clear()
        proving = [asyncio.ensure_future(store.prove_writable()) for _ in range(10)]
        await until(mine.arrived.is_set)
        mine.opened_gate.set()
        await asyncio.gather(*proving)
        proofs = len(mine.steps)
        await store.prove_writable()
        assert 1 <= proofs <= 2
        assert len(mine.steps) == proofs
        clock.now += PROOF_SECONDS
        await store.prove_writable()
        assert len(mine.steps) == proofs + 1
        clock.now += PROOF_SECONDS
        await store.write([put("grant/a", "1")])
        await store.prove_writable()
        assert len(mine.steps) == proofs + 2


async def test_a_proof_fails_where_a_write_would(tmp_path: Path):
    """Within the moment after a good one, too, once something has failed."""
    mine = gate(0, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY, 0)
    events = Events()
    async with opened(place(tmp_path / "state", disk=Disk(open=mine)), events=events) as store:
        await store.prove_writable()
        assert await failed(store.write([put("grant/a", "1")])) == "store_unavailable"
        assert await failed(store.prove_writable()) == "store_unavailable"
        await store.prove_writable()

    assert events.seen == [StoreDegraded(reason="read_only"), StoreRecovered()]


async def test_a_proof_fails_while_there_is_no_reserve(tmp_path: Path):
    """A write beside it succeeds: what was answered is written as long as anything can be."""
    where = place(tmp_path / "state")
    write(where)
    (where.directory / "store.reserve").unlink()
    (where.directory / "store.reserve").mkdir()
    async with opened(where) as store:
        writing, proving = store.write([put("grant/a", "1")]), store.prove_writable()
        told = await asyncio.gather(writing, proving, return_exceptions=True)

        assert told[0] is None
        assert isinstance(told[1], LocalError)
    assert read(where) == good(a="1")


async def test_what_happened_to_the_file_is_told(tmp_path: Path):
    """At the start and later."""
    where = place(tmp_path / "state")
    (where.directory / "store.1.db").write_bytes(b"garbage" * 1_000)
    (where.directory / "store.1.db").chmod(0o600)
    mine = gate(sqlite3.SQLITE_CORRUPT)
    events = Events()
    async with opened(place(tmp_path / "state", disk=Disk(open=mine)), events=events) as store:
        assert [type(event) for event in events.seen] == [StoreMovedAside]
        await store.write([put("grant/a", "1")])
        assert [type(event) for event in events.seen] == [StoreMovedAside, StoreMovedAside]


async def test_a_store_that_is_not_writable_at_the_start_says_so(tmp_path: Path):
    """It serves what it has, and recovers with the first write."""
    where = place(tmp_path / "state")
    write(where, [put("grant/a", "1")])
    tries = [True]

    def once(file: StoreFile) -> Database:
        if tries.pop() if tries else False:
            raise sqlite3.OperationalError
        return Database(file)

    events = Events()
    async with opened(place(tmp_path / "state", disk=Disk(open=once)), events=events) as store:
        assert durability(store) == "degraded"
        assert events.seen == [StoreDegraded(reason="unwritable")]
        assert set(store.records()) == {"grant/a"}
        await store.prove_writable()
        assert durability(store) == "durable"


async def test_an_anchor_that_cannot_be_written_degrades(tmp_path: Path):
    """What was written is durable nevertheless; acceptance fails."""
    where = place(tmp_path / "state", anchor=tmp_path / "missing" / "anchor")
    events = Events()
    async with opened(where, events=events) as store:
        await store.write([put("grant/a", "1")])

        assert durability(store) == "degraded"
        assert events.seen == [StoreDegraded(reason="anchor")]
        assert await failed(store.accept()) == "store_anchor_failed"
        (tmp_path / "missing").mkdir()
        await store.accept()
        assert durability(store) == "durable"
        assert not store.rolled_back


async def test_another_key_between_two_writes(tmp_path: Path):
    """Nobody has to stop."""
    where = place(tmp_path / "state")
    async with opened(where) as store:
        await asyncio.gather(
            store.write([put("grant/a", "1")]), store.rekey(OTHER_KEY), store.write([put("grant/b", "1")])
        )

    assert read(place(tmp_path / "state", sealer=OTHER_KEY)) == good(a="1", b="1")


async def test_a_bug_reaches_who_waits_and_the_thread_goes_on(tmp_path: Path):
    """Not a silent hang."""
    bugs = [ZeroDivisionError()]

    class Buggy(Database):
        def apply(self, step: Step) -> None:
            if bugs:
                raise bugs.pop()
            super().apply(step)

    async with opened(place(tmp_path / "state", disk=Disk(open=Buggy))) as store:
        with pytest.raises(ZeroDivisionError):
            await store.write([put("grant/a", "1")])
        await store.write([put("grant/b", "1")])

        assert set(store.records()) == {"grant/b"}


def test_a_loop_that_is_gone_does_not_stop_the_thread(tmp_path: Path):
    """What was queued is written, and the file let go of."""
    mine = gate()
    vault: Vault = open_vault(place(tmp_path / "state", disk=Disk(open=mine)))
    store = SqliteStore(vault, clock=HandClock(), emit=Events())
    mine.opened_gate.clear()

    async def leave() -> None:
        writing = asyncio.ensure_future(store.write([put("grant/a", "1")]))
        await asyncio.sleep(0)
        writing.cancel()

    asyncio.run(leave())
    mine.opened_gate.set()
    asyncio.run(store.close())

    assert read(place(tmp_path / "state", sealer=KEY)) == good(a="1")
