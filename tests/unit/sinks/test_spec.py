"""What a sink is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.sinks.spec import Format
from tests.unit.sinks.world import HOOK, sink


def test_a_hook_changes_nothing_about_the_file() -> None:
    """What was written before a reload is as good after it."""
    assert sink().makes_same_file(sink(hook=HOOK))


@pytest.mark.parametrize(
    "change",
    [{"token": "other"}, {"path": Path("/other")}, {"mode": 0o600}, {"uid": 1}, {"gid": 1}, {"format": Format.JSON}],
)
def test_everything_else_makes_another_file(change: dict[str, Any]) -> None:
    """It is written anew."""
    assert not sink().makes_same_file(sink(**change))
