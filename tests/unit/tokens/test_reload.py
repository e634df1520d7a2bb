from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.client import SenderConstraint
from broker.tokens import state as table
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.reload import Fate, Terms, as_served, carried, fate_of, terms_of
from broker.tokens.schedule import Pace
from broker.tokens.serving import TokenState, TokenUnavailableError
from broker.tokens.spec import Refresh
from tests.fakes import Dice, LoopClock
from tests.unit.tokens.dpop import DPOP_CLIENT, FakeProofKey, key_bound, proofs_of
from tests.unit.tokens.tokens import issued, spec
from tests.unit.tokens.world import (
    CLIENT,
    ISSUER,
    OTHER_THUMBPRINT,
    THUMBPRINT,
    FakeMetadata,
    FakeSession,
    FakeSigner,
    World,
    json_response,
    running,
    token_body,
)

SPEC = replace(spec(), scope=("read", "write"), resource=("https://a",), parameters=(("p", "1"),))
TERMS = Terms(spec=SPEC, client=CLIENT, issuer=ISSUER, thumbprint=THUMBPRINT)
FAILURE = table.Failure(code="x", pace=Pace.ORDINARY)
TOKEN = issued(at=1_000.0)


@pytest.mark.parametrize(
    ("after", "fate"),
    [
        (TERMS, Fate.KEPT),
        (replace(TERMS, spec=replace(SPEC, required=True, default_lifetime=9.0)), Fate.KEPT),
        (replace(TERMS, spec=replace(SPEC, scope=("write", "read"))), Fate.KEPT),
        (replace(TERMS, spec=replace(SPEC, scope=("read", "write", "more"))), Fate.RENEWED),
        (replace(TERMS, spec=replace(SPEC, resource=("https://a", "https://b"))), Fate.RENEWED),
        (replace(TERMS, thumbprint=OTHER_THUMBPRINT), Fate.RENEWED),
        (replace(TERMS, jkt="another-key"), Fate.RENEWED),
        (replace(TERMS, spec=replace(SPEC, scope=("read",))), Fate.DROPPED),
        (replace(TERMS, spec=replace(SPEC, scope=())), Fate.DROPPED),
        (replace(TERMS, spec=replace(SPEC, resource=("https://b",))), Fate.DROPPED),
        (replace(TERMS, spec=replace(SPEC, audience=("only",))), Fate.DROPPED),
        (replace(TERMS, spec=replace(SPEC, parameters=())), Fate.DROPPED),
        (replace(TERMS, client=replace(CLIENT, sender_constraint=SenderConstraint.NONE)), Fate.DROPPED),
        (replace(TERMS, client=replace(CLIENT, client_id="another")), Fate.DROPPED),
        (replace(TERMS, issuer=replace(ISSUER, issuer="https://other.example")), Fate.DROPPED),
        (replace(TERMS, spec=replace(SPEC, grant_type="another")), Fate.DROPPED),
    ],
)
def test_a_token_is_kept_renewed_or_dropped(after: Terms, fate: Fate):
    """Less than before, or perhaps less: dropped. More: served until its successor is there. As before: kept."""
    assert fate_of(TERMS, after) is fate


def test_an_attempt_of_the_older_configuration_is_not_waited_for():
    """Its token stays, and the next attempt is due; where nothing changed, its answer counts."""
    state = table.Refreshing(token=TOKEN, refresh_at=1_200.0, attempt=7)

    after = carried(state, Fate.RENEWED, now=1_210.0, spread=0.5)

    assert after == table.Fresh(token=TOKEN, refresh_at=1_200.0)
    assert carried(state, Fate.KEPT, now=1_210.0, spread=0.5) is state
    assert carried(table.Fetching(attempt=7), Fate.KEPT, now=5.0, spread=0.5) == table.Missing(due_at=5.0)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (table.Fresh(token=TOKEN, refresh_at=1_200.0), table.Fresh(token=TOKEN, refresh_at=1_101.0)),
        (
            table.Stale(token=TOKEN, refresh_at=1_000.0, due_at=1_200.0, failure=FAILURE),
            table.Stale(token=TOKEN, refresh_at=1_000.0, due_at=1_101.0, failure=FAILURE),
        ),
    ],
)
def test_a_renewal_is_due_at_once_and_spread(state: table.State, expected: table.State):
    """A thousand tokens of one certificate do not ask in the same moment; what is kept keeps its time."""
    assert carried(state, Fate.RENEWED, now=1_100.0, spread=0.5) == expected
    assert carried(state, Fate.KEPT, now=1_100.0, spread=0.5) == state


