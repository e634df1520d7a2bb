from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.errors import BrokerError, Outcome, RemoteError
from broker.events import (
    GrantEnded,
    GrantQuarantined,
    GrantRevived,
    TokenRefreshed,
    TokenRefreshFailed,
    UnexpectedFailure,
)
from broker.oauth.client import ClientAuthMethod, RefreshRotation
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import RefreshToken
from broker.tokens.grant import Phase, Rotation
from broker.tokens.grant_state import Trouble
from broker.tokens.grants import STOP_GRACE
from broker.tokens.refreshing import trouble_of
from broker.tokens.serving import ConsentRequiredError, TokenUnavailableError
from broker.tokens.spec import Consent, OnGrantLost
from broker.tokens.storing import Change
from tests.jumping import advance, loop_time
from tests.unit.oauth.keys import published, server_key
from tests.unit.tokens.dpop import DPOP_CLIENT, FakeProofKey, challenge, key_bound, proofs_of
from tests.unit.tokens.grant_world import SPEC, GrantWorld, Keys, RotatingServer, issued_elsewhere, lost, not_sent
from tests.unit.tokens.stores import FakeStore, unavailable
from tests.unit.tokens.world import OTHER_THUMBPRINT, bound_jwt, json_response

MODES = [
    ("never", RefreshRotation.NEVER),
    ("grace", RefreshRotation.GRACE),
    ("strict", RefreshRotation.STRICT),
    ("never", RefreshRotation.OBSERVE),
    ("strict", RefreshRotation.OBSERVE),
]


@pytest.mark.parametrize(("mode", "rotation"), MODES)
async def test_a_grant_lives_on(mode: str, rotation: RefreshRotation):
    """A hundred refreshes, each with the newest refresh token, and the store always has it."""
    world = GrantWorld(RotatingServer(mode, expires_in=30), rotation=rotation)
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(2000.0)
        serving = await grants.get("g", min_valid=None, wait=0.0)

        assert serving.expires_in > 0
        assert len(world.server.asked) >= 100
        grant = world.store.grant("g")
        assert grant is not None
        assert grant.refresh_token is not None
        assert grant.refresh_token.reveal() == world.server.alive("g")
        assert grant.rotation is (Rotation.KEEPS if mode == "never" else Rotation.ROTATES)
        assert world.events.of(TokenRefreshFailed) == []
        assert {event.grant for event in world.events.of(TokenRefreshed)} == {"g"}


