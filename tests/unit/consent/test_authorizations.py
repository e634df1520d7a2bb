"""The life of authorizations, from a caller's request to a grant in use, over a server in memory."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from broker.consent.asking import AskError
from broker.consent.errors import (
    FinishedError,
    NoSuchAuthorizationError,
    NoSuchGrantError,
    NotConsentedToError,
    NotRunningError,
)
from broker.consent.pending import Failed, Granted, Pending, Phase, Redeeming, Waiting
from broker.errors import BrokerError, LocalError, Outcome, RemoteError
from broker.events import (
    AuthorizationAbandoned,
    AuthorizationExpired,
    AuthorizationFailed,
    AuthorizationGranted,
    AuthorizationStarted,
    GrantUnreadable,
    UnexpectedFailure,
)
from broker.oauth.reasons import Reason
from broker.tokens.spec import Consent, Grants, TokenSpec
from tests.fakes import Dice
from tests.unit.consent.world import ISSUER, PEOPLE_CLIENT, SPEC, ConsentWorld, PeopleServer, owned, query_of
from tests.unit.oauth.builders import base64url
from tests.unit.tokens.stores import unavailable
from tests.unit.tokens.world import json_response


def phase_of(world: ConsentWorld, authorization_id: str) -> Phase:
    """Give the phase that a broker would find that starts now."""
    return Pending.from_bytes(world.store.values[f"pending/{authorization_id}"]).phase


async def test_a_consent_becomes_a_grant_that_is_served():
    """The whole way: pushed, opened, come back, redeemed, in use."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        redeemed = await world.come_back(begun)
        serving = await world.grants.get(redeemed.grant.id, min_valid=None, wait=0.0)

    assert query_of(begun.authorization_url) == {"client_id": ["app-1"], "request_uri": ["urn:example:1"]}
    assert begun.expires_in == 55.0
    assert world.server.calls == ["/par", "/token"]
    assert redeemed.grant.subject == "alice"
    assert redeemed.grant.subject_verified
    assert serving.token == redeemed.token
    assert world.grants.one("person") == redeemed.grant.id
    assert [event.grant for event in world.events.of(AuthorizationStarted)] == [None]
    assert [event.grant for event in world.events.of(AuthorizationGranted)] == [redeemed.grant.id]
    assert phase_of(world, begun.id) == Granted(grant=redeemed.grant.id)


async def test_id_binding_and_state_are_different_and_not_in_the_url():
    """None of them can be made of another (rules.md R4)."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()

    values = {begun.id, begun.binding.reveal(), world.pushed()["state"], world.pushed()["nonce"]}
    assert len(values) == 4
    assert not any(value in begun.authorization_url for value in values)
    assert begun.binding.reveal() not in world.store.values[f"pending/{begun.id}"].decode()


@dataclass
class FairDice(Dice):
    """Values as long as real ones, and how many bytes of chance there are in each."""

    drawn: dict[str, int] = field(default_factory=dict)

    def token(self, nbytes: int) -> str:
        self.count += 1
        value = base64url(self.count.to_bytes(nbytes, "big"))
        self.drawn[value] = nbytes
        return value


async def test_what_nobody_may_guess_is_long_enough():
    """AC-02, AC-03 and AC-04: 128 bits at least, a nonce that every server takes, a verifier of RFC 7636."""
    dice = FairDice()
    async with ConsentWorld(dice=dice).running() as world:
        begun = await world.begin()
        await world.come_back(begun)
    [verifier] = [form["code_verifier"] for form in world.server.forms if "code_verifier" in form]
    values = (begun.id, begun.binding.reveal(), world.pushed()["state"], world.pushed()["nonce"], verifier)

    assert [dice.drawn[value] >= 16 for value in values] == [True] * 5
    assert dice.drawn[verifier] >= 32
    assert len(world.pushed()["nonce"]) <= 64
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier)


async def test_an_authorization_survives_a_restart():
    """The person is still at the login page."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
    async with world.running():
        redeemed = await world.come_back(begun)

    assert redeemed.grant.subject == "alice"


