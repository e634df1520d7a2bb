from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broker.errors import Outcome, RemoteError
from broker.events import ClientSuspended, GrantRevoked, UnexpectedFailure
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, RefreshToken
from broker.tokens.acquire import Acquirer
from broker.tokens.grant import Phase
from broker.tokens.passage import Passage
from broker.tokens.revoking import GIVEN_UP_AFTER, LONGEST_WAIT, Revocations
from broker.tokens.vault import Vault
from tests.unit.tokens.bearer_world import BearerWorld
from tests.unit.tokens.grant_world import ISSUER, GrantWorld, RotatingServer, lost, not_sent
from tests.unit.tokens.world import json_response

DAY = 86_400.0


async def test_a_grant_that_is_given_up_is_not_served_and_revoked():
    """R2.12: at once here, and at the server; the record goes when the server has confirmed it."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        assert await grants.revoke("g") == "revoked"

        with pytest.raises(KeyError):
            await grants.get("g", min_valid=None, wait=0.0)
        assert world.server.revoked == ["rt-g-2"]
        assert world.store.grant("g") is None
        assert [event.outcome for event in world.events.of(GrantRevoked)] == ["revoked"]


async def test_a_revocation_outlives_outages_and_crashes():
    """The sealed record stays until the server has confirmed it."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.crashing() as grants:
        await asyncio.sleep(2.0)
        world.server.before = lambda _: not_sent()
        assert await grants.revoke("g") == "pending"
        await asyncio.sleep(100.0)
    left = world.store.grant("g")
    assert left is not None
    assert (left.phase, left.access) == (Phase.REVOKING, None)

    world.server.before = lambda _: None
    async with world.running() as grants:
        await asyncio.sleep(1.0)
        assert world.server.revoked == ["rt-g-2"]
        assert world.store.grant("g") is None
        with pytest.raises(KeyError):
            grants.status("g")


async def test_what_a_refresh_brings_for_a_grant_that_was_given_up_is_revoked_too():
    """R2.12: the request was under way."""
    world = GrantWorld(RotatingServer("grace", delay=2.0))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.5)
        revoking = asyncio.create_task(grants.revoke("g"))
        await asyncio.sleep(60.0)
        await revoking

    assert world.server.revoked[-1] == "rt-g-2"
    assert world.store.grant("g") is None


async def test_a_grant_that_was_not_verified_is_revoked_after_a_crash():
    """R4: it was never usable."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g", phase=Phase.UNVERIFIED)
    async with world.running() as grants:
        await asyncio.sleep(1.0)

        assert world.server.revoked == ["rt-g-1"]
        assert world.store.grant("g") is None
        assert grants.one("person") is None


async def test_a_stop_revokes_nothing():
    """R2.12: never at shutdown."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("a", "b")
    async with world.running():
        await asyncio.sleep(500.0)

    assert world.server.revoked == []


async def test_a_grant_that_fails_a_check_is_discarded():
    """R4: revoked and erased."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        stored = world.store.grant("g")
        assert stored is not None
        bad = replace(stored, id="bad", refresh_token=RefreshToken(world.server.issue("bad")))
        await grants.hold(bad)
        await grants.discard(bad)

        assert world.server.revoked == ["rt-bad-2"]
        assert world.store.grant("bad") is None


async def test_a_grant_that_a_refresh_and_a_caller_both_give_up_is_revoked_once():
    """The one finds that the other has done it: the broker goes on."""
    world = GrantWorld(RotatingServer("never", delay=2.0))
    world.server.members = lambda fields: {"refresh_token": fields["refresh_token"]}
    world.stored("g", "h")
    async with world.running() as grants:
        await asyncio.sleep(0.5)
        assert await grants.revoke("g") == "revoked"
        await asyncio.sleep(20.0)

        assert grants.status("h").state == "fresh"
        assert world.store.grant("g") is None


async def test_who_hangs_up_does_not_stop_a_revocation():
    """The handler of the request is cancelled; the grant was given up all the same."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        world.server.delay = 3.0
        asking = asyncio.create_task(grants.revoke("g"))
        await asyncio.sleep(0.5)
        asking.cancel()
        await asyncio.sleep(30.0)

        assert world.server.revoked == ["rt-g-2"]
        assert world.store.grant("g") is None
        assert [event.outcome for event in world.events.of(GrantRevoked)] == ["revoked"]