async def test_a_refresh_token_is_durable_before_its_access_token_is_served():
    """R2.2, and R2.1 before it: the intent, the new refresh token, the access token."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    seen: list[tuple[Phase, RefreshToken | None, bool]] = []

    class Watching(FakeStore):
        async def write(self, changes: Sequence[Change]) -> None:
            await super().write(changes)
            grant = self.grant("g")
            assert grant is not None
            seen.append((grant.phase, grant.refresh_token, grant.access is not None))

    world.store = Watching(values=world.store.values)
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)

    assert seen == [
        (Phase.OPEN, RefreshToken("rt-g-1"), False),
        (Phase.SETTLED, RefreshToken("rt-g-2"), False),
        (Phase.SETTLED, RefreshToken("rt-g-2"), True),
    ]


@pytest.mark.parametrize(("mode", "rotation"), [MODES[0], MODES[1], MODES[3]])
async def test_a_lost_answer_costs_nothing_where_the_server_bears_it(mode: str, rotation: RefreshRotation):
    """Never and grace: the same refresh token again, and everything goes on."""
    world = GrantWorld(RotatingServer(mode), rotation=rotation)
    world.stored("g", rotation=Rotation.KEEPS if mode == "never" else Rotation.ROTATES)
    answers = iter([lost(), lost()])
    world.server.after = lambda _: next(answers, None)
    async with world.running() as grants:
        await asyncio.sleep(60.0)

        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0
        assert world.events.of(GrantEnded) == []


async def test_a_lost_answer_of_a_strict_server_is_told_and_the_token_is_served_to_its_end():
    """R2.5, R2.6: an early replay would kill the family while its access token still works."""
    world = GrantWorld(RotatingServer("strict"), rotation=RefreshRotation.STRICT)
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        lost_at: list[float] = []

        def lose(_: dict[str, str]) -> BrokerError | None:
            if lost_at:
                return None
            lost_at.append(loop_time())
            return lost()

        world.server.after = lose
        await asyncio.sleep(first.expires_in - 5.0)
        assert len(world.server.asked) == 3
        assert world.server.at[2] - lost_at[0] > 50.0
        assert (await grants.get("g", min_valid=None, wait=0.0)).token is first.token

        await asyncio.sleep(10.0)
        with pytest.raises(ConsentRequiredError) as raised:
            await grants.get("g", min_valid=None, wait=0.0)

    assert raised.value.reason == "lost_answer"
    ended = world.store.grant("g")
    assert ended is not None
    assert (ended.phase, ended.refresh_token) == (Phase.ENDED, RefreshToken("rt-g-2"))


@pytest.mark.parametrize("mode", ["never", "grace", "strict"])
async def test_an_outage_of_two_hours_ends_no_grant(mode: str):
    """502 and 504 of a proxy, connections that fail: nobody counts how often (R2.6)."""
    world = GrantWorld(RotatingServer(mode), rotation=RefreshRotation(mode))
    names = [f"g{number}" for number in range(3)]
    world.stored(*names)
    randomly = random.Random(7)
    start = loop_time()

    def out(_: dict[str, str]) -> Response | BrokerError | None:
        if not 300.0 < loop_time() - start < 7500.0:
            return None
        faults: list[Response | BrokerError] = [
            json_response({}, status=502),
            json_response({}, status=504),
            not_sent(),
            lost(),
        ]
        return randomly.choice(faults)

    world.server.before = out
    async with world.running() as grants:
        await asyncio.sleep(7200.0)
        assert {grants.status(name).state for name in names} == {"unavailable"}
        await asyncio.sleep(600.0)

        assert {grants.status(name).state for name in names} == {"fresh"}
    assert world.events.of(GrantEnded) == []


async def test_a_confirmed_refusal_ends_a_grant_and_deletes_nothing():
    """R2.6, R2.8; an operator can have it tried again."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g", "other")
    async with world.running() as grants:
        await asyncio.sleep(1.0)
        world.server.dead.add("g")
        await asyncio.sleep(400.0)

        with pytest.raises(ConsentRequiredError) as raised:
            await grants.get("g", min_valid=None, wait=0.0)
        assert raised.value.reason == "invalid_grant"
        assert grants.status("g").state == "consent_required"
        refused = [token for token in world.server.asked if token.startswith("rt-g-")]
        # The newest twice, and then the one before it, which has worked last (R2.4).
        assert Counter(refused[1:]) == {refused[1]: 2, refused[0]: 1}
        assert [event.reason for event in world.events.of(GrantEnded)] == ["invalid_grant"]

        world.server.dead.clear()
        grants.retry("g")
        assert (await grants.get("g", min_valid=None, wait=5.0)).expires_in > 0
        assert [event.reason for event in world.events.of(GrantRevived)] == ["retried"]
        grants.retry("g")
        assert len(world.events.of(GrantRevived)) == 1


async def test_the_token_of_an_ended_grant_is_served_only_where_that_is_configured():
    """The person may have withdrawn the consent."""
    spec = replace(SPEC, consent=Consent(on_grant_lost=OnGrantLost.SERVE_UNTIL_EXPIRY))
    world = GrantWorld(RotatingServer("strict", expires_in=300), specs=(spec,))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(5.0)
        world.server.dead.add("g")
        await asyncio.sleep(260.0)

        assert grants.status("g").reason == "invalid_grant"
        assert (await grants.get("g", min_valid=None, wait=0.0)).stale