async def test_what_was_redeemed_is_finished_after_a_restart():
    """And tells the grant to who lost the answer."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
        redeemed = await world.come_back(begun)
    async with world.running():
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)

    assert (finished.value.state, finished.value.grant) == ("granted", redeemed.grant.id)
    assert world.server.after_par == ["/token"]


@pytest.mark.parametrize(
    "stranger",
    [
        {"binding": "another"},
        {"binding": ""},
        {"owns": lambda owner, _token: owner == "other"},
        {"owns": lambda _owner, token: token == "another"},
    ],
)
async def test_who_is_not_the_one_who_started_finds_nothing_and_changes_nothing(stranger: dict[str, Any]):
    """Foreign owner, wrong binding: as if it did not exist (rules.md R4)."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        with pytest.raises(NoSuchAuthorizationError) as foreign:
            await world.come_back(begun, **stranger)
        with pytest.raises(NoSuchAuthorizationError) as unknown:
            await world.come_back(replace(begun, id="unknown"))
        redeemed = await world.come_back(begun)

    assert (foreign.value.code, foreign.value.message) == (unknown.value.code, unknown.value.message)
    assert redeemed.grant.subject == "alice"
    assert not world.events.of(AuthorizationFailed)


async def test_two_people_at_a_time_do_not_get_each_others_grants():
    """A starts, B completes: with the binding of A nothing of B's response is good, and A's is spent."""
    spec = replace(SPEC, consent=Consent(grants=Grants.MANY))
    async with ConsentWorld(specs=(spec,)).running() as world:
        a = await world.begin()
        state_of_a = world.pushed()["state"]
        b = await world.begin()
        with pytest.raises(NoSuchAuthorizationError):
            await world.come_back(a, binding=b.binding.reveal())
        with pytest.raises(BrokerError) as crossed:
            await world.come_back(a)  # the response is that of B
        redeemed = await world.come_back(b)
        with pytest.raises(FinishedError):
            await world.come_back(a, callback_url=world.url(state=state_of_a))

    assert getattr(crossed.value, "check", None) == "state"
    assert world.server.after_par == ["/token"]
    assert redeemed.grant.subject == "alice"


async def test_a_malformed_callback_spends_nothing():
    """It tells nothing about the person."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        with pytest.raises(AskError):
            await world.come_back(begun, callback_url="nonsense")
        redeemed = await world.come_back(begun)

    assert redeemed.grant.subject == "alice"


async def test_of_two_callbacks_one_is_redeemed():
    """A double click sends the code once."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
        world.server.delay = 1.0
        first = asyncio.get_running_loop().create_task(world.come_back(begun))
        await asyncio.sleep(0.5)
        assert world.authorizations.status(begun.id, owns=owned).state == "redeeming"
        with pytest.raises(FinishedError) as second:
            await world.come_back(begun)
        with pytest.raises(FinishedError):
            await world.authorizations.abandon(begun.id, owns=owned)
        await first

    assert second.value.state == "redeeming"
    assert world.server.after_par == ["/token"]


async def test_a_redemption_goes_on_when_the_caller_hangs_up():
    """The answer may hold the only refresh token there is."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        world.server.delay = 5.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await world.come_back(begun)
        await asyncio.sleep(10.0)

        assert world.grants.one("person") is not None
        with pytest.raises(FinishedError) as finished:
            world.authorizations.status(begun.id, owns=owned)
    assert finished.value.grant is not None


async def test_a_redemption_that_was_begun_is_finished_before_the_broker_stops():
    """For as long as a request may take."""
    world = ConsentWorld()
    async with asyncio.TaskGroup() as group, world.running():
        begun = await world.begin()
        world.server.delay = 5.0
        redeeming = group.create_task(world.come_back(begun))
        await asyncio.sleep(1.0)

    assert redeeming.result().grant.subject == "alice"


async def test_a_crash_while_the_code_is_redeemed_ends_the_authorization():
    """The code may be spent: it is never sent twice (AC-07)."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
        pending = Pending.from_bytes(world.store.values[f"pending/{begun.id}"])
    world.store.values[f"pending/{begun.id}"] = replace(pending, phase=Redeeming()).to_bytes()
    async with world.running():
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)
        await asyncio.sleep(1.0)

    assert (finished.value.state, finished.value.reason) == ("failed", "interrupted")
    assert world.server.after_par == []
    assert phase_of(world, begun.id) == Failed(reason="interrupted")
    assert [event.reason for event in world.events.of(AuthorizationFailed)] == ["interrupted"]


