"""Each check that can fail, as a whole flow: after it no other call is made than a revocation, and nothing is kept."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from broker.consent.authorizations import Begun
from broker.consent.errors import FinishedError, NoSuchGrantError, NotAcceptedError, SubjectMismatchError
from broker.consent.redemption import PAUSE, TRIES, Redeemed
from broker.errors import BrokerError, Outcome, RemoteError
from broker.events import AuthorizationFailed, GrantRevoked
from broker.oauth.checks import CheckFailedError
from broker.oauth.client import Profile, ResponseMode, SenderConstraint
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.tokens.grant import Grant, Phase
from broker.tokens.spec import Consent, Grants
from tests.unit.consent.world import (
    ISSUER,
    KEY,
    PEOPLE_CLIENT,
    REDIRECT_URI,
    SPEC,
    ConsentWorld,
    owned,
)
from tests.unit.oauth.builders import base64url
from tests.unit.oauth.keys import published, server_key
from tests.unit.tokens.stores import unavailable
from tests.unit.tokens.world import bound_jwt, json_response


def unsigned(claims: Mapping[str, Any], **header: Any) -> str:
    """What whoever has no key can make."""
    parts = (json.dumps(part).encode() for part in ({"alg": "none", **header}, claims))
    return ".".join([*(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


def hs256(claims: Mapping[str, Any]) -> str:
    """What whoever read the published keys can make, where one of them is a secret."""
    signed_part = unsigned(claims, alg="HS256", kid="k1").removesuffix(".")
    return f"{signed_part}.{base64url(hmac.digest(b'k' * 32, signed_part.encode(), 'sha256'))}"


OTHER = server_key("ES256", "k2")
RSA = server_key("RS256", "k1")
DECOY = server_key("PS256", "k1")


LONG_AFTER = 5_000.0
"""Seconds: whatever is only put off has happened by then."""


async def failed_flow(
    world: ConsentWorld, url: Callable[[ConsentWorld], str] | None = None, *, calls: list[str]
) -> BrokerError:
    """Go through a flow that has to fail, after the pushed request with *calls* and no other; gives the error."""
    async with world.running():
        begun = await world.begin()
        with pytest.raises(BrokerError) as caught:
            await world.come_back(begun, callback_url=None if url is None else url(world))
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)  # spent, whatever comes after it
        with pytest.raises(FinishedError):
            world.authorizations.status(begun.id, owns=owned)
        assert world.server.after_par == calls
        await asyncio.sleep(LONG_AFTER)
        check_over(world, caught.value, finished.value, begun)
        assert world.server.after_par == calls
    return caught.value


def check_over(world: ConsentWorld, error: BrokerError, finished: FinishedError, begun: Begun) -> None:
    """There is no grant, in memory or stored, and one event tells the name of the check and no value."""
    [event] = world.events.of(AuthorizationFailed)
    assert world.grants.one("person") is None
    assert not [name for name in world.store.values if name.startswith("grant/")]
    assert finished.state == "failed"
    assert (event.reason, event.check) == (finished.reason, finished.check)
    assert event.reason == error.code
    for secret in ("the-code", "rt-", "alice", "mallory", begun.binding.reveal()):
        assert secret not in f"{event}{error}{error.message}{error.hint}"


def changed(**changes: str | None) -> Callable[[ConsentWorld], str]:
    return lambda world: world.url(**changes)


def added(**more: str) -> Callable[[ConsentWorld], str]:
    return lambda world: f"{world.url()}&{urlencode(more)}"


@pytest.mark.parametrize(
    ("url", "check"),
    [
        (changed(iss=None), "iss"),
        (changed(iss="https://as.example/"), "iss"),
        (changed(iss="https://evil.example"), "iss"),
        (changed(state=None), "state"),
        (changed(state="random-0"), "state"),
        (changed(state=""), "state"),
        (changed(code=None), "code"),
        (changed(code=""), "code"),
        (added(code="another"), "repeated_parameter"),
        (added(state="another"), "repeated_parameter"),
        (added(iss="https://as.example"), "repeated_parameter"),
        (lambda world: f"{world.url()}&x=1&x=1", "repeated_parameter"),
        (added(response="a.b.c"), "response_mode"),
        (added(access_token="a"), "response_type"),
        (added(id_token="a"), "response_type"),
        (lambda world: world.url().replace("app.example", "other.example"), "redirect_uri"),
        (changed(code=None, error="access_denied", iss="https://evil.example"), "iss"),
        (changed(code=None, error="access_denied", state="another"), "state"),
        (lambda _: f"{REDIRECT_URI}?", "iss"),
        (lambda world: f"{world.url(code=None)}&code", "code"),
        (lambda world: f"{world.url()}&state", "repeated_parameter"),
    ],
)
async def test_a_response_that_fails_a_check_ends_the_flow(url: Callable[[ConsentWorld], str], check: str):
    """The token endpoint hears nothing of it (AC-03, AC-05, AC-06)."""
    world = ConsentWorld()

    error = await failed_flow(world, url, calls=[])

    assert isinstance(error, CheckFailedError)
    assert (error.code, error.check) == (Reason.AUTHORIZATION_RESPONSE_INVALID, check)


@pytest.mark.parametrize("more", ["&", "&x", "&x=", "&session_state=a.b", "&&y=1&"])
async def test_what_nobody_knows_in_a_response_is_ignored(more: str):
    """It has to be (RFC 6749 section 4.1.2)."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        redeemed = await world.come_back(begun, callback_url=f"{world.url()}{more}")

    assert redeemed.grant.subject == "alice"


