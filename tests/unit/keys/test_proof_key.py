from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from joserfc.jwk import import_key

from broker.errors import LocalError
from broker.keys.proof_key import load_proof_key, make_proof_key, stored_proof_key
from broker.oauth.jose import jws_header
from tests.unit.keys.certificates import key_pem, p256, rsa_key, written
from tests.unit.keys.verifying import claims_of

pytestmark = pytest.mark.real_time  # RSA signs in a thread

KEYS: dict[str, Any] = {"ES256": p256(), "PS256": rsa_key(), "EdDSA": ed25519.Ed25519PrivateKey.generate()}


@pytest.mark.parametrize("alg", KEYS)
async def test_a_proof_shows_the_public_key_and_nothing_else_about_it(tmp_path: Path, alg: str):
    """RFC 9449 section 4.2: typ, alg and jwk, which has no private member and no kid beside it."""
    key = load_proof_key(name="p", file=written(tmp_path / "p.pem", key_pem(KEYS[alg])), alg=alg)

    proof = await key.prove({"jti": "1"})
    key.close()

    header = jws_header(proof)
    assert header is not None
    assert (header["typ"], header["alg"], sorted(header)) == ("dpop+jwt", alg, ["alg", "jwk", "typ"])
    assert set(header["jwk"]) <= {"kty", "crv", "x", "y", "n", "e"}
    assert import_key(header["jwk"]).thumbprint() == key.jkt
    assert claims_of(proof, alg) == {"jti": "1"}


def test_proofs_are_not_signed_with_rs256(tmp_path: Path):
    """FAPI 2.0 section 5.4.1; the key would do."""
    file = written(tmp_path / "p.pem", key_pem(rsa_key()))

    with pytest.raises(LocalError) as refused:
        load_proof_key(name="p", file=file, alg="RS256")

    assert refused.value.code == "key_algorithm"


def test_a_key_that_does_not_fit_its_algorithm_is_refused(tmp_path: Path):
    """As for keys that sign assertions."""
    file = written(tmp_path / "p.pem", key_pem(rsa_key()))

    with pytest.raises(LocalError, match="cannot sign with ES256"):
        load_proof_key(name="p", file=file, alg="ES256")


def test_a_key_that_was_made_is_taken_up_again_as_it_was():
    """Its written form is for the store alone."""
    made, wrote = make_proof_key("app")
    other, _ = make_proof_key("app")

    again = stored_proof_key("app", wrote)

    assert (again.jkt, again.alg, again.name) == (made.jkt, "ES256", "app")
    assert other.jkt != made.jkt


@pytest.mark.parametrize("content", [b"", b"junk", key_pem(rsa_key()), key_pem(KEYS["EdDSA"])])
def test_what_was_not_made_here_is_not_taken_for_a_key_that_was(content: bytes):
    """Another version may make others: they are not read by halves."""
    with pytest.raises(LocalError):
        stored_proof_key("app", content)


def test_a_key_has_no_printed_form_and_no_serial_one():
    """But for what identifies it."""
    key, wrote = make_proof_key("app")

    assert repr(key) == f"ProofKey(name='app', alg='ES256', jkt={key.jkt!r})"
    assert wrote.splitlines()[1].decode() not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
