from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.errors import LocalError, Outcome, RemoteError
from broker.events import ClientResumed, ClientSuspended, TokenRefreshed, TokenRefreshFailed, UnexpectedFailure
from broker.oauth.client import Client
from broker.oauth.messages import Request, Response
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.serving import TokenState
from broker.tokens.spec import Refresh
from tests.fakes import Dice
from tests.jumping import advance, loop_time
from tests.unit.tokens.tokens import spec
from tests.unit.tokens.world import CLIENT, ISSUER, NEIGHBOR, FakeSession, World, json_response, running

DOWN = RemoteError("connect_failed", "nobody there", outcome=Outcome.NOT_SENT)
SUSPECTED = RemoteError("certificate_suspected", "reset", outcome=Outcome.UNKNOWN, hint="look at it")


async def test_three_suspicions_suspend_the_client_until_a_probe_is_answered():
    """Its tokens are not asked for meanwhile; nothing is a verdict; recovery resumes it."""
    session = FakeSession(default=SUSPECTED)
    async with running(spec("a"), spec("b"), spec("c"), spec("d"), session=session) as world:
        await asyncio.sleep(10.0)
        held = len(session.requests)
        await asyncio.sleep(40.0)

        assert [event.reason for event in world.events.of(ClientSuspended)] == ["certificate_suspected"]
        assert held <= 4
        assert len(session.requests) == held
        assert "client_suspended" in {event.reason for event in world.events.of(TokenRefreshFailed)}

        session.default = None
        await asyncio.sleep(130.0)

        assert world.events.of(ClientResumed) == [ClientResumed(client="app")]
        assert {world.registry.status(name).state for name in "abcd"} == {TokenState.FRESH}


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("down_for", [30.0, 70.0, 400.0])
async def test_every_token_of_a_suspended_client_comes_back_within_one_backoff_of_recovery(
    dice: float, down_for: float
):
    """The probe is one token's, its success is everybody's."""
    session = FakeSession(default=SUSPECTED)
    names = [f"t{number}" for number in range(6)]
    async with running(*(spec(name) for name in names), session=session, dice=dice) as world:
        await asyncio.sleep(down_for)
        assert world.events.of(ClientSuspended)
        session.default = None
        await asyncio.sleep(63.0)

        assert {world.registry.status(name).state for name in names} == {TokenState.FRESH}


async def test_a_moment_of_resets_costs_no_token():
    """Three tokens that are reset at the same instant of a restart are back on ordinary backoff."""
    session = FakeSession(script=[SUSPECTED, SUSPECTED, SUSPECTED], delay=0.1)
    async with running(spec("a"), spec("b"), spec("c"), session=session) as world:
        await asyncio.sleep(5.0)

        assert world.events.of(ClientSuspended) == []
        assert {world.registry.status(name).state for name in "abc"} == {TokenState.FRESH}


async def test_a_bug_in_the_reporting_of_an_attempt_costs_that_attempt_only():
    """Even what deals with failures may fail: the token is tried again, the others are not touched."""

    class Fragile(FakeSession):
        """Its error cannot be told."""

    broken = RemoteError("connect_failed", "nobody there", outcome=Outcome.NOT_SENT)
    broken.outcome = None  # type: ignore[assignment]
    broken.retry_after = "soon"  # type: ignore[assignment]
    async with running(session=Fragile(script=[broken])) as world:
        await asyncio.sleep(10.0)

        assert world.events.of(UnexpectedFailure)
        assert world.registry.status("directory").state is TokenState.FRESH


class Choosy(FakeSession):
    """A server that breaks off connections for one client, and answers the other on the same ones."""

    async def send(self, request: Request) -> Response:
        self.default = SUSPECTED if ("client_id", "app-1") in (request.form or ()) else None
        return await super().send(request)


async def test_clients_that_share_a_certificate_have_a_breaker_each():
    """What a server holds against one registration says nothing about another."""
    async with running(spec("a"), spec("b", client="neighbor"), session=Choosy()) as world:
        await asyncio.sleep(60.0)

        assert [event.client for event in world.events.of(ClientSuspended)] == ["app"]
        assert world.registry.status("a").state is not TokenState.FRESH
        assert world.registry.status("b").state is TokenState.FRESH

        await asyncio.sleep(240.0)

        assert [event.token for event in world.events.of(TokenRefreshed)] == ["b", "b"]


async def test_what_a_wrong_clock_spoiled_is_tried_again_when_it_is_put_right():
    """An assertion from the future is refused, which is retried slowly; once the clock is right, within 2 s."""
    refused = json_response({"error": "invalid_client"}, status=401)
    async with running(session=FakeSession(script=[refused])) as world:
        await asyncio.sleep(200.0)
        before = len(world.session.requests)
        world.registry.reconsider()
        await asyncio.sleep(2.5)

        assert before == 1
        assert world.registry.status("directory").state is TokenState.FRESH


