from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from broker.errors import Outcome, RemoteError
from broker.events import TokenExpired, TokenLapsed
from broker.tokens.registry import AT_ONCE
from broker.tokens.serving import Serving, Standing, TokenState, TokenUnavailableError
from broker.tokens.spec import Refresh
from tests.jumping import advance, loop_time
from tests.unit.tokens.tokens import spec
from tests.unit.tokens.world import FakeSession, World, build, json_response, running

DOWN = RemoteError("connect_failed", "nobody there", outcome=Outcome.NOT_SENT)


async def test_two_hundred_callers_on_an_empty_cache_cause_one_request():
    """Single flight: all get the same token from one request."""
    async with running(session=FakeSession(delay=2.0)) as world:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.registry.get("directory", min_valid=None, wait=10.0)) for _ in range(200)]
        tokens = {task.result().token.etag for task in tasks}

        assert len(tokens) == 1
        assert len(world.session.requests) == 1


async def test_a_token_is_kept_fresh_for_a_day():
    """Each refresh comes at 70 to 80 % of the lifetime, and at every moment there is a good token."""
    async with running(session=FakeSession(expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        for _ in range(24 * 60):
            await asyncio.sleep(60.0)
            serving = await world.registry.get("directory", min_valid=None, wait=0.0)
            assert serving.expires_in >= 60

        assert 86_400 / 240 <= len(world.session.requests) <= 86_400 / 210 + 2
        assert world.events.of(TokenExpired) == []


async def test_the_last_good_token_is_served_while_the_server_is_down_and_never_past_its_end():
    """From the failed refresh on it is stale; after its end there is a clear no with a time to come back."""
    async with running(session=FakeSession(default=None)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        world.session.default = DOWN
        obtained_at = loop_time()
        served: list[tuple[float, bool]] = []
        refusals: list[tuple[float, TokenUnavailableError]] = []
        for _ in range(400):
            await asyncio.sleep(1.0)
            try:
                serving = await world.registry.get("directory", min_valid=None, wait=0.0)
            except TokenUnavailableError as error:
                refusals.append((loop_time() - obtained_at, error))
            else:
                served.append((loop_time() - obtained_at, serving.stale))

        assert len(served) + len(refusals) == 400
        assert all(age <= 299.0 and stale == (age >= 210.0) for age, stale in served)
        assert all(age > 298.0 and error.code == "temporarily_unavailable" for age, error in refusals)
        assert all(1 <= error.retry_after <= 60 for _, error in refusals)
        assert world.events.of(TokenExpired) == [TokenExpired(token="directory")]


async def test_the_first_good_token_comes_within_one_backoff_of_recovery():
    """A minute at most after the server is back."""
    async with running(session=FakeSession(default=DOWN), dice=0.999) as world:
        await asyncio.sleep(3_600.0)
        world.session.default = None
        await asyncio.sleep(60.0)

        assert world.registry.status("directory").state is TokenState.FRESH


async def test_an_outage_costs_the_server_one_request_a_minute_however_many_ask():
    """Callers never shorten a backoff."""
    async with running(session=FakeSession(default=DOWN), dice=0.999) as world:
        await asyncio.sleep(600.0)
        before = len(world.session.requests)
        for _ in range(600):
            await asyncio.sleep(1.0)
            with pytest.raises(TokenUnavailableError):
                await world.registry.get("directory", min_valid=None, wait=0.0)

        assert len(world.session.requests) - before <= 11


async def test_a_caller_waits_for_the_attempt_under_way_and_gets_its_failure():
    """It is not held for the attempts after that one."""
    async with running(session=FakeSession(default=DOWN, delay=3.0)) as world:
        before = loop_time()

        with pytest.raises(TokenUnavailableError):
            await world.registry.get("directory", min_valid=None, wait=10.0)

        assert loop_time() - before == pytest.approx(3.0)


async def test_a_caller_that_waits_long_enough_gets_the_token_of_the_next_attempt():
    """Between two attempts, a caller waits for the coming one if its patience reaches that far."""
    async with running(session=FakeSession(script=[DOWN])) as world:
        await asyncio.sleep(0.5)

        serving = await world.registry.get("directory", min_valid=None, wait=10.0)

        assert serving.expires_in > 290


async def test_a_caller_waits_no_longer_than_it_said():
    """The wait is the caller's, whatever the server does."""
    async with running(session=FakeSession(delay=50.0)) as world:
        before = loop_time()

        with pytest.raises(TokenUnavailableError):
            await world.registry.get("directory", min_valid=None, wait=4.0)

        assert loop_time() - before == pytest.approx(4.0)


async def test_a_token_in_hand_is_not_waited_away():
    """The refresh failed, 4 s are left, the caller would wait a minute: it gets the 4 s, marked stale."""
    async with running(session=FakeSession(), dice=0.999) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        world.session.default = DOWN
        await asyncio.sleep(295.7)
        before = loop_time()

        serving = await world.registry.get("directory", min_valid=None, wait=60.0)

        assert serving.stale
        assert serving.expires_in >= 1
        assert loop_time() - before < 4.0


async def test_a_server_that_hangs_does_not_cost_the_token_in_hand():
    """The wait ends while the token is still good."""
    async with running(session=FakeSession(expires_in=10)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        world.session.delay = 1e6
        await asyncio.sleep(5.5)

        serving = await world.registry.get("directory", min_valid=None, wait=10.0)

        assert 1 <= serving.expires_in <= 2


async def test_a_long_outage_leaves_no_heap_of_alarms():
    """A hundred failed attempts later there are a few alarms for one token."""
    async with running(session=FakeSession(expires_in=36_000), dice=0.0) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        world.session.default = DOWN
        await asyncio.sleep(25_500)

        assert len(world.session.requests) > 100
        assert len(world.registry._alarms) < 10


async def test_a_caller_that_needs_more_validity_gets_a_new_token():
    """min_valid above what is left causes one refresh, once the cooldown is over."""
    async with running() as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(170.0)

        serving = await world.registry.get("directory", min_valid=140.0, wait=10.0)

        assert serving.expires_in >= 140
        assert len(world.session.requests) == 2


async def test_min_valid_causes_no_refresh_inside_the_cooldown():
    """A token of 40 s is renewed at its own time; a caller that wants more gets what there is."""
    async with running(session=FakeSession(expires_in=40)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(25.0)

        serving = await world.registry.get("directory", min_valid=39.0, wait=10.0)

        assert serving.expires_in == 15
        assert len(world.session.requests) == 1


async def test_when_the_wanted_refresh_fails_the_token_in_hand_is_served():
    """A wish for more validity never costs the validity there is."""
    async with running() as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(170.0)
        world.session.default = DOWN

        serving = await world.registry.get("directory", min_valid=140.0, wait=10.0)

        assert serving.expires_in == 130
        assert not serving.stale  # its own time of refresh has not come yet


async def test_a_suspended_machine_wakes_up_right():
    """The clock leaps by hours: nothing expired is served, and a new token is fetched within one alarm."""
    async with running() as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        advance(7_200.0)

        with pytest.raises(TokenUnavailableError):
            await world.registry.get("directory", min_valid=None, wait=0.0)
        await asyncio.sleep(5.0)

        assert world.registry.status("directory").state is TokenState.FRESH


async def test_a_server_that_refuses_the_client_is_asked_again_slowly():
    """invalid_client: 5 to 15 minutes, and callers learn the code."""
    refusal = RemoteError("server_refused", "no", outcome=Outcome.REFUSED, status=401, server_error="invalid_client")
    async with running(session=FakeSession(default=refusal), dice=0.5) as world:
        await asyncio.sleep(1.0)
        with pytest.raises(TokenUnavailableError) as caught:
            await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(3_000.0)

        assert (caught.value.code, caught.value.server_error) == ("authorization_server_error", "invalid_client")
        assert 5 <= len(world.session.requests) <= 6


async def test_a_server_without_metadata_is_not_asked_for_a_token():
    """The daemon starts with the server down, and says why there is no token yet."""
    world = build()
    world.metadata.error = RemoteError("dns_failed", "no address", outcome=Outcome.NOT_SENT)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.registry.run())
        await asyncio.sleep(30.0)

        assert world.session.requests == []
        assert world.registry.status("directory").reason == "dns_failed"

        world.metadata.error = None
        await asyncio.sleep(60.0)
        assert world.registry.status("directory").state is TokenState.FRESH
        task.cancel()


async def test_a_registry_that_does_not_run_serves_what_it_has():
    """Before the start and after the stop nothing is begun; a caller waits at most its time."""
    world = build()

    with pytest.raises(TokenUnavailableError):
        await world.registry.get("directory", min_valid=None, wait=1.0)

    assert world.session.requests == []
    assert tuple(world.registry.names()) == ("directory",)
    assert world.registry.expires_at("directory") is None


async def test_the_current_token_is_for_metrics_only_while_it_is_good():
    """A gauge of an ended token would say a lie."""
    async with running(session=FakeSession(script=[], expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        world.session.default = DOWN
        assert world.registry.expires_at("directory") is not None

        advance(301.0)

        assert world.registry.expires_at("directory") is None


async def test_an_unknown_name_is_a_bug_of_the_caller():
    """The policy comes first, so the registry is never asked for a name that is not configured."""
    async with running() as world:
        with pytest.raises(KeyError):
            await world.registry.get("unknown", min_valid=None, wait=0.0)


@pytest.mark.parametrize("jump", [7_200.0, -3_600.0])
async def test_a_wall_clock_that_jumps_changes_no_lifetime_and_what_is_shown_goes_with_it(jump: float):
    """Nothing ends early, nothing late; expires_at makes sense by the clock that callers have now."""
    async with running() as world:
        before = await world.registry.get("directory", min_valid=None, wait=10.0)
        world.clock.wall_offset += jump

        after = await world.registry.get("directory", min_valid=None, wait=10.0)

        assert after.expires_in == before.expires_in
        assert after.expires_at == before.expires_at + jump
        assert after.expires_at - world.clock.wall() == pytest.approx(after.expires_in, abs=1)
        assert world.registry.expires_at("directory") == pytest.approx(after.expires_at, abs=1)
        assert len(world.session.requests) == 1


LAZY = spec(refresh=Refresh.ON_DEMAND)


async def test_on_demand_nobody_asking_no_request_is_sent():
    """Not at the start, not when the token could be refreshed, not when it ends; and its end is no alarm."""
    async with running(LAZY) as world:
        await asyncio.sleep(1_000.0)
        before, idle = len(world.session.requests), world.registry.status("directory").state
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(1_000.0)

        assert (before, len(world.session.requests)) == (0, 1)
        assert idle is world.registry.status("directory").state is TokenState.IDLE
        assert world.registry.status("directory").expires_in is None
        assert len(world.events.of(TokenLapsed)) == 1
        assert world.events.of(TokenExpired) == []


async def test_on_demand_fifty_callers_at_once_are_one_request():
    """Single flight, as for a token that is kept fresh."""
    async with running(LAZY, session=FakeSession(delay=2.0)) as world:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.registry.get("directory", min_valid=None, wait=10.0)) for _ in range(50)]

        assert len({task.result().token.etag for task in tasks}) == 1
        assert len(world.session.requests) == 1


async def test_on_demand_a_good_token_is_served_at_once_while_the_next_is_fetched():
    """Who asks past the time to refresh does not wait for it; who asks afterwards has the next one."""
    async with running(LAZY, session=FakeSession(delay=5.0)) as world:
        first = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(230.0)
        began = loop_time()
        second = await world.registry.get("directory", min_valid=None, wait=10.0)
        waited = loop_time() - began
        await asyncio.sleep(6.0)
        third = await world.registry.get("directory", min_valid=None, wait=0.0)

        assert (waited, second.token, second.stale) == (0.0, first.token, True)
        assert third.token is not first.token
        assert len(world.session.requests) == 2


async def test_on_demand_a_caller_that_needs_more_waits_for_the_refresh():
    """The one in hand lacks the validity it asks for."""
    async with running(LAZY) as world:
        first = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(200.0)

        second = await world.registry.get("directory", min_valid=140.0, wait=10.0)

        assert second.token is not first.token
        assert second.expires_in >= 140


async def test_on_demand_callers_do_not_hammer_a_server_that_is_down():
    """A caller a second for ten minutes: the requests keep the backoff, each refusal says when to come back."""
    async with running(LAZY, session=FakeSession(default=DOWN), dice=0.5) as world:
        retry_after: list[int] = []
        for _ in range(600):
            with pytest.raises(TokenUnavailableError) as refused:
                await world.registry.get("directory", min_valid=None, wait=0.0)
            retry_after.append(refused.value.retry_after)
            await asyncio.sleep(1.0)
        busy = len(world.session.requests)
        await asyncio.sleep(3_600.0)

        assert 10 <= busy <= 40
        assert all(1 <= seconds <= 60 for seconds in retry_after)
        assert len(world.session.requests) <= busy + 1  # what the last caller planned, and nothing for nobody
        assert world.registry.status("directory").state is TokenState.UNAVAILABLE


REFUSED = json_response({"error": "invalid_client"}, 401)


async def forced(world: World, *, rejected: str | None = None, wait: float = 10.0) -> tuple[Serving, int]:
    """Force a refresh; gives how many attempts it began, too."""
    begun: list[bool] = []
    serving = await world.registry.refresh("directory", rejected=rejected, wait=wait, begun=lambda: begun.append(True))
    return serving, len(begun)


async def test_a_forced_refresh_brings_another_token():
    """Long before its time, and it is served to all from then on."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        before = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(60.0)

        after, begun = await forced(world, rejected=before.token.etag)

        assert after.token.etag != before.token.etag
        assert (begun, after.stale, len(world.session.requests)) == (1, False, 2)
        assert (await world.registry.get("directory", min_valid=None, wait=0.0)).token is after.token


async def test_a_token_that_was_replaced_already_is_given_at_once():
    """Whoever was late to notice causes no request."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(100.0)

        serving, begun = await forced(world, rejected="another")

        assert (serving.token.generation, begun, len(world.session.requests)) == (1, 0, 1)


async def test_within_the_cooldown_the_token_in_hand_is_given():
    """Rejected or not: it is a minute old at most, and another one would be no better."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        before = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(59.0)
        asked_at = loop_time()

        serving, begun = await forced(world, rejected=before.token.etag)

        assert (serving.token, begun, len(world.session.requests)) == (before.token, 0, 1)
        assert loop_time() == asked_at


async def test_fifty_callers_that_force_share_one_attempt():
    """One of them began it; all get its token."""
    async with running(session=FakeSession(expires_in=3_600, delay=2.0)) as world:
        before = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(60.0)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(forced(world, rejected=before.token.etag)) for _ in range(50)]

        assert {task.result()[0].token.generation for task in tasks} == {2}
        assert sum(task.result()[1] for task in tasks) == 1
        assert len(world.session.requests) == 2


@pytest.mark.parametrize("failure", [DOWN, REFUSED])
async def test_when_a_forced_refresh_fails_the_token_in_hand_is_given_and_says_that_it_is_stale(failure: Any):
    """At once, not when the next attempt has failed, too."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        before = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(60.0)
        world.session.default = failure
        asked_at = loop_time()

        serving, _ = await forced(world, rejected=before.token.etag)

        assert (serving.token, serving.stale) == (before.token, True)
        assert loop_time() == asked_at


async def test_when_a_forced_refresh_takes_too_long_the_token_in_hand_is_given():
    """The attempt goes on."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        before = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(60.0)
        world.session.delay = 15.0

        serving, _ = await forced(world)
        await asyncio.sleep(10.0)

        assert serving.token is before.token
        assert (await world.registry.get("directory", min_valid=None, wait=0.0)).token.generation == 2


async def test_without_a_token_a_forced_refresh_fails_as_the_server_does():
    """And what somebody has mended is tried at once."""
    async with running(session=FakeSession(default=REFUSED)) as world:
        await asyncio.sleep(10.0)
        with pytest.raises(TokenUnavailableError) as refused:
            await forced(world)
        world.session.default = None
        with pytest.raises(TokenUnavailableError):
            await forced(world)
        await asyncio.sleep(60.0)
        serving, begun = await forced(world)

        assert refused.value.server_error == "invalid_client"
        assert (serving.token.generation, begun, len(world.session.requests)) == (3, 1, 3)


async def test_a_caller_that_loops_on_a_failing_forced_refresh_is_bounded():
    """Five hundred times in five minutes, against a server that refuses the client: one attempt a minute."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(60.0)
        world.session.default = REFUSED
        for _ in range(500):
            await forced(world)
            await asyncio.sleep(0.6)

        assert len(world.session.requests) <= 1 + 5 + 1


async def test_a_token_that_is_dropped_while_it_is_forced_is_not_served():
    """Its configuration went."""
    async with running(session=FakeSession(expires_in=3_600)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(60.0)
        world.session.delay = 5.0
        began = loop_time()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(refusal(forced(world)))
            await asyncio.sleep(1.0)
            world.registry.replace([], {})

        assert waiting.result().code == "temporarily_unavailable"
        assert loop_time() - began == pytest.approx(1.0)


async def refusal(asked: Coroutine[Any, Any, object]) -> TokenUnavailableError:
    with pytest.raises(TokenUnavailableError) as refused:
        await asked
    return refused.value


async def test_a_new_token_is_news():
    """Told once it is there, and not when its refresh begins."""
    async with running(session=FakeSession(expires_in=300, delay=3.0)) as world:
        began = loop_time()
        await world.registry.get("directory", min_valid=None, wait=10.0)
        with world.registry.watch("directory") as watch:
            before = watch.standing()
            await asyncio.wait([watch.news])

            assert loop_time() - began == pytest.approx(3.0 + 210.0)
            assert watch.standing() != before
            assert not watch.standing().failing


async def test_that_refreshing_fails_is_news_and_that_it_goes_on_failing_is_none():
    """Nobody is woken by each attempt of an outage; the next news is the end of the token."""
    async with running(session=FakeSession(expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        began = loop_time()
        world.session.default = DOWN
        with world.registry.watch("directory") as watch:
            await asyncio.wait([watch.news])
            failed_at, standing = loop_time(), watch.standing()
        with world.registry.watch("directory") as watch:
            await asyncio.wait([watch.news])

            assert [failed_at - began, loop_time() - began] == pytest.approx([210.0, 300.0])
            assert (standing.failing, standing.etag is None) == (True, False)
            assert watch.standing() == Standing(etag=None, failing=True)
            assert len(world.session.requests) > 5


async def test_five_hundred_callers_wait_for_news_as_one():
    """They share one future, and one request brings them all the next token."""
    async with running(session=FakeSession(expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        began = loop_time()
        woken: list[float] = []

        async def wait() -> None:
            with world.registry.watch("directory") as watch:
                await asyncio.wait([watch.news])
                woken.append(loop_time())

        async with asyncio.TaskGroup() as group:
            for _ in range(500):
                group.create_task(wait())

        assert set(woken) == {began + 210.0}
        assert len(world.session.requests) == 2


async def test_on_demand_who_waits_for_news_is_somebody_who_asks():
    """The token is refreshed in time while somebody waits, and not once nobody does."""
    async with running(spec(refresh=Refresh.ON_DEMAND), session=FakeSession(expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        began = loop_time()
        with world.registry.watch("directory") as watch:
            await asyncio.wait([watch.news])
            first = loop_time() - began
        await asyncio.sleep(1_000.0)

        assert first == pytest.approx(210.0)
        assert len(world.session.requests) == 2


async def test_an_unknown_name_cannot_be_watched_nor_forced():
    """As with get, that is a bug of the caller."""
    async with running() as world:
        with pytest.raises(KeyError), world.registry.watch("nothing"):
            pass
        with pytest.raises(KeyError):
            await world.registry.refresh("nothing", rejected=None, wait=0.0, begun=lambda: None)


def crowd() -> list[str]:
    """Name far more tokens than a start begins with."""
    return [f"t{number}" for number in range(5 * AT_ONCE)]


async def test_a_start_with_many_tokens_begins_with_few_and_comes_to_all():
    """Attempts that wait for their turns take memory; each that ends, well or not, makes room for the next."""
    names = crowd()
    session = FakeSession(script=[DOWN], delay=0.1)
    async with running(*(spec(name) for name in names), session=session) as world:
        tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith("refresh ")]
        await asyncio.sleep(600.0)

        states = {world.registry.status(name).state for name in names}
        assert len(tasks) == AT_ONCE
        assert states == {TokenState.FRESH}


async def test_a_client_with_many_tokens_leaves_the_others_their_start():
    """Each client begins with its own, whatever comes first in the configuration."""
    specs = [*(spec(name) for name in crowd()), spec("alone", client="neighbor")]
    async with running(*specs, session=FakeSession(delay=0.1)) as world:
        names = {task.get_name() for task in asyncio.all_tasks()}

        assert "refresh alone" in names
        assert "refresh t0" in names
        assert world.registry.status("alone").state is TokenState.PENDING


async def test_a_caller_does_not_wait_for_the_start_of_the_others():
    """The last of many is fetched as soon as somebody wants it."""
    names = crowd()
    async with running(*(spec(name) for name in names), session=FakeSession(delay=0.1)) as world:
        before = loop_time()

        await world.registry.get(names[-1], min_valid=None, wait=10.0)

        assert loop_time() - before < 2.0
        assert world.registry.status(names[-2]).state is TokenState.PENDING


async def test_a_token_at_once_is_the_one_that_a_caller_would_get():
    """As long as nothing is due; whatever needs more than a look is left to ``get``."""
    async with running(session=FakeSession(expires_in=300)) as world:
        at_once = world.registry.at_once
        assert at_once("directory", min_valid=None) is None
        assert at_once("nobody", min_valid=None) is None
        got = await world.registry.get("directory", min_valid=None, wait=10.0)

        assert at_once("directory", min_valid=None) == got
        assert at_once("directory", min_valid=10.0) == got
        await asyncio.sleep(160.0)
        assert at_once("directory", min_valid=86_400.0) is None
        assert at_once("directory", min_valid=None) is not None
        world.session.default = DOWN
        await asyncio.sleep(141.0)
        assert at_once("directory", min_valid=0.0) is None


async def test_a_token_on_demand_that_is_due_is_not_given_at_once():
    """Whoever asks for it is the reason for which it is refreshed."""
    async with running(spec(refresh=Refresh.ON_DEMAND), session=FakeSession(expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        assert world.registry.at_once("directory", min_valid=None) is not None
        await asyncio.sleep(250.0)

        assert world.registry.at_once("directory", min_valid=0.0) is None
        assert len(world.session.requests) == 1
