"""purposes: a DPoP key that is a key of another section, too, is found by what it is."""

from __future__ import annotations

from pathlib import Path

from broker.keys.proof_key import ProofKey, load_proof_key
from broker.keys.purposes import shared_keys
from broker.keys.signer import SigningKey, load_signing_key
from tests.unit.keys.certificates import key_pem, p256, written


def proving(file: Path, name: str) -> ProofKey:
    return load_proof_key(name=name, file=file, alg="ES256")


def signing(file: Path, name: str) -> SigningKey:
    return load_signing_key(name=name, file=file, alg="ES256")


def test_a_dpop_key_is_found_in_every_section_that_has_it_too(tmp_path: Path):
    """One that nobody else has is not; and signing keys may be the same, for they have the same purpose."""
    same, own = written(tmp_path / "a", key_pem(p256())), written(tmp_path / "b", key_pem(p256()))
    signers = {name: signing(same, name) for name in ("k", "l")}
    provers = {"d": proving(same, "d"), "e": proving(own, "e"), "f": proving(own, "f")}

    found = shared_keys({}, signers, provers)

    assert [one.sections for one in found] == [("key.d", "key.k"), ("key.d", "key.l"), ("key.f", "key.e")]
    assert {one.error.code for one in found} == {"key_shared"}
    assert shared_keys({}, signers, {"e": provers["e"]}) == ()
    assert shared_keys({}, signers, {}) == ()
