"""Tests of ``broker/sandbox/id_tokens.py``: one thing is wrong with each bad ID token, and all else is right."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jws

from broker.sandbox.faults import read_fault
from broker.sandbox.grant_faults import GRANT_KINDS
from broker.sandbox.id_tokens import TWISTS, at_hash, make_id_token
from broker.sandbox.jose import (
    JsonWebKey,
    NotSignedError,
    SigningAlg,
    generate_private_key_pem,
    read_private,
    unverified_claims,
    unverified_header,
    verify,
)
from broker.sandbox.keyring import DECOY_KID, Keyring


def new_key() -> JsonWebKey:
    return read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))


KEY, ACCESS_KEY = new_key(), new_key()
CLAIMS = {"iss": "https://as", "sub": "alice", "aud": "app", "iat": 1_000, "exp": 1_300, "nonce": "n", "at_hash": "h"}


def made(kind: str | None = None, **parameters: Any) -> tuple[str | None, Keyring]:
    ring = Keyring(access_token_key=ACCESS_KEY, keys={SigningAlg.ES256: KEY})
    fault = None if kind is None else read_fault({"where": "token", "kind": kind, **parameters})
    return make_id_token(ring, "ES256", dict(CLAIMS), fault), ring


def signed(kind: str | None = None, **parameters: Any) -> str:
    token, _ = made(kind, **parameters)
    assert token is not None
    return token


def test_at_hash_is_that_of_the_standard():
    """OpenID Connect Core, appendix A.3."""
    assert at_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y") == "77QmUPtjPfzWtF2AnpK9RQ"


def test_a_good_id_token_says_what_it_should():
    """Signed with the current key, by its kid."""
    token = signed()

    assert verify(KEY, token)[1] == CLAIMS
    assert unverified_header(token)["kid"] == KEY.kid


@pytest.mark.parametrize(
    ("kind", "parameters", "changed"),
    [
        ("wrong_nonce", {}, {"nonce": "a-nonce-that-nobody-sent"}),
        ("no_nonce", {}, {"nonce": None}),
        ("id_token_expired", {}, {"iat": -2_600, "exp": -2_300}),
        ("id_token_future", {}, {"iat": 4_600, "exp": 4_900}),
        ("id_token_wrong_iss", {}, {"iss": "https://asINVALID"}),
        ("id_token_wrong_aud", {}, {"aud": "another-client"}),
        ("id_token_two_audiences", {}, {"aud": ["app", "another-client"]}),
        ("id_token_two_audiences", {"azp": "app"}, {"aud": ["app", "another-client"], "azp": "app"}),
        ("id_token_wrong_at_hash", {}, {"at_hash": at_hash("another access token")}),
        ("id_token_wrong_sub", {}, {"sub": "mallory"}),
        ("id_token_no_sub", {}, {"sub": None}),
    ],
)
def test_claims_are_changed_as_named(kind: str, parameters: dict[str, Any], changed: dict[str, Any]):
    """And the signature is good, so that nothing but the claim can be refused."""
    claims = verify(KEY, signed(kind, **parameters))[1]

    assert {name: claims.get(name) for name in {*CLAIMS, *claims} if claims.get(name) != CLAIMS.get(name)} == changed


def test_no_id_token_is_none():
    """The answer has no such member."""
    assert made("no_id_token")[0] is None


def test_alg_none_is_not_signed_and_says_so():
    """The claims are good."""
    token = signed("id_token_alg_none")

    assert token.endswith(".")
    assert unverified_header(f"{token}AA")["alg"] == "none"
    assert unverified_claims(f"{token}AA") == CLAIMS


def test_rs256_is_well_signed_with_a_published_key():
    """Only a client that pins its algorithm refuses it."""
    token, ring = made("id_token_rs256")
    assert token is not None

    opened = jws.deserialize_compact(token, ring.decoys.rs256, algorithms=["RS256"])

    assert (opened.protected["alg"], opened.protected["kid"]) == ("RS256", DECOY_KID)
    assert DECOY_KID in [entry["kid"] for entry in ring.published()]


@pytest.mark.parametrize("kind", ["id_token_bad_signature", "id_token_unknown_key"])
def test_a_wrong_signature_is_no_signature_of_ours(kind: str):
    """No published key verifies it."""
    token, ring = made(kind)

    with pytest.raises(NotSignedError):
        verify(ring.key("ES256"), token or "")


def test_a_rotated_key_is_published_only_now():
    """Who asks for the keys once more finds it; the old one is there, too."""
    token, ring = made("id_token_rotated_key")

    kid = unverified_header(token or "")["kid"]

    assert kid != KEY.kid
    assert {kid, KEY.kid} <= {entry["kid"] for entry in ring.published()}


def test_every_kind_that_changes_an_id_token_has_a_test_here():
    """A new one needs a row."""
    about = {kind for kind in GRANT_KINDS if kind.startswith("id_token_")} | {"wrong_nonce", "no_nonce"}
    signatures = {"alg_none", "rs256", "bad_signature", "unknown_key", "rotated_key"}

    assert about == {*TWISTS, *(f"id_token_{name}" for name in signatures)}