async def test_an_answer_that_fails_a_check_keeps_its_refresh_token():
    """R2.3: bound to another certificate; the next answer is right, and the token in hand was served all the time."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        wrong = iter([{"access_token": bound_jwt(OTHER_THUMBPRINT)}])
        world.server.members = lambda _: next(wrong, {})
        await asyncio.sleep(first.expires_in * 0.8)

        assert [event.reason for event in world.events.of(GrantQuarantined)] == ["wrong_binding"]
        await asyncio.sleep(20.0)
        second = await grants.get("g", min_valid=None, wait=0.0)
        assert second.token.access_token != first.token.access_token
        assert len(set(world.server.asked)) == len(world.server.asked)
        assert grants.grant("g").phase is Phase.SETTLED


async def test_a_store_that_cannot_be_written_spends_no_refresh_token():
    """R2.1: serve until expiry, then 503; when there is room everything goes on."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        world.store.error = unavailable()
        await asyncio.sleep(first.expires_in - 5.0)
        assert (await grants.get("g", min_valid=None, wait=0.0)).token is first.token
        assert len(world.server.asked) == 1
        await asyncio.sleep(10.0)
        with pytest.raises(TokenUnavailableError) as raised:
            await grants.get("g", min_valid=None, wait=0.0)
        assert raised.value.reason == "store_unavailable"

        world.store.error = None
        assert (await grants.get("g", min_valid=None, wait=60.0)).expires_in > 0


@pytest.mark.parametrize("rotation", [RefreshRotation.STRICT, RefreshRotation.GRACE, RefreshRotation.OBSERVE])
async def test_an_older_copy_of_the_store_spends_no_refresh_token_that_rotates(rotation: RefreshRotation):
    """R3: it may have been used already, and a strict server would end the grant; a person or an operator decides."""
    world = GrantWorld(RotatingServer("strict"), rotation=rotation, store=FakeStore(rolled_back=True))
    world.stored("g")
    async with world.running() as grants:
        with pytest.raises(TokenUnavailableError) as raised:
            await grants.get("g", min_valid=None, wait=5.0)
        await asyncio.sleep(3_600.0)

        assert raised.value.reason == "store_rolled_back"
        assert world.server.asked == []
        assert grants.grant("g").phase is Phase.SETTLED


async def test_an_older_copy_of_the_store_is_good_enough_where_nothing_rotates():
    """The refresh token in it is the one there is."""
    world = GrantWorld(RotatingServer("never"), rotation=RefreshRotation.NEVER, store=FakeStore(rolled_back=True))
    world.stored("g")
    async with world.running() as grants:
        assert (await grants.get("g", min_valid=None, wait=5.0)).expires_in > 0


async def test_a_store_that_fails_after_the_answer_loses_nothing():
    """R2.2: in memory with an alarm, served, and written as soon as the disk lets it."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")

    def fill(_: dict[str, str]) -> None:
        world.store.error = unavailable()

    world.server.after = fill
    async with world.running() as grants:
        assert (await grants.get("g", min_valid=None, wait=5.0)).expires_in > 0
        before = world.store.grant("g")
        world.server.after = lambda _: None
        world.store.error = None
        await asyncio.sleep(2.0)
        after = world.store.grant("g")

    assert before is not None
    assert before.refresh_token == RefreshToken("rt-g-1")
    assert after is not None
    assert after.refresh_token is not None
    assert after.refresh_token.reveal() == world.server.alive("g")


@pytest.mark.parametrize(("room_after", "is_kept"), [(5.0, True), (60.0, False)])
async def test_a_stop_gives_a_full_disk_time(room_after: float, is_kept: bool):
    """The only copy of a refresh token is not given up at the first refusal; but nothing stops for ever."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")

    def fill(_: dict[str, str]) -> None:
        world.store.error = unavailable()

    world.server.after = fill
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        asyncio.get_running_loop().call_later(room_after, setattr, world.store, "error", None)
        stopped_at = loop_time()

    grant = world.store.grant("g")
    assert grant is not None
    assert grant.refresh_token is not None
    assert (grant.refresh_token.reveal() == world.server.alive("g")) is is_kept
    assert loop_time() - stopped_at < STOP_GRACE + 2.0


async def test_a_bug_in_an_attempt_costs_that_attempt_only():
    """It is reported, and the grant is in doubt, because nobody knows how far it got."""
    world = GrantWorld(RotatingServer("grace"), rotation=RefreshRotation.GRACE)
    world.stored("g")
    bugs = iter([ZeroDivisionError()])

    def break_once(_: dict[str, str]) -> None:
        for bug in bugs:
            raise bug

    world.server.after = break_once
    async with world.running() as grants:
        await asyncio.sleep(10.0)
        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0

    assert [event.error for event in world.events.of(UnexpectedFailure)] == ["ZeroDivisionError"]


