from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.errors import LocalError
from broker.events import (
    GrantUnreadable,
)
from broker.oauth.secret import AccessToken, RefreshToken
from broker.tokens.grant import Grant, Phase, SealedAccess
from tests.fakes import LoopClock
from tests.jumping import loop_time
from tests.unit.tokens.dpop import DPOP_CLIENT, FakeProofKey, key_bound, proofs_of
from tests.unit.tokens.grant_world import SPEC, GrantWorld, RotatingServer, issued_elsewhere
from tests.unit.tokens.stores import FakeStore
from tests.unit.tokens.world import CLIENT


async def test_a_stop_waits_for_the_answer_that_is_on_its_way():
    """An attempt that is cancelled is a lost answer of our own making."""
    world = GrantWorld(RotatingServer("strict", delay=3.0))
    world.stored("g")
    async with world.running():
        await asyncio.sleep(1.5)

    grant = world.store.grant("g")
    assert grant is not None
    assert grant.refresh_token is not None
    assert grant.refresh_token.reveal() == world.server.alive("g") == "rt-g-2"
    assert grant.phase is Phase.SETTLED
    assert world.server.revoked == []


async def test_a_renewed_consent_takes_the_place_of_the_old_one():
    """Under the same id; an attempt of the old one that is under way does not overwrite it."""
    world = GrantWorld(RotatingServer("strict", delay=2.0))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.0)
        new = replace(grants.grant("g"), refresh_token=RefreshToken(world.server.issue("new")), scope=("x",))
        await grants.hold(replace(new, id="held"))
        token = replace((await issued_elsewhere(world.clock)), obtained_at=loop_time())
        await grants.adopt(new, token, held="held")
        await asyncio.sleep(10.0)

        assert (await grants.get("g", min_valid=None, wait=0.0)).token is token
        stored = world.store.grant("g")
        assert stored is not None
        assert stored.refresh_token == new.refresh_token
        assert world.store.grant("held") is None
        await asyncio.sleep(300.0)
        assert world.server.alive("new") == grants.grant("g").refresh_token.reveal()  # type: ignore[union-attr]


async def test_a_new_consent_is_no_older_copy():
    """What a person gives now was in no store before, however old the one is that it goes to."""
    world = GrantWorld(RotatingServer("strict"), store=FakeStore(rolled_back=True))
    world.stored("g")
    async with world.running() as grants:
        new = replace(grants.grant("g"), refresh_token=RefreshToken(world.server.issue("new")))
        await grants.adopt(new, await issued_elsewhere(world.clock), held="g")
        await asyncio.sleep(3_600.0)

        assert len(world.server.asked) > 5
        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0


async def test_a_new_grant_is_served_at_once():
    """The first of its token."""
    world = GrantWorld(RotatingServer("strict"))
    async with world.running() as grants:
        assert grants.one("person") is None
        token = await issued_elsewhere(world.clock)
        grant = Grant(
            id="n",
            token="person",
            owner="app",
            issuer="https://as.example",
            client_id="app-1",
            created_at=1.0,
            refresh_token=RefreshToken(world.server.issue("n")),
        )
        await grants.hold(grant)
        held = world.store.grant("n")
        assert held is not None
        assert held.phase is Phase.UNVERIFIED
        await grants.adopt(grant, token, held="n")

        assert grants.one("person") == "n"
        assert (await grants.get("n", min_valid=None, wait=0.0)).token is token
        assert grants.token_of("n") == "person"
        assert (grants.count("person"), grants.has_usable("person"), grants.count("other")) == (1, True, 0)
        ((*_, ends, _),) = grants.survey()
        assert ends == pytest.approx(world.clock.wall() + token.expires_at - loop_time())


