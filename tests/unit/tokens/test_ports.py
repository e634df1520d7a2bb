from __future__ import annotations

from broker.tokens.ports import Clock, Randomness
from tests.fakes import Dice, HandClock


def test_the_fakes_of_the_tests_satisfy_the_ports():
    """mypy checks the assignment; the run checks that both clocks agree about an hour."""
    clock: Clock = HandClock()
    dice: Randomness = Dice()
    before = clock.wall() - clock.boot()

    HandClock.__init__(clock, now=clock.boot() + 3600)  # type: ignore[arg-type]

    assert clock.wall() - clock.boot() == before
    assert 0 <= dice.uniform() < 1