@pytest.mark.parametrize(("mode", "rotation"), [MODES[0], MODES[1], MODES[2]])
@pytest.mark.parametrize("seed", range(12))
async def test_no_grant_is_lost_to_crashes_and_bad_networks(mode: str, rotation: RefreshRotation, seed: int):
    """
    Hours of random faults and kills. With never and grace every grant lives; a strict server ends one only
    after an answer of its own was lost, and then it is told as that.
    """
    randomly = random.Random(seed)
    world = GrantWorld(RotatingServer(mode, delay=0.5), rotation=rotation)
    names = [f"g{number}" for number in range(5)]
    world.stored(*names)
    lost_answers: set[str] = set()

    def before(_: dict[str, str]) -> Response | BrokerError | None:
        faults: list[Response | BrokerError | None] = [not_sent(), json_response({}, status=502), lost(), *[None] * 12]
        return randomly.choice(faults)

    def after(fields: dict[str, str]) -> BrokerError | None:
        if randomly.random() < 0.02:
            lost_answers.add(fields["refresh_token"].split("-")[1])
            return lost()
        return None

    for _ in range(8):
        world.server.before, world.server.after = before, after
        async with world.crashing():
            await asyncio.sleep(randomly.uniform(0.0, 900.0))
            killed_at = loop_time()
        # What was answered about then, or after it, nobody may have heard.
        asked = zip(world.server.asked, world.server.at, strict=True)
        lost_answers |= {token.split("-")[1] for token, at in asked if at > killed_at - 0.1}
    world.server.before = world.server.after = lambda _: None
    async with world.running() as grants:
        await asyncio.sleep(600.0)
        alive = {name for name in names if grants.status(name).state in {"fresh", "stale"}}
        reasons = {grants.status(name).reason for name in names if name not in alive}

    assert set(names) - alive <= (lost_answers if mode == "strict" else set())
    assert reasons <= {"lost_answer"}


async def test_a_refresh_that_is_about_another_person_is_not_served():
    """RT-06: with the keys of the server, fetched anew for one that was just rotated."""
    key, newer = server_key("PS256", "k1"), server_key("PS256", "k2", bits=2056)
    world = GrantWorld(RotatingServer("strict"), keys=Keys(published(key.jwk()), published(key.jwk(), newer.jwk())))
    world.stored("g", subject="alice", subject_verified=True)
    claims = {"iss": "https://as.example", "aud": "app-1", "sub": "alice"}

    def id_token(sub: str) -> dict[str, str]:
        now = world.clock.wall()
        return {"id_token": newer.sign(claims | {"sub": sub, "iat": now, "exp": now + 300})}

    subs = iter(["alice", "bob", "alice"])
    world.server.members = lambda _: id_token(next(subs))
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        await asyncio.sleep(first.expires_in * 0.8)
        assert [event.reason for event in world.events.of(GrantQuarantined)] == ["id_token_invalid"]
        await asyncio.sleep(20.0)
        served = {event.fingerprint for event in world.events.of(TokenRefreshed)}

        assert len(world.events.of(TokenRefreshed)) == 2
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.fingerprint in served


async def test_keys_that_cannot_be_had_cost_no_refresh_token():
    """The answer cannot be checked, so its access token is not used; its refresh token is safe (R2.3)."""
    world = GrantWorld(RotatingServer("strict"), keys=Keys())
    world.stored("g", subject="alice", subject_verified=True)
    world.server.members = lambda _: {"id_token": server_key().sign({"sub": "alice"})}
    async with world.running() as grants:
        await asyncio.sleep(10.0)
        stored = world.store.grant("g")

        assert grants.status("g").reason == "keys_unavailable"
        assert stored is not None
        assert stored.refresh_token is not None
        assert stored.refresh_token.reveal() == world.server.alive("g")


async def test_a_server_that_never_rotates_is_asked_though_the_disk_is_full():
    """R2.1 protects refresh tokens that are good for one use."""
    world = GrantWorld(RotatingServer("never"), rotation=RefreshRotation.NEVER)
    world.stored("g")
    world.store.error = unavailable()
    async with world.running() as grants:
        assert (await grants.get("g", min_valid=None, wait=5.0)).expires_in > 0


