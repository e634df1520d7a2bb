from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.oauth.challenges import MAX_LENGTH, Challenge, parse_challenges


def challenge(scheme: str, **parameters: str) -> Challenge:
    return Challenge(scheme=scheme, parameters=parameters)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (['DPoP error="use_dpop_nonce"'], [challenge("dpop", error="use_dpop_nonce")]),
        (["dPoP error=use_dpop_nonce"], [challenge("dpop", error="use_dpop_nonce")]),
        (['Bearer, DPoP algs="ES256 PS256"'], [challenge("bearer"), challenge("dpop", algs="ES256 PS256")]),
        (["Bearer", "DPoP"], [challenge("bearer"), challenge("dpop")]),
        (
            ['Basic realm="a, b", Bearer realm = "c" , error="invalid_token",DPoP error="x"'],
            [challenge("basic", realm="a, b"), challenge("bearer", realm="c", error="invalid_token"),
             challenge("dpop", error="x")],
        ),
        (["Negotiate abc==, Bearer"], [challenge("negotiate"), challenge("bearer")]),
        (["NTLM"], [challenge("ntlm")]),
        ([r'Bearer realm="a \"quoted\" one"'], [challenge("bearer", realm='a "quoted" one')]),
        (["Bearer ERROR=a, error=b"], [challenge("bearer", error="a")]),
        ([", ,Bearer ,,"], [challenge("bearer")]),
        (['Bearer realm="not ended'], [challenge("bearer")]),
        (['Bearer error="a" error="b"'], []),
        (['error="use_dpop_nonce"'], []),
        (["=x"], []),
        ([""], []),
        ([], []),
        (["Bearer " + "a" * MAX_LENGTH], []),
    ],
)  # fmt: skip
def test_challenges_are_read_by_their_grammar(values: list[str], found: list[Challenge]):
    """RFC 9110 section 11.6.1; where the grammar is left there is nothing more."""
    assert list(parse_challenges(values)) == found


def test_a_scheme_in_a_quoted_string_is_none():
    """Who controls a realm shall not make us believe in another challenge."""
    (only,) = parse_challenges(['Bearer realm="x, DPoP error=use_dpop_nonce"'])

    assert only.scheme == "bearer"
    assert only.error is None


@given(st.lists(st.text(), max_size=4))
def test_whatever_a_server_says_is_read_in_bounded_time_and_without_an_error(values: list[str]):
    """There is no answer on which the reader fails."""
    assert isinstance(parse_challenges(values), tuple)
