"""How much one caller, and all together, may hold."""

from __future__ import annotations

import asyncio

import pytest

from broker.api.limits import (
    REFUSAL_PLACES,
    REFUSAL_PLACES_PER_UID,
    STRANGER_PLACES,
    STRANGER_PLACES_PER_UID,
    Admission,
    ConnectionLedger,
    Limits,
    Places,
    Rates,
    WaitingRoom,
    account_of,
)
from broker.policy.peer import Peer


def test_one_uid_cannot_take_all_places():
    """The others still find some."""
    places = Places(total=3, per_uid=2)

    assert [places.take(1), places.take(1), places.take(1), places.take(2)] == [True, True, False, True]


def test_all_together_cannot_take_more_than_there_are():
    """However many they are."""
    places = Places(total=2, per_uid=2)

    assert [places.take(1), places.take(2), places.take(3)] == [True, True, False]


def test_a_place_that_was_given_back_can_be_taken():
    """By anybody."""
    places = Places(total=1, per_uid=1)
    places.take(1)

    places.give_back(1)

    assert places.taken == 0
    assert places.take(2)


def test_the_unknown_uid_is_one_caller():
    """Otherwise being unknown would be a way around the cap."""
    places = Places(total=9, per_uid=1)

    assert [places.take(None), places.take(None)] == [True, False]


def test_connections_over_the_cap_are_told_and_then_dropped():
    """Telling costs something, so there is a cap on that, too."""
    ledger = ConnectionLedger(Limits(max_connections=5, max_connections_per_uid=1))

    admissions = [ledger.admit(1).admission for _ in range(REFUSAL_PLACES_PER_UID + 2)]

    assert admissions == [
        Admission.ADMITTED,
        *[Admission.REFUSED] * REFUSAL_PLACES_PER_UID,
        Admission.DROPPED,
    ]
    assert ledger.admit(2).admission is Admission.ADMITTED


def test_the_places_to_be_told_are_limited_in_all():
    """Many uids cannot fill the memory with refusals."""
    ledger = ConnectionLedger(Limits(max_connections=0))

    admissions = [ledger.admit(uid).admission for uid in range(REFUSAL_PLACES + 1)]

    assert admissions.count(Admission.REFUSED) == REFUSAL_PLACES
    assert admissions[-1] is Admission.DROPPED


def test_strangers_leave_the_places_to_those_who_may_have_something():
    """However many connect who are in no workload: they have a few places of their own, and no others."""
    ledger = ConnectionLedger(Limits(max_connections=40, max_connections_per_uid=40))
    strangers = [ledger.admit(uid, stranger=True) for uid in range(100) for _ in range(3)]

    admitted = [stay for stay in strangers if stay.admission is Admission.ADMITTED]
    assert len(admitted) == STRANGER_PLACES
    assert all(ledger.admit(7).admission is Admission.ADMITTED for _ in range(40))

    for stay in strangers:
        stay.end()
    assert ledger.admit(1, stranger=True).admission is Admission.ADMITTED


def test_one_stranger_does_not_keep_the_others_from_being_told():
    """A part of their places is the most that one of them gets."""
    ledger = ConnectionLedger(Limits())

    mine = [ledger.admit(1, stranger=True).admission for _ in range(100)]

    assert mine.count(Admission.ADMITTED) == STRANGER_PLACES_PER_UID
    assert ledger.admit(2, stranger=True).admission is Admission.ADMITTED


def test_a_stay_ends_once():
    """Ending it again does not free the place of somebody else."""
    ledger = ConnectionLedger(Limits(max_connections=2))
    first, _second = ledger.admit(1), ledger.admit(2)

    first.end()
    first.end()

    assert ledger.admit(3).admission is Admission.ADMITTED
    assert ledger.admit(4).admission is Admission.REFUSED


def test_a_dropped_connection_holds_nothing():
    """There is nothing to give back."""
    ledger = ConnectionLedger(Limits(max_connections=0))
    for uid in range(REFUSAL_PLACES):
        ledger.admit(uid)

    ledger.admit(1).end()

    assert ledger.admit(1).admission is Admission.DROPPED


@pytest.mark.parametrize(("descriptors", "most"), [(1_024, 448), (64, 1), (2**20, 512)])
def test_connections_leave_descriptors_for_the_rest(descriptors: int, most: int):
    """Half of what the process may open, and never more than was configured."""
    assert Limits().within(descriptors).max_connections == most