async def test_a_server_without_metadata_is_not_asked():
    """Nothing was sent, so there is no doubt afterwards."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    world.metadata.error = not_sent()
    async with world.running() as grants:
        await asyncio.sleep(10.0)
        assert world.server.asked == []
        assert grants.status("g").reason == "connect_failed"
        world.metadata.error = None
        assert (await grants.get("g", min_valid=None, wait=60.0)).expires_in > 0
    assert world.events.of(GrantEnded) == []


async def test_a_stop_lets_what_is_queued_go_and_what_was_sent_be_answered():
    """Three hundred are due and the server is slow: no answer is thrown away, and nothing more is sent."""
    world = GrantWorld(RotatingServer("strict", answer_after=2.0))
    world.stored(*(f"g{number:03}" for number in range(300)))
    async with world.running():
        await asyncio.sleep(10.0)
        at_the_stop = len(world.server.asked)
    assert len(world.server.asked) == at_the_stop

    world.server.answer_after = 0.05
    async with world.running():
        await asyncio.sleep(400.0)
    assert world.events.of(GrantEnded) == []
    assert world.server.dead == set()


@pytest.mark.parametrize("answered", [1.9, 2.0, 2.05, 2.1, 2.15, 2.4])
async def test_a_renewal_is_not_overwritten_by_an_answer_that_comes_while_it_is_written(answered: float):
    """Whichever is first: on the disk is what a person consented to last."""
    world = GrantWorld(RotatingServer("strict", delay=answered))
    world.store.delay = 0.2
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.0 + 2.0)
        new = replace(grants.grant("g"), refresh_token=RefreshToken(world.server.issue("new")))
        await grants.hold(replace(new, id="held"))
        await grants.adopt(new, await issued_elsewhere(world.clock), held="held")
        await asyncio.sleep(5.0)
        stored = world.store.grant("g")

        assert stored is not None
        assert stored.refresh_token == new.refresh_token == grants.grant("g").refresh_token


@pytest.mark.parametrize("after", [0.05, 0.2, 0.9, 1.05, 1.15, 1.25, 1.4, 1.6, 2.0])
async def test_a_grant_that_changes_hands_in_the_middle_of_a_refresh_stays_where_it_was_put(after: float):
    """And in the end the disk has what the server has."""
    world = GrantWorld(RotatingServer("strict", answer_after=1.0))
    world.store.delay = 0.1
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.0 + after)
        await grants.reassign("g", "other")
        stored = world.store.grant("g")
        assert stored is not None
        assert stored.owner == "other"
        await asyncio.sleep(10.0)
        last = world.store.grant("g")

        assert last is not None
        assert (last.owner, grants.grant("g").owner) == ("other", "other")
        assert (last.refresh_token, last.phase) == (RefreshToken("rt-g-2"), Phase.SETTLED)


async def test_a_scope_that_the_answer_does_not_name_is_as_it_was():
    """RT-05: a consent to less than the configuration's ceiling does not widen itself."""
    spec = replace(SPEC, scope=("openid", "accounts", "payments"))
    world = GrantWorld(RotatingServer("strict"), specs=(spec,))
    world.stored("g", scope=("accounts",), asked_scope=("openid", "accounts"))
    answers = iter([{}, {"scope": "openid accounts"}, {"scope": "accounts payments"}, {}])
    world.server.members = lambda _: next(answers, {})
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        assert first.token.scope == ("accounts",)
        await asyncio.sleep(240.0)
        assert grants.grant("g").scope == ("openid", "accounts")
        await asyncio.sleep(230.0)
        assert [event.reason for event in world.events.of(GrantQuarantined)] == ["wider_scope"]


async def test_ten_thousand_grants_that_are_due_at_once_leave_the_loop_to_others():
    """After a night's sleep of the machine: nobody waits for all of them to have begun."""
    world = GrantWorld(RotatingServer("never"), rotation=RefreshRotation.NEVER)
    world.stored(*(f"g{number:04}" for number in range(2000)))
    longest = 0
    async with world.running() as grants:
        advance(2.0)
        grants.reconsider()
        loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        for _ in range(50):
            before = len(asyncio.all_tasks(loop))
            await asyncio.sleep(0)
            longest = max(longest, len(asyncio.all_tasks(loop)) - before)

    assert 0 < longest <= 60


