from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.errors import BrokerError, Outcome, RemoteError
from broker.events import (
    ClientResumed,
    ClientSuspected,
    ClientSuspended,
    ClientTrialBegun,
    ClientTrialFailed,
    ClientTrialPassed,
    GrantEnded,
)
from broker.oauth.messages import Response
from broker.tokens.serving import TokenUnavailableError
from tests.fakes import WALL_AT_BOOT
from tests.unit.tokens.grant_world import SPEC
from tests.unit.tokens.rotating import alert, bound_to, refusal, rotating
from tests.unit.tokens.world import OTHER_THUMBPRINT, THUMBPRINT, FakeSigner


async def test_one_grant_tries_a_new_certificate_and_the_others_follow():
    """Served all the while; in the end the store says with what each succeeded."""
    place = rotating("a", "b", "c")
    async with place.world.running() as grants:
        before = await bound_to(grants, "a", "b", "c")
        new = place.rotate(grants)
        at_once = await bound_to(grants, "a", "b", "c")
        await asyncio.sleep(10.0)
        after = await bound_to(grants, "a", "b", "c")

        assert before == at_once == [THUMBPRINT] * 3
        assert after == [OTHER_THUMBPRINT] * 3
        (begun,), (passed,) = place.world.events.of(ClientTrialBegun), place.world.events.of(ClientTrialPassed)
        assert begun.grant == passed.grant
        assert grants.needs(new)
        for name in ("a", "b", "c"):
            stored = place.world.store.grant(name)
            assert stored is not None
            assert (stored.thumbprint, stored.key_id, stored.generation) == (OTHER_THUMBPRINT, "key-1", 1)


@pytest.mark.parametrize(
    "answer", [refusal(), refusal("invalid_grant"), alert(), RemoteError("x", "lost", outcome=Outcome.UNKNOWN)]
)
async def test_a_certificate_that_the_server_refuses_costs_no_grant(answer: Response | BrokerError):
    """All go on with the old one, whatever it says to the new one; it is tried again, and taken when it is mended."""
    place = rotating("a", "b", "c", mode="grace", expires_in=100)
    place.answer = answer
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants)
        for _ in range(60):
            await asyncio.sleep(10.0)
            assert await bound_to(grants, "a", "b", "c") == [THUMBPRINT] * 3
        failed = place.world.events.of(ClientTrialFailed)
        place.answer = None
        await asyncio.sleep(1_000.0)

        assert len(failed) >= 3
        assert [event.retry_in for event in failed[:4]] == [60.0, 120.0, 240.0, 480.0][: len(failed)]
        assert await bound_to(grants, "a", "b", "c") == [OTHER_THUMBPRINT] * 3
        assert place.world.events.of(GrantEnded) == []
        assert place.world.events.of(ClientSuspected) == []
        assert place.world.events.of(ClientSuspended) == []


async def test_the_grant_that_tried_is_not_refreshed_again_for_it():
    """Its token is bound to the new certificate already."""
    place = rotating("a", "b", "c")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        before = len(place.world.server.asked)
        place.rotate(grants)
        await asyncio.sleep(60.0)

        assert await bound_to(grants, "a", "b", "c") == [OTHER_THUMBPRINT] * 3
        assert len(place.newer.asked) - before == 3


async def test_a_settled_certificate_that_is_refused_suspends_its_client_during_a_trial_as_well():
    """A trial may wait for days; the server must not be asked by every grant meanwhile (rules.md R1)."""
    place = rotating("a", "b", "c", mode="grace", expires_in=100)
    place.answer = refusal()
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants)
        await asyncio.sleep(10.0)
        place.world.server.before = lambda _: alert()
        await asyncio.sleep(200.0)

        assert [event.client for event in place.world.events.of(ClientSuspended)] == ["app"]


@pytest.mark.parametrize("ends", [False, True])
async def test_a_client_is_resumed_once_it_is_answered_with_what_is_newest(ends: bool):
    """However it came to that, by a trial or because the older certificate ended: nobody asks with that any more."""
    place = rotating("a", "b", "c", mode="grace", expires_in=100)
    place.answer = refusal()
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants)
        await asyncio.sleep(10.0)
        place.world.server.before = lambda _: alert()
        await asyncio.sleep(200.0)
        before = place.world.events.of(ClientResumed)
        if ends:
            place.world.server.not_after = WALL_AT_BOOT
        place.answer = None
        await asyncio.sleep(1_000.0)

        assert await bound_to(grants, "a", "b", "c") == [OTHER_THUMBPRINT] * 3
        assert (before, [event.client for event in place.world.events.of(ClientResumed)]) == ([], ["app"])


