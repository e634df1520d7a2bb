"""Tests of ``broker/sandbox/server.py``: the token dance over real TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from broker.sandbox.demo_clients import CLIENT_ID
from broker.sandbox.jose import SigningAlg, unverified_claims
from tests.unit.sandbox.talking import talking, token_form

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("alg", list(SigningAlg))
async def test_each_algorithm_gets_a_token_that_the_api_accepts(prepared: Path, tmp_path: Path, alg: SigningAlg):
    """private_key_jwt over mutual TLS gives a token that is good with the certificate it was asked for with."""
    async with talking(prepared, tmp_path) as talker:
        issued = await talker.token(alg=alg)
        hello = await talker.hello(issued.body["access_token"])

        assert (issued.status, hello.status) == (200, 200)
        assert issued.headers["Cache-Control"] == "no-store"
        assert issued.body["token_type"] == "Bearer"
        assert issued.body["expires_in"] == 60
        assert hello.body["client_id"] == CLIENT_ID
        assert hello.body["certificate"] == unverified_claims(issued.body["access_token"])["cnf"]["x5t#S256"]


async def test_a_token_verifies_with_the_published_keys(prepared: Path, tmp_path: Path):
    """Issuer metadata and JWKS are enough to check a token (RFC 9068 section 4)."""
    async with talking(prepared, tmp_path) as talker:
        metadata = await talker.metadata()
        jwks = await talker.send("GET", metadata.body["jwks_uri"], None)
        issued = await talker.token()

        key = ECKey.import_key(jwks.body["keys"][0])
        signed = jws.deserialize_compact(issued.body["access_token"], key, algorithms=["ES256"])
        assert signed.protected["typ"] == "at+jwt"
        assert signed.protected["kid"] == jwks.body["keys"][0]["kid"]
        assert "d" not in jwks.body["keys"][0]


async def test_the_api_refuses_a_bound_token_on_other_connections(prepared: Path, tmp_path: Path):
    """Another certificate of the same authority, or none, does not do."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]

        for certificate in ("other", None):
            refused = await talker.hello(token, certificate=certificate)

            assert refused.status == 401
            assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
            assert "another certificate" in refused.headers["WWW-Authenticate"]


async def test_the_api_asks_for_a_token(prepared: Path, tmp_path: Path):
    """A request without one gets a challenge without an error code (RFC 6750 section 3.1)."""
    async with talking(prepared, tmp_path) as talker:
        refused = await talker.hello(None)

        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith('Bearer realm="sandbox", DPoP realm="sandbox", algs=')


