from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from broker.errors import LocalError
from broker.events import DpopKeyInUse, DpopKeyUnreadable
from broker.keys.proof_key import ProofKey, make_proof_key, stored_proof_key
from broker.storage.memory import MemoryStore
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.proofs import Proofs
from broker.tokens.storing import Put
from broker.wiring.proof_keys import KIND, MAX_KNOWN, RETRY_INTERVAL, ProofKeys, place_of
from tests.fakes import Dice, Events, LoopClock
from tests.unit.keys.certificates import key_pem, rsa_key
from tests.unit.tokens.dpop import DPOP_CLIENT
from tests.unit.tokens.stores import FakeStore, unavailable
from tests.unit.tokens.world import ISSUER, FakeMetadata, FakeSession

PLACE = KIND + place_of("https://as.example", "app-1")


def keys_over(store: Any, events: Events | None = None) -> ProofKeys:
    return ProofKeys(store, clock=LoopClock(), randomness=Dice(), emit=events or Events())


def proofs(keys: ProofKeys, configured: ProofKey | None = None, **changes: Any) -> Proofs:
    return keys.proofs(replace(DPOP_CLIENT, **changes), "https://as.example", configured)


def half_a_key() -> bytes:
    """A key as it is written down, of which a part is missing."""
    _, written = make_proof_key("app")
    lines = written.splitlines(keepends=True)
    return b"".join([lines[0], *lines[2:]])


def in_use(found: Proofs) -> dict[str, Registration]:
    exchange = Exchange(session=FakeSession(), signer=None, proofs=found, clock=LoopClock(), randomness=Dice())
    return {"app": Registration(client=DPOP_CLIENT, issuer=ISSUER, metadata=FakeMetadata(), exchange=exchange)}


async def run_for(keys: ProofKeys, seconds: float) -> None:
    """Let it run for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await keys.run()


async def test_a_client_has_one_key_for_as_long_as_the_process_lives():
    """A reload asks again, and the nonces are kept as well; another client has another."""
    keys = keys_over(MemoryStore())

    first, again, other = proofs(keys), proofs(keys), proofs(keys, client_id="app-2")

    assert first.jkt == again.jkt != other.jkt
    assert first.server_nonces is again.server_nonces
    assert first.resource_nonces is again.resource_nonces is not other.resource_nonces


async def test_a_key_that_was_made_is_taken_up_by_the_next_process():
    """It belongs to the registration, and not to the name of its section."""
    store = MemoryStore()
    keys = keys_over(store)
    made = proofs(keys)
    await run_for(keys, 1.0)

    assert list(store.records()) == [PLACE]
    assert proofs(keys_over(store), name="renamed").jkt == made.jkt


async def test_a_key_is_durable_before_a_person_is_asked_for_what_is_bound_to_it():
    """A public client's refresh token would be worth nothing without it."""
    store = FakeStore()
    keys = keys_over(store)
    made = proofs(keys)
    store.error = unavailable()

    with pytest.raises(LocalError) as refused:
        await made.secure()
    assert refused.value.code == "store_unavailable"
    store.error = None
    await made.secure()
    await made.secure()

    assert store.log == [PLACE]


async def test_writing_a_key_down_is_tried_until_it_succeeds():
    """Nobody else has it."""
    store = FakeStore()
    keys = keys_over(store)
    proofs(keys)
    store.error = unavailable()
    await run_for(keys, 2.5 * RETRY_INTERVAL)
    store.error = None
    await run_for(keys, RETRY_INTERVAL)

    assert store.log == [PLACE]


async def test_what_is_in_use_is_told_once():
    """At the start, and when a reload brings another key."""
    events = Events()
    keys = keys_over(MemoryStore(), events)
    made, (own, _) = proofs(keys), make_proof_key("app")

    keys.adopt(in_use(made))
    keys.adopt(in_use(made))
    await run_for(keys, 1.0)
    configured = proofs(keys, own)
    keys.adopt(in_use(configured))
    await run_for(keys, 1.0)

    assert [event.thumbprint for event in events.of(DpopKeyInUse)] == [made.jkt, own.jkt]