async def test_a_refusal_is_confirmed_with_what_a_grant_last_succeeded_with():
    """Also after the trial, when the grant that tried had more luck than this one (rules.md R2.6)."""
    place = rotating("a", "b", mode="never", expires_in=100)
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.newer.before = lambda fields: refusal("invalid_grant") if "rt-b" in fields["refresh_token"] else None
        place.rotate(grants)
        await asyncio.sleep(200.0)

        assert await bound_to(grants, "a", "b") == [OTHER_THUMBPRINT, THUMBPRINT]
        assert place.world.events.of(GrantEnded) == []
        place.world.server.not_after = WALL_AT_BOOT  # the old certificate has ended
        await asyncio.sleep(200.0)

        (ended,) = place.world.events.of(GrantEnded)
        assert (ended.grant, ended.reason) == ("b", "invalid_grant")


async def test_the_older_means_are_needed_until_the_last_grant_has_moved():
    """And no longer: what presents the old certificate can be closed then."""
    place = rotating("a", "b")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        old = place.registration(old=True)
        grants.replace(place.world.specs, {"app": old})
        new = place.rotate(grants)
        during = (grants.needs(old), grants.needs(new))
        await grants.release()
        still = grants.needs(old)
        await asyncio.sleep(10.0)
        await grants.release()

        assert during == (True, True)
        assert still
        assert (grants.needs(old), grants.needs(new)) == (False, True)


async def test_the_older_means_are_needed_while_anything_is_asked_with_them():
    """Its answer may hold the only refresh token: whatever is decided meanwhile, the connection stays."""
    place = rotating("a", "b", expires_in=100)
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        old = place.registration(old=True)
        grants.replace(place.world.specs, {"app": old})
        place.newer.delay, place.world.server.answer_after = 500.0, 5.0
        place.rotate(grants)
        asked = len(place.world.server.asked)
        while len(place.world.server.asked) == asked:
            await asyncio.sleep(1.0)
        place.world.server.not_after = WALL_AT_BOOT  # there is nothing to go back to any more
        await grants.release()
        during = grants.needs(old)
        await asyncio.sleep(10.0)
        await grants.release()

        assert (during, grants.needs(old)) == (True, False)


async def test_what_is_compromised_is_not_served_again():
    """The next token comes at once, with the new certificate, for all grants and without a trial."""
    place = rotating("a", "b")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants, banned=frozenset({THUMBPRINT}))
        with pytest.raises(TokenUnavailableError):
            await grants.get("a", min_valid=None, wait=0.0)
        stored = place.world.store.grant("a")

        assert await bound_to(grants, "a", "b") == [OTHER_THUMBPRINT] * 2
        await asyncio.sleep(1.0)
        after = place.world.store.grant("a")
        assert place.world.events.of(ClientTrialBegun) == []
        assert stored is not None
        assert after is not None
        assert after.access is not None
        assert after.access.certificate_thumbprint == OTHER_THUMBPRINT


async def test_an_answer_that_was_on_its_way_is_not_served_when_its_certificate_is_compromised():
    """Its refresh token is kept, for it may be the only one; its access token is dropped."""
    place = rotating("a", delay=5.0)
    async with place.world.running() as grants:
        await asyncio.sleep(3.0)  # the first request is under way
        place.newer.delay = 0.01
        place.rotate(grants, banned=frozenset({THUMBPRINT}))
        await asyncio.sleep(5.0)

        assert await bound_to(grants, "a") == [OTHER_THUMBPRINT]
        assert place.world.events.of(GrantEnded) == []


async def test_a_certificate_that_comes_back_is_good_again():
    """Whoever puts it there means it; it would be dropped for ever, otherwise."""
    place = rotating("a")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants, banned=frozenset({THUMBPRINT}))
        await asyncio.sleep(5.0)
        grants.replace(place.world.specs, {"app": place.registration(old=True)})
        await asyncio.sleep(10.0)

        assert await bound_to(grants, "a") == [THUMBPRINT]


async def test_an_old_certificate_that_has_ended_is_no_longer_gone_back_to():
    """However the server likes the new one: there is nothing else to ask with."""
    place = rotating("a", "b", expires_in=100)
    place.world.server.not_after = WALL_AT_BOOT + 300.0
    place.answer = refusal()
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants)
        await asyncio.sleep(250.0)
        place.answer = None
        await asyncio.sleep(700.0)

        assert await bound_to(grants, "a", "b") == [OTHER_THUMBPRINT] * 2


async def test_a_client_without_grants_tries_nothing():
    """There is nothing to lose; what is consented to later is asked for with what is new."""
    place = rotating()
    async with place.world.running() as grants:
        new = place.rotate(grants)
        await asyncio.sleep(100.0)

        assert place.world.events.of(ClientTrialBegun) == []
        assert grants.needs(new)