async def test_a_crash_behind_the_redemption_does_not_hide_the_grant():
    """It is in use, and would be kept for months by nobody who knows of it; its owner learns it, also of a renewal."""
    world = ConsentWorld()
    for _ in ("new", "renewed"):
        async with world.running():
            begun = await world.begin()
            pending = Pending.from_bytes(world.store.values[f"pending/{begun.id}"])
            redeemed = await world.come_back(begun)
        world.store.values[f"pending/{begun.id}"] = replace(pending, phase=Redeeming()).to_bytes()
        world.events.seen.clear()
        async with world.running():
            with pytest.raises(FinishedError) as finished:
                await world.come_back(begun)
            await asyncio.sleep(1.0)

        assert (finished.value.state, finished.value.grant) == ("granted", redeemed.grant.id)
        assert phase_of(world, begun.id) == Granted(grant=redeemed.grant.id)
        reported = world.events.of(AuthorizationGranted)
        assert [(event.grant, event.renewed, event.fingerprint) for event in reported] == [
            (redeemed.grant.id, redeemed.renewed, None)
        ]
        assert world.events.of(AuthorizationFailed) == []


async def test_that_the_code_is_about_to_be_sent_is_durable_before_it_is():
    """Else a crash could send it again."""
    world = ConsentWorld()
    seen: list[Phase] = []
    async with world.running():
        begun = await world.begin()

        def answer() -> Any:
            seen.append(phase_of(world, begun.id))
            return json_response(world.server.token_response())

        world.server.instead["/token"] = answer
        await world.come_back(begun)

    assert seen == [Redeeming()]


async def test_a_store_that_was_rolled_back_brings_no_authorization_back():
    """It may have been redeemed since."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
    world.store.rolled_back = True
    async with world.running():
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)

    assert finished.value.reason == "interrupted"
    assert world.server.after_par == []


async def test_a_record_that_cannot_be_understood_is_left_alone():
    """A later version may know what it is."""
    world = ConsentWorld()
    world.store.values["pending/strange"] = b"{}"
    async with world.running():
        await asyncio.sleep(5_000.0)

    assert world.store.values["pending/strange"] == b"{}"
    assert [event.record for event in world.events.of(GrantUnreadable)] == ["pending/strange"]


async def test_an_authorization_that_nobody_comes_back_for_expires():
    """After ten minutes, said once; it is remembered for ten more, and then forgotten."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        await asyncio.sleep(599.0)
        assert world.authorizations.status(begun.id, owns=owned).state == "waiting"
        await asyncio.sleep(2.0)
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)
        await asyncio.sleep(610.0)
        with pytest.raises(NoSuchAuthorizationError):
            await world.come_back(begun)

    assert finished.value.state == "expired"
    assert len(world.events.of(AuthorizationExpired)) == 1
    assert f"pending/{begun.id}" not in world.store.values
    assert world.server.after_par == []


async def test_an_authorization_expires_by_the_wall_clock_too():
    """It was set while the broker was down, or the machine slept."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
    world.clock.wall_offset = 601.0
    async with world.running():
        with pytest.raises(FinishedError) as later:
            await world.come_back(begun)
    assert later.value.state == "expired"
    assert world.server.after_par == []


async def test_a_wall_clock_that_is_set_while_somebody_logs_in_ends_it():
    """The broker runs on: what was begun ten minutes ago by that clock is over."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
        world.clock.wall_offset = 601.0
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)

    assert finished.value.state == "expired"
    assert world.server.after_par == []