def bound(server: RotatingServer, jkt: str) -> None:
    """Let *server* bind its tokens to the key of *jkt*."""
    server.members = lambda _: {"token_type": "DPoP", "access_token": key_bound(jkt, server.serial)}


def dpop_world(*keys: FakeProofKey, bound_to: str, public: bool = False) -> GrantWorld:
    """A client whose tokens are bound by DPoP, with the first of *keys* in use."""
    world = GrantWorld(RotatingServer("strict"), proofs=proofs_of(*keys))
    method = ClientAuthMethod.NONE if public else ClientAuthMethod.PRIVATE_KEY_JWT
    world.client = replace(DPOP_CLIENT, client_auth_method=method)
    world.metadata.changes = {"token_endpoint_auth_methods_supported": ["none", "private_key_jwt"]}
    bound(world.server, bound_to)
    return world


async def test_a_refresh_proves_the_key_and_its_token_is_bound_to_it():
    """What is stored says so, too: a restart has to know."""
    world = dpop_world(FakeProofKey(), bound_to="key-1")
    world.stored("g")
    async with world.running() as grants:
        serving = await grants.get("g", min_valid=None, wait=5.0)

    assert world.server.proofs == ["proof-key-1-1"]
    assert (serving.token.token_type, serving.token.jkt, serving.token.binding) == ("DPoP", "key-1", "dpop")
    grant = world.store.grant("g")
    assert grant is not None
    assert grant.access is not None
    assert (grant.jkt, grant.access.jkt) == ("key-1", "key-1")


async def test_a_refresh_that_needs_a_nonce_spends_nothing():
    """The challenge means not processed (R1): the same refresh token goes again at once."""
    world = dpop_world(FakeProofKey(), bound_to="key-1")
    world.stored("g")
    answers: list[Response | None] = [challenge(), None]
    world.server.before = lambda _: answers.pop(0)
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)

    assert world.server.asked == ["rt-g-1"]
    assert world.events.of(TokenRefreshFailed) == []


async def test_a_grant_of_a_confidential_client_moves_to_another_key():
    """Its refresh token is bound to the client, not to the key (RFC 9449 section 5)."""
    new, old = FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    world = dpop_world(new, old, bound_to="new")
    world.stored("g", jkt="old")
    async with world.running() as grants:
        serving = await grants.get("g", min_valid=None, wait=5.0)

    assert serving.token.jkt == "new"
    assert world.server.proofs == ["proof-new-1"]


async def test_a_grant_of_a_public_client_stays_with_its_key():
    """Its refresh token is bound to it."""
    new, old = FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    world = dpop_world(new, old, bound_to="old", public=True)
    world.stored("g", jkt="old")
    async with world.running() as grants:
        serving = await grants.get("g", min_valid=None, wait=5.0)

    assert serving.token.jkt == "old"
    assert world.server.proofs == ["proof-old-1"]


async def test_a_refusal_is_confirmed_with_the_key_that_last_succeeded():
    """A server may bind the refresh token to it all the same: its word does not count before that (R2.6)."""
    new, old = FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    world = dpop_world(new, old, bound_to="old")
    world.stored("g", jkt="old")
    answers: list[Response | None] = [json_response({"error": "invalid_grant"}, status=400), None]
    world.server.before = lambda _: answers.pop(0)
    async with world.running() as grants:
        await asyncio.sleep(5.0)
        serving = await grants.get("g", min_valid=None, wait=0.0)

    assert world.server.proofs == ["proof-new-1", "proof-old-1"]
    assert serving.token.jkt == "old"
    assert world.events.of(GrantEnded) == []


async def test_the_previous_refresh_token_is_tried_with_the_key_that_last_succeeded():
    """It comes after the confirmation, and its refusal is the verdict."""
    new, old = FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    world = dpop_world(new, old, bound_to="old")
    world.stored("g", jkt="old", previous_refresh_token=RefreshToken("rt-g-0"))
    refuses(world)
    async with world.running():
        await asyncio.sleep(60.0)

    assert world.server.proofs == ["proof-new-1", "proof-old-1", "proof-old-2"]
    assert [event.reason for event in world.events.of(GrantEnded)] == ["invalid_grant"]