def test_a_dropped_token_is_gone_with_its_failures():
    """It starts as at the first start."""
    state = table.Stale(token=TOKEN, refresh_at=1.0, due_at=9_000.0, failure=FAILURE)

    assert carried(state, Fate.DROPPED, now=1_100.0, spread=0.5) == table.Missing(due_at=1_100.0)


def test_a_missing_token_waits_for_its_time():
    """A reload is no way around the backoff of what the server has to mend."""
    state = table.Missing(due_at=2_000.0, failure=FAILURE)

    assert carried(state, Fate.KEPT, now=1_100.0, spread=0.5) == state


def test_only_the_very_token_in_hand_is_as_served():
    """The same name is not enough."""
    state = table.Fresh(token=TOKEN, refresh_at=1.0)

    assert as_served(TOKEN, state)
    assert not as_served(issued(at=1_000.0), state)


def registration(session: FakeSession) -> Registration:
    exchange = Exchange(session=session, signer=FakeSigner(), clock=LoopClock(), randomness=Dice(0.0))
    return Registration(client=CLIENT, issuer=ISSUER, metadata=FakeMetadata(), exchange=exchange)


def count(world: World, event: str) -> int:
    return [kind.name for kind in world.events.seen].count(event)


async def test_a_slow_refresh_of_an_older_configuration_does_not_overwrite_a_newer_token():
    """It ends after the reload with a wide token; the narrow one stays, and nothing says that the other is served."""
    slow, quick = FakeSession(delay=20.0), FakeSession()
    async with running(replace(spec(), scope=("read", "write")), session=slow) as world:
        await asyncio.sleep(1.0)
        under_way = world.registry.replace([spec()], {"app": registration(quick)})
        await asyncio.sleep(1.0)
        narrow = await world.registry.get("directory", min_valid=None, wait=5.0)
        await asyncio.wait(under_way)

        later = await world.registry.get("directory", min_valid=None, wait=0.0)

    assert len(under_way) == len(slow.requests) == len(quick.requests) == 1
    assert later.token is narrow.token
    assert count(world, "token_refreshed") == 1


async def test_who_waits_for_a_token_is_not_disturbed_by_a_reload():
    """It gets the token of the new configuration."""
    slow, quick = FakeSession(delay=20.0), FakeSession(delay=1.0)
    async with running(spec(), session=slow) as world:
        waiting = asyncio.ensure_future(world.registry.get("directory", min_valid=None, wait=10.0))
        await asyncio.sleep(1.0)
        world.registry.replace([spec()], {"app": registration(quick)})

        serving = await waiting

    assert serving.expires_in > 0
    assert len(quick.requests) == 1


async def test_who_waits_for_a_token_that_is_removed_is_told_at_once():
    """It does not wait for its time to be over."""
    async with running(spec(), session=FakeSession(delay=20.0)) as world:
        began = world.clock.boot()
        waiting = asyncio.ensure_future(world.registry.get("directory", min_valid=None, wait=60.0))
        await asyncio.sleep(1.0)
        world.registry.replace([], {})

        with pytest.raises(TokenUnavailableError):
            await waiting
        assert world.clock.boot() - began < 2.0
        assert tuple(world.registry.names()) == ()
        await asyncio.sleep(600.0)  # alarms of what is gone ring for nobody

    assert count(world, "unexpected_failure") == 0


