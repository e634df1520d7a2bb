"""reasons: a closed set, and operators can look each one up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.oauth.reasons import Reason

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "reasons.md"
_ROW = re.compile(r"^\| `([a-z_]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
"""A row of three columns: the reason, what happened, what to do."""


def rows() -> list[tuple[str, str, str]]:
    return _ROW.findall(PAGE.read_text())


def test_every_reason_is_documented_and_every_documented_reason_exists() -> None:
    """Once each, in the order of the code, with something to read and something to do."""
    assert [name for name, _, _ in rows()] == [*Reason]
    assert all(happened.strip() and advice.strip() for _, happened, advice in rows())


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_is_a_plain_word(reason: Reason) -> None:
    """It becomes a label of metrics, and reads as itself wherever it is written."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason)
    assert f"{reason}" == reason.value == reason.name.lower()
