"""Tests of ``broker/sandbox/grant_faults.py``: the catalogue is in order; what kinds do is tested elsewhere."""

from __future__ import annotations

from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import KINDS
from broker.sandbox.grant_faults import GRANT_KINDS


def test_the_kinds_are_part_of_the_catalogue():
    """No name is taken twice."""
    assert GRANT_KINDS.items() <= KINDS.items()
    assert all(KINDS[name].summary.endswith(".") for name in GRANT_KINDS)


def test_each_kind_strikes_at_one_place_where_a_grant_passes():
    """And never in a handshake."""
    places = {place for kind in GRANT_KINDS.values() for place in kind.where}

    assert {len(kind.where) for kind in GRANT_KINDS.values()} == {1}
    assert places == {Where.AUTHORIZE, Where.TOKEN, Where.PAR, Where.USERINFO, Where.JWKS}
    assert not any(kind.handshake for kind in GRANT_KINDS.values())