async def test_a_client_that_was_suspended_by_a_wrong_clock_probes_at_once():
    """Its certificate seemed to have ended; a quarter of an hour later is too late."""
    session = FakeSession(default=SUSPECTED)
    async with running(spec("a"), spec("b"), spec("c"), spec("d"), session=session) as world:
        await asyncio.sleep(20.0)
        session.default = None
        world.registry.reconsider()
        await asyncio.sleep(10.0)

        assert {world.registry.status(name).state for name in "abcd"} == {TokenState.FRESH}


async def test_a_clock_that_was_set_costs_no_request():
    """A token in hand is kept, one that is not due is not fetched, and one that nobody asked for neither."""
    async with running(spec("a"), spec("b", refresh=Refresh.ON_DEMAND)) as world:
        await asyncio.sleep(10.0)
        world.clock.wall_offset = 7_200.0
        world.registry.reconsider()
        await asyncio.sleep(10.0)

        assert len(world.session.requests) == 1
        assert (await world.registry.get("a", min_valid=None, wait=0.0)).expires_in >= 279


async def test_after_a_sleep_what_ended_is_fetched_at_once():
    """Whoever looks at the clocks does not wait for the alarm."""
    async with running() as world:
        await asyncio.sleep(10.0)
        advance(3_600.0)
        world.registry.reconsider()
        at = loop_time()
        await asyncio.sleep(0.5)

        assert world.session.at[1:] == [at]


async def test_a_bug_in_an_attempt_costs_that_attempt_only():
    """It is reported with its place and without its message, and the next attempt comes."""
    session = FakeSession(script=[ZeroDivisionError("canary-secret")])
    async with running(session=session) as world:
        await asyncio.sleep(5.0)

        (bug,) = world.events.of(UnexpectedFailure)
        assert "ZeroDivisionError" in bug.frames
        assert "canary-secret" not in str(bug)
        assert world.registry.status("directory").state is TokenState.FRESH


async def test_an_attempt_that_hangs_is_ended():
    """Whatever a port does, a minute later the attempt has failed and another follows."""
    async with running(session=FakeSession(delay=1e6)) as world:
        await asyncio.sleep(61.0)

        assert [event.reason for event in world.events.of(TokenRefreshFailed)] == ["timed_out"]


async def test_a_success_is_reported_without_the_token():
    """The event names the token by configuration and fingerprint."""
    async with running() as world:
        serving = await world.registry.get("directory", min_valid=None, wait=10.0)

        (event,) = world.events.of(TokenRefreshed)
        assert (event.token, event.issuer, event.client, event.binding) == ("directory", "as", "app", "certificate")
        assert serving.token.access_token.reveal() not in repr(event)
        assert event.jti == world.signer.signed[0]["jti"]


@pytest.mark.parametrize(
    ("answer", "reason", "outcome"),
    [
        (DOWN, "connect_failed", "not_sent"),
        (LocalError("signing_failed", "no"), "signing_failed", "not_sent"),
        (json_response({"error": "invalid_scope"}, 400), "server_refused", "refused"),
        (Response(status=200, headers={"content-type": "text/html"}, body=b"<html>"), "not_json", "unknown"),
    ],
)
async def test_a_failure_is_reported_with_its_reason_and_outcome(answer: object, reason: str, outcome: str):
    """The reason is a closed code, the outcome that of rules.md R1."""
    async with running(session=FakeSession(script=[answer])) as world:  # type: ignore[list-item]
        await asyncio.sleep(0.5)

        (event,) = world.events.of(TokenRefreshFailed)
        assert (event.reason, event.outcome, event.serving) == (reason, outcome, False)
        assert world.metadata.doubted == 1


class Recording(FakeSession):
    """A server that remembers when each request came."""

    async def send(self, request: Request) -> Response:
        self.came.append(asyncio.get_running_loop().time())
        return await super().send(request)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.came: list[float] = []


async def test_a_start_with_many_tokens_is_spread_by_the_rate_of_the_issuer():
    """Two hundred tokens: never more than 20 in a second, all there after eleven, none late by its wait."""
    session = Recording(expires_in=3_600)
    names = [f"t{number}" for number in range(200)]
    async with running(*(spec(name) for name in names), session=session) as world:
        await asyncio.sleep(12.0)

        assert {world.registry.status(name).state for name in names} == {TokenState.FRESH}
        assert max(sum(at <= other < at + 1.0 for other in session.came) for at in session.came) <= 20
        assert all(event.duration < 1.0 for event in world.events.of(TokenRefreshed))
        expiries = [world.registry.status(name).expires_in or 0 for name in names]
        assert max(expiries) - min(expiries) >= 10


async def test_waiting_for_a_turn_does_not_count_into_the_deadline_of_an_attempt():
    """The last of 1,500 tokens waits for 82 seconds and is fetched at its first attempt."""
    names = [f"t{number}" for number in range(1_500)]
    async with running(*(spec(name) for name in names), session=FakeSession(expires_in=86_400)) as world:
        await asyncio.sleep(84.0)

        assert world.events.of(TokenRefreshFailed) == []
        assert world.registry.status(names[-1]).state is TokenState.FRESH


