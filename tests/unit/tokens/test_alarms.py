from __future__ import annotations

import asyncio

from broker.tokens.alarms import MAX_ALARM, Alarms
from tests.fakes import LoopClock
from tests.jumping import advance, loop_time


async def test_alarms_ring_in_their_order_and_once():
    """However they were set."""
    alarms, start = Alarms(LoopClock()), loop_time()
    alarms.set("b", start + 2)
    alarms.set("a", start + 1)
    alarms.set("c", start + 3)

    await alarms.wait()
    assert loop_time() == start + 1
    assert list(alarms.ring()) == ["a"]
    advance(5)
    assert list(alarms.ring()) == ["b", "c"]
    assert list(alarms.ring()) == []


async def test_a_later_alarm_is_not_needed_where_an_earlier_one_is_set():
    """Who is looked at early looks when to be looked at next: the heap does not grow with each change of state."""
    alarms, start = Alarms(LoopClock()), loop_time()
    for at in (3, 2, 2, 5, 4):
        alarms.set("a", start + at)
    advance(10)

    assert list(alarms.ring()) == ["a", "a"]


async def test_an_earlier_alarm_wakes_who_waits_for_a_later_one():
    """A caller may want a token long before it is due."""
    alarms, start = Alarms(LoopClock()), loop_time()
    alarms.set("a", start + 4)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(alarms.wait())
        await asyncio.sleep(1)
        alarms.set("b", start + 1)
        await waiting

    assert loop_time() == start + 1
    assert list(alarms.ring()) == ["b"]


async def test_no_wait_is_longer_than_the_longest_alarm():
    """The machine may sleep in between, and timers with it."""
    alarms, start = Alarms(LoopClock()), loop_time()
    await alarms.wait()
    alarms.set("a", start + 1000)
    await alarms.wait()

    assert loop_time() == start + 2 * MAX_ALARM