async def test_an_unchanged_token_is_not_fetched_again():
    """Nor is its alarm lost: it is refreshed in its time, by the new means."""
    old, new = FakeSession(), FakeSession()
    async with running(spec(), session=old) as world:
        await asyncio.sleep(1.0)
        world.registry.replace([spec()], {"app": registration(new)})
        await asyncio.sleep(10.0)
        at_first = len(new.requests)
        await asyncio.sleep(300.0)

    assert (len(old.requests), at_first) == (1, 0)
    assert new.requests


async def test_a_suspended_client_probes_at_once_and_goes_on():
    """Whoever mended the certificate and reloads does not wait for the next probe."""
    suspected = RemoteError("certificate_suspected", "reset", outcome=Outcome.UNKNOWN)
    specs = [spec(name) for name in "abcd"]
    async with running(*specs, session=FakeSession(default=suspected)) as world:
        await asyncio.sleep(20.0)
        suspended = count(world, "client_suspended")
        world.registry.replace(specs, {"app": registration(FakeSession())})
        await asyncio.sleep(10.0)

        states = {world.registry.status(name).state for name in "abcd"}

    assert suspended == 1
    assert states == {TokenState.FRESH}
    assert count(world, "client_resumed") == 1


def test_terms_are_those_of_the_registration():
    """The thumbprint is that of the session's certificate."""
    assert terms_of(SPEC, registration(FakeSession())) == TERMS


@pytest.mark.parametrize("error", ["invalid_client", "invalid_scope", "unauthorized_client"])
async def test_a_reload_retries_at_once_what_an_operator_has_to_mend(error: str):
    """Without one it would be five minutes before the next attempt; with one it is two seconds."""
    refusing, good = FakeSession(default=json_response({"error": error}, status=400)), FakeSession()
    async with running(spec(), session=refusing) as world:
        await asyncio.sleep(200.0)
        before = len(refusing.requests)
        world.registry.replace([spec()], {"app": registration(good)})
        await asyncio.sleep(2.5)

        assert before == 1
        assert world.registry.status("directory").state is TokenState.FRESH


def test_what_somebody_asked_for_is_fetched_though_the_token_is_on_demand_from_now_on():
    """A planned attempt is not: there is nobody for whom."""
    fetching, planned = table.Fetching(attempt=7), table.Missing(due_at=9.0, failure=FAILURE)

    assert carried(fetching, Fate.KEPT, now=5.0, spread=0.5, eager=False) == table.Missing(due_at=5.0)
    assert carried(planned, Fate.KEPT, now=5.0, spread=0.5, eager=False) == table.Idle(due_at=9.0, failure=FAILURE)


async def test_a_reload_makes_an_eager_token_one_on_demand_and_back():
    """The token in hand is kept both times, and what is due for a refresh is fetched when it is eager again."""
    session = FakeSession()
    async with running(spec(), session=session) as world:
        await asyncio.sleep(1.0)
        world.registry.replace([spec(refresh=Refresh.ON_DEMAND)], {"app": registration(session)})
        await asyncio.sleep(250.0)
        on_demand = len(session.requests)
        world.registry.replace([spec()], {"app": registration(session)})
        await asyncio.sleep(1.0)

    assert (on_demand, len(session.requests)) == (1, 2)
    assert count(world, "token_expired") == 0


async def test_who_waits_for_a_token_on_demand_is_not_disturbed_by_a_reload():
    """The attempt that a caller set off is begun anew under the new configuration."""
    slow, quick = FakeSession(delay=20.0), FakeSession(delay=1.0)
    lazy = spec(refresh=Refresh.ON_DEMAND)
    async with running(lazy, session=slow) as world:
        waiting = asyncio.ensure_future(world.registry.get("directory", min_valid=None, wait=10.0))
        await asyncio.sleep(1.0)
        world.registry.replace([lazy], {"app": registration(quick)})

        serving = await waiting

    assert serving.expires_in > 0
    assert (len(slow.requests), len(quick.requests)) == (1, 1)


async def test_a_reload_is_news_whatever_it_changes():
    """Who waits asks again what it may have."""
    async with running(session=FakeSession(expires_in=300)) as world:
        await world.registry.get("directory", min_valid=None, wait=10.0)
        with world.registry.watch("directory") as watch:
            before = watch.standing()
            world.registry.replace([spec()], {"app": registration(world.session)})

            assert watch.news.done()
            assert watch.standing() == before