async def test_who_hangs_up_while_it_is_written_down_does_not_stop_a_revocation():
    """Nothing was sent yet."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        world.store.delay = 1.0
        asking = asyncio.create_task(grants.revoke("g"))
        await asyncio.sleep(0.5)
        asking.cancel()
        await asyncio.sleep(30.0)

    assert world.server.revoked == ["rt-g-2"]
    assert world.store.grant("g") is None


async def test_a_mistake_of_ours_with_one_grant_keeps_no_other_from_being_revoked():
    """It is told, and tried again later."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("bad", "good", phase=Phase.REVOKING)
    broken = [True]

    def stumble(fields: dict[str, str]) -> Response | None:
        if broken[0] and fields["token"].startswith("rt-bad"):
            raise ZeroDivisionError
        return None

    world.server.before = stumble
    async with world.running():
        await asyncio.sleep(100.0)
        assert world.server.revoked == ["rt-good-2"]
        broken[0] = False
        await asyncio.sleep(100.0)

    failures = world.events.of(UnexpectedFailure)
    assert {(event.where, event.error) for event in failures} == {("revocation", "ZeroDivisionError")}
    assert world.server.revoked == ["rt-good-2", "rt-bad-1"]


async def test_many_revocations_at_a_start_stay_within_the_limits_of_the_issuer():
    """500 tombstones are no reason to be thrown out."""
    world = GrantWorld(RotatingServer("strict", delay=1.0))
    world.stored(*(f"g{number}" for number in range(500)), phase=Phase.REVOKING)
    running, most = 0, 0
    send = world.server.send

    async def counted(request: Request) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await send(request)
        finally:
            running -= 1

    world.server.send = counted  # type: ignore[method-assign]
    async with world.running():
        await asyncio.sleep(300.0)

    assert most == ISSUER.max_concurrent_requests
    assert len(world.server.revoked) == 500


def _refused() -> Response:
    return json_response({"error": "server_error"}, status=503)


def _suspected() -> RemoteError:
    return RemoteError(Reason.CERTIFICATE_SUSPECTED, "alert", outcome=Outcome.NOT_SENT)


