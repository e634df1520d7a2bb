from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode

from broker.oauth.dialect import PkceTransform
from broker.oauth.pkce import METHOD, code_challenge
from broker.oauth.secret import CodeVerifier


def test_the_challenge_is_that_of_the_specification():
    """RFC 7636 appendix B."""
    verifier = CodeVerifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert METHOD == "S256"


def test_a_dialect_takes_the_hexadecimal_digits_of_the_hash():
    """IRI-05: 86 characters, and none of them is padding."""
    verifier = CodeVerifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    challenge = code_challenge(verifier, PkceTransform.S256_HEX)

    digits = urlsafe_b64decode(challenge + "==").decode()
    assert len(challenge) == 86
    assert digits == hashlib.sha256(verifier.reveal().encode()).hexdigest()
    assert code_challenge(verifier, PkceTransform.S256) == code_challenge(verifier)