async def test_reloads_in_a_row_do_not_keep_a_token_from_being_refreshed():
    """Nothing about it changed: the answer that is on its way counts, and no other is asked for."""
    slow = FakeSession(delay=5.0)
    async with running(spec(), session=slow) as world:
        first = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(70.0)
        forced = asyncio.ensure_future(
            world.registry.refresh("directory", rejected=first.token.etag, wait=30.0, begun=lambda: None)
        )
        for _ in range(8):
            await asyncio.sleep(1.0)
            world.registry.replace([spec()], {"app": registration(slow)})

        assert (await forced).token.etag != first.token.etag
        assert len(slow.requests) == 2


async def test_who_forces_a_refresh_is_not_handed_the_rejected_token_because_of_a_reload():
    """The attempt that it waited for was overtaken by a wider configuration: another one is made for it."""
    slow, quick = FakeSession(delay=5.0), FakeSession(delay=1.0)
    lazy = spec(refresh=Refresh.ON_DEMAND)
    async with running(lazy, session=slow) as world:
        first = await world.registry.get("directory", min_valid=None, wait=10.0)
        await asyncio.sleep(70.0)
        forced = asyncio.ensure_future(
            world.registry.refresh("directory", rejected=first.token.etag, wait=30.0, begun=lambda: None)
        )
        await asyncio.sleep(1.0)
        world.registry.replace([replace(lazy, scope=("read", "write"))], {"app": registration(quick)})

        assert (await forced).token.etag != first.token.etag
        assert len(quick.requests) == 1


async def test_a_token_of_a_compromised_certificate_is_served_no_more():
    """Those of others are; the next ones come at once, with the new certificate."""
    answer = json_response(token_body(thumbprint=OTHER_THUMBPRINT))
    old, new = FakeSession(), FakeSession(thumbprint=OTHER_THUMBPRINT, default=answer)
    async with running(spec("a"), spec("b"), session=old) as world:
        await asyncio.sleep(1.0)
        world.registry.replace([spec("a"), spec("b")], {"app": registration(new)}, banned=frozenset({THUMBPRINT}))
        with pytest.raises(TokenUnavailableError):
            await world.registry.get("a", min_valid=None, wait=0.0)
        after = [await world.registry.get(name, min_valid=None, wait=5.0) for name in "ab"]

        assert [serving.token.certificate_thumbprint for serving in after] == [OTHER_THUMBPRINT] * 2
        assert len(new.requests) == 2


def dpop_registration(jkt: str) -> Registration:
    """Give a client whose tokens are bound to the key of *jkt*."""
    body = token_body() | {"token_type": "DPoP", "access_token": key_bound(jkt)}
    made, proofs = registration(FakeSession(default=json_response(body))), proofs_of(FakeProofKey(jkt=jkt))
    return replace(made, client=DPOP_CLIENT, exchange=replace(made.exchange, proofs=proofs))


async def test_a_token_of_a_compromised_dpop_key_is_served_no_more():
    """The next one comes at once, with the new key."""
    async with running(spec("a")) as world:
        world.registry.replace([spec("a")], {"app": dpop_registration("old")})
        before = await world.registry.get("a", min_valid=None, wait=5.0)
        world.registry.replace([spec("a")], {"app": dpop_registration("new")}, banned=frozenset({"old"}))
        with pytest.raises(TokenUnavailableError):
            await world.registry.get("a", min_valid=None, wait=0.0)
        after = await world.registry.get("a", min_valid=None, wait=5.0)

        assert (before.token.jkt, after.token.jkt) == ("old", "new")


async def test_tokens_in_hand_are_shown_with_their_names():
    """Those that are there."""
    async with running(spec("a"), spec("later", refresh=Refresh.ON_DEMAND)) as world:
        await asyncio.sleep(1.0)

        assert [(name, token.certificate_thumbprint) for name, token in world.registry.in_hand()] == [("a", THUMBPRINT)]
