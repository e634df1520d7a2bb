"""An alarm rings when it is due, once, and only for what it was set to last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from broker.api.alarm import Alarm


class Rings:
    """Notes when an alarm rang, and for what."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float]] = []
        self._began = asyncio.get_running_loop().time()

    def ring(self, name: str) -> Callable[[], None]:
        return lambda: self.heard.append((name, round(asyncio.get_running_loop().time() - self._began, 3)))


async def test_it_rings_when_it_is_due_and_once():
    """And says until then when that is."""
    rings, alarm = Rings(), Alarm(asyncio.get_running_loop())
    now = asyncio.get_running_loop().time()

    alarm.set(5.0, rings.ring("one"))
    due = alarm.due
    await asyncio.sleep(20.0)

    assert due == pytest.approx(now + 5.0)
    assert rings.heard == [("one", 5.0)]
    assert alarm.due is None


@pytest.mark.parametrize(("first", "second"), [(1.0, 30.0), (30.0, 1.0), (5.0, 5.0)])
async def test_what_it_is_set_to_last_is_all_that_rings(first: float, second: float):
    """Whether that is later than what was set before, or earlier."""
    rings, alarm = Rings(), Alarm(asyncio.get_running_loop())

    alarm.set(first, rings.ring("first"))
    alarm.set(second, rings.ring("second"))
    await asyncio.sleep(100.0)

    assert rings.heard == [("second", second)]


async def test_it_may_be_put_off_again_and_again():
    """As by a connection that is in use: it rings when that has been quiet for long enough."""
    rings, alarm = Rings(), Alarm(asyncio.get_running_loop())

    for _ in range(10):
        alarm.set(5.0, rings.ring("quiet"))
        await asyncio.sleep(3.0)
    await asyncio.sleep(100.0)

    assert rings.heard == [("quiet", 32.0)]


@pytest.mark.parametrize("end", [Alarm.stop, Alarm.close])
async def test_what_was_stopped_does_not_ring(end: Callable[[Alarm], None]):
    """Neither for good nor for now."""
    rings, alarm = Rings(), Alarm(asyncio.get_running_loop())

    alarm.set(5.0, rings.ring("one"))
    end(alarm)
    await asyncio.sleep(100.0)

    assert rings.heard == []
    assert alarm.due is None


async def test_it_can_be_set_again_after_it_was_stopped():
    """The timer that is still there is no reason to ring early."""
    rings, alarm = Rings(), Alarm(asyncio.get_running_loop())

    alarm.set(5.0, rings.ring("one"))
    alarm.stop()
    alarm.set(8.0, rings.ring("other"))
    await asyncio.sleep(100.0)

    assert rings.heard == [("other", 8.0)]


async def test_what_rings_may_set_it_anew():
    """As who looks after something every second does."""
    alarm = Alarm(asyncio.get_running_loop())
    heard: list[int] = []

    def look() -> None:
        heard.append(len(heard))
        if len(heard) < 3:
            alarm.set(1.0, look)

    alarm.set(1.0, look)
    await asyncio.sleep(10.0)

    assert heard == [0, 1, 2]
