"""Tests of ``broker/sandbox/keyring.py``."""

from __future__ import annotations

from broker.sandbox.jose import JsonWebKey, SigningAlg, generate_private_key_pem, read_private
from broker.sandbox.keyring import DECOY_KID, Keyring


def new_key() -> JsonWebKey:
    return read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))


def keyring() -> Keyring:
    return Keyring(access_token_key=new_key(), keys={SigningAlg.ES256: new_key()})


def kids(entries: list[dict[str, str]]) -> list[str]:
    return [entry["kid"] for entry in entries]


def test_the_published_keys_are_public():
    """No private member is among them."""
    ring = keyring()

    for entry in ring.published():
        assert "d" not in entry
        assert entry["use"] == "sig"


def test_rotation_keeps_the_old_key_published_or_not():
    """The key of access tokens stays, and stays first."""
    for keep in (True, False):
        ring = keyring()
        old = ring.key("ES256").kid

        ring.rotate(keep_published=keep)

        assert ring.key("ES256").kid != old
        assert (old in kids(ring.published())) is keep
        assert kids(ring.published())[0] == ring.access_token_key.kid


def test_decoys_are_published_only_on_command():
    """RS256, which no client of FAPI accepts."""
    ring = keyring()
    assert DECOY_KID not in kids(ring.published())

    ring.publish_decoy()

    assert [entry["alg"] for entry in ring.published() if entry["kid"] == DECOY_KID] == ["RS256"]


def test_decoys_of_the_same_kid_come_before_the_real_key():
    """So that who takes the first match takes a wrong one."""
    ring = keyring()
    kid = ring.key("ES256").kid

    of_the_kid = [entry for entry in ring.published_with_decoys() if entry["kid"] == kid]

    assert len(of_the_kid) == 5
    assert of_the_kid[-1] == ring.key("ES256").public_jwk()
    assert {entry["kty"] for entry in of_the_kid} == {"RSA", "EC", "oct"}
