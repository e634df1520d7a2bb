"""Long polls: who has the token already is told when there is something else to tell."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.api.answers import Answer
from broker.api.conditions import Known
from broker.api.limits import Limits
from broker.api.problems import ProblemError
from broker.api.serving import get_token
from broker.api.table import Call
from broker.api.world import World
from broker.events import TokenServed
from broker.policy.rules import Policy, Workload
from broker.tokens.serving import Standing
from tests.fakes import Events
from tests.jumping import loop_time
from tests.unit.api.handlers import PEER, call, world
from tests.unit.api.world import FakeTokens, serving, unavailable

HAS_IT = Known(tags=frozenset({"an-etag"}))
HAS_ANOTHER = Known(tags=frozenset({"another"}))

NEXT = serving(etag="next-etag", generation=8)


def poll(known: Known | None = HAS_IT, **query: int) -> Call:
    return replace(call(), known=known, query=query)


class Bench:
    """A world with one token, and what came of a caller in it."""

    def __init__(self, tokens: FakeTokens | None = None, **options: Any) -> None:
        self.tokens = tokens or FakeTokens()
        self.events = Events()
        self.world: World = world(self.tokens, emit=self.events, **options)

    async def answered(self, asked: Call) -> tuple[int, float]:
        """Give the status and how long it took."""
        began = loop_time()
        try:
            answer: Answer = await get_token(self.world, asked)
        except ProblemError as error:
            return error.problem.status, loop_time() - began
        return answer.status, loop_time() - began

    @property
    def served(self) -> int:
        return len(self.events.of(TokenServed))


@pytest.mark.parametrize("known", [HAS_IT, Known(anything=True), Known(tags=frozenset({"another", "an-etag"}))])
async def test_who_has_the_token_is_told_so(known: Known):
    """Without a body, and without a record: no token leaves."""
    bench = Bench()

    answer = await get_token(bench.world, poll(known))

    assert (answer.status, answer.body, answer.outcome) == (304, b"", "not_modified")
    assert answer.all_headers() == {"Cache-Control": "no-store", "Server": "token-broker", "ETag": 'W/"an-etag"'}
    assert bench.events.seen == []


@pytest.mark.parametrize("wait", [0, 60])
async def test_who_has_another_token_gets_this_one_at_once(wait: int):
    """There is nothing to wait for."""
    bench = Bench()

    assert await bench.answered(poll(HAS_ANOTHER, wait=wait)) == (200, 0.0)
    assert bench.served == 1


async def test_without_a_wait_nobody_is_held():
    """The default wait is for a token that is not there."""
    assert await Bench().answered(poll()) == (304, 0.0)
    assert await Bench().answered(poll(wait=0)) == (304, 0.0)


async def test_without_a_condition_a_wait_is_for_a_token_that_is_not_there():
    """As ever."""
    assert await Bench().answered(poll(None, wait=60)) == (200, 0.0)


async def test_a_token_that_is_not_good_enough_is_not_compared():
    """It has not the validity that the caller needs: it gets what there is, and sees that it is the same."""
    bench = Bench(FakeTokens({"directory": replace(serving(), enough=False)}))

    assert await bench.answered(poll(min_valid=3_600)) == (200, 0.0)


async def test_an_expired_token_is_not_compared():
    """Who has it is told that there is none."""
    assert await Bench(FakeTokens({"directory": unavailable()})).answered(poll(Known(anything=True))) == (503, 0.0)


async def test_the_policy_comes_before_the_condition():
    """A caller without a right learns nothing from a tag it has guessed."""
    bench = Bench()

    assert await bench.answered(replace(poll(), peer=replace(PEER, uid=4_000))) == (403, 0.0)
    assert bench.tokens.asked == []


async def test_a_caller_is_held_until_its_time_is_up():
    """And has what it had."""
    bench = Bench()

    assert await bench.answered(poll(wait=30)) == (304, 30.0)
    assert (bench.served, bench.tokens.watched) == (0, 0)


async def when_held(bench: Bench, asked: Call, happens: Any) -> tuple[int, float]:
    """Let something happen five seconds after *asked*."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(bench.answered(asked))
        await asyncio.sleep(5.0)
        assert not waiting.done()
        happens()
    return waiting.result()


async def test_a_caller_gets_the_next_token_when_it_comes():
    """Recorded like any other."""
    bench = Bench()

    def comes() -> None:
        bench.tokens.answers["directory"] = NEXT
        bench.tokens.tell()

    assert await when_held(bench, poll(wait=60), comes) == (200, 5.0)
    assert bench.events.of(TokenServed)[0].generation == 8


async def test_a_caller_learns_that_refreshing_fails():
    """It is the same token: that it is stale is what is new."""
    bench = Bench()

    def fails() -> None:
        bench.tokens.answers["directory"] = serving(stale=True)
        bench.tokens.standings["directory"] = Standing(etag="an-etag", failing=True)
        bench.tokens.tell()

    assert await when_held(bench, poll(wait=60), fails) == (200, 5.0)