async def test_an_authorization_from_the_future_has_expired():
    """The clock was set back: nobody knows how long ago it was begun."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
    world.clock.wall_offset = -3_600.0
    async with world.running():
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)

    assert finished.value.state == "expired"
    assert world.server.after_par == []


async def test_an_authorization_can_be_given_up():
    """By its owner, once."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        with pytest.raises(NoSuchAuthorizationError):
            await world.authorizations.abandon(begun.id, owns=lambda *_: False)
        await world.authorizations.abandon(begun.id, owns=owned)
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)
        with pytest.raises(FinishedError):
            await world.authorizations.abandon(begun.id, owns=owned)

    assert finished.value.state == "abandoned"
    assert len(world.events.of(AuthorizationAbandoned)) == 1
    assert world.server.after_par == []


async def test_who_waits_is_told_of_each_change():
    """Of a redemption, and of its end."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        world.server.delay = 1.0
        async with asyncio.TaskGroup() as group:
            news = world.authorizations.changed(begun.id, owns=owned)
            assert world.authorizations.changed(begun.id, owns=owned) is news
            group.create_task(world.come_back(begun))
            await news
            assert world.authorizations.status(begun.id, owns=owned).state == "redeeming"
            await world.authorizations.changed(begun.id, owns=owned)
            with pytest.raises(FinishedError):
                world.authorizations.status(begun.id, owns=owned)
        with pytest.raises(NoSuchAuthorizationError):
            world.authorizations.changed("unknown", owns=owned)


async def test_how_it_ended_is_written_down_when_the_disk_lets_it():
    """It is spent in memory before."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        world.store.error = unavailable()
        with pytest.raises(BrokerError):
            await world.come_back(begun, callback_url=world.url(state="another"))
        with pytest.raises(FinishedError):
            await world.come_back(begun)
        await asyncio.sleep(3.0)
        assert phase_of(world, begun.id) == Waiting()
        world.store.error = None
        await asyncio.sleep(3.0)

    assert isinstance(phase_of(world, begun.id), Failed)


async def test_what_cannot_be_forgotten_yet_is_forgotten_later():
    """When there is room."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        await world.come_back(begun)
        world.store.error = unavailable()
        await asyncio.sleep(1_300.0)
        assert f"pending/{begun.id}" in world.store.values
        world.store.error = None
        await asyncio.sleep(30.0)

    assert f"pending/{begun.id}" not in world.store.values


async def test_an_authorization_that_cannot_be_stored_is_not_begun():
    """A restart would lose the person."""
    async with ConsentWorld().running() as world:
        world.store.error = unavailable()
        with pytest.raises(LocalError) as caught:
            await world.begin()

    assert caught.value.code == "store_unavailable"
    assert not world.events.of(AuthorizationStarted)


async def test_before_and_after_its_life_nothing_is_redeemed():
    """It might not be finished."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
    with pytest.raises(NotRunningError):
        await world.come_back(begun)

    async with world.running():
        redeemed = await world.come_back(begun)
    assert redeemed.grant.subject == "alice"


async def test_a_token_that_nobody_consents_to_is_refused():
    """And one that does not exist."""
    plain = TokenSpec(name="plain", client="app")
    async with ConsentWorld(specs=(SPEC, plain)).running() as world:
        for name in ("plain", "unknown"):
            with pytest.raises(NotConsentedToError):
                await world.begin(token=name)

    assert world.server.calls == []


async def test_the_grant_to_be_renewed_has_to_be_one_of_the_token():
    """An unknown one and one of another token are alike."""
    many = replace(SPEC, consent=Consent(grants=Grants.MANY))
    other = replace(SPEC, name="other")
    async with ConsentWorld(specs=(many, other)).running() as world:
        foreign = await world.consent(token="other")
        for grant in ("unknown", foreign.grant.id):
            with pytest.raises(NoSuchGrantError):
                await world.begin(renews=grant)