async def test_a_token_that_a_caller_waits_for_goes_first():
    """The last of a thousand is there at once when somebody asks for it."""
    names = [f"t{number}" for number in range(1_000)]
    async with running(*(spec(name) for name in names), session=FakeSession(expires_in=86_400)) as world:
        await asyncio.sleep(1.0)

        serving = await world.registry.get(names[-1], min_valid=None, wait=0.5)

        assert serving.token.generation == 1


async def test_failing_tokens_of_one_client_do_not_starve_another():
    """Three hundred that fail stand before one that is good, and it gets the next turn but one."""

    class Refusing(FakeSession):
        """A server that refuses one client."""

        async def send(self, request: Request) -> Response:
            refused = ("client_id", "app-1") in (request.form or ())
            self.default = json_response({"error": "invalid_client"}, status=401) if refused else None
            return await super().send(request)

    failing = [spec(f"f{number}") for number in range(300)]
    async with running(*failing, spec("good", client="neighbor"), session=Refusing()) as world:
        await asyncio.sleep(0.5)

        assert world.registry.status("good").state is TokenState.FRESH


async def test_an_attempt_that_a_reload_overtakes_while_it_waits_sends_nothing_and_costs_no_turn():
    """A hundred of them wait; after the reload each token is asked for once, at the rate."""
    session = Recording(expires_in=86_400)
    specs = [spec(f"t{number}") for number in range(100)]
    async with running(*specs, session=session) as world:
        await asyncio.sleep(1.0)
        before = len(session.came)
        exchange = Exchange(session=session, signer=world.signer, clock=world.clock, randomness=Dice(0.0))
        terms = Registration(client=CLIENT, issuer=ISSUER, metadata=world.metadata, exchange=exchange)
        world.registry.replace(specs, {"app": terms})
        await asyncio.sleep(7.0)

        assert before < len(session.came) <= 101
        assert max(sum(at <= other < at + 1.0 for other in session.came) for at in session.came) <= 20
        assert world.events.of(TokenRefreshFailed) == []
        assert {world.registry.status(each.name).state for each in specs} == {TokenState.FRESH}


def registered(world: World, session: FakeSession, *, issuer: str = "as", client: Client = CLIENT) -> Registration:
    """A registration at the issuer of this name, with a session of its own."""
    exchange = Exchange(session=session, signer=world.signer, clock=world.clock, randomness=Dice(0.0))
    return Registration(
        client=replace(client, issuer=issuer),
        issuer=replace(ISSUER, name=issuer),
        metadata=world.metadata,
        exchange=exchange,
    )


async def test_an_issuer_that_hangs_does_not_starve_another():
    """All requests that it may have at a time hang for ever; the other's tokens come at its rate, as if alone."""
    hanging, sound = FakeSession(delay=1e6), Recording(expires_in=86_400)
    stuck = [spec(f"stuck{number}") for number in range(100)]
    good = [spec(f"good{number}", client="neighbor") for number in range(100)]
    async with running() as world:
        world.registry.replace(
            [*stuck, *good],
            {
                "app": registered(world, hanging),
                "neighbor": registered(world, sound, issuer="other", client=NEIGHBOR),
            },
        )
        await asyncio.sleep(6.0)

        assert {world.registry.status(each.name).state for each in good} == {TokenState.FRESH}
        assert len(hanging.requests) == ISSUER.max_concurrent_requests
        assert len(sound.requests) == len(good)


async def test_an_issuer_that_a_reload_takes_away_and_another_brings_back_goes_on_at_its_rate():
    """Nothing of it stays in memory once that makes no difference; before that it is not asked twice as fast."""
    session = Recording(expires_in=86_400)
    specs = [spec(f"t{number}") for number in range(100)]
    async with running(*specs, session=session) as world:
        await asyncio.sleep(0.5)
        elsewhere = {"app": registered(world, FakeSession(), issuer="other")}
        world.registry.replace(specs[:1], elsewhere)
        world.registry.replace(specs, {"app": registered(world, session)})
        await asyncio.sleep(7.0)
        world.registry.replace(specs[:1], elsewhere)
        await asyncio.sleep(1.0)
        world.registry.replace(specs[:1], elsewhere)

        assert max(sum(at <= other < at + 1.0 for other in session.came) for at in session.came) <= 20
        assert "as" not in world.passage._limiters


async def test_a_caller_comes_first_also_after_a_reload_has_overtaken_a_backlog():
    """Attempts that were overtaken do not take the haste of those that took their place."""
    session = FakeSession(expires_in=86_400)
    specs = [spec(f"t{number:03}") for number in range(100)]
    async with running(*specs, session=session) as world:
        await asyncio.sleep(1.0)
        world.registry.replace([replace(each, scope=("other",)) for each in specs], {"app": registered(world, session)})
        await asyncio.sleep(1.0)
        last = next(each.name for each in reversed(specs) if not world.registry.status(each.name).expires_in)

        assert (await world.registry.get(last, min_valid=None, wait=1.0)).expires_in > 0
