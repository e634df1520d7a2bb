from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from broker.errors import RemoteError
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.jwks import MAX_CANDIDATES, JwkSet, KeyNotFoundError, read_jwks, verify
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import NOW, a_jwt, an_answer, base64url
from tests.unit.oauth.keys import ALGS, ServerKey, published, server_key

CLAIMS = {"iss": "https://as.example"}


def check(token: str, keys: JwkSet, alg: str = "PS256") -> Check:
    with pytest.raises(CheckFailedError) as raised:
        verify(token, keys, alg=alg, reason=Reason.ID_TOKEN_INVALID)
    assert raised.value.code == Reason.ID_TOKEN_INVALID
    return raised.value.check


@pytest.mark.parametrize("alg", ALGS)
def test_what_a_published_key_signed_is_believed(alg: str):
    """With each algorithm that a client may pin."""
    key = server_key(alg)

    assert verify(key.sign(CLAIMS), published(key.jwk()), alg=alg, reason=Reason.ID_TOKEN_INVALID) == CLAIMS


@pytest.mark.parametrize(("stated", "pinned"), [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA"), ("Ed25519", "Ed25519")])
def test_the_two_names_of_eddsa_are_one(stated: str, pinned: str):
    """RFC 9864 renamed it; servers and keys use either."""
    key = server_key("EdDSA")
    token = key.sign(CLAIMS, alg=stated)

    assert verify(token, published(key.jwk(alg=pinned)), alg=pinned, reason=Reason.ID_TOKEN_INVALID) == CLAIMS


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS256", "ES256", None, 5])
def test_the_token_does_not_choose_the_algorithm(alg: object):
    """IDT-01: no ``none``, no HMAC with a published key, no weaker one, also where a key for it is published."""
    keys = published(server_key().jwk(), server_key("RS256", "k1").jwk(), server_key("ES256", "k1").jwk())

    assert check(a_jwt(CLAIMS, {"alg": alg, "kid": "k1"}), keys) is Check.ALG


def test_a_weaker_signature_by_a_published_key_is_refused():
    """RS256 by an extra RSA key, with all else right."""
    decoy = server_key("RS256", "k1")

    assert check(decoy.sign(CLAIMS), published(server_key().jwk(), decoy.jwk())) is Check.ALG


def test_an_hmac_under_a_published_octet_key_is_refused():
    """JWKS-04: symmetric keys in a public set are no keys."""
    oct_key = {"kty": "oct", "k": base64url(b"k" * 32), "kid": "k1", "alg": "HS256"}

    assert published(oct_key).keys == ()
    assert check(a_jwt(CLAIMS, {"alg": "HS256", "kid": "k1"}), published(oct_key), "HS256") is Check.KEY


def test_decoys_with_the_same_kid_do_not_matter():
    """JWKS-01: kty, alg, use, key_ops and crv tell keys of one name apart."""
    real = server_key()
    decoys = [
        server_key("ES256", "k1").jwk(),
        server_key("EdDSA", "k1").jwk(),
        server_key("PS256", "k1", bits=2056).jwk(use="enc"),
        server_key("PS256", "k1", bits=2056).jwk(key_ops=["encrypt"]),
        server_key("PS256", "k1", bits=2056).jwk(alg="RS256"),
    ]

    keys = published(*decoys, real.jwk(), *decoys)

    assert len(keys.candidates("PS256", "k1")) == 1
    assert verify(real.sign(CLAIMS), keys, alg="PS256", reason=Reason.ID_TOKEN_INVALID) == CLAIMS


def test_several_keys_that_fit_are_tried_up_to_a_bound():
    """Two of one name and kind: the second one may be it, but a hundred are not tried."""
    real, other = server_key(), server_key("PS256", "k1", bits=2056)

    found = verify(real.sign(CLAIMS), published(other.jwk(), real.jwk()), alg="PS256", reason=Reason.ID_TOKEN_INVALID)
    buried = published(*[other.jwk()] * MAX_CANDIDATES, real.jwk())

    assert found == CLAIMS
    assert check(real.sign(CLAIMS), buried) is Check.SIGNATURE


def test_without_a_kid_the_one_key_of_the_kind_is_it():
    """JWKS-02."""
    real = server_key()
    keys = published(server_key("ES256", "other").jwk(), real.jwk())

    assert verify(real.sign(CLAIMS, kid=None), keys, alg="PS256", reason=Reason.ID_TOKEN_INVALID) == CLAIMS


@pytest.mark.parametrize(
    "jwk", [server_key("ES256").jwk(), server_key("PS256", "k2").jwk(), server_key().jwk(kid=None)]
)
def test_a_key_that_is_missing_is_told_apart(jwk: dict[str, Any]):
    """The set may be older than the key: whoever has it may fetch it anew."""
    with pytest.raises(KeyNotFoundError):
        verify(server_key().sign(CLAIMS), published(jwk), alg="PS256", reason=Reason.ID_TOKEN_INVALID)


def test_a_signature_of_another_key_is_none():
    """Same name, same kind, another key."""
    assert check(server_key().sign(CLAIMS), published(server_key("PS256", "k1", bits=2056).jwk())) is Check.SIGNATURE


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_token_is_none(part: int):
    """Header, payload or signature."""
    parts = server_key().sign(CLAIMS).split(".")
    if part == 0:
        parts[0] = base64url(json.dumps({"alg": "PS256", "kid": "k1", "x": 1}).encode())
    else:
        changed = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
        changed[-1] ^= 1
        parts[part] = base64url(bytes(changed))

    assert check(".".join(parts), published(server_key().jwk())) is Check.SIGNATURE


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c.d.e", "....", "e30.e30.", "W10.e30.AA", "x" * 70_000])
def test_what_is_no_jws_is_none(token: str):
    """Five parts are a JWE, which nobody asked for."""
    assert check(token, published(server_key().jwk())) in {Check.SIGNED_FORM, Check.ALG}


def test_a_kid_of_another_type_is_none():
    """Keys are compared by strings."""
    assert check(a_jwt(CLAIMS, {"alg": "PS256", "kid": 1}), published(server_key().jwk())) is Check.SIGNED_FORM


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": True}, {"b64": False}, {"crit": []}])
def test_extensions_that_are_critical_are_refused(header: dict[str, object]):
    """RFC 7515 section 4.1.11: who does not understand one must not accept."""
    token = a_jwt(CLAIMS, {"alg": "PS256", "kid": "k1", **header})

    assert check(token, published(server_key().jwk())) is Check.SIGNED_FORM


def test_unknown_header_parameters_are_ignored():
    """RFC 7515 section 4."""
    token = server_key().sign(CLAIMS, **{"x-other": "y", "jku": "https://evil.example/jwks"})

    assert verify(token, published(server_key().jwk()), alg="PS256", reason=Reason.ID_TOKEN_INVALID) == CLAIMS


@pytest.mark.parametrize("payload", [b"[]", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff"])
def test_a_signed_payload_has_to_be_strict_json(payload: bytes):
    """A signature does not make two readings one."""
    assert check(server_key().sign(payload), published(server_key().jwk())) is Check.SIGNATURE


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        "key",
        {},
        {"kty": ["RSA"]},
        {"kty": "RSA", "n": "AQAB"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
        {"kty": "RSA", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": base64url(b"x" * 32)},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        server_key().jwk(kid=5),
        server_key().jwk(alg=5),
        server_key().jwk(use="enc"),
        server_key().jwk(use=["sig"]),
        server_key().jwk(key_ops="verify"),
        server_key().jwk(key_ops=["sign"]),
        server_key("PS256", "short", bits=1024).jwk(),
    ],
)
def test_a_key_that_is_of_no_use_does_not_spoil_the_set(jwk: object):
    """JWKS-04: skipped, and the next one is read."""
    keys = published(jwk, server_key("ES256").jwk())

    assert keys.candidates("PS256", None) == ()
    assert len(keys.candidates("ES256", "k1")) == 1


@pytest.mark.parametrize("body", [{}, {"keys": {}}, {"keys": None}, [], b"<html>"])
def test_what_is_no_set_is_refused(body: object):
    """A set without keys is one, and finds nothing."""
    with pytest.raises(RemoteError):
        read_jwks(an_answer(body), wall_now=NOW)
    assert published().keys == ()


def test_a_set_is_read_up_to_a_bound():
    """Importing keys costs; a server that publishes thousands is not waited for."""
    assert len(published(*[server_key("ES256").jwk()] * 200).keys) == 100


def test_no_printed_form_shows_a_key_or_a_token():
    """Errors hold the name of a check and nothing else."""
    key: ServerKey = server_key()
    token = key.sign({"sub": "canary"})
    with pytest.raises(CheckFailedError) as raised:
        verify(token, published(), alg="PS256", reason=Reason.ID_TOKEN_INVALID)

    shown = repr(raised.value) + str(raised.value) + repr(raised.value.__dict__)
    assert token not in shown
    assert "canary" not in shown
