from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from broker.tokens.limiter import HASTE, Limiter, Limits, Turns

WIDE = Limits(concurrent=1_000, per_second=20)


def most_in_a_second(starts: list[float]) -> int:
    return max(sum(1 for other in starts if start <= other < start + 1.0) for start in starts)


def drain(turns: Turns, limits: Limits = WIDE) -> list[int]:
    """Give all turns, each when it may begin, each request over at once."""
    now, given = 0.0, []
    while turns:
        number = turns.give(now, limits)
        assert number is not None
        given.append(number)
        turns.done()
        now += limits.interval
    return given


def test_starts_are_spaced_so_that_no_second_has_more_than_the_rate_even_if_they_close_up():
    """As many as configured, and one more only when it arrives a tenth of a second early."""
    for per_second in (1, 3, 20, 1_000):
        limits = Limits(concurrent=1, per_second=per_second)

        assert per_second * limits.interval - 1.0 >= 0.0999


def starts(turns: Turns, looks: list[float], limits: Limits) -> list[float]:
    """Give when turns begin if somebody looks at these times only; each is over at once."""
    begun = []
    for now in looks:
        while turns.give(now, limits) is not None:
            turns.done()
            begun.append(now)
    return begun


def waiting(number: int) -> Turns:
    turns = Turns()
    for _ in range(number):
        turns.ask("app", 0.0)
    return turns


def test_a_long_pause_is_not_made_up_for():
    """After it as many begin at once as in a twentieth of a second, and then one in each interval."""
    limits = Limits(concurrent=1_000, per_second=200)

    begun = starts(waiting(1_000), [0.0, 500.0, 500.0 + limits.interval, 500.0 + 2 * limits.interval], limits)

    assert [begun.count(at) for at in sorted(set(begun))] == [1, 10, 1, 1]
    assert starts(waiting(9), [10.0, 500.0, 500.0], WIDE) == [10.0, 500.0]


def test_a_loop_that_is_always_late_reaches_the_rate():
    """Looked at every 20 ms only, an issuer that may be asked 200 times a second is not asked 50 times."""
    limits = Limits(concurrent=1_000, per_second=200)

    begun = starts(waiting(1_000), [number * 0.02 for number in range(101)], limits)

    assert len(begun) >= 2.0 / limits.interval
    assert most_in_a_second(begun) <= 200


@given(
    st.sampled_from([1, 2, 3, 10, 20, 50, 333]),
    st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.1, 0.3, 2.0]), min_size=1, max_size=200),
    st.sets(st.integers(0, 400)),
)
def test_however_late_the_loop_is_no_second_has_more_starts_than_the_rate(
    per_second: int, pauses: list[float], unused: set[int]
):
    """Nor does it when some of the turns are not used: what is given back is one start and not more."""
    turns, limits = waiting(1_000), Limits(concurrent=1_000, per_second=per_second)
    now, used = 0.0, []
    for pause in pauses:
        now += pause
        for _ in range(1_000):
            number = turns.give(now, limits)
            if number is None:
                break
            if number in unused:
                turns.unused(number)
            else:
                used.append(now)
            turns.done()

    assert not used or most_in_a_second(used) <= per_second


def test_a_limiter_is_idle_when_a_new_one_would_do_the_same():
    """Not while somebody waits or is served, nor right after."""
    turns = Turns()
    states = [turns.is_idle(100.0)]
    number = turns.ask("app", 0.0)
    states.append(turns.is_idle(100.0))
    assert turns.give(100.0, WIDE) == number
    states.append(turns.is_idle(200.0))
    turns.done()
    states.append(turns.is_idle(100.0))

    assert states == [True, False, False, False]
    assert turns.is_idle(100.0 + 2 * WIDE.interval)


def test_no_more_run_at_a_time_than_configured():
    """The next begins when one is over."""
    turns, limits = Turns(), Limits(concurrent=1, per_second=20)
    turns.ask("app", 0.0)
    turns.ask("app", 0.0)

    assert turns.give(0.0, limits) is not None
    assert turns.wait(100.0, limits) is None
    assert turns.give(100.0, limits) is None

    turns.done()

    assert turns.give(100.0, limits) is not None


def test_a_client_with_many_tokens_leaves_the_other_every_second_turn():
    """A thousand that fail do not stand before the one that is good."""
    turns = Turns()
    for _ in range(1_000):
        turns.ask("failing", 0.0)
    good = [turns.ask("good", 0.0) for _ in range(3)]

    assert {number for number in drain(turns)[:6] if number in good} == set(good)


def test_the_token_that_ends_first_goes_first():
    """Within a client the lowest rank is next."""
    turns = Turns()
    late, soon = turns.ask("app", 900.0), turns.ask("app", 30.0)

    assert drain(turns) == [soon, late]


def test_a_turn_that_a_caller_waits_for_goes_before_those_of_all_clients():
    """Also one that was asked for in no haste, and it is given once only."""
    turns = Turns()
    first, second = turns.ask("other", 1.0), turns.ask("app", 2.0)
    third = turns.ask("app", HASTE)
    turns.hasten(second)
    turns.hasten(second)

    given = drain(turns)

    assert given == [second, third, first]


def test_a_turn_taken_back_is_not_given():
    """Nor hastened afterwards."""
    turns = Turns()
    gone, kept = turns.ask("app", 0.0), turns.ask("app", 1.0)
    turns.withdraw(gone)
    turns.hasten(gone)

    assert drain(turns) == [kept]


async def test_requests_start_at_the_rate_and_never_faster():
    """A hundred at once take five seconds and a half."""
    loop = asyncio.get_running_loop()
    limiter = Limiter(WIDE, time=loop.time)
    starts: list[float] = []

    async def request() -> None:
        async with limiter.turn("app", 0.0, lambda _number: None):
            starts.append(loop.time())
            await asyncio.sleep(3.0)

    await asyncio.gather(*(request() for _ in range(100)))

    assert most_in_a_second(starts) <= 20
    assert 5.3 <= starts[-1] - starts[0] <= 5.6


async def test_one_that_is_cancelled_while_it_waits_or_runs_gives_its_place_to_the_next():
    """No place is lost, and none is given twice."""
    loop = asyncio.get_running_loop()
    limiter = Limiter(Limits(concurrent=1, per_second=20), time=loop.time)
    begun: list[str] = []

    async def request(name: str) -> None:
        async with limiter.turn("app", 0.0, lambda _number: None):
            begun.append(name)
            await asyncio.sleep(1_000.0)

    runs, waits, follows = (asyncio.create_task(request(name)) for name in ("runs", "waits", "follows"))
    await asyncio.sleep(1.0)
    waits.cancel()
    await asyncio.sleep(1.0)
    assert begun == ["runs"]
    runs.cancel()
    await asyncio.sleep(1.0)
    assert begun == ["runs", "follows"]
    follows.cancel()
    ended = await asyncio.gather(runs, waits, follows, return_exceptions=True)

    assert all(isinstance(end, asyncio.CancelledError) for end in ended)


def test_a_turn_in_which_nothing_is_sent_costs_the_next_no_time():
    """But only while none was given after it: the distance between real starts is kept."""
    turns = Turns()
    numbers = [turns.ask("app", float(rank)) for rank in range(4)]

    assert turns.give(0.0, WIDE) == numbers[0]
    turns.unused(numbers[0])
    assert turns.give(0.0, WIDE) == numbers[1]
    turns.unused(numbers[0])
    assert turns.give(0.01, WIDE) is None
