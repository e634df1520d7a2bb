"""The rig itself: it is as strict as the broker's tests need it to be, seen by a client that is not the broker."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from tests.interop.credentials import Certificate
from tests.interop.rig import ALGS, Rig

KEY_TYPES: Mapping[str, type[RSAKey | ECKey | OKPKey]] = {"PS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
"""By the library, for the name Ed25519 of RFC 9864; servers in the field are registered with the old name."""

DEADLINE = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: dict[str, Any]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(tmp_path_factory.mktemp("rig")) as running:
        yield running


@pytest.mark.parametrize("alg", ALGS)
async def test_private_key_jwt_over_mutual_tls_gives_a_bound_token(rig: Rig, alg: str) -> None:
    """The token names the certificate that was presented, and the server's own key signed it."""
    rig.forget()

    answer = await ask(rig, alg, rig.app)

    assert answer.status == 200
    assert answer.body["token_type"] == "Bearer"
    assert answer.body["expires_in"] == 300
    assert answer.body["scope"] == rig.scope
    header, claims = await verified(rig, answer.body["access_token"])
    assert header["typ"] == "at+jwt"
    assert claims["cnf"] == {"x5t#S256": rig.app.thumbprint}
    assert claims["aud"] == rig.resource
    assert claims["client_id"] == rig.client_id(alg)
    (seen,) = rig.token_requests()
    assert (seen.client_id, seen.status, seen.mtls) == (rig.client_id(alg), 200, True)
    assert seen.thumbprint == rig.app.thumbprint


async def test_the_api_takes_a_token_only_over_its_own_certificate(rig: Rig) -> None:
    """Another certificate of the same CA, one from elsewhere, an expired one and none at all are refused."""
    token = (await ask(rig, "ES256", rig.app)).body["access_token"]

    answers = [
        await call(rig, certificate, token) for certificate in (rig.app, rig.other, rig.expired, rig.rogue, None)
    ]

    assert [answer.status for answer in answers] == [200, 401, 401, 401, 401]
    assert answers[0].body["thumbprint"] == rig.app.thumbprint
    assert answers[1].body["why"] == "bound to another certificate"