@pytest.mark.parametrize(
    ("error", "told"),
    [("access_denied", "access_denied"), ("it failed: the-code", "unrecognized"), ("", "unrecognized")],
)
async def test_a_refusal_is_told_by_its_registered_code(error: str, told: str):
    """Free text of a server goes nowhere."""
    world = ConsentWorld()

    caught = await failed_flow(world, changed(code=None, error=error, error_description="the-code"), calls=[])

    assert isinstance(caught, CheckFailedError)
    assert (caught.code, caught.check, caught.server_error) == ("authorization_refused", "error", told)


async def test_an_issuer_that_does_not_promise_iss_may_leave_it_out():
    """One that sends it all the same is held to it; under FAPI 2.0 it has to come."""
    issuer = replace(ISSUER, profile=Profile.OIDC)
    world = ConsentWorld(issuer=issuer)
    world.metadata.changes = {"authorization_response_iss_parameter_supported": False}
    async with world.running():
        begun = await world.begin()
        await world.come_back(begun, callback_url=world.url(iss=None))
    assert world.server.after_par == ["/token"]

    wrong = ConsentWorld(issuer=issuer)
    wrong.metadata.changes = world.metadata.changes
    error = await failed_flow(wrong, changed(iss="https://evil.example"), calls=[])
    assert getattr(error, "check", None) == "iss"
    strict = ConsentWorld()
    strict.metadata.changes = world.metadata.changes
    assert getattr(await failed_flow(strict, changed(iss=None), calls=[]), "check", None) == "iss"


# --- the ID token ---


def signed(sign: Callable[[Mapping[str, Any]], str]) -> dict[str, Any]:
    return {"sign": sign}


@pytest.mark.parametrize(
    ("server", "check"),
    [
        ({"members": {"id_token": None}}, "id_token"),
        (signed(lambda _: "not-a-jws"), "signed_form"),
        (signed(lambda _: "e30.e30.e30"), "alg"),
        (signed(unsigned), "alg"),
        (signed(RSA.sign), "alg"),
        (signed(lambda claims: unsigned(claims, alg="ES256", kid="k1", crit=["exp"])), "signed_form"),
        (signed(OTHER.sign), "key"),
        (signed(lambda claims: OTHER.sign(claims, kid="k1")), "signature"),
        ({"claims": {"iss": "https://evil.example"}}, "signed_iss"),
        ({"claims": {"iss": None}}, "signed_iss"),
        ({"claims": {"aud": None}}, "aud"),
        ({"claims": {"aud": "app-2"}}, "aud"),
        ({"claims": {"aud": ["app-1", "app-2"]}}, "aud"),
        ({"claims": {"azp": "app-2"}}, "azp"),
        ({"claims": {"exp": None}}, "exp"),
        ({"claims": {"exp": 1_000_000_000}}, "exp"),
        ({"claims": {"iat": None}}, "iat"),
        ({"claims": {"iat": 1_000_000_000}}, "iat"),
        ({"claims": {"iat": 3_000_000_000}}, "iat"),
        ({"claims": {"nbf": 3_000_000_000}}, "nbf"),
        ({"claims": {"sub": None}}, "sub"),
        ({"claims": {"sub": ""}}, "sub"),
        ({"claims": {"nonce": None}}, "nonce"),
        ({"claims": {"nonce": "another"}}, "nonce"),
        ({"claims": {"nonce": "\ud800"}}, "signature"),
        ({"claims": {"at_hash": "another"}}, "at_hash"),
        ({"claims": {"aud": ["app-1", "app-2"], "azp": "app-1"}}, "aud"),
        ({"claims": {"sub": "x" * 256}}, "sub"),
        ({"claims": {"acr": 3}}, "acr"),
        (signed(lambda _: "a.b.c.d.e"), "signed_form"),
        (signed(lambda claims: OTHER.sign(claims, kid="k1", jwk=OTHER.jwk(), jku="https://evil.example")), "signature"),
    ],
)
async def test_an_id_token_that_fails_a_check_costs_the_grant(server: dict[str, Any], check: str):
    """What was issued beside it is revoked, and nothing else is called (IDT-01 to IDT-11)."""
    world = ConsentWorld()
    for name, value in server.items():
        setattr(world.server, name, value)

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert isinstance(error, CheckFailedError)
    assert (error.code, error.check) == (Reason.ID_TOKEN_INVALID, check)
    assert world.server.forms[-1]["token"].startswith("rt-")
    assert [event.outcome for event in world.events.of(GrantRevoked)] == ["revoked"]


INTENT = json.dumps({"id_token": {"openbanking_intent_id": {"essential": True, "value": "urn:intent:1"}}})


@pytest.mark.parametrize(
    ("consent", "claims", "check"),
    [
        (Consent(claims=INTENT), {}, "claims"),
        (Consent(claims=INTENT), {"openbanking_intent_id": "urn:intent:2"}, "claims"),
        (Consent(max_age=60), {"auth_time": None}, "auth_time"),
        (Consent(max_age=60), {"auth_time": 1_000_000_000}, "auth_time"),
        (Consent(), {"auth_time": 3_000_000_000}, "auth_time"),
        (Consent(), {"auth_time": "now"}, "auth_time"),
        (Consent(acr_values=("high",), acr_required=True), {}, "acr"),
        (Consent(acr_values=("high",), acr_required=True), {"acr": "low"}, "acr"),
    ],
)
async def test_a_login_that_is_not_what_was_asked_for_costs_the_grant(
    consent: Consent, claims: dict[str, Any], check: str
):
    """Its age, its level, and what it was for."""
    world = ConsentWorld(specs=(replace(SPEC, consent=consent),))
    world.server.claims = claims

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert getattr(error, "check", None) == check