async def test_grants_are_listed_page_by_page():
    """In the order of their ids, of those tokens, that owner and that person."""
    world = GrantWorld(RotatingServer("never"))
    world.stored("a", "b", "c", subject="alice")
    world.stored("d", subject="bob", owner="other")
    async with world.running() as grants:

        async def page(limit: int = 2, owner: str | None = None, **how: str) -> tuple[list[str], str | None]:
            found = await grants.page(
                {"person": None if owner is None else frozenset({owner}), "unknown": None},
                subject=how.get("subject"),
                limit=limit,
                cursor=how.get("cursor"),
            )
            return [status.id for status in found.grants], found.cursor

        assert await page() == (["a", "b"], "b")
        assert await page(cursor="b") == (["c", "d"], None)
        assert await page(limit=9, owner="other") == (["d"], None)
        assert await page(limit=9, subject="alice") == (["a", "b", "c"], None)
        assert (await grants.page({}, subject=None, limit=9, cursor=None)).grants == ()
        await asyncio.sleep(2.0)
        assert [seen[:2] for seen in grants.survey()] == [("person", "fresh")] * 4


async def test_a_grant_changes_hands():
    """Also while it is refreshed: the new owner is not overwritten."""
    world = GrantWorld(RotatingServer("strict", delay=2.0))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.0)
        await grants.reassign("g", "other")
        await asyncio.sleep(5.0)

        stored = world.store.grant("g")
        assert stored is not None
        assert (stored.owner, grants.status("g").owner) == ("other", "other")
        assert stored.refresh_token == RefreshToken("rt-g-2")


async def test_a_forced_refresh_brings_another_token():
    """For a caller whose API refuses the one in hand; two callers share it."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        await asyncio.sleep(70.0)
        begun: list[None] = []
        both = await asyncio.gather(
            *(
                grants.refresh("g", rejected=first.token.etag, wait=5.0, begun=lambda: begun.append(None))
                for _ in range(2)
            )
        )

        assert {serving.token.etag for serving in both} != {first.token.etag}
        assert len(begun) == 1
        assert len(world.server.asked) == 2


async def test_a_watcher_hears_of_another_token():
    """And of the end of the grant."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        with grants.watch("g") as watch:
            await watch.news
            assert watch.standing().etag != first.token.etag
        with grants.watch("g") as watch:
            await grants.revoke("g")
            assert watch.news.done()


async def test_a_token_that_is_configured_no_more_keeps_its_grants_for_when_it_is():
    """Nothing is served, nothing is lost; also what a refresh brings that was under way."""
    world = GrantWorld(RotatingServer("strict", delay=2.0))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.0)
        under_way = grants.replace([], {})
        assert len(under_way) == 1
        with pytest.raises(KeyError):
            await grants.get("g", min_valid=None, wait=0.0)
        await asyncio.sleep(10.0)
        stored = world.store.grant("g")
        assert stored is not None
        assert stored.refresh_token == RefreshToken("rt-g-2")

        grants.replace([SPEC], {"app": world.registration()})
        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0
    world.specs = ()
    async with world.running() as grants:
        grants.replace([SPEC], {"app": world.registration()})
        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0


async def test_a_grant_of_another_client_is_nobodys():
    """The configuration has the token with a client that the person did not consent to."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g", client_id="app-9")
    async with world.running() as grants:
        await asyncio.sleep(500.0)

        assert grants.one("person") is None
        assert world.server.asked == []
        assert world.store.grant("g") is not None


async def test_a_record_that_cannot_be_understood_is_told_and_left():
    """Another version of the broker may understand it."""
    world = GrantWorld(RotatingServer("strict"))
    world.store.values["grant/x"] = b"{}"
    async with world.running():
        await asyncio.sleep(10.0)

    assert world.events.of(GrantUnreadable) == [GrantUnreadable(record="grant/x")]
    assert world.store.values == {"grant/x": b"{}"}


async def test_a_grant_that_is_given_up_while_it_is_renewed_is_not_brought_back():
    """Whoever renews it gets an error, and what it got is for its caller to discard."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        new = replace(grants.grant("g"), refresh_token=RefreshToken(world.server.issue("new")))
        token = await issued_elsewhere(world.clock)
        await grants.hold(replace(new, id="held"))
        world.store.delay = 1.0
        renewing = asyncio.create_task(grants.adopt(new, token, held="held"))
        await asyncio.sleep(0.5)
        revoking = asyncio.create_task(grants.revoke("g"))

        with pytest.raises(LocalError):
            await renewing
        await revoking
        assert grants.one("person") is None
        assert world.store.grant("g") is None


