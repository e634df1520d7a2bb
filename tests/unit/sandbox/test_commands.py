"""Tests of ``broker/sandbox/commands.py``: what a body may be is tested with each command over HTTP."""

from __future__ import annotations

import pytest

from broker.sandbox.commands import CommandRefusedError, only, yes_or_no


def test_members_that_nobody_asked_for_are_refused():
    """A slip in a test must not pass by accident; the refusal does not echo it."""
    assert only({"a": 1}, "a", "b") == {"a": 1}
    with pytest.raises(CommandRefusedError, match="there are a, b") as caught:
        only({"a": 1, "<b>": 2}, "a", "b")
    assert "<b>" not in str(caught.value)


def test_yes_or_no_is_neither_one_nor_text():
    """Or what it is unless given."""
    assert yes_or_no({"a": True}, "a", unless=False)
    assert not yes_or_no({}, "a", unless=False)
    for wrong in (1, "true", None):
        with pytest.raises(CommandRefusedError, match="a: must be"):
            yes_or_no({"a": wrong}, "a", unless=False)