async def test_a_login_that_is_what_was_asked_for_is_good():
    """The same, when the server does it."""
    consent = Consent(max_age=60, acr_values=("high",), acr_required=True, claims=INTENT)
    world = ConsentWorld(specs=(replace(SPEC, consent=consent),))
    world.server.claims = {"acr": "high", "openbanking_intent_id": "urn:intent:1"}
    async with world.running():
        redeemed = await world.consent()

    assert world.pushed()["max_age"] == "60"
    assert world.pushed()["acr_values"] == "high"
    assert redeemed.grant.subject == "alice"


OCT = {"kty": "oct", "k": base64url(b"k" * 32), "kid": "k1", "alg": "HS256"}


@pytest.mark.parametrize(
    ("sign", "jwks", "check"),
    [
        (hs256, (KEY.jwk(), OCT), "alg"),
        (KEY.sign, (OCT,), "key"),
        (KEY.sign, (KEY.jwk(use="enc"),), "key"),
        (KEY.sign, (KEY.jwk(alg="ES384"),), "key"),
        (KEY.sign, (KEY.jwk(key_ops=["sign"]),), "key"),
        (lambda claims: KEY.sign(claims, kid=None), (OTHER.jwk(), server_key("ES256", "k3").jwk()), "signature"),
    ],
)
async def test_a_published_key_that_is_not_for_that_signature_verifies_nothing(
    sign: Callable[[Mapping[str, Any]], str], jwks: tuple[Any, ...], check: str
):
    """A published secret, a key to encrypt for, one of another algorithm, one of somebody else (JWKS-01 to JWKS-04)."""
    world = ConsentWorld()
    world.keys.keys = published(*jwks)
    world.server.sign = sign

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert getattr(error, "check", None) == check


@pytest.mark.parametrize("max_age", [0, 60])
async def test_a_person_may_take_time_over_the_consent_page(max_age: int):
    """Who logged in after we asked logged in lately enough."""
    world = ConsentWorld(specs=(replace(SPEC, consent=Consent(max_age=max_age)),))
    async with world.running():
        begun = await world.begin()
        world.server.claims = {"auth_time": int(world.clock.wall()) + 5}
        await asyncio.sleep(120.0)
        redeemed = await world.come_back(begun)

    assert redeemed.grant.auth_time == world.server.claims["auth_time"]


async def test_keys_are_fetched_anew_once_for_one_that_is_missing():
    """The server rotated just before it signed; a decoy under the same name does no harm (JWKS-01, JWKS-03)."""
    world = ConsentWorld()
    world.keys.keys = published(DECOY.jwk(), RSA.jwk())
    world.keys.newer = published(DECOY.jwk(), KEY.jwk())
    async with world.running():
        redeemed = await world.consent()

    assert redeemed.grant.subject == "alice"
    assert world.keys.refetched == 1


async def test_without_keys_nothing_is_verified():
    """An issuer whose keys cannot be had: the code stays where it is."""
    world = ConsentWorld()
    world.has_keys = False

    error = await failed_flow(world, calls=[])

    assert error.code == Reason.KEYS_UNAVAILABLE


DOWN = RemoteError(Reason.KEYS_UNAVAILABLE, "down", outcome=Outcome.NOT_SENT)


@pytest.mark.parametrize("mode", [ResponseMode.QUERY, ResponseMode.JWT])
async def test_keys_that_cannot_be_had_just_now_cost_nobody_the_consent(mode: ResponseMode):
    """The same callback may come again: nothing was sent, and nothing is known against it."""
    world = ConsentWorld(client=replace(PEOPLE_CLIENT, response_mode=mode))
    async with world.running():
        begun = await world.begin()
        url = jarm()(world) if mode is ResponseMode.JWT else world.url()
        world.keys.error = DOWN
        for _ in range(2):
            with pytest.raises(NotAcceptedError) as caught:
                await world.come_back(begun, callback_url=url)
        status = world.authorizations.status(begun.id, owns=owned)
        calls = list(world.server.after_par)
        world.keys.error = None
        redeemed = await world.come_back(begun, callback_url=url)

    assert (caught.value.error, caught.value.code) == (DOWN, Reason.KEYS_UNAVAILABLE)
    assert (status.state, calls) == ("waiting", [])
    assert world.events.of(AuthorizationFailed) == []
    assert redeemed.grant.subject == "alice"


async def test_an_authorization_that_waits_for_keys_expires_as_any():
    """It is not kept for ever."""
    world = ConsentWorld()
    async with world.running():
        begun = await world.begin()
        world.keys.error = DOWN
        with pytest.raises(NotAcceptedError):
            await world.come_back(begun)
        await asyncio.sleep(601.0)
        with pytest.raises(FinishedError) as finished:
            await world.come_back(begun)

    assert finished.value.state == "expired"
    assert world.server.after_par == []


