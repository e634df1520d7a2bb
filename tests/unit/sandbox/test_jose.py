"""Tests of ``broker/sandbox/jose.py``."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from broker.sandbox.jose import (
    JsonWebKey,
    NotSignedError,
    SigningAlg,
    generate_private_key_pem,
    read_private,
    read_proof_key,
    read_public,
    sign,
    unverified_claims,
    unverified_header,
    verify,
)


def key_for(alg: SigningAlg = SigningAlg.ES256) -> JsonWebKey:
    """Make a new key."""
    return read_private(alg, generate_private_key_pem(alg))


def encoded(value: object) -> str:
    """Encode a part of a JWS by hand."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("alg", list(SigningAlg))
def test_what_is_signed_verifies_with_the_public_half(alg: SigningAlg):
    """For every algorithm that FAPI allows, through the published JWK."""
    private = key_for(alg)
    public = read_public(private.public_jwk())

    header, claims = verify(public, sign(private, "JWT", {"a": 1}))

    assert header == {"alg": str(alg), "kid": private.kid, "typ": "JWT"}
    assert claims == {"a": 1}


@pytest.mark.parametrize("alg", [SigningAlg.ES256, SigningAlg.EDDSA])
def test_a_public_jwk_holds_no_private_member(alg: SigningAlg):
    """Only what RFC 7517 calls public, with use, alg and kid."""
    jwk = key_for(alg).public_jwk()

    assert set(jwk) <= {"kty", "crv", "x", "y", "n", "e", "use", "alg", "kid"}
    assert {"use", "alg", "kid"} <= set(jwk)


def test_a_key_keeps_its_name_over_a_restart():
    """The kid depends on the key alone (RFC 7638)."""
    pem = generate_private_key_pem(SigningAlg.ES256)

    assert read_private(SigningAlg.ES256, pem).kid == read_private(SigningAlg.ES256, pem).kid


def test_another_key_does_not_verify():
    """The signature decides, not the kid."""
    token = sign(key_for(), "JWT", {})

    with pytest.raises(NotSignedError):
        verify(key_for(), token)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}, {"typ": "JWT"}, {"alg": 5}])
def test_no_other_algorithm_is_accepted(header: dict[str, object]):
    """The key's algorithm is the only one, whatever the header says (RFC 8725 section 3.1)."""
    key = key_for()
    _, claims, signature = sign(key, "JWT", {}).split(".")

    with pytest.raises(NotSignedError):
        verify(key, f"{encoded(header)}.{claims}.{signature}")


def test_an_unknown_critical_header_is_refused():
    """RFC 7515 section 4.1.11."""
    key = key_for()
    _, claims, signature = sign(key, "JWT", {}).split(".")
    header = {"alg": "ES256", "crit": ["odd"], "odd": True}

    with pytest.raises(NotSignedError):
        verify(key, f"{encoded(header)}.{claims}.{signature}")


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "....", "é.é.é", f"{encoded([])}.{encoded({})}.a", "\x00"])
def test_what_is_no_jws_is_refused_alike(token: str):
    """By every reader, with the one error of this module."""
    for read in (unverified_header, unverified_claims, lambda text: verify(key_for(), text)):
        with pytest.raises(NotSignedError):
            read(token)


def test_claims_have_to_be_an_object():
    """A signed list is no JWT."""
    token = f"{encoded({'alg': 'ES256'})}.{encoded([1])}.{encoded('')}"

    with pytest.raises(NotSignedError):
        unverified_claims(token)


def test_unverified_readers_read():
    """They find what was signed, for the search of the key and for the log."""
    key = key_for()
    token = sign(key, "at+jwt", {"jti": "1"})

    assert unverified_header(token)["kid"] == key.kid
    assert unverified_claims(token) == {"jti": "1"}


def test_a_key_has_no_private_part_in_its_printed_form():
    """So that a failing test does not print it."""
    key = key_for()

    assert repr(key) == f"JsonWebKey(alg=<SigningAlg.ES256: 'ES256'>, kid='{key.kid}')"


@pytest.mark.parametrize(
    ("alg", "jwk"),
    [
        (SigningAlg.ES256, ECKey.generate_key("P-384").as_dict(private=False)),
        (SigningAlg.ES256, {**ECKey.generate_key("P-256").as_dict(private=False), "crv": "P-384"}),
        (SigningAlg.ES256, OKPKey.generate_key("Ed25519").as_dict(private=False)),
        (SigningAlg.EDDSA, OKPKey.generate_key("X25519").as_dict(private=False)),
        (SigningAlg.EDDSA, OKPKey.generate_key("Ed25519").as_dict(private=True)),
        (SigningAlg.PS256, ECKey.generate_key("P-256").as_dict(private=False)),
    ],
)
def test_a_key_that_comes_along_has_to_suit(alg: SigningAlg, jwk: dict[str, Any]):
    """Its curve is that of the algorithm, and it has no private half."""
    with pytest.raises(ValueError, match=r"private|not a good key"):
        read_proof_key(alg, jwk)


def test_a_key_that_comes_along_is_named_by_its_thumbprint():
    """Whatever name it gives itself."""
    key = ECKey.generate_key("P-256")

    read = read_proof_key(SigningAlg.ES256, {**key.as_dict(private=False), "kid": "mine"})

    assert (read.kid, read.alg) == (key.thumbprint(), SigningAlg.ES256)
