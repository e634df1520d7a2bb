"""Errors of consents: what they carry, and what they keep to themselves."""

from __future__ import annotations

from broker.consent.errors import FinishedError, NoSuchAuthorizationError, NotAcceptedError
from broker.consent.pending import Abandoned, Failed, Granted, Redeeming
from broker.errors import LocalError


def test_a_finished_authorization_carries_how_it_ended():
    """Grant, reason and check, as far as there are any."""
    granted, failed = FinishedError(Granted(grant="g")), FinishedError(Failed(reason="r", check="c"))

    assert (granted.state, granted.grant, granted.reason, granted.check) == ("granted", "g", None, None)
    assert (failed.state, failed.grant, failed.reason, failed.check) == ("failed", None, "r", "c")
    assert FinishedError(Abandoned()).state == "abandoned"
    assert FinishedError(Redeeming()).state == "redeeming"


def test_what_is_not_found_says_nothing_about_why():
    """There is one such error, and it takes nothing."""
    assert NoSuchAuthorizationError().args == NoSuchAuthorizationError().args
    assert NoSuchAuthorizationError().hint is None


def test_what_was_not_accepted_tells_why():
    """With the code, the message and the hint of what may pass."""
    error = NotAcceptedError(LocalError("store_unavailable", "the disk is full", hint="make room"))

    assert (error.code, error.message, error.hint) == ("store_unavailable", "the disk is full", "make room")