def refuses(world: GrantWorld) -> None:
    """Let the server say what it says of a refresh token that comes with the wrong key."""
    world.server.before = lambda _: json_response({"error": "invalid_grant"}, status=400)


def reasons(world: GrantWorld) -> set[str]:
    return {event.reason for event in world.events.of(TokenRefreshFailed)}


async def test_a_grant_of_a_public_client_whose_key_is_gone_waits_for_it():
    """Another key would be refused, and the grant end for it; the refresh token is not spent, and somebody is told."""
    world = dpop_world(FakeProofKey(jkt="new"), bound_to="new", public=True)
    world.stored("g", jkt="lost")
    refuses(world)
    async with world.running():
        await asyncio.sleep(3_600.0)

    assert (world.server.asked, world.server.proofs) == ([], [])
    assert reasons(world) == {"dpop_key_unknown"}
    assert world.events.of(GrantEnded) == []
    grant = world.store.grant("g")
    assert grant is not None
    assert (grant.refresh_token, grant.jkt, grant.phase) == (RefreshToken("rt-g-1"), "lost", Phase.SETTLED)


async def test_a_grant_of_a_public_client_that_proves_no_more_is_not_asked_for():
    """DPoP was taken out of the configuration, perhaps by mistake: without a proof the grant would end."""
    world = GrantWorld(RotatingServer("strict"))
    world.client = replace(world.client, client_auth_method=ClientAuthMethod.NONE)
    world.metadata.changes = {"token_endpoint_auth_methods_supported": ["none", "private_key_jwt"]}
    world.stored("g", jkt="old")
    refuses(world)
    async with world.running():
        await asyncio.sleep(3_600.0)

    assert world.server.asked == []
    assert reasons(world) == {"dpop_key_unknown"}
    assert world.events.of(GrantEnded) == []


async def test_a_refusal_is_no_verdict_where_the_key_to_confirm_it_with_is_gone():
    """The server may know the grant by it, whatever the client (R2.6); it is asked once, and not again."""
    world = dpop_world(FakeProofKey(jkt="new"), bound_to="new")
    world.stored("g", jkt="lost")
    refuses(world)
    async with world.running():
        await asyncio.sleep(3_600.0)

    assert world.server.proofs == ["proof-new-1"]
    assert "dpop_key_unknown" in reasons(world)
    assert world.events.of(GrantEnded) == []


async def test_a_key_is_durable_before_the_grant_of_a_public_client_is_bound_to_it():
    """The refresh token that comes would be worth nothing after a crash."""
    world = dpop_world(FakeProofKey(), bound_to="key-1", public=True)
    world.proofs = proofs_of(FakeProofKey(), secure=unavailable())
    world.stored("g")
    async with world.running():
        await asyncio.sleep(60.0)
        assert world.server.asked == []
        assert reasons(world) == {"store_unavailable"}


async def test_a_bearer_token_where_dpop_was_asked_for_is_not_served():
    """A downgrade; the refresh token of the answer is safe all the same (R2.3)."""
    world = dpop_world(FakeProofKey(), bound_to="key-1")
    world.server.members = lambda _: {"token_type": "Bearer", "access_token": "opaque"}
    world.stored("g")
    async with world.running() as grants:
        with pytest.raises(TokenUnavailableError):
            await grants.get("g", min_valid=None, wait=1.0)

    assert {event.reason for event in world.events.of(GrantQuarantined)} == {"downgraded"}
    grant = world.store.grant("g")
    assert grant is not None
    assert grant.refresh_token == RefreshToken("rt-g-2")


@pytest.mark.parametrize(
    ("outcome", "trouble"), [(Outcome.REFUSED, Trouble.BEARER_REFUSED), (Outcome.ANSWERED, Trouble.CHECK_FAILED)]
)
def test_only_401_to_the_refresh_itself_is_about_the_access_token_that_it_was_made_with(
    outcome: Outcome, trouble: Trouble
):
    """When somebody is looked up with the new one, the refresh is done."""
    error = RemoteError(Reason.SERVER_REFUSED, "x", outcome=outcome, status=401, server_error="invalid_token")

    assert trouble_of(error, stored=False, bearer=True) is trouble
