"""The store without a disk promises nothing."""

from __future__ import annotations

import pytest

from broker.errors import LocalError
from broker.storage.memory import MemoryStore
from tests.unit.storage.places import put


async def test_nothing_is_durable():
    """And nothing can have gone back."""
    store = MemoryStore()

    assert store.durability == "none"
    assert not store.rolled_back


async def test_a_closed_store_takes_nothing():
    """As the other one."""
    store = MemoryStore()
    await store.close()

    with pytest.raises(LocalError) as caught:
        await store.write([put("grant/a", "1")])

    assert caught.value.code == "store_unavailable"
