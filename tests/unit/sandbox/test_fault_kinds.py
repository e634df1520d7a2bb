"""Tests of ``broker/sandbox/fault_kinds.py``: what parameters accept."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sandbox.fault_kinds import (
    EVERYWHERE,
    Parameter,
    Where,
    integer,
    is_header_value,
    is_names,
    is_object,
    is_seconds,
    one_of,
    text,
)


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (integer(1, 1, 3), [1, 3], [0, 4, True, 1.0, "1", None]),
        (one_of("a", "a", "b"), ["a", "b"], ["c", None, 1]),
        (text(None), ["", "a b"], [None, 1, "a\nb", "\u00e9"]),
    ],
)
def test_a_parameter_accepts_what_it_says(parameter: Parameter, good: list[Any], bad: list[Any]):
    """And nothing that is only similar."""
    assert [value for value in good if not parameter.accepts(value)] == []
    assert [value for value in bad if parameter.accepts(value)] == []


@pytest.mark.parametrize(
    ("accepts", "good", "bad"),
    [
        (is_seconds, [0, 0.5, 3_600], [-1, 3_601, True, "1", None]),
        (is_header_value, [5, "soon"], [True, 1.5, "a\r\nb", None]),
        (is_object, [{}], [[], None]),
        (is_names, [[], ["a"]], [["a", 1], "a", None]),
    ],
)
def test_values_are_told_apart(accepts: Any, good: list[Any], bad: list[Any]):
    """The same, for what has no range."""
    assert [value for value in good if not accepts(value)] == []
    assert [value for value in bad if accepts(value)] == []


def test_a_browser_is_no_program():
    """Faults of JSON answers do not strike where people are sent."""
    assert Where.AUTHORIZE not in EVERYWHERE
    assert {Where.TOKEN, Where.PAR, Where.JWKS, Where.USERINFO, Where.REVOCATION} < EVERYWHERE