async def test_a_new_signing_key_is_tried_first_as_well():
    """It is what the client shows in its assertions; bound to it is nothing, so that no token is renewed."""
    place = rotating("a", "b", expires_in=100)
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        new = place.registration(signer=FakeSigner(thumbprint="key-2"), old=True)
        grants.replace(place.world.specs, {"app": new})
        await asyncio.sleep(200.0)

        stored = place.world.store.grant("b")
        assert stored is not None
        assert (stored.key_id, stored.generation) == ("key-2", 1)
        assert len(place.world.events.of(ClientTrialPassed)) == 1


async def test_a_token_of_an_older_certificate_is_renewed_after_a_restart():
    """Its certificate is nowhere any more, so that whoever needs that cannot use it."""
    place = rotating("a")
    async with place.world.running():
        await asyncio.sleep(5.0)
    place.world.server = place.newer
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)

        assert await bound_to(grants, "a") == [OTHER_THUMBPRINT]
        assert len(place.newer.asked) == 2


async def test_a_grant_that_goes_while_it_tries_leaves_the_trial_to_another():
    """Revoked in between, or consented anew."""
    place = rotating("a", "b")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants)
        await grants.revoke("a")
        await asyncio.sleep(20.0)

        assert await bound_to(grants, "b") == [OTHER_THUMBPRINT]


async def test_a_certificate_that_comes_with_an_edit_is_tried_as_well():
    """Of the client, and of the token."""
    place = rotating("a")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        made = place.registration()
        grants.replace((SPEC,), {"app": replace(made, client=replace(made.client, scope_on_token=True))})
        await asyncio.sleep(5.0)

        assert len(place.world.events.of(ClientTrialPassed)) == 1
        assert await bound_to(grants, "a") == [OTHER_THUMBPRINT]


async def test_an_edit_while_the_server_refuses_a_certificate_costs_no_grant():
    """Nothing of the older certificate is lost by it, though the server ends what it is asked for with the new one."""
    place = rotating("a", "b", "c", mode="grace", expires_in=100)
    place.answer = refusal("invalid_grant")
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.rotate(grants)
        await asyncio.sleep(10.0)
        for allowed in (19, 18, 17):
            made = place.registration()
            edited = replace(made, issuer=replace(made.issuer, max_requests_per_second=allowed))
            grants.replace(place.world.specs, {"app": edited})
            for _ in range(20):
                await asyncio.sleep(10.0)
                assert await bound_to(grants, "a", "b", "c") == [THUMBPRINT] * 3

        assert place.world.events.of(GrantEnded) == []
        assert place.world.events.of(ClientSuspected) == []
        place.answer = None
        await asyncio.sleep(1_000.0)
        assert await bound_to(grants, "a", "b", "c") == [OTHER_THUMBPRINT] * 3


@pytest.mark.parametrize("seconds", [0.5, 5.0])
async def test_the_only_grant_tries_what_is_new_whatever_hangs_over_it(seconds: float):
    """
    Else it would go on asking with a certificate that the server takes no more; a refusal is no verdict.

    It was refused with the new one, or its last answer with the old one was lost.
    """
    place = rotating("a", mode="never", expires_in=100)
    place.world.server.after = lambda _: RemoteError("x", "lost", outcome=Outcome.UNKNOWN)
    async with place.world.running() as grants:
        await asyncio.sleep(seconds)
        place.world.server.before = lambda _: alert()
        place.answer = refusal("invalid_grant")
        place.rotate(grants)
        await asyncio.sleep(100.0)
        failed, ended = place.world.events.of(ClientTrialFailed), place.world.events.of(GrantEnded)
        place.answer, place.newer.after = None, lambda _: None
        await asyncio.sleep(2_000.0)

        assert (len(failed) > 0, ended) == (True, [])
        assert await bound_to(grants, "a") == [OTHER_THUMBPRINT]


async def test_a_trial_that_a_new_consent_overtakes_is_made_by_another_grant():
    """What the older refresh token brings is of no interest any more."""
    place = rotating("a", "b", expires_in=1_000)
    async with place.world.running() as grants:
        await asyncio.sleep(5.0)
        place.newer.delay = 5.0
        place.rotate(grants)
        await asyncio.sleep(3.0)
        (begun,) = place.world.events.of(ClientTrialBegun)
        grants.replace((), {"app": place.registration()})  # the token is not configured for a while
        grants.replace(place.world.specs, {"app": place.registration()})
        await asyncio.sleep(30.0)

        assert begun.grant in {"a", "b"}
        assert await bound_to(grants, "a", "b") == [OTHER_THUMBPRINT] * 2
        assert place.world.events.of(GrantEnded) == []
