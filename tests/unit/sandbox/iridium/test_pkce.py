"""Tests of ``broker/sandbox/iridium/pkce.py``: two transforms of one verifier."""

from __future__ import annotations

from broker.sandbox.iridium.pkce import hexadecimal_challenge, new_code, standard_challenge


def test_the_standard_challenge_is_that_of_the_rfc():
    """RFC 7636 appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert standard_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_other_one_is_made_of_the_digits():
    """86 characters, none of them padding."""
    challenge = hexadecimal_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert len(challenge) == 86
    assert challenge.startswith("MTNkMzFlOTYx")  # 13d31e961...


def test_a_code_has_no_value_in_its_printed_form():
    """And no two are alike."""
    codes = [new_code("s", client_id="c", redirect_uri="r", code_challenge="hush", expires_at=1.0) for _ in range(2)]

    assert codes[0].value != codes[1].value
    assert codes[0].value not in repr(codes[0])
    assert "hush" not in repr(codes[0])