async def test_a_waiting_room_has_so_many_places():
    """In all and for each uid; leaving makes room."""
    room = WaitingRoom(Limits(max_waiting=2, max_waiting_per_uid=1))

    with room.place(1) as first, room.place(1) as again, room.place(2) as second, room.place(3) as third:
        assert (first, again, second, third) == (True, False, True, False)

    with room.place(1) as later:
        assert later


async def test_closing_the_room_sends_everybody_away_at_once():
    """And lets nobody wait any more."""
    room = WaitingRoom(Limits())
    sent_away: list[float] = []

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            async with room.until_closed():
                await asyncio.sleep(3_600)
        sent_away.append(asyncio.get_running_loop().time())

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(wait())
        await asyncio.sleep(10)
        room.close()
        room.close()
        closed_at = asyncio.get_running_loop().time()

    assert sent_away == [closed_at] * 3
    with room.place(1) as place:
        assert not place
    assert room.closed


async def test_who_left_the_room_is_not_disturbed():
    """Its scope has ended before the room closes."""
    room = WaitingRoom(Limits())
    async with room.until_closed():
        pass

    room.close()
    await asyncio.sleep(1)

    assert room.closed


def test_a_burst_of_one_second_is_let_through_and_then_the_rate():
    """Whoever was quiet has his bucket full; afterwards each token takes its time."""
    rates = Rates(10)

    first = [rates.take(1, 100.0) for _ in range(11)]
    then = [rates.take(1, 100.0 + tick / 20) for tick in range(1, 21)]

    assert first == [True] * 10 + [False]
    assert then == [False, True] * 10


def test_one_that_asks_too_often_takes_nothing_from_another():
    """Each has a bucket of its own, the unknown uid too."""
    rates = Rates(2)

    hammering = [rates.take(1, 0.0) for _ in range(1_000)]

    assert hammering.count(True) == 2
    assert [rates.take(uid, 0.0) for uid in (2, None, 2, None, 2, None)] == [True, True, True, True, False, False]


def test_refusals_do_not_put_off_the_next_token():
    """Else whoever hammers would never be let in again."""
    rates = Rates(2)

    for moment in range(1_000):
        rates.take(1, moment / 1_000)

    assert rates.take(1, 1.6)


def test_those_that_are_quiet_are_forgotten():
    """Uids are many: a process with a namespace of its own has 65,536 of them."""
    rates = Rates(1_000)
    for uid in range(10_000):
        rates.take(uid, 5.0)

    rates.take("next", 7.0)

    assert len(rates) == 1


def test_a_rate_is_kept_over_a_long_time():
    """Sums of intervals are rounded; what is let through in an hour is what was promised."""
    rates = Rates(3)

    passed = sum(rates.take(1, moment / 10) for moment in range(36_000))

    assert passed == 3 * 3_600 + 3 - 1


def test_callers_without_a_uid_share_with_those_of_their_listener_only():
    """What comes over TCP takes no place, no rate and no turn from a Unix socket; a uid is one on all listeners."""
    tcp, unix = (account_of(Peer(listener=listener)) for listener in ("tcp", "app"))
    ledger = ConnectionLedger(Limits(max_connections_per_uid=1))

    first, second, unlucky = (ledger.admit(who) for who in (tcp, unix, unix))

    assert [stay.admission for stay in (first, second, unlucky)] == [Admission.ADMITTED] * 2 + [Admission.REFUSED]
    assert account_of(Peer(listener="tcp", uid=1)) == account_of(Peer(listener="app", uid=1)) == 1


def test_a_place_is_made_only_where_one_is_wanted():
    """Neither that of another listener's caller nor that of a stranger would help, nor one that was given back."""
    ledger = ConnectionLedger(Limits(max_connections_per_uid=1))
    good, other, stranger = ledger.admit("a"), ledger.admit("b"), ledger.admit("a", stranger=True)
    unlucky = ledger.admit("a")

    helping = [stay.holds_what_is_wanted_by(unlucky) for stay in (good, other, stranger, unlucky)]
    good.end()

    assert helping == [True, False, False, False]
    assert not good.holds_what_is_wanted_by(unlucky)