async def test_a_caller_learns_that_its_token_ended():
    """When there is no other, as with any request: after the rest of its wait."""
    bench = Bench()

    def ends() -> None:
        bench.tokens.answers["directory"] = unavailable()
        bench.tokens.tell()

    assert await when_held(bench, poll(wait=60), ends) == (503, 5.0)
    assert bench.tokens.asked[-1] == ("directory", None, 55.0)


async def test_a_caller_that_needs_more_than_there_is_waits_for_better():
    """Nothing better is to be had until something changes; when its time is up, it gets what there is."""
    bench = Bench(FakeTokens({"directory": replace(serving(), enough=False)}))

    assert await bench.answered(poll(wait=20, min_valid=3_600)) == (200, 20.0)


async def test_a_caller_whose_right_is_removed_is_refused_at_once():
    """The policy is asked again on waking."""
    bench = Bench()
    other = Workload(name="other", uids=frozenset({2_000}), tokens=frozenset({"directory"}))

    def removed() -> None:
        bench.world.replace_policy(Policy(workloads=(other,), own_uid=900))

    assert await when_held(bench, poll(wait=60), removed) == (403, 5.0)
    assert bench.served == 0
    assert len(bench.tokens.asked) == 1  # before it was held, and not again


async def test_a_caller_whose_token_is_removed_is_refused_as_for_an_unknown_one():
    """There is nothing of that name any more."""
    bench = Bench()

    def removed() -> None:
        bench.world.replace_policy(bench.world.policy)
        future = bench.tokens.futures.pop("directory")
        del bench.tokens.answers["directory"]
        future.set_result(None)

    assert await when_held(bench, poll(wait=60), removed) == (403, 5.0)


async def test_a_reload_that_changes_nothing_for_a_caller_says_so():
    """It is answered: whoever configures sees all callers come back under the new configuration."""
    bench = Bench()

    assert await when_held(bench, poll(wait=60), lambda: bench.world.replace_policy(bench.world.policy)) == (304, 5.0)


async def test_when_the_broker_stops_a_held_caller_is_answered_at_once():
    """It has the token."""
    bench = Bench()

    assert await when_held(bench, poll(wait=60), bench.world.waiting.close) == (304, 5.0)


async def test_while_the_broker_stops_nobody_is_held():
    """Nor is it told to slow down."""
    bench = Bench()
    bench.world.waiting.close()

    assert await bench.answered(poll(wait=60)) == (304, 0.0)


async def test_when_the_broker_stops_a_caller_that_needs_more_gets_what_there_is():
    """As good as it is."""
    bench = Bench(FakeTokens({"directory": replace(serving(), enough=False)}))

    assert await when_held(bench, poll(wait=60, min_valid=3_600), bench.world.waiting.close) == (200, 5.0)


async def test_who_finds_no_place_to_be_held_is_told_to_slow_down():
    """Were it told 304 at once, it would ask again at once."""
    bench = Bench(limits=Limits(max_waiting=1))

    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.answered(poll(wait=20)))
        await asyncio.sleep(1.0)
        second = await bench.answered(poll(wait=20))
        third = await bench.answered(poll(HAS_ANOTHER, wait=20))
        fourth = await bench.answered(poll())

    assert first.result() == (304, 20.0)
    assert (second, third, fourth) == ((429, 0.0), (200, 0.0), (304, 0.0))


async def test_a_caller_that_goes_away_leaves_nothing_behind():
    """Neither its place nor its watch."""
    bench = Bench(limits=Limits(max_waiting=1))
    waiting = asyncio.create_task(bench.answered(poll(wait=60)))
    await asyncio.sleep(1.0)

    waiting.cancel()
    await asyncio.wait([waiting])

    assert bench.tokens.watched == 0
    assert not bench.tokens.futures["directory"].cancelled()
    assert await bench.answered(poll(wait=1)) == (304, 1.0)


async def test_five_hundred_callers_are_woken_by_one_change():
    """All of them, and at once."""
    bench = Bench(limits=Limits(max_waiting=500, max_waiting_per_uid=500))
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(bench.answered(poll(wait=60))) for _ in range(500)]
        await asyncio.sleep(5.0)
        bench.tokens.answers["directory"] = NEXT
        bench.tokens.tell()

    assert {task.result() for task in waiting} == {(200, 5.0)}
    assert bench.served == 500


async def test_a_change_while_the_token_is_obtained_is_not_missed():
    """The caller waited for more validity, which did not come; meanwhile the refresh began to fail."""
    bench = Bench(FakeTokens({"directory": replace(serving(), enough=False)}, held=asyncio.Event()))

    def fails() -> None:
        bench.tokens.standings["directory"] = Standing(etag="an-etag", failing=True)
        assert bench.tokens.held is not None
        bench.tokens.held.set()

    assert await when_held(bench, poll(wait=60), fails) == (200, 5.0)
