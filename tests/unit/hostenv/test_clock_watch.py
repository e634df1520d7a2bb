"""clock_watch: what is a jump, what is not, and that each is told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from broker.events import ClockJumped, MachineResumed
from broker.hostenv.clock_watch import ClockWatch
from tests.fakes import WALL_AT_BOOT, Events


@dataclass
class HandClocks:
    """Three clocks that move when the test says so; *between* happens while they are being read."""

    now: float = 1_000.0
    slept: float = 0.0
    wall_offset: float = 0.0
    between: Callable[[], None] = lambda: None

    def boot(self) -> float:
        return self.now

    def wall(self) -> float:
        self.between()
        return WALL_AT_BOOT + self.now + self.wall_offset

    def awake(self) -> float:
        return self.now - self.slept


class Fixture:
    """A watch over clocks of ours."""

    def __init__(self) -> None:
        self.clocks, self.events = HandClocks(), Events()
        self.watch = ClockWatch(self.clocks, self.events)

    def after(self, seconds: float, *, set_by: float = 0.0, asleep: float = 0.0) -> bool:
        self.clocks.now += seconds + asleep
        self.clocks.slept += asleep
        self.clocks.wall_offset += set_by
        return self.watch.look()


@pytest.mark.parametrize("by", [7_200.0, -3_600.0, 1.5, -1.5])
def test_a_wall_clock_that_is_set_is_told_once(by: float) -> None:
    """With the seconds it was set by, and their direction."""
    fixture = Fixture()

    looks = [fixture.after(1.0), fixture.after(1.0, set_by=by), fixture.after(1.0)]

    assert looks == [False, True, False]
    (jump,) = fixture.events.seen
    assert isinstance(jump, ClockJumped)
    assert jump.by == pytest.approx(by)


@pytest.mark.parametrize("rate", [0.0005, 0.084, -0.084])
def test_a_clock_that_is_slewed_for_an_hour_does_not_jump(rate: float) -> None:
    """By five minutes in all with chrony at its fastest, but never by much from one look to the next."""
    fixture = Fixture()

    assert not any(fixture.after(1.0, set_by=rate) for _ in range(3_600))
    assert fixture.events.seen == []


def test_a_machine_that_slept_is_told_with_how_long() -> None:
    """Both the boot clock and the wall clock went on: nobody set anything."""
    fixture = Fixture()

    assert fixture.after(1.0, asleep=3_600.0)
    assert not fixture.after(1.0)
    (resumed,) = fixture.events.seen
    assert isinstance(resumed, MachineResumed)
    assert resumed.asleep == pytest.approx(3_600.0)


def test_a_clock_that_is_put_right_after_sleep_is_told_beside_it() -> None:
    """The two are told apart."""
    fixture = Fixture()

    assert fixture.after(1.0, asleep=3_600.0, set_by=-30.0)
    assert [event.name for event in fixture.events.seen] == ["machine_resumed", "clock_jumped"]


def test_a_process_that_was_stopped_saw_no_jump() -> None:
    """An hour without a look; all clocks went on together."""
    fixture = Fixture()

    assert not fixture.after(3_600.0)
    assert fixture.events.seen == []


def test_a_stop_in_the_middle_of_a_look_is_not_taken_for_a_jump() -> None:
    """Between two readings ten seconds pass: the clocks are read again."""
    fixture = Fixture()
    stops = iter([10.0])

    def stop() -> None:
        fixture.clocks.now += next(stops, 0.0)

    fixture.clocks.between = stop

    assert not fixture.after(1.0)
    assert not fixture.after(1.0)
    assert fixture.events.seen == []


def test_where_the_clocks_cannot_be_read_together_the_next_look_compares() -> None:
    """What happened meanwhile is not missed, only told later."""
    fixture = Fixture()

    def drown() -> None:
        fixture.clocks.now += 10.0

    fixture.clocks.between = drown
    drowning = fixture.after(1.0, set_by=60.0)
    fixture.clocks.between = lambda: None

    assert not drowning
    assert fixture.after(1.0)
    assert [type(event) for event in fixture.events.seen] == [ClockJumped]


def test_a_start_in_the_middle_of_trouble_begins_with_the_first_good_look() -> None:
    """There is nothing to compare with before."""
    clocks, events = HandClocks(), Events()

    def drown() -> None:
        clocks.now += 10.0

    clocks.between = drown
    watch = ClockWatch(clocks, events)
    clocks.between = lambda: None
    clocks.wall_offset = 60.0

    assert not watch.look()
    clocks.wall_offset = 0.0
    assert watch.look()
