from __future__ import annotations

from typing import Any

import pytest

from broker.oauth.authorization_response import Expected, read_authorization_response
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.jarm import response_jwt, unwrap
from broker.oauth.jwks import KeyNotFoundError
from broker.oauth.reasons import Reason
from broker.oauth.secret import AuthorizationCode
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_jwt
from tests.unit.oauth.keys import published, server_key

GOOD = {"iss": ISSUER_URL, "aud": "app-1", "exp": NOW + 60, "code": "c", "state": "s"}
EXPECTED = Expected(issuer=ISSUER_URL, state="s", iss_required=True, signed=True)


def opened(claims: dict[str, Any] | str) -> tuple[tuple[str, str], ...]:
    key = server_key()
    stated = claims if isinstance(claims, str) else key.sign({k: v for k, v in claims.items() if v is not ...})
    return unwrap(stated, published(key.jwk()), issuer=ISSUER_URL, client_id="app-1", alg="PS256", wall_now=NOW)


def failed(claims: dict[str, Any] | str) -> Check:
    with pytest.raises(CheckFailedError) as raised:
        opened(claims)
    assert raised.value.code == Reason.AUTHORIZATION_RESPONSE_INVALID
    return raised.value.check


def test_a_signed_response_gives_its_parameters():
    """Which then pass the checks of every response."""
    assert read_authorization_response(opened(GOOD), EXPECTED) == AuthorizationCode("c")


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"iss": ...}, Check.SIGNED_ISS),
        ({"iss": f"{ISSUER_URL}/"}, Check.SIGNED_ISS),
        ({"aud": ...}, Check.AUD),
        ({"aud": "app-2"}, Check.AUD),
        ({"aud": ["app-1", "app-2"]}, Check.AUD),
        ({"exp": ...}, Check.EXP),
        ({"exp": NOW - 360}, Check.EXP),
        ({"exp": "soon"}, Check.EXP),
        ({"nbf": NOW + 60}, Check.NBF),
        ({"iat": NOW + 60}, Check.IAT),
    ],
)
def test_each_claim_about_it_is_checked(change: dict[str, Any], check: Check):
    """JARM section 2.4, and the eight cases of the FAPI suite with the two below."""
    assert failed({**GOOD, **change}) is check


def test_a_signature_has_to_be_there_and_right():
    """No ``none``, no other key, no other algorithm."""
    assert failed(a_jwt(GOOD, {"alg": "none"})) is Check.ALG
    assert failed(server_key("PS256", "k1", bits=2056).sign(GOOD)) is Check.SIGNATURE
    assert failed(server_key("RS256").sign(GOOD)) is Check.ALG
    with pytest.raises(KeyNotFoundError):
        opened(server_key("PS256", "k2").sign(GOOD))


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("code", "c"), ("state", "s"), ("iss", ISSUER_URL)],
        [("response", "r"), ("code", "c")],
        [("error", "access_denied"), ("state", "s")],
    ],
)
def test_an_unsigned_response_is_refused_where_a_signed_one_was_asked_for(pairs: list[tuple[str, str]]):
    """Also an error: it could come from anybody."""
    with pytest.raises(CheckFailedError) as raised:
        response_jwt(pairs)

    assert raised.value.check is Check.RESPONSE_MODE


def test_two_responses_are_none():
    """Which one would be meant?"""
    with pytest.raises(CheckFailedError) as raised:
        response_jwt([("response", "a"), ("response", "b")])

    assert raised.value.check is Check.REPEATED_PARAMETER
    assert response_jwt([("response", "a")]) == "a"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"state": "x"}, Check.STATE),
        ({"state": 5}, Check.STATE),
        ({"state": None}, Check.STATE),
        ({"code": ["c"]}, Check.CODE),
        ({"error": 5}, Check.ERROR),
        ({"error": {}}, Check.ERROR),
        ({"error": False}, Check.ERROR),
        ({"error": 5, "state": "x"}, Check.STATE),
        ({"access_token": ["a"]}, Check.RESPONSE_TYPE),
        ({"id_token": {}}, Check.RESPONSE_TYPE),
        ({"response": 1}, Check.RESPONSE_MODE),
    ],
)
def test_what_is_in_it_is_checked_as_ever(change: dict[str, Any], check: Check):
    """A signature makes no state right."""
    with pytest.raises(CheckFailedError) as raised:
        read_authorization_response(opened({**GOOD, **change}), EXPECTED)

    assert raised.value.check is check


def test_what_is_null_is_not_there():
    """As some servers write what they leave out; other members are none of ours, whatever they are."""
    claims = {**GOOD, "error": None, "session_state": 5, "more": {"a": []}}

    assert read_authorization_response(opened(claims), EXPECTED) == AuthorizationCode("c")


def test_a_signed_refusal_is_a_refusal():
    """The server's word, with its registered code."""
    with pytest.raises(CheckFailedError) as raised:
        read_authorization_response(opened({**GOOD, "code": ..., "error": "access_denied"}), EXPECTED)

    assert (raised.value.code, raised.value.server_error) == (Reason.AUTHORIZATION_REFUSED, "access_denied")
