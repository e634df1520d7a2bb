from __future__ import annotations

from pathlib import Path

from broker.errors import Outcome
from broker.oauth.checks import Check, response_invalid
from broker.oauth.reasons import Reason

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "reasons.md"


def test_an_error_names_the_check_and_nothing_else():
    """It is in answers, events and audit records."""
    error = response_invalid(Check.STATE)

    assert (error.code, error.check, error.outcome) == (
        Reason.AUTHORIZATION_RESPONSE_INVALID,
        Check.STATE,
        Outcome.ANSWERED,
    )


def test_every_check_is_documented():
    """An operator who sees the name of a check finds it."""
    page = PAGE.read_text()

    assert [check for check in Check if f"`{check}`" not in page] == []
