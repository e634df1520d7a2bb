"""What every store has to do, asked of each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.storage.memory import MemoryStore
from broker.tokens.storing import Delete, Store
from tests.unit.storage.places import opened, place, put

pytestmark = pytest.mark.real_time

Opener = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["sqlite", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens a store; again, the same one, if it is one that outlives its process."""

    @asynccontextmanager
    async def sqlite() -> AsyncIterator[Store]:
        async with opened(place(tmp_path / "state")) as store:
            yield store

    @asynccontextmanager
    async def memory() -> AsyncIterator[Store]:
        store = MemoryStore()
        yield store
        await store.close()

    return sqlite if request.param == "sqlite" else memory


def values(store: Store) -> dict[str, bytes]:
    records = store.records()
    assert all(name == record.name and not record.suspect for name, record in records.items())
    return {name: record.value for name, record in records.items()}


async def test_a_new_store_is_empty_and_writable(opener: Opener):
    """And has not gone back."""
    async with opener() as store:
        await store.prove_writable()

        assert values(store) == {}
        assert store.durability in {"durable", "none"}
        assert not store.rolled_back


async def test_records_of_one_kind_are_those_whose_names_begin_so(opener: Opener):
    """The others are not opened for it: there may be ten thousand."""
    async with opener() as store:
        await store.write([put("grant/a", "1"), put("grant/b", "1"), put("pending/c", "1")])

        assert sorted(store.records("grant/")) == ["grant/a", "grant/b"]
        assert list(store.records("dpop/")) == []


async def test_what_is_written_is_there(opener: Opener):
    """Replaced and deleted, too."""
    async with opener() as store:
        await store.write([put("grant/a", "1"), put("grant/b", "1"), put("pending/c", b"")])
        await store.write([put("grant/a", "2"), Delete(name="grant/b")])

        assert values(store) == {"grant/a": b"2", "pending/c": b""}


async def test_changes_are_done_in_their_order(opener: Opener):
    """Within one write."""
    async with opener() as store:
        await store.write([put("grant/a", "1"), Delete(name="grant/a"), put("grant/a", "2"), Delete(name="grant/b")])
        await store.write([Delete(name="grant/a"), put("grant/b", "1"), Delete(name="grant/b")])

        assert values(store) == {}


async def test_nothing_to_do_is_done(opener: Opener):
    """Without harm."""
    async with opener() as store:
        await store.write([])
        await store.write([Delete(name="grant/none")])

        assert values(store) == {}


async def test_many_may_write_at_once(opener: Opener):
    """Each finds its own there when it is told so."""
    async with opener() as store:

        async def one(number: int) -> None:
            for turn in range(5):
                await store.write([put(f"grant/{number}", str(turn))])
                assert values(store)[f"grant/{number}"] == str(turn).encode()

        await asyncio.gather(*(one(number) for number in range(20)))

        assert values(store) == {f"grant/{number}": b"4" for number in range(20)}


async def test_writes_of_one_caller_keep_their_order(opener: Opener):
    """Even if it does not wait for the first."""
    async with opener() as store:
        await asyncio.gather(*(store.write([put("grant/a", str(number))]) for number in range(50)))

        assert values(store) == {"grant/a": b"49"}


async def test_a_caller_that_leaves_does_not_take_its_change_back(opener: Opener):
    """Half a write is the worst of all."""
    async with opener() as store:
        writing = asyncio.ensure_future(store.write([put("grant/a", "1")]))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await store.write([put("grant/b", "1")])

        assert values(store) == {"grant/a": b"1", "grant/b": b"1"}


async def test_binary_values_come_back(opener: Opener):
    """Every byte, and large ones."""
    async with opener() as store:
        await store.write([put("grant/a", bytes(range(256))), put("grant/b", bytes(200_000))])

        assert values(store) == {"grant/a": bytes(range(256)), "grant/b": bytes(200_000)}


async def test_a_closed_store_takes_nothing(opener: Opener):
    """And says so; closing it again does no harm."""
    async with opener() as store:
        await store.close()
        await store.close()

        for attempt in (store.write([put("grant/a", "1")]), store.prove_writable()):
            with pytest.raises(LocalError) as caught:
                await attempt
            assert caught.value.code == "store_unavailable"


async def test_what_was_acknowledged_outlives_the_store_if_it_says_so(opener: Opener):
    """``none`` promises nothing, and keeps nothing."""
    async with opener() as store:
        await store.write([put("grant/a", "1")])
        durable = store.durability == "durable"

    async with opener() as store:
        assert values(store) == ({"grant/a": b"1"} if durable else {})
