"""Tests of ``broker/sandbox/grant_routes.py``: consents over real TLS, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from broker.sandbox.demo_clients import CLIENT_ID, FOREIGN_RESOURCE, REDIRECT_URIS
from broker.sandbox.jose import SigningAlg, unverified_claims, unverified_header
from tests.unit.sandbox.talking import (
    NONCE,
    REDIRECT_URI,
    STATE,
    Talker,
    answered,
    request_object,
    request_parameters,
    talking,
    token_form,
)

pytestmark = pytest.mark.real_time


async def test_a_pushed_request_leads_to_tokens_of_the_person(prepared: Path, tmp_path: Path):
    """PAR, a consent, a code, tokens, the API, userinfo: each with what came of the one before."""
    async with talking(prepared, tmp_path) as talker:
        pushed = await talker.push()
        said = await talker.consent(user="bob")
        granted = await talker.redeem(said["code"])
        hello = await talker.hello(granted.body["access_token"])
        userinfo = await talker.userinfo(granted.body["access_token"])

        assert (pushed.status, pushed.body["expires_in"]) == (201, 60)
        assert (said["state"], said["iss"]) == (STATE, talker.sandbox.addresses.issuer)
        assert (granted.status, granted.headers["Cache-Control"]) == (200, "no-store")
        assert sorted(granted.body) == [
            *("access_token", "expires_in", "id_token", "refresh_token", "scope", "token_type"),
        ]
        assert (hello.status, hello.body["subject"]) == (200, "bob")
        assert (userinfo.status, userinfo.body["sub"]) == (200, "bob")


@pytest.mark.parametrize(("alg", "kind"), [("PS256", RSAKey), ("ES256", ECKey)])
async def test_an_id_token_verifies_with_the_published_keys(
    prepared: Path, tmp_path: Path, alg: str, kind: type[RSAKey | ECKey]
):
    """OpenID Connect Core section 2, with every claim that matters."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.set_options(id_token_alg=alg)
        granted = await talker.granted(acr_values="gold")
        token = granted.body["id_token"]

        (key,) = [one for one in await talker.jwks() if one["kid"] == unverified_header(token)["kid"]]
        jws.deserialize_compact(token, kind.import_key(key), algorithms=[alg])
        claims = unverified_claims(token)
        assert (claims["iss"], claims["aud"]) == (talker.sandbox.addresses.issuer, CLIENT_ID)
        assert (claims["sub"], claims["nonce"], claims["acr"]) == ("alice", NONCE, "gold")
        assert {"exp", "iat", "auth_time", "at_hash"} < set(claims)


@pytest.mark.parametrize("by", ["value", "object", "pushed object"])
async def test_a_request_may_come_in_other_ways(prepared: Path, tmp_path: Path, by: str):
    """In the browser's URL, signed there, or signed and pushed."""
    async with talking(prepared, tmp_path) as talker:
        signed: dict[str, Any] = {
            "client_id": CLIENT_ID,
            "request": request_object(talker.sandbox, alg=SigningAlg.PS256),
        }
        if by == "value":
            url = talker.authorization_url(**request_parameters())
        elif by == "object":
            url = talker.authorization_url(**signed)
        else:
            form = token_form(talker.sandbox, grant_type=None, **signed)
            pushed = await talker.send("POST", f"{talker.sandbox.addresses.issuer}/request", None, data=form)
            url = talker.authorization_url(client_id=CLIENT_ID, request_uri=pushed.body["request_uri"])

        said = answered(await talker.decide(url))

        assert (await talker.redeem(said["code"])).status == 200


async def test_pages_are_shown_with_a_strict_policy(prepared: Path, tmp_path: Path):
    """No script, no frame, no referrer, no copy kept."""
    async with talking(prepared, tmp_path) as talker:
        url = talker.authorization_url(**request_parameters())

        pages = [
            await talker.send("GET", url, None),
            await talker.decide(url, decision=None),
            await talker.send("GET", talker.authorization_url(client_id="nobody"), None),
            await talker.send("GET", f"{talker.sandbox.addresses.issuer}/session/end", None),
        ]

        assert [page.status for page in pages] == [200, 200, 400, 200]
        for page in pages:
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert page.headers["Cache-Control"] == "no-store"
            assert page.headers["Referrer-Policy"] == "no-referrer"
        assert "http://127.0.0.1:40123" in pages[0].headers["Content-Security-Policy"]