async def test_the_breaker_of_a_client_holds_its_revocations_back():
    """Its certificate is under suspicion: ten grants are not ten more reasons."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored(*(f"g{number}" for number in range(50)), phase=Phase.REVOKING)
    tries: list[float] = []

    def down(_: dict[str, str]) -> RemoteError:
        tries.append(world.clock.boot())
        return _suspected()

    world.server.before = down
    async with world.running():
        await asyncio.sleep(20.0)

    assert len(tries) <= 3 * ISSUER.max_concurrent_requests  # three in a row, and what was under way
    assert [event.client for event in world.events.of(ClientSuspended)] == ["app"]


@asynccontextmanager
async def revoking(world: GrantWorld, *, since: float) -> AsyncIterator[Revocations]:
    """Run the revocations alone, over one grant that was given up at *since*: months pass faster without the rest."""
    world.stored("g", phase=Phase.REVOKING, since=since)
    revocations = Revocations(
        vault=Vault(world.store, emit=world.events),
        acquirer=Acquirer(clock=world.clock, randomness=world.dice, fingerprint=lambda _: "fp"),
        passage=Passage(clock=world.clock, emit=world.events),
        registration_of=lambda _: world.registration(),
        emit=world.events,
    )
    stored = world.store.grant("g")
    assert stored is not None
    revocations.resume(stored)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(revocations.run())
        try:
            yield revocations
        finally:
            running.cancel()


@pytest.mark.parametrize("answer", [_refused, not_sent, lost])
async def test_a_clock_that_is_set_forward_gives_no_grant_up(answer: Callable[[], Response | RemoteError]):
    """Thirty days are thirty days."""
    world = GrantWorld(RotatingServer("strict"))
    world.server.before = lambda _: answer()
    async with revoking(world, since=world.clock.wall()):
        await asyncio.sleep(3.0)
        world.clock.wall_offset = 40 * DAY
        await asyncio.sleep(20 * DAY)
        assert world.store.grant("g") is not None
        world.server.before = lambda _: None
        await asyncio.sleep(2 * LONGEST_WAIT)

    assert world.store.grant("g") is None
    assert world.server.revoked == ["rt-g-1"]


async def test_a_grant_that_is_long_overdue_is_tried_once_more():
    """The clock may have been set meanwhile; without an answer of the server it is not given up."""
    world = GrantWorld(RotatingServer("strict"))
    world.server.before = lambda _: not_sent()
    async with revoking(world, since=1.0):
        await asyncio.sleep(20 * DAY)
        assert world.store.grant("g") is not None
        world.server.before = lambda _: _refused()
        await asyncio.sleep(2 * LONGEST_WAIT)

    assert world.store.grant("g") is None
    assert [event.outcome for event in world.events.of(GrantRevoked)] == ["given_up"]


async def test_a_server_that_is_gone_is_given_up_after_thirty_days():
    """Some record has to be the last."""
    world = GrantWorld(RotatingServer("strict"))
    world.server.before = lambda _: not_sent()
    async with revoking(world, since=world.clock.wall()):
        await asyncio.sleep(GIVEN_UP_AFTER - DAY)
        assert world.store.grant("g") is not None
        await asyncio.sleep(2 * DAY)

    assert world.store.grant("g") is None
    assert [event.outcome for event in world.events.of(GrantRevoked)] == ["given_up"]


# --- the logout of a dialect, which takes the access token ---


def outcomes(world: GrantWorld) -> list[str]:
    return [event.outcome for event in world.events.of(GrantRevoked)]


async def test_a_grant_is_logged_out_with_its_access_token():
    """IRI-14: at once, and the record goes."""
    world = BearerWorld()
    world.consented("g")
    async with world.running() as grants:
        assert await grants.revoke("g") == "revoked"

        with pytest.raises(KeyError):
            await grants.get("g", min_valid=None, wait=0.0)
    (request,) = world.server.requests
    assert (request.method, request.url, request.form) == (
        "DELETE",
        "https://as.example/applications/app-1/tokens",
        None,
    )
    assert request.credential == AccessToken("at-0")
    assert world.store.grant("g") is None
    assert outcomes(world) == ["revoked"]


async def test_a_grant_without_a_refresh_token_is_logged_out_too():
    """Its access token is all that there is, and enough."""
    world = BearerWorld()
    world.consented("g", refresh_token=None)
    async with world.running() as grants:
        assert await grants.revoke("g") == "revoked"

    assert world.server.logged_out == ["at-0"]


@pytest.mark.parametrize("instead", [not_sent, lost, lambda: json_response({"error": "x"}, status=500)])
async def test_a_logout_outlives_outages_and_crashes_while_its_token_is_good(
    instead: Callable[[], Response | RemoteError],
):
    """The tombstone keeps the access token, which is what the server takes."""
    world = BearerWorld()
    world.consented("g")
    world.server.log_out = instead
    async with world.crashing() as grants:
        assert await grants.revoke("g") == "pending"
        await asyncio.sleep(60.0)
    assert len(world.server.logged_out) > 2
    left = world.store.grant("g")
    assert left is not None
    assert left.access is not None
    assert (left.phase, left.access.access_token) == (Phase.REVOKING, AccessToken("at-0"))

    world.server.log_out = lambda: None
    async with world.running():
        await asyncio.sleep(1.0)

    assert world.server.ended == {"at-0"}
    assert world.store.grant("g") is None
    assert outcomes(world) == ["pending", "revoked"]


async def test_a_logout_that_was_not_answered_in_time_is_forgotten_with_its_token():
    """When that has ended there is nothing to log out with, and nothing left that could be used."""
    world = BearerWorld()
    world.consented("g")
    world.server.log_out = not_sent
    async with world.running() as grants:
        assert await grants.revoke("g") == "pending"
        await asyncio.sleep(2 * LONGEST_WAIT)

    assert 3 <= len(world.server.logged_out) <= 10
    assert world.store.grant("g") is None
    assert outcomes(world) == ["pending", "not_revocable"]


async def test_a_grant_whose_access_token_has_ended_is_forgotten():
    """The server refuses it, or cannot be asked: that was the one try, and it is said not to be revoked."""
    world = BearerWorld()
    world.consented("g", "h")
    async with world.running() as grants:
        world.server.before = lambda _: not_sent()
        world.server.log_out = not_sent
        await asyncio.sleep(301.0)
        assert await grants.revoke("g") == "not_revocable"

    assert world.server.logged_out == ["at-0"]
    assert world.store.grant("g") is None
    assert outcomes(world) == ["not_revocable"]


async def test_a_token_that_the_server_takes_no_more_logs_nobody_out():
    """401: it is told so, and forgotten."""
    world = BearerWorld()
    world.consented("g")
    world.server.ended.add("at-0")
    async with world.running() as grants:
        assert await grants.revoke("g") == "not_revocable"

    assert world.server.logged_out == ["at-0"]
    assert world.store.grant("g") is None


@pytest.mark.parametrize("instant", [0.2, 0.5, 1.2, 1.9])
async def test_what_a_refresh_brings_for_a_grant_that_is_logged_out_is_logged_out_too(instant: float):
    """R2.12: the request, or the look-up after it, was under way. No access token is left that works."""
    world = BearerWorld()
    world.consented("g", lifetime=20.0)
    world.server.delay, world.server.answer_after = 1.0, 1.0
    async with world.running() as grants:
        while not world.server.bearers:
            await asyncio.sleep(0.1)
        await asyncio.sleep(instant)
        await grants.revoke("g")
        await asyncio.sleep(600.0)

    assert world.server.serial == 2
    assert world.server.ended == world.server.subjects.keys()
    assert world.store.grant("g") is None


@pytest.mark.parametrize("subject", ["alice", "the-application"])
async def test_what_a_refresh_brings_is_logged_out_too_where_nobody_knows_whose_it_is(subject: str):
    """R2.12: a look-up that fails, or that finds somebody else, leaves no access token behind either."""
    world = BearerWorld()
    world.consented("g", lifetime=20.0)
    world.server.subject = subject
    world.server.delay, world.server.answer_after = 1.0, 1.0
    if subject == "alice":
        world.server.look_up = lost
    async with world.running() as grants:
        while not world.server.bearers:
            await asyncio.sleep(0.1)
        await grants.revoke("g")
        await asyncio.sleep(600.0)

    assert world.server.serial == 2
    assert world.server.ended == world.server.subjects.keys()
    assert world.store.grant("g") is None


async def test_a_grant_that_fails_a_check_is_logged_out_with_what_came_with_it():
    """R4: what was never in use is good at the server all the same."""
    world = BearerWorld()
    world.consented("g")
    async with world.running() as grants:
        stored = world.store.grant("g")
        assert stored is not None
        bad = replace(stored, id="bad")
        await grants.hold(bad)
        await grants.discard(bad)

        assert world.store.grant("bad") is None
    assert world.server.logged_out == ["at-0"]


async def test_the_access_token_of_a_grant_that_is_revoked_by_its_refresh_token_is_not_kept():
    """It is of no use there, and a record holds no secret that it does not need."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        world.server.before = lambda _: not_sent()
        await grants.revoke("g")
        left = world.store.grant("g")

    assert left is not None
    assert (left.phase, left.access) == (Phase.REVOKING, None)
