"""What the store relies on, asked of the real sealer and of the one that tests use."""

from __future__ import annotations

import pytest

from broker.storage.sealer import CHECK_BYTES, MAC_BYTES, STORE_ID_BYTES, TAG_BYTES, Sealer
from tests.unit.storage.places import KEY
from tests.unit.storage.plain import PlainSealer

STORE = b"s" * STORE_ID_BYTES


@pytest.mark.parametrize("sealer", [KEY, PlainSealer()], ids=["real", "plain"])
def test_a_sealer_keeps_the_contract(sealer: Sealer):
    """Lengths, places, tags."""
    sealed = sealer.seal(b"value", store=STORE, name="grant/a", generation=1)

    assert sealer.unseal(sealed, store=STORE, name="grant/a", generation=1) == b"value"
    assert sealer.unseal(sealed, store=STORE, name="grant/a", generation=2) is None
    assert sealer.unseal(sealed, store=STORE, name="grant/b", generation=1) is None
    assert sealer.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), store=STORE, name="grant/a", generation=1) is None
    assert sealer.unseal(sealed[: TAG_BYTES - 1], store=STORE, name="grant/a", generation=1) is None
    assert len(sealer.mac(b"", store=STORE)) == MAC_BYTES
    assert len(sealer.check_value(STORE)) == CHECK_BYTES