async def test_an_assertion_is_good_once(prepared: Path, tmp_path: Path):
    """The second transmission of the same form is 401, as with oidc-provider."""
    async with talking(prepared, tmp_path) as talker:
        url, form = f"{talker.sandbox.addresses.mtls}/token", token_form(talker.sandbox)

        first = await talker.send("POST", url, "client", data=form)
        second = await talker.send("POST", url, "client", data=form)

        assert first.status == 200
        assert (second.status, second.body["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("listener", ["issuer", "mtls"])
async def test_no_certificate_is_400_invalid_grant(prepared: Path, tmp_path: Path, listener: str):
    """At the ordinary endpoint, which asks for none, and at the alias: not 401, as with oidc-provider."""
    async with talking(prepared, tmp_path) as talker:
        url = f"{getattr(talker.sandbox.addresses, listener)}/token"

        refused = await talker.token(certificate=None, url=url)

        assert (refused.status, refused.body["error"]) == (400, "invalid_grant")


async def test_the_ordinary_endpoint_does_not_see_a_certificate(prepared: Path, tmp_path: Path):
    """A client that ignores mtls_endpoint_aliases gets nowhere, even though it has a certificate."""
    async with talking(prepared, tmp_path) as talker:
        refused = await talker.token(url=f"{talker.sandbox.addresses.issuer}/token")

        assert (refused.status, refused.body["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("path", ["openid-configuration", "oauth-authorization-server"])
async def test_metadata_is_at_both_well_known_places(prepared: Path, tmp_path: Path, path: str):
    """OpenID Connect Discovery and RFC 8414 both find it, and that it is a sandbox."""
    async with talking(prepared, tmp_path) as talker:
        issuer = talker.sandbox.addresses.issuer

        found = await talker.send("GET", f"{issuer}/.well-known/{path}", None)

        assert found.body["issuer"] == issuer
        assert found.body["token_broker_sandbox"] is True


@pytest.mark.parametrize(
    ("line", "options", "status"),
    [
        ("GET /token", {}, 405),
        ("POST /nowhere", {}, 404),
        ("POST /token", {"json": {"grant_type": "client_credentials"}}, 400),
        (
            "POST /token",
            {"data": b"\xff\xfe", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            400,
        ),
        ("POST /token", {"data": b"a" * 70_000}, 413),
    ],
    ids=["method", "path", "json", "not utf-8", "too large"],
)
async def test_malformed_requests_get_json_errors(
    prepared: Path, tmp_path: Path, line: str, options: dict[str, Any], status: int
):
    """Never a page of HTML, never a 500."""
    method, path = line.split(" ")
    async with talking(prepared, tmp_path) as talker:
        refused = await talker.send(method, f"{talker.sandbox.addresses.mtls}{path}", "client", **options)

        assert (refused.status, refused.body["error"]) == (status, "invalid_request")


async def test_what_was_seen_is_recorded_without_secrets(prepared: Path, tmp_path: Path):
    """Client, jti, algorithm, certificate and outcome; neither assertion nor token."""
    async with talking(prepared, tmp_path) as talker:
        form = token_form(talker.sandbox, claims={"jti": "jti-of-this-test"})
        issued = await talker.send("POST", f"{talker.sandbox.addresses.mtls}/token", "client", data=form)
        await talker.token(claims={"aud": "https://elsewhere.example"})

        good, bad = talker.sandbox.journal.entries("token")
        recorded = str(talker.sandbox.journal.as_json())
        assert (good.client, good.jti, good.alg, good.outcome) == (CLIENT_ID, "jti-of-this-test", "ES256", "issued")
        assert good.certificate == unverified_claims(issued.body["access_token"])["cnf"]["x5t#S256"]
        assert (bad.outcome, bad.reason) == (
            "invalid_client",
            "aud of the assertion is not exactly the issuer, as a string",
        )
        assert dict(form)["client_assertion"] not in recorded
        assert issued.body["access_token"] not in recorded


async def test_strangers_do_not_write_into_the_record(prepared: Path, tmp_path: Path):
    """A client or jti that the sandbox has no reason to believe leaves no bytes of its own."""
    async with talking(prepared, tmp_path) as talker:
        await talker.token(claims={"sub": "mallory", "jti": "a\nb", "iss": "mallory"})

        (entry,) = talker.sandbox.journal.entries("token")
        assert (entry.client, entry.jti) == (None, None)


async def test_two_hundred_requests_at_once_are_all_answered(prepared: Path, tmp_path: Path):
    """Single-flight tests count on the sandbox not being the bottleneck."""
    async with talking(prepared, tmp_path) as talker:
        answers = await asyncio.gather(*(talker.token() for _ in range(200)))

        assert {answer.status for answer in answers} == {200}
        assert talker.sandbox.journal.count("token.issued") == 200


async def test_the_other_origin_records_what_leaked(prepared: Path, tmp_path: Path):
    """A form with an assertion, an Authorization header: named, never kept."""
    async with talking(prepared, tmp_path) as talker:
        sandbox = talker.sandbox
        await talker.send(
            "POST",
            f"{sandbox.addresses.elsewhere}/token",
            "client",
            data=token_form(sandbox),
            headers={"Authorization": "Bearer something"},
        )

        (entry,) = sandbox.journal.entries("elsewhere")
        assert entry.credentials == ("client_assertion", "Authorization")
        assert entry.certificate is not None
        assert "something" not in str(sandbox.journal.as_json())
