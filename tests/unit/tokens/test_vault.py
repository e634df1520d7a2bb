from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broker.errors import LocalError
from broker.events import GrantsSaved, GrantsUnsaved
from broker.oauth.secret import RefreshToken
from broker.tokens.grant import Grant, Phase
from broker.tokens.vault import RETRY_INTERVAL, Vault
from tests.fakes import Events
from tests.unit.tokens.grant_world import GrantWorld, RotatingServer
from tests.unit.tokens.stores import FakeStore, unavailable

GRANT = Grant(
    id="g1",
    token="t",
    owner="app",
    issuer="https://as.example",
    client_id="c",
    created_at=1.0,
    refresh_token=RefreshToken("rt-1"),
)
NEWER = replace(GRANT, refresh_token=RefreshToken("rt-2"))


@asynccontextmanager
async def running(store: FakeStore) -> AsyncIterator[tuple[Vault, Events]]:
    events = Events()
    vault = Vault(store, emit=events)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(vault.run())
        try:
            yield vault, events
        finally:
            task.cancel()


async def test_what_is_kept_is_durable_when_it_is_acknowledged():
    """Nothing else is done with an answer before that."""
    store = FakeStore(delay=0.5)
    async with running(store) as (vault, events):
        assert await vault.keep(GRANT)

        assert store.grant("g1") == GRANT
        assert (vault.waiting, events.seen) == (0, [])


async def test_an_intent_needs_a_store_that_can_be_written():
    """R2.1: proved first, then durable; otherwise nothing may be sent."""
    store = FakeStore()
    async with running(store) as (vault, _):
        await vault.prove_writable()
        await vault.intend(replace(GRANT, phase=Phase.OPEN))
        assert (store.proofs, store.writes) == (1, 1)

        store.error = unavailable()
        for refused in (vault.prove_writable, lambda: vault.intend(replace(GRANT, phase=Phase.OPEN))):
            with pytest.raises(LocalError):
                await refused()

        assert vault.waiting == 0


async def test_what_a_full_disk_refuses_is_kept_and_written_when_there_is_room():
    """R2.2: in memory with an alarm, tried again every second."""
    store = FakeStore(error=unavailable())
    async with running(store) as (vault, events):
        assert not await vault.keep(NEWER)
        await asyncio.sleep(10 * RETRY_INTERVAL)

        assert vault.waiting == 1
        assert events.seen == [GrantsUnsaved(grants=1, reason="store_unavailable", hint="make room")]
        assert 9 <= store.writes <= 12
        store.error = None
        await asyncio.sleep(RETRY_INTERVAL)

        assert store.grant("g1") == NEWER
        assert vault.waiting == 0
        assert events.seen[1:] == [GrantsSaved()]


async def test_an_older_value_never_takes_the_place_of_a_newer_one():
    """Whatever waits, fails and is tried again meanwhile."""
    store = FakeStore(error=unavailable(), delay=0.3)
    async with running(store) as (vault, _):
        await vault.keep(GRANT)
        newer = asyncio.create_task(vault.keep(NEWER))
        await asyncio.sleep(0.1)
        store.error = None
        await newer
        await asyncio.sleep(5)

        assert store.grant("g1") == NEWER
        assert vault.waiting == 0


async def test_an_intent_that_failed_leaves_what_was_waiting():
    """The refresh token of an earlier answer is not lost by a later attempt."""
    store = FakeStore(error=unavailable())
    async with running(store) as (vault, _):
        await vault.keep(NEWER)
        store.error = None
        store.delay = 0.5
        attempt = asyncio.create_task(vault.intend(replace(NEWER, phase=Phase.OPEN)))
        await asyncio.sleep(0.1)
        store.error = unavailable()
        with pytest.raises(LocalError):
            await attempt
        assert vault.waiting == 1
        store.error = None
        await asyncio.sleep(3)

        assert store.grant("g1") == NEWER


async def test_what_can_wait_is_written_together():
    """A thousand settled grants are one transaction, not a thousand."""
    store = FakeStore()
    async with running(store) as (vault, _):
        for number in range(100):
            vault.keep_soon(replace(GRANT, id=f"g{number}"))
        await asyncio.sleep(0.1)

        assert store.writes == 1
        assert len(store.values) == 100


async def test_who_is_cancelled_leaves_its_value_to_be_written():
    """A shutdown in the middle of an answer loses nothing while the vault runs."""
    store = FakeStore(delay=1.0)
    async with running(store) as (vault, _):
        keeping = asyncio.create_task(vault.keep(NEWER))
        await asyncio.sleep(0.5)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.sleep(3)

        assert store.grant("g1") == NEWER


async def test_a_grant_is_forgotten_for_good():
    """Also where the disk refuses at first."""
    store = FakeStore()
    async with running(store) as (vault, _):
        await vault.keep(GRANT)
        store.error = unavailable()
        assert not await vault.forget("g1")
        assert store.grant("g1") == GRANT
        store.error = None
        await asyncio.sleep(2)

        assert store.grant("g1") is None


async def test_what_cannot_be_understood_is_left_alone():
    """A newer version's record is not overwritten, and other kinds of records are nobody's business here."""
    store = FakeStore(values={"grant/g1": GRANT.to_bytes(), "grant/g2": b'{"v":9}', "pending/x": b"?"})

    grants, unreadable = Vault(store, emit=Events()).load()

    assert grants == {"g1": GRANT}
    assert unreadable == ("grant/g2",)
    assert store.writes == 0


async def test_nothing_to_write_is_no_write():
    """The vault sleeps until somebody has something."""
    store = FakeStore()
    async with running(store) as (vault, _):
        assert await vault.flush()
        await asyncio.sleep(3600)

        assert store.writes == 0


async def test_a_renewed_grant_takes_its_place_and_its_temporary_record_goes_in_one_step():
    """Between the two a crash would leave a grant that looks as if it had not been verified."""
    store = FakeStore()
    async with running(store) as (vault, _):
        await vault.keep(replace(NEWER, id="temporary", phase=Phase.UNVERIFIED))
        assert await vault.keep_instead(NEWER, "temporary")

        assert store.writes == 2
        assert (store.grant("g1"), store.grant("temporary")) == (NEWER, None)
        store.error = unavailable()
        assert not await vault.keep_instead(GRANT, "other")
        store.error = None
        await asyncio.sleep(2)
        assert store.grant("g1") == GRANT


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (Phase.SETTLED, Phase.OPEN),
        (Phase.QUARANTINED, Phase.OPEN),
        (Phase.OPEN, Phase.OPEN),
        (Phase.ENDED, Phase.ENDED),
        (Phase.REVOKING, Phase.REVOKING),
        (Phase.UNVERIFIED, Phase.UNVERIFIED),
    ],
)
async def test_a_suspect_record_is_one_whose_answer_may_be_lost(stored: Phase, found: Phase):
    """R3: it is perhaps not the last that was written; one that is not refreshed any more stays what it is."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g", "h", phase=stored)
    world.store.suspect = {"grant/g"}

    grants, unreadable = Vault(world.store, emit=world.events).load()

    assert ([grants[name].phase for name in ("g", "h")], unreadable) == ([found, stored], ())