async def test_an_older_key_goes_on_proving_what_is_bound_to_it():
    """Tokens that are still served, and codes on their way; also one that the store has from a former life."""
    store = MemoryStore()
    made = proofs(keys_over(store))
    keys = keys_over(store)
    made = proofs(keys)
    (own, _), (next_own, _) = make_proof_key("app"), make_proof_key("app")

    proofs(keys, own)
    found = proofs(keys, next_own)

    assert found.jkt == next_own.jkt
    assert [found.knows(jkt) for jkt in (made.jkt, own.jkt, next_own.jkt)] == [True, True, True]
    assert made.knows(own.jkt) is False  # what was handed out stays as it was


async def test_the_same_key_from_a_file_that_was_read_again_is_the_same_key():
    """What was closed with an older configuration would sign no more."""
    keys = keys_over(MemoryStore())
    (own, written) = make_proof_key("app")
    first = proofs(keys, own)

    again = proofs(keys, own)

    assert again.key is first.key is own
    assert written not in repr(keys).encode()


async def test_so_many_keys_are_kept_and_no_more():
    """The oldest goes, but never the one that was made: what is bound to it may live for years."""
    keys = keys_over(MemoryStore())
    made = proofs(keys)
    others = [make_proof_key("app")[0] for _ in range(MAX_KNOWN + 1)]
    found = [proofs(keys, key) for key in others]

    assert found[-1].knows(made.jkt)
    assert not found[-1].knows(others[0].jkt)
    assert len(found[-1].known) == MAX_KNOWN
    await found[0].key.prove({})  # what was handed out goes on with what it has


@pytest.mark.parametrize("written", [b"from the future", b"", half_a_key(), key_pem(rsa_key())])
async def test_a_key_that_is_not_understood_is_left_as_it_is(written: bytes):
    """Another version of the broker may, or somebody who mends it; tokens flow meanwhile, and no person is asked."""
    store, events = MemoryStore(), Events()
    await store.write([Put(name=PLACE, value=written)])
    keys = keys_over(store, events)

    found = proofs(keys)
    await run_for(keys, 1.0)

    assert store.records()[PLACE].value == written
    assert [event.record for event in events.of(DpopKeyUnreadable)] == [PLACE]
    assert found.key.alg == "ES256"
    with pytest.raises(LocalError) as refused:
        await found.secure()
    assert refused.value.code == "dpop_key_unreadable"


@pytest.mark.parametrize("made_before", [False, True])
async def test_a_key_of_the_configuration_is_used_whatever_the_store_has(made_before: bool):
    """It is in a file: nothing that is bound to it is lost with what cannot be read."""
    store = MemoryStore()
    await store.write([Put(name=PLACE, value=b"from the future")])
    keys = keys_over(store)
    if made_before:
        proofs(keys)
    (own, _) = make_proof_key("app")

    await proofs(keys, own).secure()

    assert store.records()[PLACE].value == b"from the future"


async def test_a_key_in_wrong_hands_is_dropped_from_all_that_was_handed_out():
    """It proves nothing from then on; what else the client has goes on."""
    keys = keys_over(MemoryStore())
    made, (own, _), (next_own, _) = proofs(keys), make_proof_key("k"), make_proof_key("k")
    first, second = proofs(keys, own), proofs(keys, next_own)
    assert keys.configured("k") == {own.jkt, next_own.jkt}
    assert keys.configured("app") == set()  # the name of the client that one was made for

    keys.drop({own.jkt})
    third = proofs(keys, next_own)

    assert [found.knows(own.jkt) for found in (first, second, third)] == [False] * 3
    assert [found.knows(made.jkt) for found in (first, second, third)] == [True] * 3
    assert third.key is next_own
    await next_own.prove({})
    with pytest.raises(LocalError):
        await own.prove({})
    assert keys.configured("k") == {next_own.jkt}


async def test_a_key_that_was_dropped_and_is_put_back_is_good_again():
    """Whoever puts it there means it: but not before it is in use."""
    keys = keys_over(MemoryStore())
    (own, written), (next_own, _) = make_proof_key("k"), make_proof_key("k")
    proofs(keys, own)
    proofs(keys, next_own)
    keys.drop({own.jkt})

    back = proofs(keys, stored_proof_key("k", written))
    before = back.knows(own.jkt)
    keys.adopt(in_use(back))

    assert (before, back.knows(own.jkt)) == (False, True)
    await back.for_server("POST", "https://as.example/token", jkt=own.jkt)


async def test_what_is_closed_signs_no_more():
    """The process ends."""
    keys = keys_over(MemoryStore())
    found = proofs(keys)

    keys.close()

    with pytest.raises(LocalError):
        await found.key.prove({})
