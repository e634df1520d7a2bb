"""Caps on authorizations, and what is remembered of those that are over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.consent.errors import FinishedError, NoSuchAuthorizationError, TooManyPendingError
from broker.consent.pending import Abandoned, Granted, Pending, Redeeming, Waiting
from broker.consent.shelf import MAX_FINISHED, MAX_OPEN, MAX_OPEN_PER_OWNER, Entry, Shelf
from tests.fakes import LoopClock
from tests.unit.consent.test_pending import PENDING
from tests.unit.consent.world import ConsentWorld, owned
from tests.unit.tokens.stores import FakeStore


def pending(number: int, **changes: object) -> Pending:
    wall = LoopClock().wall()
    made = replace(PENDING, id=f"id-{number}", created_at=wall, expires_at=wall + 600.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def shelf(store: FakeStore | None = None) -> Shelf:
    return Shelf(store or FakeStore(), clock=LoopClock(), on_expired=lambda _: None)


async def test_open_authorizations_of_one_workload_are_capped():
    """Others have room; one that is finished makes some."""
    on = shelf()
    for number in range(MAX_OPEN_PER_OWNER):
        await on.add(pending(number))

    with pytest.raises(TooManyPendingError), on.place("app"):
        pass
    with on.place("other"):
        pass
    on.find("id-0").become(Abandoned())
    with on.place("app"):
        pass


async def test_open_authorizations_are_capped_in_all():
    """Whoever has started them."""
    on = shelf()
    for number in range(MAX_OPEN):
        await on.add(pending(number, owner=f"app-{number % 50}"))

    with pytest.raises(TooManyPendingError), on.place("fresh"):
        pass


async def test_places_that_are_being_taken_count():
    """The server may take a while for each."""
    on = shelf()
    for number in range(MAX_OPEN_PER_OWNER - 1):
        await on.add(pending(number))

    with on.place("app"), pytest.raises(TooManyPendingError), on.place("app"):
        pass
    with on.place("app"):
        pass


async def test_one_that_failed_to_begin_takes_no_place():
    """However it failed."""
    on = shelf()
    with pytest.raises(ZeroDivisionError), on.place("app"):
        raise ZeroDivisionError

    for number in range(MAX_OPEN_PER_OWNER):
        await on.add(pending(number))
    with pytest.raises(TooManyPendingError), on.place("app"):
        pass


async def test_of_those_that_are_over_the_newest_are_remembered():
    """The oldest go, from the store as well."""
    store = FakeStore()
    on = shelf(store)
    for number in range(MAX_FINISHED + 2):
        await on.add(pending(number, phase=Abandoned()))
    await on.keep_time()

    assert "pending/id-0" not in store.values
    assert "pending/id-2" in store.values
    with pytest.raises(NoSuchAuthorizationError):
        on.find("id-0")
    assert on.find("id-2").pending.phase == Abandoned()


async def test_what_is_stored_is_taken_up():
    """With the time that is left; grants are somebody else's."""
    store = FakeStore()
    await shelf(store).add(pending(1))
    await shelf(store).add(pending(2, phase=Granted(grant="g")))
    store.values["grant/g"] = b"{}"
    await asyncio.sleep(100.0)
    on = shelf(store)

    taken = list(on.restored())

    assert [name for name, *_ in taken] == ["pending/id-1", "pending/id-2"]
    assert on.left(on.find("id-1")) == pytest.approx(500.0)
    assert on.find("id-2").pending.phase == Granted(grant="g")


async def test_a_finished_one_is_forgotten_in_time_after_a_restart():
    """As if there had been none."""
    store = FakeStore()
    await shelf(store).add(pending(1, phase=Abandoned()))
    await asyncio.sleep(1_199.0)
    on = shelf(store)
    list(on.restored())
    async with asyncio.timeout(10.0):
        while store.values:
            await on.keep_time()


async def test_one_that_is_being_redeemed_does_not_expire():
    """Its server may be slow."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        await asyncio.sleep(590.0)
        world.server.delay = 25.0
        redeemed = await world.come_back(begun)
        with pytest.raises(FinishedError) as finished:
            world.authorizations.status(begun.id, owns=owned)

    assert finished.value.grant == redeemed.grant.id


async def test_news_are_told_once_and_to_all():
    """And who asks after them waits for the next."""
    entry = Entry(pending(1), 600.0)
    first = entry.news()
    assert entry.news() is first

    entry.become(Redeeming())

    assert first.done()
    assert not entry.news().done()
    entry.news().cancel()
    entry.become(Waiting())
