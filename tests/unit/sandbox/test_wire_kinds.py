"""Tests of ``broker/sandbox/wire_kinds.py``; that each kind is documented and carried out is tested with all others."""

from __future__ import annotations

from broker.sandbox.fault_kinds import EVERYWHERE, RESOURCES
from broker.sandbox.faults import KINDS
from broker.sandbox.wire_kinds import WIRE_KINDS


def test_they_are_of_the_catalogue():
    """Under their own names."""
    assert {name: KINDS[name] for name in WIRE_KINDS} == WIRE_KINDS


def test_http_goes_wrong_everywhere_and_tokens_where_they_are_shown():
    """A browser's answers are no business of these."""
    assert {name for name, kind in WIRE_KINDS.items() if kind.where == RESOURCES} == {"invalid_token"}
    assert all(kind.where <= EVERYWHERE for kind in WIRE_KINDS.values())