async def test_newer_keys_of_a_signed_response_that_cannot_be_had_are_waited_for():
    """The key is missing, and the server does not give the others: this is no failed check yet."""
    world = jarm_world()
    async with world.running():
        begun = await world.begin()
        url = jarm(OTHER.sign)(world)
        world.keys.newer_error = DOWN
        with pytest.raises(NotAcceptedError):
            await world.come_back(begun, callback_url=url)
        world.keys.newer_error, world.keys.newer = None, published(OTHER.jwk(), KEY.jwk())
        redeemed = await world.come_back(begun, callback_url=url)

    assert redeemed.grant.subject == "alice"


async def test_newer_keys_of_an_id_token_that_cannot_be_had_cost_the_grant():
    """The code is spent by then."""
    world = ConsentWorld()
    world.server.sign = OTHER.sign
    world.keys.newer_error = DOWN

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert error.code == Reason.KEYS_UNAVAILABLE


async def test_without_openid_no_keys_are_asked_for():
    """Nothing is signed that they could be needed for; a refusal needs none either."""
    world = ConsentWorld(specs=(replace(SPEC, scope=("accounts",)),))
    world.keys.error = DOWN
    async with world.running():
        await world.consent()
    refused = ConsentWorld()
    refused.keys.error = DOWN

    error = await failed_flow(refused, changed(code=None, error="access_denied"), calls=[])
    assert error.code == Reason.AUTHORIZATION_REFUSED


@pytest.mark.parametrize("mode", [ResponseMode.QUERY, ResponseMode.JWT])
async def test_a_key_that_newer_keys_lack_too_is_asked_for_once(mode: ResponseMode):
    """A server that publishes none of that name has signed nothing (JWKS-03)."""
    world = ConsentWorld(client=replace(PEOPLE_CLIENT, response_mode=mode))
    world.keys.newer = published(KEY.jwk(), server_key("ES256", "k9").jwk())
    is_jarm = mode is ResponseMode.JWT
    world.server.sign = OTHER.sign

    calls = [] if is_jarm else ["/token", "/revoke"]
    error = await failed_flow(world, jarm(OTHER.sign) if is_jarm else None, calls=calls)

    assert getattr(error, "check", None) == "key"
    assert world.keys.refetched == 1


# --- userinfo ---

LOOKING_UP = replace(SPEC, consent=Consent(userinfo=True))


async def test_the_person_is_looked_up_where_that_is_configured():
    """With the new token."""
    world = ConsentWorld(specs=(LOOKING_UP,))
    async with world.running():
        await world.consent()

    assert world.server.after_par == ["/token", "/userinfo"]


@pytest.mark.parametrize("userinfo", [{"sub": "mallory"}, {"sub": None}, {}])
async def test_userinfo_about_somebody_else_costs_the_grant(userinfo: dict[str, Any]):
    """Or about nobody (IDT-11)."""
    world = ConsentWorld(specs=(LOOKING_UP,))
    world.server.userinfo = userinfo

    error = await failed_flow(world, calls=["/token", "/userinfo", "/revoke"])

    assert getattr(error, "check", None) == "userinfo_sub"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json_response({"error": "invalid_token"}, status=401), Reason.SERVER_REFUSED),
        (Response(status=500, headers={}, body=b""), Reason.SERVER_FAILED),
        (Response(status=302, headers={"location": "https://evil.example"}, body=b""), Reason.REDIRECTED),
        (Response(status=200, headers={"content-type": "application/jwt"}, body=b"a.b.c"), Reason.NOT_JSON),
        (json_response(["alice"]), Reason.MALFORMED),
        (RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN), Reason.CONNECTION_LOST),
    ],
)
async def test_userinfo_that_is_no_answer_costs_the_grant(answer: Response | RemoteError, reason: Reason):
    """Nobody said that the token is the person's; the endpoint is asked once (IDT-11)."""
    world = ConsentWorld(specs=(LOOKING_UP,))
    world.server.instead["/userinfo"] = instead(answer)

    error = await failed_flow(world, calls=["/token", "/userinfo", "/revoke"])

    assert error.code == reason


# --- the token response ---


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"scope": "openid accounts admin"}, Reason.WIDER_SCOPE),
        ({"access_token": bound_jwt(None)}, Reason.DOWNGRADED),
        ({"access_token": bound_jwt("another")}, Reason.WRONG_BINDING),
        ({"access_token": None}, Reason.INVALID_RESPONSE),
        ({"token_type": "DPoP"}, Reason.DOWNGRADED),
        ({"token_type": None}, Reason.INVALID_RESPONSE),
        ({"expires_in": -1}, Reason.INVALID_RESPONSE),
        ({"id_token": 7}, Reason.INVALID_RESPONSE),
    ],
)
async def test_a_token_response_that_fails_a_check_costs_the_grant(members: dict[str, Any], reason: Reason):
    """The refresh token was safe before, and is revoked after."""
    world = ConsentWorld()
    world.server.members = members

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert error.code == reason


async def test_without_a_refresh_token_the_access_token_is_revoked():
    """Once: it ends by itself. Nothing was stored of it."""
    world = ConsentWorld()
    world.server.members = {"refresh_token": None, "token_type": "DPoP"}

    await failed_flow(world, calls=["/token", "/revoke"])

    assert world.server.forms[-1]["token_type_hint"] == "access_token"