async def test_the_pages_are_for_browsers_which_have_no_certificate(prepared: Path, tmp_path: Path):
    """They are not at the mutual TLS listener."""
    async with talking(prepared, tmp_path) as talker:
        missing = await talker.send("GET", f"{talker.sandbox.addresses.mtls}/authorize", "client")

        assert missing.status == 404


async def test_form_post_is_a_page_with_a_button(prepared: Path, tmp_path: Path):
    """There is no script to press it."""
    async with talking(prepared, tmp_path) as talker:
        url = talker.authorization_url(**request_parameters(response_mode="form_post"))

        page = await talker.decide(url)

        assert page.status == 200
        assert f'action="{REDIRECT_URI}"'.encode() in page.raw
        assert b'name="code"' in page.raw


async def test_denied_is_told_to_the_client(prepared: Path, tmp_path: Path):
    """With state and iss."""
    async with talking(prepared, tmp_path) as talker:
        said = await talker.consent(decision="deny")

        assert (said["error"], said["state"]) == ("access_denied", STATE)


@pytest.mark.parametrize(
    ("changes", "certificate", "error"),
    [
        ({"code_verifier": "w" * 43}, "client", "invalid_grant"),
        ({"redirect_uri": REDIRECT_URIS[0]}, "client", "invalid_grant"),
        ({"code": "guessed"}, "client", "invalid_grant"),
        ({}, None, "invalid_grant"),
        ({"grant_type": "password"}, "client", "unsupported_grant_type"),
    ],
)
async def test_a_code_is_not_redeemed_by_others(
    prepared: Path, tmp_path: Path, changes: dict[str, Any], certificate: str | None, error: str
):
    """Wrong verifier, redirect URI or code; no certificate to bind to."""
    async with talking(prepared, tmp_path) as talker:
        code = (await talker.consent())["code"]

        refused = await talker.redeem(code, certificate=certificate, **changes)

        assert (refused.status, refused.body["error"]) == (400, error)
        assert talker.sandbox.families.as_json() == []


async def test_a_request_without_a_certificate_spends_nothing(prepared: Path, tmp_path: Path):
    """Neither code nor refresh token: the client may come back with it."""
    async with talking(prepared, tmp_path) as talker:
        code = (await talker.consent())["code"]
        await talker.redeem(code, certificate=None)
        granted = await talker.redeem(code)
        await talker.refresh(granted.body["refresh_token"], certificate=None)

        assert (await talker.refresh(granted.body["refresh_token"])).status == 200


async def test_a_refresh_token_is_rotated_and_its_family_dies_with_reuse(prepared: Path, tmp_path: Path):
    """Access tokens included, at the API and at userinfo."""
    async with talking(prepared, tmp_path) as talker:
        first = (await talker.granted()).body
        second = (await talker.refresh(first["refresh_token"])).body
        reused = await talker.refresh(first["refresh_token"])
        after = await talker.refresh(second["refresh_token"])

        assert second["refresh_token"] != first["refresh_token"]
        assert "nonce" not in unverified_claims(second["id_token"])
        assert [one.body["error"] for one in (reused, after)] == ["invalid_grant", "invalid_grant"]
        assert (await talker.hello(second["access_token"])).status == 401
        assert (await talker.userinfo(second["access_token"])).status == 401


async def test_a_refreshed_token_is_bound_to_the_certificate_of_its_request(prepared: Path, tmp_path: Path):
    """RFC 8705 section 3: not to the first one."""
    async with talking(prepared, tmp_path) as talker:
        first = (await talker.granted()).body
        second = (await talker.refresh(first["refresh_token"], certificate="other")).body

        assert (await talker.hello(second["access_token"], certificate="other")).status == 200
        assert (await talker.hello(second["access_token"])).status == 401


async def test_scope_resource_and_details_are_granted_as_asked(prepared: Path, tmp_path: Path):
    """And may be narrowed with a refresh."""
    details = '[{"type": "payment_initiation", "amount": "1"}]'
    async with talking(prepared, tmp_path) as talker:
        resources = [talker.sandbox.addresses.resource, FOREIGN_RESOURCE]
        granted = (await talker.granted(resource=resources, authorization_details=details)).body
        narrowed = await talker.refresh(granted["refresh_token"], scope="hello:read", resource=FOREIGN_RESOURCE)

        assert granted["scope"] == "openid hello:read"
        assert granted["authorization_details"] == [{"type": "payment_initiation", "amount": "1"}]
        assert unverified_claims(granted["access_token"])["aud"] == resources
        assert narrowed.body["scope"] == "hello:read"
        assert unverified_claims(narrowed.body["access_token"])["aud"] == FOREIGN_RESOURCE


