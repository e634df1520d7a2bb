"""Tests of ``broker/sandbox/authorization_request.py``: by value, pushed, signed, and everything that is wrong."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from broker.sandbox.authorization_request import (
    REQUEST_URI_PREFIX,
    AuthorizationRequest,
    RequestReader,
    RequestRefusedError,
)
from broker.sandbox.clients import RegisteredClient
from broker.sandbox.jose import JsonWebKey, SigningAlg, generate_private_key_pem, read_private, sign
from broker.sandbox.options import Options

NOW = 1_790_000_000.0
ISSUER = "https://localhost:1"


def new_key() -> JsonWebKey:
    return read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))


KEY, STRANGE_KEY = new_key(), new_key()
CLIENT = RegisteredClient(
    client_id="app",
    keys=(KEY,),
    scope=("read",),
    resources=("https://api", "https://other"),
    person_scope=("openid",),
    redirect_uris=("https://app/cb", "http://127.0.0.1/callback", "http://[::1]/callback"),
)
GOOD: dict[str, Any] = {
    "response_type": "code",
    "client_id": "app",
    "redirect_uri": "https://app/cb",
    "scope": "openid read",
    "state": "s",
    "nonce": "n",
    "code_challenge": "c" * 43,
    "code_challenge_method": "S256",
}
ABOUT: dict[str, Any] = {"iss": "app", "aud": ISSUER, "nbf": NOW, "exp": NOW + 60, "iat": NOW, "jti": "1"}


def reader(**options: Any) -> RequestReader:
    numbers = count()
    return RequestReader(
        issuer=ISSUER, clients={"app": CLIENT}, options=Options(**options), new_value=lambda: f"r{next(numbers)}"
    )


def pairs(**changes: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in {**GOOD, **changes}.items() if value is not None]


def signed(key: JsonWebKey = KEY, typ: str = "oauth-authz-req+jwt", **changes: Any) -> str:
    claims = {**GOOD, **ABOUT, **changes}
    return sign(key, typ, {name: value for name, value in claims.items() if value is not ...})


def refusal(requests: RequestReader, given: list[tuple[str, str]], *, now: float = NOW) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as caught:
        requests.read(given, now=now)
    return caught.value


def asked(request: AuthorizationRequest) -> tuple[Any, ...]:
    return (request.scope, request.nonce, request.back.state, request.back.redirect_uri, request.code_challenge)


def test_a_request_is_the_same_by_whichever_way_it_comes():
    """By value, pushed, signed, signed and pushed."""
    requests = reader()
    pushed = requests.push(pairs(), CLIENT, now=NOW)
    both = requests.push([("client_id", "app"), ("request", signed())], CLIENT, now=NOW)

    ways = [
        pairs(),
        [("client_id", "app"), ("request_uri", pushed)],
        [("client_id", "app"), ("response_type", "code"), ("scope", "openid"), ("request", signed())],
        [("client_id", "app"), ("request_uri", both)],
    ]

    expected = (("openid", "read"), "n", "s", "https://app/cb", "c" * 43)
    assert [asked(requests.read(way, now=NOW)) for way in ways] == [expected] * 4


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "c" * 42}, "invalid_request"),
        ({"scope": "openid admin"}, "invalid_scope"),
        ({"resource": "https://nowhere"}, "invalid_target"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"authorization_details": '[{"no": "type"}]'}, "invalid_authorization_details"),
        ({"authorization_details": '{"type": "x"}'}, "invalid_authorization_details"),
    ],
)
def test_the_client_is_told_what_is_wrong(changes: dict[str, Any], error: str):
    """Once its redirect URI is believed (RFC 6749 section 4.1.2.1)."""
    refused = refusal(reader(), pairs(**changes))

    assert refused.error == error
    assert refused.back is not None
    assert refused.back.redirect_uri == "https://app/cb"


@pytest.mark.parametrize(
    "redirect_uri",
    [
        None,
        "https://app/cb/",
        "https://app/cb?x=1",
        "https://app:443/cb",
        "https://evil.example/cb",
        "http://127.0.0.1:80a/callback",
        "http://127.0.0.1:1/callback/",
        "http://127.0.0.1:1@evil.example/callback",
        "http://localhost:1/callback",
        "https://127.0.0.1:1/callback",
        "http://127.0.0.2:1/callback",
    ],
)
def test_nobody_is_sent_to_a_redirect_uri_that_is_not_registered(redirect_uri: str | None):
    """The person reads of it, and no open redirector comes of it."""
    refused = refusal(reader(), pairs(redirect_uri=redirect_uri))

    assert refused.back is None


@pytest.mark.parametrize("redirect_uri", ["http://127.0.0.1:49152/callback", "http://[::1]:8/callback"])
def test_a_loopback_address_has_any_port(redirect_uri: str):
    """RFC 8252 section 7.3."""
    assert reader().read(pairs(redirect_uri=redirect_uri), now=NOW).back.redirect_uri == redirect_uri


@pytest.mark.parametrize(
    "given",
    [
        pairs(client_id="stranger"),
        pairs(client_id=None),
        [*pairs(), ("state", "another")],
        pairs(authorization_details="not json"),
    ],
)
def test_a_request_of_nobody_goes_nowhere(given: list[tuple[str, str]]):
    """Unknown clients, repeated parameters, and what cannot be read."""
    assert refusal(reader(), given).back is None


def test_details_and_resources_are_passed_on():
    """RFC 9396, RFC 8707; in a signed request as JSON, not as a string."""
    details = [{"type": "payment", "amount": 1}]
    by_value = reader().read(
        [*pairs(authorization_details=json.dumps(details)), ("resource", "https://other")], now=NOW
    )
    by_object = reader().read(
        [("client_id", "app"), ("request", signed(authorization_details=details, resource="https://other"))], now=NOW
    )

    for request in (by_value, by_object):
        assert list(request.details) == details
        assert request.audience == ("https://other",)


def test_a_pushed_request_is_used_once():
    """RFC 9126 section 4: pages may be loaded again, but there is one decision."""
    requests = reader()
    query = [("client_id", "app"), ("request_uri", requests.push(pairs(), CLIENT, now=NOW))]
    requests.read(query, now=NOW)
    requests.read(query, now=NOW)

    requests.spend(query)

    assert refusal(requests, query).error == "invalid_request_uri"


def test_a_pushed_request_expires():
    """After the time that was told."""
    requests = reader()
    query = [("client_id", "app"), ("request_uri", requests.push(pairs(), CLIENT, now=NOW))]

    assert requests.read(query, now=NOW + 59).nonce == "n"
    assert refusal(requests, query, now=NOW + 60).error == "invalid_request_uri"


def test_the_browser_brings_nothing_else_beside_a_pushed_request():
    """Unless the sandbox is to be like servers that want more there."""
    lax = reader(front_channel_extras=True)
    for requests, good in ((reader(), False), (lax, True)):
        request_uri = requests.push(pairs(), CLIENT, now=NOW)
        query = [("client_id", "app"), ("request_uri", request_uri), ("scope", "openid"), ("response_type", "code")]

        if good:
            assert requests.read(query, now=NOW).scope == ("openid", "read")
        else:
            assert refusal(requests, query).error == "invalid_request"


def test_a_request_uri_is_not_pushed_and_not_invented():
    """RFC 9126 section 2.1; and only what was pushed here is looked up."""
    requests = reader()

    with pytest.raises(RequestRefusedError):
        requests.push(pairs(request_uri=f"{REQUEST_URI_PREFIX}x"), CLIENT, now=NOW)
    query = [("client_id", "app"), ("request_uri", "https://evil.example/request.jwt")]
    assert refusal(requests, query).error == "invalid_request_uri"


def test_the_options_demand_pushed_and_signed_requests():
    """As the metadata then says."""
    assert refusal(reader(require_par=True), pairs()).error == "invalid_request"
    signs = reader(require_request_object=True)
    assert refusal(signs, pairs()).error == "invalid_request"
    with pytest.raises(RequestRefusedError):
        signs.push(pairs(), CLIENT, now=NOW)
    assert signs.push([("request", signed())], CLIENT, now=NOW)


@pytest.mark.parametrize(
    "request_object",
    [
        signed(STRANGE_KEY),
        signed(typ="JWT"),
        signed(iss="other"),
        signed(client_id="other"),
        signed(client_id=...),
        signed(aud=[ISSUER]),
        signed(aud=f"{ISSUER}/"),
        signed(aud=...),
        signed(exp=...),
        signed(nbf=...),
        signed(exp="soon"),
        signed(exp=NOW - 16),
        signed(nbf=NOW + 16),
        signed(exp=NOW + 3_601),
        signed(exp=NOW - 1),
        signed(sub="app"),
        signed(request="x"),
        signed(request_uri="x"),
        signed(nonce=None),
        "not.a.jwt",
        signed()[:-4] + "AAAA",
    ],
)
def test_a_request_object_that_is_wrong_is_not_opened(request_object: str):
    """RFC 9101 section 6 and FAPI 2.0 Message Signing section 5.3.1."""
    refused = refusal(reader(), [("client_id", "app"), ("request", request_object)])

    assert (refused.error, refused.back) == ("invalid_request_object", None)


def test_what_stands_beside_a_request_object_is_not_used():
    """RFC 9101 section 6.3: a browser cannot change what was signed."""
    query = [*pairs(scope="read", state="changed", redirect_uri="http://127.0.0.1:1/callback"), ("request", signed())]

    request = reader().read(query, now=NOW)

    assert (request.scope, request.back.state) == (("openid", "read"), "s")
    assert request.back.redirect_uri == "https://app/cb"


@pytest.mark.parametrize("dpop_jkt", ["", "short", "j" * 44, "=" * 43])
def test_a_key_that_is_none_is_refused(dpop_jkt: str):
    """RFC 9449 section 10: a thumbprint, as base64url of a SHA-256."""
    with pytest.raises(RequestRefusedError) as caught:
        reader().read(pairs(dpop_jkt=dpop_jkt), now=NOW)

    assert caught.value.error == "invalid_request"


@pytest.mark.parametrize(("said", "proved"), [("j" * 43, None), (None, "j" * 43), ("j" * 43, "j" * 43)])
def test_a_pushed_request_is_bound_to_the_key_it_names_or_proves(said: str | None, proved: str | None):
    """RFC 9449 section 10.1: the two are the same to what follows."""
    requests = reader()
    request_uri = requests.push(pairs(dpop_jkt=said), CLIENT, jkt=proved, now=NOW)

    read = requests.read([("client_id", "app"), ("request_uri", request_uri)], now=NOW)

    assert read.dpop_jkt == "j" * 43


def test_a_pushed_request_cannot_name_one_key_and_prove_another():
    """RFC 9449 section 10.1."""
    with pytest.raises(RequestRefusedError) as caught:
        reader().push(pairs(dpop_jkt="j" * 43), CLIENT, jkt="k" * 43, now=NOW)

    assert caught.value.error == "invalid_request"