@pytest.mark.parametrize(
    ("metadata", "members", "calls"),
    [
        ({"revocation_endpoint": None}, {"refresh_token": None, "expires_in": -1}, ["/token"]),
        ({}, {"refresh_token": None, "access_token": None}, ["/token"]),
    ],
)
async def test_what_cannot_be_revoked_is_left(metadata: dict[str, Any], members: dict[str, Any], calls: list[str]):
    """There is no endpoint, or nothing to revoke."""
    world = ConsentWorld()
    world.metadata.changes = metadata
    world.server.members = members

    await failed_flow(world, calls=calls)


async def test_a_revocation_that_fails_or_takes_long_changes_nothing():
    """The caller is told about the check that failed, within seconds."""
    world = ConsentWorld()
    world.server.members = {"refresh_token": None, "token_type": "DPoP"}
    world.server.instead["/revoke"] = lambda: RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN)

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert error.code == Reason.DOWNGRADED


ASKING = json.dumps([{"type": "payment", "amount": "1"}, {"type": "reading"}])
DETAILED = replace(SPEC, consent=Consent(authorization_details=ASKING))


@pytest.mark.parametrize(
    ("granted", "kept"),
    [
        (None, json.loads(ASKING)),
        ([{"type": "reading"}], [{"type": "reading"}]),
        (
            [{"type": "payment", "amount": "1", "account": "DE1"}],
            [{"type": "payment", "amount": "1", "account": "DE1"}],
        ),
        ([], []),
    ],
)
async def test_the_details_that_were_granted_are_those_of_the_grant(granted: Any, kept: list[Any]):
    """As asked, less, or with more said about them (RFC 9396 section 7)."""
    world = ConsentWorld(specs=(DETAILED,))
    world.server.members = {"authorization_details": granted}
    async with world.running():
        redeemed = await world.consent()

    assert list(redeemed.grant.authorization_details) == kept
    assert json.loads(world.pushed()["authorization_details"]) == json.loads(ASKING)


@pytest.mark.parametrize(
    ("granted", "reason"),
    [
        ([{"type": "transfer"}], Reason.WIDER_SCOPE),
        ([{"type": "reading"}, {"type": "transfer"}], Reason.WIDER_SCOPE),
        ([{}], Reason.WIDER_SCOPE),
        (["reading"], Reason.INVALID_RESPONSE),
        ({"type": "reading"}, Reason.INVALID_RESPONSE),
    ],
)
async def test_details_that_were_not_asked_for_cost_the_grant(granted: Any, reason: Reason):
    """Whoever gave them."""
    world = ConsentWorld(specs=(DETAILED,))
    world.server.members = {"authorization_details": granted}

    error = await failed_flow(world, calls=["/token", "/revoke"])

    assert error.code == reason


async def test_no_more_scope_is_granted_than_this_caller_asked_for():
    """Though the configuration would allow it."""
    world = ConsentWorld()
    world.server.members = {"scope": "openid accounts"}
    async with world.running():
        begun = await world.begin(scope=("openid",))
        with pytest.raises(RemoteError) as caught:
            await world.come_back(begun)

    assert world.pushed()["scope"] == "openid"
    assert caught.value.code == Reason.WIDER_SCOPE


async def test_less_scope_is_what_the_grant_has():
    """The person may leave something out."""
    world = ConsentWorld()
    world.server.members = {"scope": "openid"}
    async with world.running():
        redeemed = await world.consent()

    assert redeemed.grant.scope == ("openid",)


# --- the exchange ---


def instead(*answers: Response | Exception) -> Callable[[], Any]:
    left = list(answers)
    return lambda: left.pop(0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json_response({"error": "invalid_grant"}, status=400), Reason.SERVER_REFUSED),
        (json_response({"error": "server_error"}, status=500), Reason.SERVER_FAILED),
        (json_response({"error": "slow_down"}, status=429), Reason.RATE_LIMITED),
        (json_response({"error": "invalid_client"}, status=401), Reason.SERVER_REFUSED),
        (json_response({"error": "use_dpop_nonce"}, status=400), Reason.SERVER_REFUSED),
        (Response(status=503, headers={"retry-after": "1"}, body=b""), Reason.RATE_LIMITED),
        (
            RemoteError(Reason.CLIENT_SUSPENDED, "held", outcome=Outcome.NOT_SENT, retry_after=1.0),
            Reason.CLIENT_SUSPENDED,
        ),
        (Response(status=200, headers={}, body=b""), Reason.MALFORMED),
        (Response(status=200, headers={}, body=b"<html>"), Reason.NOT_JSON),
        (Response(status=302, headers={"location": "https://evil.example"}, body=b""), Reason.REDIRECTED),
        (RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN), Reason.CONNECTION_LOST),
        (RemoteError(Reason.TIMED_OUT, "late", outcome=Outcome.UNKNOWN), Reason.TIMED_OUT),
        (TimeoutError(), Reason.TIMED_OUT),
    ],
)
async def test_a_code_that_may_have_been_processed_is_not_sent_again(answer: Response | Exception, reason: Reason):
    """Once is all that there is (AC-07)."""
    world = ConsentWorld()
    world.server.instead["/token"] = instead(answer)

    error = await failed_flow(world, calls=["/token"])

    assert error.code == reason


async def test_a_refresh_token_in_an_answer_that_is_no_good_is_revoked():
    """Even one that is not said to be JSON (rules.md R2.2)."""
    world = ConsentWorld()
    world.server.instead["/token"] = instead(Response(status=200, headers={}, body=b'{"refresh_token":"rt-x"}'))

    await failed_flow(world, calls=["/token", "/revoke"])

    assert world.server.forms[-1]["token"] == "rt-x"