async def test_a_grant_with_an_end_says_so(prepared: Path, tmp_path: Path):
    """refresh_expires_in, in seconds."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.set_options(refresh_lifetime_seconds=600)

        granted = (await talker.granted()).body

        assert 590 <= granted["refresh_expires_in"] <= 600


async def test_the_journal_tells_the_calls_of_a_grant_apart(prepared: Path, tmp_path: Path):
    """So that a test can say that there was no further one; and no value is in it."""
    async with talking(prepared, tmp_path) as talker:
        granted = (await talker.granted()).body
        await talker.refresh(granted["refresh_token"])
        await talker.refresh(granted["refresh_token"])
        await talker.token()

        entries = talker.sandbox.journal.entries
        assert [(one.grant_type, one.outcome, one.grant) for one in entries("token")] == [
            ("authorization_code", "issued", "grant-1"),
            ("refresh_token", "issued", "grant-1"),
            ("refresh_token", "invalid_grant", "grant-1"),
            ("client_credentials", "issued", None),
        ]
        assert [one.outcome for one in entries("par")] == ["pushed"]
        assert [(one.outcome, one.client) for one in entries("authorize")] == [("granted", CLIENT_ID)]
        recorded = str(talker.sandbox.journal.as_json())
        for value in (granted["refresh_token"], granted["access_token"], granted["id_token"], STATE, NONCE):
            assert value not in recorded


async def refresh_twice(talker: Talker, **fault: Any) -> list[int]:
    """Put a fault up after a consent; give the statuses of a client-credentials request and two refreshes."""
    talker.sandbox.set_options(rotation="never")
    granted = (await talker.granted()).body
    talker.sandbox.fault("token", **fault)
    answers = [await talker.token()]
    answers += [await talker.refresh(granted["refresh_token"]) for _ in range(2)]
    return [answer.status for answer in answers]


async def test_a_fault_may_be_for_refreshes_only(prepared: Path, tmp_path: Path):
    """Others pass it by, and it waits."""
    async with talking(prepared, tmp_path) as talker:
        storm = {"kind": "oauth_error", "error": "invalid_grant", "grant_type": "refresh_token"}

        assert await refresh_twice(talker, **storm, times=1) == [200, 400, 200]
        assert await refresh_twice(talker, **storm, for_seconds=60) == [200, 400, 400]


@pytest.mark.parametrize("member", ["id_token", "refresh_token"])
async def test_a_token_may_be_left_out_of_the_answer(prepared: Path, tmp_path: Path, member: str):
    """Of one answer; the next one has it."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", f"no_{member}", times=1)

        without, complete = (await talker.granted()).body, (await talker.granted()).body

        assert set(complete) - set(without) == {member}


async def test_faults_of_grants_wait_for_a_grant(prepared: Path, tmp_path: Path):
    """A request of client_credentials does not use them up."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "wrong_nonce", times=1)
        await talker.token()

        granted = (await talker.granted()).body

        assert unverified_claims(granted["id_token"])["nonce"] != NONCE
        assert talker.sandbox.faults.as_json() == []


async def test_the_other_faults_of_grants_strike(prepared: Path, tmp_path: Path):
    """At userinfo, at PAR, and among the keys."""
    async with talking(prepared, tmp_path) as talker:
        granted = (await talker.granted()).body
        talker.sandbox.fault("userinfo", "wrong_sub", times=1)
        talker.sandbox.fault("par", "no_request_uri", times=1)
        talker.sandbox.fault("jwks", "decoy_keys", times=1)

        wrong_sub, no_request_uri = await talker.userinfo(granted["access_token"]), await talker.push()
        decoyed, honest = await talker.jwks(), await talker.jwks()

        assert wrong_sub.body["sub"] == "mallory"
        assert (no_request_uri.status, no_request_uri.body) == (201, {"expires_in": 60})
        assert len(decoyed) == len(honest) + 8
        assert talker.sandbox.journal.entries("userinfo")[0].fault == "wrong_sub"


async def test_faults_of_the_answer_wait_for_a_decision(prepared: Path, tmp_path: Path):
    """Pages that are looked at do not use them up."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("authorize", "wrong_state", times=1)
        url = talker.authorization_url(**request_parameters())
        await talker.send("GET", url, None)

        wrong, right = answered(await talker.decide(url)), answered(await talker.decide(url))

        assert wrong["state"] != STATE
        assert right["state"] == STATE
        assert [one.fault for one in talker.sandbox.journal.entries("authorize")] == [None, "wrong_state", None]
