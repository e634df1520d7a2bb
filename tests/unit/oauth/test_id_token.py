from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.id_token import IdTokenClaims, IdTokenExpected, demanded_claims, read_id_token
from broker.oauth.jwks import KeyNotFoundError
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, IdToken
from tests.unit.oauth.builders import ISSUER_URL, NOW, base64url
from tests.unit.oauth.keys import ALGS, published, server_key

EXPECTED = IdTokenExpected(issuer=ISSUER_URL, client_id="app-1", alg="PS256", nonce="n-1")
GOOD = {"iss": ISSUER_URL, "aud": "app-1", "sub": "alice", "nonce": "n-1", "iat": NOW, "exp": NOW + 300}


def read(claims: dict[str, Any], expected: IdTokenExpected = EXPECTED) -> IdTokenClaims:
    key = server_key(expected.alg)
    stated = {name: value for name, value in claims.items() if value is not ...}
    return read_id_token(IdToken(key.sign(stated)), published(key.jwk()), expected, wall_now=NOW)


def failed(claims: dict[str, Any], expected: IdTokenExpected = EXPECTED) -> Check:
    with pytest.raises(CheckFailedError) as raised:
        read(claims, expected)
    assert raised.value.code == Reason.ID_TOKEN_INVALID
    return raised.value.check


@pytest.mark.parametrize("alg", ALGS)
def test_a_good_one_says_who_the_person_is(alg: str):
    """With each algorithm that a client may be registered with."""
    assert read(GOOD, replace(EXPECTED, alg=alg)) == IdTokenClaims(subject="alice")


def test_the_key_has_to_be_published():
    """The caller may fetch the set anew, once."""
    with pytest.raises(KeyNotFoundError):
        read_id_token(IdToken(server_key().sign(GOOD)), published(), EXPECTED, wall_now=NOW)


@pytest.mark.parametrize("iss", [..., None, "", f"{ISSUER_URL}/", "https://AS.example", [ISSUER_URL]])
def test_the_issuer_is_compared_to_the_letter(iss: object):
    """IDT-02."""
    assert failed({**GOOD, "iss": iss}) is Check.SIGNED_ISS


@pytest.mark.parametrize(
    "aud", [..., None, "", "app-2", [], ["app-2"], ["app-1", "app-11"], ["app-1", "app-1"], [["app-1"]], {"app-1": 1}]
)
def test_it_is_for_us_and_for_nobody_beside_us(aud: object):
    """IDT-03: with a second audience ``azp`` would have to be believed, and nobody is trusted beside us."""
    assert failed({**GOOD, "aud": aud}) is Check.AUD
    assert failed({**GOOD, "aud": aud, "azp": "app-1"}) is Check.AUD


def test_an_audience_of_one_may_be_a_list():
    """IDT-03, and ``azp`` may say the same."""
    assert read({**GOOD, "aud": ["app-1"], "azp": "app-1"}).subject == "alice"


@pytest.mark.parametrize("azp", ["app-2", None, ["app-1"]])
def test_another_authorized_party_is_refused(azp: object):
    """It was made for somebody else's use."""
    assert failed({**GOOD, "azp": azp}) is Check.AZP


@pytest.mark.parametrize("exp", [..., None, NOW - 360, NOW - 30, "1", True, -1])
def test_it_ends(exp: object):
    """IDT-04: with half a minute for clocks."""
    assert failed({**GOOD, "exp": exp}) is Check.EXP


@pytest.mark.parametrize(("exp", "iat"), [(NOW - 29, NOW), (NOW + 1, NOW + 30), (NOW + 1.5, NOW - 600)])
def test_clocks_may_differ_a_little(exp: float, iat: float):
    """Both ways."""
    assert read({**GOOD, "exp": exp, "iat": iat}).subject == "alice"


@pytest.mark.parametrize("iat", [..., None, NOW + 31, NOW - 601, NOW - 7 * 86_400, "1", True])
def test_it_was_made_just_now(iat: object):
    """IDT-05: neither in the future nor last week."""
    assert failed({**GOOD, "iat": iat}) is Check.IAT


@pytest.mark.parametrize("nbf", [NOW + 31, None, "1"])
def test_it_is_not_before_its_time(nbf: object):
    """RFC 7519 section 4.1.5, where it is there."""
    assert failed({**GOOD, "nbf": nbf}) is Check.NBF


@pytest.mark.parametrize("sub", [..., None, "", 5, "x" * 256, ["alice"]])
def test_it_is_about_somebody(sub: object):
    """IDT-06."""
    assert failed({**GOOD, "sub": sub}) is Check.SUB


@pytest.mark.parametrize("nonce", [..., None, "", "n-2", 1, ["n-1"], "ñ"])
def test_it_answers_this_request(nonce: object):
    """IDT-07: a nonce that was sent and does not come back is as bad as another one."""
    assert failed({**GOOD, "nonce": nonce}) is Check.NONCE