async def test_a_code_that_was_not_sent_is_sent_again_with_a_new_assertion():
    """Nobody listened: no byte was written (rules.md R1)."""
    world = ConsentWorld()
    down = RemoteError(Reason.CONNECT_FAILED, "down", outcome=Outcome.NOT_SENT)
    answers: list[Any] = [down, down]

    def answer() -> Any:
        if answers:
            return answers.pop(0)
        del world.server.instead["/token"]
        return json_response(world.server.token_response())

    world.server.instead["/token"] = answer
    async with world.running():
        begun = await world.begin()
        started = world.clock.boot()
        await world.come_back(begun)

    assert world.server.after_par == ["/token"] * TRIES
    assert world.clock.boot() - started >= 2 * PAUSE
    jtis = [claims["jti"] for claims in world.signer.signed]
    assert len(set(jtis)) == len(jtis) == 1 + TRIES


async def test_a_code_that_cannot_be_sent_is_given_up():
    """After a few tries: codes live for a minute."""
    world = ConsentWorld()
    world.server.instead["/token"] = lambda: RemoteError(Reason.CONNECT_FAILED, "down", outcome=Outcome.NOT_SENT)

    error = await failed_flow(world, calls=["/token"] * TRIES)

    assert error.code == Reason.CONNECT_FAILED


async def test_a_code_waits_for_its_turn_for_half_a_minute():
    """Others have the issuer to themselves."""
    world = ConsentWorld(issuer=replace(ISSUER, max_concurrent_requests=1))
    async with world.running():
        first, second = await world.begin(), await world.begin()
        urls = [world.url(state=form["state"]) for form in world.server.forms]
        world.server.delay = 300.0
        async with asyncio.TaskGroup() as group:
            held = group.create_task(world.come_back(first, callback_url=urls[0]))
            await asyncio.sleep(1.0)
            with pytest.raises(RemoteError) as caught:
                await world.come_back(second, callback_url=urls[1])
            held.cancel()

    assert caught.value.code == Reason.TIMED_OUT
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_the_code_goes_with_its_verifier_and_the_redirect_uri():
    """And nothing else of the request."""
    async with ConsentWorld().running() as world:
        await world.consent()
        form = world.server.forms[-1]

    assert form == {
        "grant_type": "authorization_code",
        "redirect_uri": REDIRECT_URI,
        "code": "the-code",
        "code_verifier": form["code_verifier"],
        **{name: value for name, value in form.items() if name.startswith("client_")},
    }
    assert world.pushed()["code_challenge_method"] == "S256"


# --- JARM and form_post ---


def jarm_world(**changes: Any) -> ConsentWorld:
    world = ConsentWorld(client=replace(PEOPLE_CLIENT, response_mode=ResponseMode.JWT))
    for name, value in changes.items():
        setattr(world.server, name, value)
    return world


def jarm(sign: Callable[[Mapping[str, Any]], str] = KEY.sign, **changes: Any) -> Callable[[ConsentWorld], str]:
    def url(world: ConsentWorld) -> str:
        now = int(world.clock.wall())
        claims = {**world.response(), "aud": "app-1", "exp": now + 60, "iat": now} | changes
        present = {name: value for name, value in claims.items() if value is not None}
        return f"{REDIRECT_URI}?{urlencode({'response': sign(present)})}"

    return url


async def test_a_signed_response_is_redeemed():
    """Its iss stands for the parameter."""
    async with jarm_world().running() as world:
        begun = await world.begin()
        redeemed = await world.come_back(begun, callback_url=jarm()(world))

    assert world.pushed()["response_mode"] == "jwt"
    assert redeemed.grant.subject == "alice"


async def test_the_key_of_a_signed_response_may_be_new():
    """Then the keys are fetched anew, once."""
    world = jarm_world()
    world.keys.newer = published(OTHER.jwk(), KEY.jwk())
    async with world.running():
        begun = await world.begin()
        await world.come_back(begun, callback_url=jarm(OTHER.sign)(world))

    assert world.keys.refetched == 1


@pytest.mark.parametrize(
    ("url", "check"),
    [
        (jarm(iss=None), "signed_iss"),
        (jarm(iss="https://evil.example"), "signed_iss"),
        (jarm(aud=None), "aud"),
        (jarm(aud="app-2"), "aud"),
        (jarm(aud=["app-1", "app-2"]), "aud"),
        (jarm(exp=None), "exp"),
        (jarm(exp=1_000_000_000), "exp"),
        (jarm(OTHER.sign), "key"),
        (jarm(lambda claims: OTHER.sign(claims, kid="k1")), "signature"),
        (jarm(unsigned), "alg"),
        (jarm(RSA.sign), "alg"),
        (jarm(state="another"), "state"),
        (jarm(state=None), "state"),
        (jarm(code=None), "code"),
        (jarm(nbf=3_000_000_000), "nbf"),
        (jarm(iat=3_000_000_000), "iat"),
        (jarm(id_token="a"), "response_type"),
        (jarm(access_token="a"), "response_type"),
        (jarm(response="a.b.c"), "response_mode"),
        (jarm(code=None, error="access_denied"), "error"),
        (jarm(error=5), "error"),
        (jarm(code=None, error="access_denied", state="another"), "state"),
        (jarm(code=None, error="access_denied", iss="https://evil.example"), "signed_iss"),
        (jarm(lambda claims: unsigned(claims, alg="ES256", kid="k1", crit=["exp"])), "signed_form"),
        (jarm(lambda _: "a.b.c.d.e"), "signed_form"),
        (jarm(lambda _: ""), "signed_form"),
        (jarm(lambda claims: OTHER.sign(claims, jwk=OTHER.jwk())), "key"),
        (jarm(lambda claims: OTHER.sign(claims, jwk=OTHER.jwk(), kid="k1")), "signature"),
        (changed(), "response_mode"),
        (changed(code=None, error="access_denied"), "response_mode"),
        (lambda world: f"{jarm()(world)}&state=x", "response_mode"),
        (lambda world: f"{jarm()(world)}&response=x", "repeated_parameter"),
    ],
)
async def test_a_signed_response_that_fails_a_check_ends_the_flow(url: Callable[[ConsentWorld], str], check: str):
    """The token endpoint hears nothing of it."""
    world = jarm_world()

    error = await failed_flow(world, url, calls=[])

    assert getattr(error, "check", None) == check


