from __future__ import annotations

import pytest

from broker.api.rotated import RefusedItem, Rotated


def test_what_came_of_a_look_is_a_frozen_value():
    """Nothing came of it unless it is said."""
    assert Rotated() == Rotated(rotated=(), refused=(), dropped=())
    with pytest.raises(AttributeError):
        RefusedItem(item="certificate.x", reason="x", problem="x").item = "y"  # type: ignore[misc]