def at_hash(token: str, digest: str = "sha256") -> str:
    whole = hashlib.new(digest, token.encode()).digest()
    return base64url(whole[: len(whole) // 2])


@pytest.mark.parametrize(("alg", "digest"), [("PS256", "sha256"), ("ES256", "sha256"), ("EdDSA", "sha512")])
def test_the_access_token_is_the_one_it_came_with(alg: str, digest: str):
    """IDT-08: compared where it is there."""
    expected = replace(EXPECTED, alg=alg, access_token=AccessToken("at-1"))

    assert read({**GOOD, "at_hash": at_hash("at-1", digest)}, expected).subject == "alice"
    assert read(GOOD, expected).subject == "alice"
    assert failed({**GOOD, "at_hash": at_hash("at-2", digest)}, expected) is Check.AT_HASH
    assert failed({**GOOD, "at_hash": None}, expected) is Check.AT_HASH


def test_the_person_logged_in_lately_where_that_was_asked_for():
    """IDT-10: with ``max_age`` the time has to be there."""
    expected = replace(EXPECTED, max_age=60)

    assert read({**GOOD, "auth_time": NOW - 90}, expected).auth_time == NOW - 90
    assert failed({**GOOD, "auth_time": NOW - 91}, expected) is Check.AUTH_TIME
    assert failed(GOOD, expected) is Check.AUTH_TIME
    assert failed({**GOOD, "auth_time": "now"}) is Check.AUTH_TIME


def test_how_long_ago_the_login_was_is_counted_from_when_it_was_asked_for():
    """OpenID Connect Core section 3.1.2.1: the server compares at the request, not at its end."""
    expected = replace(EXPECTED, max_age=60, asked_at=NOW - 300)

    assert read({**GOOD, "auth_time": NOW - 390}, expected).auth_time == NOW - 390
    assert read({**GOOD, "auth_time": NOW}, expected).auth_time == NOW
    assert failed({**GOOD, "auth_time": NOW - 391}, expected) is Check.AUTH_TIME
    assert failed({**GOOD, "auth_time": NOW - 331}, replace(expected, max_age=0)) is Check.AUTH_TIME


@pytest.mark.parametrize("expected", [EXPECTED, replace(EXPECTED, max_age=60), replace(EXPECTED, nonce=None)])
def test_nobody_logs_in_tomorrow(expected: IdTokenExpected):
    """Clocks may differ by half a minute, as with the other times."""
    assert read({**GOOD, "auth_time": NOW + 30}, expected).auth_time == NOW + 30
    assert failed({**GOOD, "auth_time": NOW + 31}, expected) is Check.AUTH_TIME


def test_the_level_is_one_that_was_asked_for():
    """IDT-10: where one is demanded."""
    expected = replace(EXPECTED, acr_values=("loa2", "loa3"))

    assert read({**GOOD, "acr": "loa3"}, expected).acr == "loa3"
    assert failed({**GOOD, "acr": "loa1"}, expected) is Check.ACR
    assert failed(GOOD, expected) is Check.ACR
    assert failed({**GOOD, "acr": 3}) is Check.ACR


INTENT = {"openbanking_intent_id": {"essential": True, "value": "urn:intent:1"}}


@pytest.mark.parametrize(
    ("asked", "demanded"),
    [
        (None, ()),
        ({}, ()),
        ({"id_token": None}, ()),
        ({"userinfo": INTENT}, ()),
        ({"id_token": {"email": None, "acr": {"essential": True}, "given_name": {"value": "Alice"}}}, ()),
        ({"id_token": {"email": {"essential": False, "value": "a@b.example"}}}, ()),
        ({"id_token": {"acr": {"essential": True, "values": []}}}, ()),
        ({"id_token": INTENT}, (("openbanking_intent_id", ("urn:intent:1",)),)),
        ({"id_token": {"acr": {"essential": True, "values": ["a", "b"]}}}, (("acr", ("a", "b")),)),
        ({"id_token": {"x": {"essential": True, "value": None}}}, (("x", (None,)),)),
        ({"id_token": {"sub": {"value": "alice"}}}, (("sub", ("alice",)),)),
    ],
)
def test_an_essential_claim_with_a_value_is_demanded(asked: Any, demanded: Any):
    """OpenID Connect Core section 5.5.1; others may be left out. Of ``sub`` it goes without saying (3.1.2.2)."""
    assert demanded_claims(asked) == demanded


def test_a_demanded_claim_has_one_of_its_values():
    """IDT-12: what was consented to is what was asked for."""
    expected = replace(EXPECTED, demanded=(("openbanking_intent_id", ("urn:1", "urn:2")), ("n", (1, {"a": [True]}))))

    assert read({**GOOD, "openbanking_intent_id": "urn:2", "n": {"a": [True]}}, expected).subject == "alice"
    for intent in (..., None, "urn:3", ["urn:1"]):
        assert failed({**GOOD, "openbanking_intent_id": intent, "n": 1}, expected) is Check.CLAIMS
    for n in (..., True, "1", 1.5, {"a": [1]}):
        assert failed({**GOOD, "openbanking_intent_id": "urn:1", "n": n}, expected) is Check.CLAIMS


def test_after_a_refresh_it_is_the_same_person_and_the_same_login():
    """RT-06: the nonce is not compared, ``sub`` and ``auth_time`` are."""
    expected = replace(EXPECTED, nonce=None, subject="alice", auth_time=NOW - 5000)

    assert read({**GOOD, "nonce": ..., "auth_time": NOW - 5000}, expected).subject == "alice"
    assert read({**GOOD, "nonce": "n-1"}, expected).subject == "alice"
    assert failed({**GOOD, "sub": "bob"}, expected) is Check.SUB
    assert failed({**GOOD, "auth_time": NOW - 10}, expected) is Check.AUTH_TIME


def test_nothing_of_it_is_shown():
    """Neither the expectation nor an error repeats a nonce or a subject."""
    with pytest.raises(CheckFailedError) as raised:
        read({**GOOD, "sub": "canary", "nonce": "canary"})

    assert "canary" not in repr(raised.value) + str(raised.value) + str(raised.value.__context__)
    assert "n-1" not in repr(EXPECTED)