async def test_a_signed_response_needs_keys():
    """Without any nothing can be checked."""
    world = jarm_world()
    world.has_keys = False

    assert getattr(await failed_flow(world, jarm(), calls=[]), "check", None) == "key"


async def test_a_posted_response_is_redeemed():
    """And one in the query is not, where that was asked for."""
    client = replace(PEOPLE_CLIENT, response_mode=ResponseMode.FORM_POST)
    async with ConsentWorld(client=client).running() as world:
        begun = await world.begin()
        await world.come_back(begun, callback_url=REDIRECT_URI, form=world.response())
    assert world.pushed()["response_mode"] == "form_post"

    error = await failed_flow(ConsentWorld(client=client), calls=[])
    assert getattr(error, "check", None) == "response_mode"


# --- what becomes of it ---


async def test_without_openid_nobody_says_who_it_is():
    """The subject is not verified, an ID token that nobody asked for is not looked at."""
    world = ConsentWorld(specs=(replace(SPEC, scope=("accounts",)),), has_keys=False)
    async with world.running():
        redeemed = await world.consent()

    assert "nonce" not in world.pushed()
    assert (redeemed.grant.subject, redeemed.grant.subject_verified) == (None, False)


async def test_a_consent_ends_when_the_configuration_says():
    """By the wall clock; how long a refresh token lives unused, the server says."""
    world = ConsentWorld(specs=(replace(SPEC, consent=Consent(lifetime=86_400.0)),))
    world.server.members = {"refresh_expires_in": 3_600}
    async with world.running():
        redeemed = await world.consent()
        stored = world.store.grant(redeemed.grant.id)

    assert stored is not None
    assert redeemed.grant.consent_expires_at == redeemed.grant.created_at + 86_400.0
    assert stored.consent_expires_at == redeemed.grant.consent_expires_at
    assert stored.idle_lifetime == 3_600.0


async def test_a_refresh_token_is_safe_before_anything_is_checked():
    """Killed in the middle of a check: the grant is in the store, not usable, and revoked at the next start."""
    world = ConsentWorld(specs=(LOOKING_UP,))
    async with world.running():
        begun = await world.begin()
        seen: list[Grant] = []

        def look() -> Response:
            seen.extend(
                Grant.from_bytes(value) for name, value in world.store.values.items() if name.startswith("grant/")
            )
            return json_response({"sub": "alice"})

        world.server.instead["/userinfo"] = look
        await world.come_back(begun)

    assert [(grant.phase, grant.refresh_token is not None) for grant in seen] == [(Phase.UNVERIFIED, True)]


async def test_a_token_without_a_certificate_needs_none():
    """Bearer tokens of servers that know no better."""
    client = replace(PEOPLE_CLIENT, sender_constraint=SenderConstraint.NONE, presents_certificate=False)
    world = ConsentWorld(client=client)
    world.server.thumbprint = None
    async with world.running():
        redeemed = await world.consent()

    assert redeemed.token.binding == "none"


# --- renewing ---


async def test_the_same_person_renews_the_grant_under_its_id():
    """Whoever asks: the grant stays whose it is, with the newest refresh token, its age and its label."""
    async with ConsentWorld().running() as world:
        first = await world.consent(label="laptop")
        begun = await world.begin(owner="app")
        again = await world.come_back(begun)
        stored = [name for name in world.store.values if name.startswith("grant/")]

    assert again.renewed
    assert again.grant.id == first.grant.id
    assert again.grant.created_at == first.grant.created_at
    assert again.grant.label == "laptop"
    assert again.grant.refresh_token != first.grant.refresh_token
    assert stored == [f"grant/{first.grant.id}"]
    assert "/revoke" not in world.server.calls


async def test_another_person_does_not_renew_the_grant():
    """It is as it was, and what the other person gave is revoked (rules.md R4)."""
    async with ConsentWorld().running() as world:
        first = await world.consent()
        kept = world.store.values[f"grant/{first.grant.id}"]
        world.server.subject = "mallory"
        with pytest.raises(SubjectMismatchError):
            await world.consent()
        serving = await world.grants.get(first.grant.id, min_valid=None, wait=0.0)
        now = world.store.values[f"grant/{first.grant.id}"]

    assert now == kept
    assert serving.token == first.token
    assert world.server.after_par == ["/token", "/token", "/revoke"]
    assert world.server.forms[-1]["token"] != first.grant.refresh_token.reveal()  # type: ignore[union-attr]
    assert [event.reason for event in world.events.of(AuthorizationFailed)] == ["subject_mismatch"]


