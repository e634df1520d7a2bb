from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.keys.sealing import SealingKey
from broker.tokens.storing import Put
from broker.wiring.storing import open_store, writes
from tests.fakes import Events, HandClock
from tests.unit.daemon.test_process import CONFIG
from tests.unit.wiring.configurations import settings_of

STORED = CONFIG.replace("[daemon]\n", '[daemon]\nstate_dir = "state"\n') + (
    '[store]\nkey = { file = "store.key" }\nanchor = "anchor"\n'
)


@pytest.mark.real_time
async def test_a_store_is_where_the_configuration_says(tmp_path: Path):
    """With its anchor; and another key is refused."""
    settings = settings_of(tmp_path, STORED)
    (tmp_path / "state").mkdir(mode=0o700)
    key = SealingKey(b"k" * 32)

    store = open_store(settings, key, clock=HandClock(), emit=Events())
    await store.write([Put(name="grant/a", value=b"1")])
    durability, went_on = store.durability, writes(store)
    await store.close()

    assert went_on
    assert durability == "durable"
    assert (tmp_path / "state" / "store.1.db").exists()
    assert (tmp_path / "anchor").exists()
    with pytest.raises(LocalError) as caught:
        open_store(settings, SealingKey(b"o" * 32), clock=HandClock(), emit=Events())
    assert caught.value.code == "store_key_wrong"


@pytest.mark.parametrize("text", [CONFIG, STORED])
async def test_without_a_store_or_its_key_nothing_is_kept(tmp_path: Path, text: str):
    """And that is what it says."""
    store = open_store(settings_of(tmp_path, text), None, clock=HandClock(), emit=Events())

    assert store.durability == "none"
    assert writes(store)
    await store.close()
