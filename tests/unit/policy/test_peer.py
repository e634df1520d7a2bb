"""The other end of a connection."""

from __future__ import annotations

import dataclasses

import pytest

from broker.policy.peer import Peer


def test_a_peer_of_which_nothing_is_known_has_no_ids():
    """Absent facts are None, which is nobody, and not 0, which is root."""
    peer = Peer(listener="app")

    assert (peer.uid, peer.gid, peer.pid, peer.groups) == (None, None, None, frozenset())


def test_a_peer_cannot_be_changed_after_it_was_found_out():
    """Who is at the other end is decided once, at accept time."""
    peer = Peer(listener="app", uid=1000)

    with pytest.raises(dataclasses.FrozenInstanceError):
        peer.uid = 0  # type: ignore[misc]
