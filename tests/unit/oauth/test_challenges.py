"""A header with several challenges is read as one, and what is no challenge is none."""

from __future__ import annotations

import pytest

from broker.oauth.challenges import MAX_CHALLENGES, Challenge, read_challenges, says_invalid_token, wants_dpop_nonce


def read(*values: str) -> list[tuple[str, dict[str, str]]]:
    return [(one.scheme, dict(one.parameters)) for one in read_challenges(values)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Bearer", [("bearer", {})]),
        ('Bearer realm="a, b", error="invalid_token"', [("bearer", {"realm": "a, b", "error": "invalid_token"})]),
        (
            'dPoP error="use_dpop_nonce", algs="ES256 PS256"',
            [("dpop", {"error": "use_dpop_nonce", "algs": "ES256 PS256"})],
        ),
        (
            'Bearer error=invalid_token, DPoP algs="ES256", Basic realm="x"',
            [("bearer", {"error": "invalid_token"}), ("dpop", {"algs": "ES256"}), ("basic", {"realm": "x"})],
        ),
        ("Negotiate YWJj==, Bearer ERROR=x", [("negotiate", {}), ("bearer", {"error": "x"})]),
        ('Bearer realm="a\\"b"', [("bearer", {"realm": 'a"b'})]),
        (', ,Bearer realm="x",,', [("bearer", {"realm": "x"})]),
        ('Digest realm = "x" , error = "e"', [("digest", {"realm": "x", "error": "e"})]),
        ("", []),
        ('="x"', []),
        ('Bearer realm="unended', [("bearer", {})]),
    ],
)
def test_challenges_are_read_with_their_parameters(value: str, found: list[tuple[str, dict[str, str]]]):
    """As RFC 9110 section 11.6.1 has them, commas in quotes included."""
    assert read(value) == found


def test_several_headers_are_read_in_their_order():
    """Up to a number: a peer that sends thousands gets none of them read."""
    assert [one.scheme for one in read_challenges(["A", "B x=1", "C"])] == ["a", "b", "c"]
    assert len(read_challenges(["Bearer"] * 1_000)) == MAX_CHALLENGES
    assert len(read_challenges([", ".join(["Bearer"] * 1_000)])) == MAX_CHALLENGES


@pytest.mark.parametrize(
    ("value", "token", "nonce"),
    [
        ('Bearer error="invalid_token"', True, False),
        ('DPoP error="invalid_token"', True, False),
        ('DPoP error="use_dpop_nonce"', False, True),
        ('Bearer error="use_dpop_nonce"', False, False),
        ('Bearer error="insufficient_scope"', False, False),
        ('Basic error="invalid_token"', False, False),
        ("DPoP", False, False),
    ],
)
def test_what_can_be_helped_is_known_by_scheme_and_error(value: str, token: bool, nonce: bool):
    """Nothing else makes the broker call twice."""
    challenges = read_challenges([value])

    assert (says_invalid_token(challenges), wants_dpop_nonce(challenges)) == (token, nonce)


def test_a_challenge_says_its_error():
    """None where it has none."""
    assert Challenge(scheme="bearer", parameters={}).error is None