async def test_a_token_with_one_grant_renews_it_without_being_told():
    """Or when it is named."""
    async with ConsentWorld().running() as world:
        first = await world.consent()
        await world.begin()
        await world.begin(renews=first.grant.id)

    assert [event.grant for event in world.events.of(AuthorizationStarted)] == [None, first.grant.id, first.grant.id]


async def test_nothing_is_sent_for_a_choice_that_is_refused():
    """Scope, redirect URI."""
    async with ConsentWorld().running() as world:
        for change in ({"scope": ("admin",)}, {"redirect_uri": "https://evil.example"}):
            with pytest.raises(AskError):
                await world.begin(**change)

    assert world.server.calls == []
    assert world.store.values == {}


@pytest.mark.parametrize(
    "change",
    [
        {"client": replace(PEOPLE_CLIENT, client_id="app-2")},
        {"issuer": replace(ISSUER, issuer="https://other.example")},
    ],
)
async def test_an_authorization_of_another_client_or_issuer_fails_after_a_reload(change: dict[str, Any]):
    """The response is for the one that asked, from the one that was asked."""
    world = ConsentWorld()
    async with world.running():
        begun, gone = await world.begin(), await world.begin()
        for name, value in change.items():
            setattr(world, name, value)
        world.grants.replace((SPEC,), world.registrations())
        assert world.authorizations.replace((SPEC,)) == ()
        with pytest.raises(LocalError) as changed:
            await world.come_back(begun)
        world.authorizations.replace(())
        with pytest.raises(LocalError):
            await world.come_back(gone)

    assert changed.value.code == "client_changed"
    assert world.server.after_par == []


async def test_a_reload_is_told_what_runs_with_the_older_means():
    """So that they are taken down after it."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        world.server.delay = 1.0
        async with asyncio.TaskGroup() as group:
            group.create_task(world.come_back(begun))
            await asyncio.sleep(0.5)
            [running] = world.authorizations.replace((SPEC,))
            await running

    assert world.grants.one("person") is not None


async def test_a_code_is_redeemed_with_the_certificate_that_is_known_to_be_taken():
    """One that is still being tried might be refused, and the person would have to consent again (rules.md R8)."""
    world = ConsentWorld()
    async with world.running():
        await world.consent()
        begun, known, old = await world.begin(), world.server, world.registrations()["app"]
        world.server = PeopleServer(world.clock, thumbprint="untried", delay=20.0)
        world.grants.replace((SPEC,), world.registrations())
        world.server = known
        known.delay = 1.0
        async with asyncio.TaskGroup() as group:
            group.create_task(world.come_back(begun))
            await asyncio.sleep(0.5)
            assert world.authorizations.needs(old)
        assert not world.authorizations.needs(old)
        later = await world.begin()

    assert later.id != begun.id
    assert known.calls == ["/par", "/token", "/par", "/token", "/par"]


async def test_a_bug_in_a_redemption_costs_that_and_nothing_else():
    """It is reported, and others go on."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        world.server.instead["/token"] = lambda: ZeroDivisionError("the-code")
        with pytest.raises(LocalError) as caught:
            await world.come_back(begun)
        del world.server.instead["/token"]
        redeemed = await world.consent()

    [bug] = world.events.of(UnexpectedFailure)
    assert caught.value.code == Reason.UNEXPECTED
    assert caught.value.hint == bug.incident
    assert "the-code" not in f"{bug}"
    assert redeemed.grant.subject == "alice"


async def test_metadata_that_led_to_a_failed_request_are_doubted():
    """They may have changed."""
    async with ConsentWorld().running() as world:
        world.server.instead["/par"] = lambda: RemoteError(Reason.CONNECT_FAILED, "down", outcome=Outcome.NOT_SENT)
        with pytest.raises(RemoteError):
            await world.begin()

    assert world.metadata.doubted == 1