async def test_the_api_refuses_a_token_that_was_tampered_with(rig: Rig) -> None:
    """It is the signature that counts."""
    token = (await ask(rig, "ES256", rig.app)).body["access_token"]
    head, _, signature = token.rpartition(".")

    answer = await call(rig, rig.app, f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}")

    assert answer.status == 401
    assert answer.body["why"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"


async def test_the_metadata_has_aliases_for_mutual_tls(rig: Rig) -> None:
    """The alias differs from the ordinary endpoint, and the methods are those of FAPI 2.0."""
    async with session(rig, None) as http, http.get(f"{rig.issuer}/.well-known/openid-configuration") as response:
        metadata = await response.json()

    assert metadata["issuer"] == rig.issuer
    assert metadata["token_endpoint"] == rig.token_endpoint
    assert metadata["mtls_endpoint_aliases"]["token_endpoint"] == rig.mtls_token_endpoint != rig.token_endpoint
    assert metadata["token_endpoint_auth_methods_supported"] == [
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
    ]
    assert set(ALGS) <= set(metadata["token_endpoint_auth_signing_alg_values_supported"])
    assert metadata["tls_client_certificate_bound_access_tokens"] is True


async def test_without_a_certificate_there_is_no_token(rig: Rig) -> None:
    """At the ordinary endpoint the client is known and still gets nothing."""
    answer = await ask(rig, "ES256", None, url=rig.token_endpoint)

    assert answer.status == 400
    assert answer.body["error"] == "invalid_grant"


@pytest.mark.parametrize("audience", ["token_endpoint", "array"])
async def test_the_audience_of_an_assertion_is_the_issuer_and_nothing_else(rig: Rig, audience: str) -> None:
    """The FAPI 2.0 profile wants one string; RFC 7523's token endpoint is refused."""
    wrong: object = rig.mtls_token_endpoint if audience == "token_endpoint" else [rig.issuer]

    answer = await ask(rig, "ES256", rig.app, aud=wrong)

    assert (answer.status, answer.body["error"]) == (401, "invalid_client")


async def test_an_assertion_is_good_once(rig: Rig) -> None:
    """A client that sends the same one again is refused."""
    assertion = sign(rig, "ES256")

    first = await ask(rig, "ES256", rig.app, assertion=assertion)
    second = await ask(rig, "ES256", rig.app, assertion=assertion)

    assert (first.status, second.status, second.body["error"]) == (200, 401, "invalid_client")


async def test_an_assertion_signed_by_another_client_is_refused(rig: Rig) -> None:
    """The key decides, not the name in the assertion."""
    claims = {"iss": rig.client_id("ES256"), "sub": rig.client_id("ES256")}

    answer = await ask(rig, "ES256", rig.app, assertion=sign(rig, "PS256", **claims))

    assert (answer.status, answer.body["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("name", ["expired", "rogue", "none"])
async def test_a_certificate_that_is_not_in_order_gets_no_answer(rig: Rig, name: str) -> None:
    """TLS 1.3 refuses it after the handshake: the client sees its connection end, and the server no request."""
    rig.forget()
    certificate = {"expired": rig.expired, "rogue": rig.rogue, "none": None}[name]

    with pytest.raises(aiohttp.ClientError):
        await ask(rig, "ES256", certificate)

    assert rig.token_requests() == []


async def test_a_lenient_server_says_so_in_http(tmp_path: Path) -> None:
    """Without strict the connection stands, and counts as one without a certificate."""
    with Rig.start(tmp_path, strict=False) as rig:
        answer = await ask(rig, "ES256", rig.expired)

        (seen,) = rig.token_requests()
        assert (answer.status, answer.body["error"]) == (400, "invalid_grant")
        assert (seen.client_id, seen.error, seen.thumbprint) == (rig.client_id("ES256"), "invalid_grant", None)


async def test_an_opaque_token_can_be_had(rig: Rig) -> None:
    """Such a token is bound, too, but a client cannot see to what."""
    answer = await ask(rig, "ES256", rig.app, resource=rig.opaque_resource)

    assert answer.status == 200
    assert "." not in answer.body["access_token"]


async def test_tls_client_auth_goes_by_the_subject(rig: Rig) -> None:
    """The registered subject is enough; another one, as good, is not."""
    form = {"grant_type": "client_credentials", "client_id": rig.tls_client_id, "scope": "accounts"}

    mine = await post(rig, rig.app, rig.mtls_token_endpoint, form)
    others = await post(rig, rig.other, rig.mtls_token_endpoint, form)

    assert (mine.status, mine.body["scope"]) == (200, "accounts")
    assert (others.status, others.body["error"]) == (401, "invalid_client")


async def test_a_server_that_starts_again_is_the_same_server(tmp_path: Path) -> None:
    """Same ports, same keys, the lifetime as it was set; in between nobody listens."""
    with Rig.start(tmp_path) as rig:
        issuer = rig.issuer
        rig.set_lifetime(7)
        before = (await ask(rig, "ES256", rig.app)).body

        rig.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(rig, "ES256", rig.app)
        rig.start_again()

        after = (await ask(rig, "ES256", rig.app)).body
        assert rig.issuer == issuer
        assert (before["expires_in"], after["expires_in"]) == (7, 7)
        assert (await call(rig, rig.app, before["access_token"])).status == 200
        assert len(rig.token_requests()) == 1


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Its last words are in the error, and no process is left."""
    with Rig.start(tmp_path) as rig:
        rig.stop()
        rig._config["signing_key"]["kty"] = "unheard of"

        with pytest.raises(RuntimeError, match="only RSA, EC, OKP, or AKP keys"):
            rig.start_again()

        assert rig._process is None


def session(rig: Rig, certificate: Certificate | None) -> aiohttp.ClientSession:
    """A client that trusts the rig's CA and presents *certificate*."""
    context = ssl.create_default_context(cafile=rig.ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate.cert_file, certificate.key_file)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=DEADLINE)


def sign(rig: Rig, alg: str, **claims: object) -> str:
    """A client assertion by the key for *alg* (RFC 7523 section 3)."""
    key = rig.signing_keys[alg]
    now = int(time.time())
    standard = {
        "iss": rig.client_id(alg),
        "sub": rig.client_id(alg),
        "aud": rig.issuer,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + 60,
    }
    private = KEY_TYPES[alg].import_key(key.file.read_bytes())
    payload = json.dumps({**standard, **claims}).encode()
    return jws.serialize_compact({"alg": alg, "kid": key.kid}, payload, private, algorithms=[alg])


async def ask(
    rig: Rig,
    alg: str,
    certificate: Certificate | None,
    *,
    url: str | None = None,
    assertion: str | None = None,
    resource: str | None = None,
    **claims: object,
) -> Answer:
    """Ask for a token with ``private_key_jwt``; without *url* at the alias."""
    form = {
        "grant_type": "client_credentials",
        "scope": rig.scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion or sign(rig, alg, **claims),
    }
    if resource is not None:
        form["resource"] = resource
    return await post(rig, certificate, url or rig.mtls_token_endpoint, form)


async def post(rig: Rig, certificate: Certificate | None, url: str, form: dict[str, str]) -> Answer:
    async with session(rig, certificate) as http, http.post(url, data=form) as response:
        return Answer(status=response.status, body=await response.json())


async def call(rig: Rig, certificate: Certificate | None, token: str) -> Answer:
    """Call the API with *token* over *certificate*."""
    headers = {"Authorization": f"Bearer {token}"}
    async with session(rig, certificate) as http, http.get(rig.api_url, headers=headers) as response:
        return Answer(status=response.status, body=await response.json())


async def verified(rig: Rig, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of *token*, if a published key of the server signed it."""
    async with session(rig, None) as http, http.get(f"{rig.issuer}/jwks") as response:
        keys = KeySet.import_key_set(await response.json())
    decoded = jwt.decode(token, keys, algorithms=["ES256"])
    return dict(decoded.header), dict(decoded.claims)
