"""The watchdog: fed in time while all is well, and not otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker.events import WatchdogUnfed
from broker.hostenv.notify import Notifier
from broker.hostenv.watchdog import LATE, Pulse, feed
from tests.fakes import Events


@dataclass
class Clock:
    now: float = 100.0

    def awake(self) -> float:
        return self.now


def test_a_pulse_is_on_time_until_it_is_late():
    """Each beat gives it as long again."""
    clock = Clock()
    pulse = Pulse(clock)

    clock.now += LATE
    at_its_end = pulse.is_on_time()
    clock.now += 0.1
    behind_it = pulse.is_on_time()
    pulse.beat()

    assert (at_its_end, behind_it, pulse.is_on_time()) == (True, False, True)


async def test_it_is_fed_three_times_in_its_period_while_all_is_well():
    """So that one late turn kills nobody; what is not well is said once, and then nothing is fed."""
    fed: list[float] = []
    events = Events()
    loop = asyncio.get_running_loop()
    began = loop.time()
    well = {"tick": True, "store": True}
    notifier = Notifier("/n", events, send=lambda _address, _message: fed.append(loop.time() - began))
    checks = {"tick": lambda: well["tick"], "store": lambda: well["store"]}

    async with asyncio.TaskGroup() as group:
        task = group.create_task(feed(notifier, 30.0, checks, events))
        await asyncio.sleep(25.0)
        well.update(tick=False, store=False)
        await asyncio.sleep(40.0)
        well.update(tick=True, store=True)
        await asyncio.sleep(10.0)
        task.cancel()

    assert fed == [0.0, 10.0, 20.0, 70.0]
    assert events.seen == [WatchdogUnfed(reason="tick,store")]