async def test_who_cannot_be_told_does_not_renew_the_grant_of_a_known_person():
    """The configuration lost openid: nobody could say whose consent it is."""
    world = ConsentWorld()
    async with world.running():
        await world.consent()
        plain = replace(SPEC, scope=("accounts",))
        world.authorizations.replace((plain,))
        with pytest.raises(SubjectMismatchError):
            await world.consent()


async def test_of_two_who_consent_for_the_first_time_the_second_has_to_be_the_same_person():
    """There is one grant for all, and the first is it."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        url, nonce = world.url(), world.server.nonce
        late = await world.begin()
        late_url, late_nonce = world.url(), world.server.nonce
        world.server.nonce = nonce
        first = await world.come_back(begun, callback_url=url)
        world.server.nonce, world.server.subject = late_nonce, "mallory"
        with pytest.raises(SubjectMismatchError):
            await world.come_back(late, callback_url=late_url)

    assert world.grants.one("person") == first.grant.id


UNNAMED = replace(SPEC, scope=("accounts",))


async def test_where_nobody_is_named_a_workload_renews_no_grant_of_another():
    """The other one asks other people: theirs does not take the place of ours, and is revoked."""
    async with ConsentWorld(specs=(UNNAMED,)).running() as world:
        ours, our_url = await world.begin(), world.url()
        theirs, their_url = await world.begin(owner="b"), world.url()
        first = await world.come_back(ours, callback_url=our_url)
        kept = world.store.values[f"grant/{first.grant.id}"]
        with pytest.raises(SubjectMismatchError) as caught:
            await world.come_back(theirs, callback_url=their_url, owns=lambda owner, _: owner == "b")

    assert world.store.values[f"grant/{first.grant.id}"] == kept
    assert first.grant.id not in f"{caught.value}{caught.value.hint}"
    assert world.server.after_par == ["/token", "/token", "/revoke"]


async def test_where_nobody_is_named_a_workload_renews_its_own_grant():
    """It knows whom it asks."""
    async with ConsentWorld(specs=(UNNAMED,)).running() as world:
        first = await world.consent()
        again = await world.consent()

    assert again.renewed
    assert again.grant.id == first.grant.id


async def test_where_nobody_is_named_a_grant_is_renewed_by_its_id_for_its_owner_only():
    """Also where there are many, and the policy lets others see it."""
    spec = replace(UNNAMED, consent=Consent(grants=Grants.MANY))
    async with ConsentWorld(specs=(spec,)).running() as world:
        first = await world.consent()
        begun = await world.begin(owner="b", renews=first.grant.id)
        with pytest.raises(SubjectMismatchError):
            await world.come_back(begun, owns=lambda owner, _: owner == "b")
        again = await world.consent(renews=first.grant.id)

    assert again.grant.id == first.grant.id


async def test_a_person_who_is_known_renews_the_grant_by_way_of_another_workload():
    """It stays whose it is."""
    async with ConsentWorld().running() as world:
        first = await world.consent()
        begun = await world.begin(owner="b")
        again = await world.come_back(begun, owns=lambda owner, _: owner == "b")

    assert (again.grant.id, again.grant.owner) == (first.grant.id, "app")


async def test_every_request_of_a_redemption_has_its_turn():
    """Ten people at once are no more requests at a time than the issuer bears."""
    issuer = replace(ISSUER, max_concurrent_requests=1)
    world = ConsentWorld(
        specs=(replace(LOOKING_UP, consent=Consent(userinfo=True, grants=Grants.MANY)),), issuer=issuer
    )
    world.server.delay = 0.5
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
        flows = []
        for _ in range(4):
            begun = await world.begin()
            flows.append(world.come_back(begun, callback_url=world.url()))
        outcomes = await asyncio.gather(*flows, return_exceptions=True)

    assert most == 1
    assert sum(isinstance(outcome, Redeemed) for outcome in outcomes) == 1  # the nonce is that of the last
    assert world.server.calls.count("/userinfo") == 1
    assert world.server.calls.count("/revoke") == 3


MANY = replace(SPEC, consent=Consent(grants=Grants.MANY))


async def test_each_person_has_a_grant_of_their_own():
    """Where the token has many."""
    async with ConsentWorld(specs=(MANY,)).running() as world:
        alice = await world.consent()
        world.server.subject = "bob"
        bob = await world.consent()
        again = await world.consent(renews=bob.grant.id)

    assert len({alice.grant.id, bob.grant.id}) == 2
    assert again.grant.id == bob.grant.id
    assert again.renewed


async def test_a_grant_that_was_given_up_meanwhile_is_not_renewed():
    """Who gave it up meant that."""
    async with ConsentWorld(specs=(MANY,)).running() as world:
        first = await world.consent()
        begun = await world.begin(renews=first.grant.id)
        await world.grants.revoke(first.grant.id)
        with pytest.raises(NoSuchGrantError):
            await world.come_back(begun)

    assert world.server.after_par == ["/token", "/revoke", "/token", "/revoke"]


async def test_the_code_is_not_sent_before_that_is_written_down():
    """A full disk: the callback may come again when there is room."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        world.store.error = unavailable()
        with pytest.raises(BrokerError) as caught:
            await world.come_back(begun)
        calls = list(world.server.after_par)
        world.store.error = None
        redeemed = await world.come_back(begun)

    assert caught.value.code == "store_unavailable"
    assert calls == []
    assert redeemed.grant.subject == "alice"
