from __future__ import annotations

from broker.oauth.pkce import METHOD, code_challenge
from broker.oauth.secret import CodeVerifier


def test_the_challenge_is_that_of_the_specification():
    """RFC 7636 appendix B."""
    verifier = CodeVerifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert METHOD == "S256"