async def test_a_consent_to_a_token_that_a_reload_took_away_is_kept():
    """For when it is configured again."""
    world = GrantWorld(RotatingServer("strict"))
    async with world.running() as grants:
        token = await issued_elsewhere(world.clock)
        grant = Grant(
            id="n",
            token="person",
            owner="app",
            issuer="https://as.example",
            client_id="app-1",
            created_at=1.0,
            refresh_token=RefreshToken(world.server.issue("n")),
        )
        grants.replace([], {})
        await grants.adopt(grant, token, held="n")
        assert grants.one("person") is None

        grants.replace([SPEC], {"app": world.registration()})
        assert grants.one("person") == "n"


def stored_token(jkt: str | None, token_type: str = "DPoP") -> SealedAccess:
    """What a former life of the broker had, good for five minutes more."""
    return SealedAccess(
        access_token=AccessToken("from-before"),
        token_type=token_type,
        scope=(),
        obtained_at=LoopClock().wall() - 10.0,
        expires_at=LoopClock().wall() + 300.0,
        binding="unverified",
        jkt=jkt,
    )


def dpop_grants(*keys: FakeProofKey, token: SealedAccess) -> GrantWorld:
    world = GrantWorld(RotatingServer("strict"), client=DPOP_CLIENT, proofs=proofs_of(*keys) if keys else None)
    world.server.members = lambda _: {"token_type": "DPoP", "access_token": key_bound("new", world.server.serial)}
    world.stored("g", access=token, jkt=token.jkt)
    return world


@pytest.mark.parametrize("jkt", ["new", "old"])
async def test_a_stored_token_is_served_while_its_key_is_there(jkt: str):
    """A restart spends nothing (R2.11)."""
    world = dpop_grants(FakeProofKey(jkt="new"), FakeProofKey(jkt="old"), token=stored_token(jkt))
    async with world.running() as grants:
        serving = await grants.get("g", min_valid=None, wait=0.0)

        assert (serving.token.access_token, serving.token.jkt) == (AccessToken("from-before"), jkt)
        assert world.server.asked == []


@pytest.mark.parametrize(("jkt", "token_type"), [("gone", "DPoP"), (None, "DPoP"), (None, "Bearer")])
async def test_a_stored_token_whose_key_is_gone_is_not_served(jkt: str | None, token_type: str):
    """Nor is one that nobody knows to be bound, where tokens are bound now: another is fetched."""
    world = dpop_grants(FakeProofKey(jkt="new"), token=stored_token(jkt, token_type))
    async with world.running() as grants:
        serving = await grants.get("g", min_valid=None, wait=5.0)

    assert serving.token.jkt == "new"
    assert world.server.asked == ["rt-g-1"]


async def test_a_token_that_another_configuration_cannot_use_is_replaced_at_once():
    """A reload that has tokens bound to something else: it is served until its successor is there."""
    world = dpop_grants(FakeProofKey(jkt="new"), token=stored_token("new"))
    async with world.running() as grants:
        await asyncio.sleep(60.0)
        world.proofs = None
        world.client = CLIENT
        world.server.members = lambda _: {}
        grants.replace([SPEC], {"app": world.registration()})
        await asyncio.sleep(3.0)
        serving = await grants.get("g", min_valid=None, wait=0.0)

    assert (serving.token.token_type, serving.token.jkt) == ("Bearer", None)
