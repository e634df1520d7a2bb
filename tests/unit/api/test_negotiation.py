"""When a token is answered as plain text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.api.negotiation import prefers_plain_text


@pytest.mark.parametrize(
    "accept",
    [
        ["text/plain"],
        ["TEXT/PLAIN"],
        ["text/plain; charset=utf-8"],
        ["text/plain, */*"],
        ["text/plain;q=0.5, application/json;q=0.4"],
        ["text/plain", "application/json;q=0"],
        ["text/plain ; q=1.000"],
    ],
)
def test_plain_text_is_given_to_those_who_ask_for_it(accept: list[str]):
    """By name, and before JSON."""
    assert prefers_plain_text(accept)


@pytest.mark.parametrize(
    "accept",
    [
        [],
        [""],
        ["*/*"],
        ["text/*"],
        ["application/json"],
        ["application/json, text/plain, */*"],
        ["text/plain;q=0"],
        ["text/plain;q=2"],
        ["text/plain;q=abc"],
        ["text/plain;q=0.5, application/*"],
        ["text/plainx", "xtext/plain"],
    ],
)
def test_json_is_given_to_everybody_else(accept: list[str]):
    """A tie, a wildcard and a weight that is none: JSON."""
    assert not prefers_plain_text(accept)


@given(st.lists(st.text(max_size=60), max_size=4))
def test_no_header_value_makes_it_fail(accept: list[str]):
    """Whatever came, it is one of the two."""
    assert prefers_plain_text(accept) in (True, False)
