"""Tests of ``broker/sandbox/iridium/registry.py``: applications, people, and what they are called."""

from __future__ import annotations

import re

from broker.sandbox.iridium.registry import (
    CONFIDENTIAL,
    FOREIGN,
    PEOPLE,
    SINGLE_PAGE,
    ApplicationType,
    Registry,
    bcrypt_like,
    subject_of,
)
from tests.unit.sandbox.iridium.talking import BCRYPT


def registry() -> Registry:
    return Registry(redirect_uri="https://app.example/callback", secret="hush")


def test_there_is_an_application_of_each_type():
    """Only the confidential one has a secret, and one is of another tenant."""
    known = registry().applications

    assert {one.type for one in known.values()} == set(ApplicationType)
    assert [one.client_id for one in known.values() if one.secret] == [CONFIDENTIAL]
    assert known[FOREIGN].tenant != known[SINGLE_PAGE].tenant


def test_everybody_is_somebody_else_at_each_provider():
    """And an application is not its client id."""
    own = registry()
    subjects = {subject_of(person, provider) for person in PEOPLE for provider in ("github", "google", "iridium")}
    subjects |= {one.subject for one in own.applications.values()}

    assert len(subjects) == 3 * len(PEOPLE) + len(own.applications)
    assert all(re.fullmatch("[0-9a-f]{32}", subject) for subject in subjects)
    assert all(own.identity(subject) is not None for subject in subjects)


def test_who_is_not_known_is_nobody():
    """Neither an application nor a person."""
    assert registry().application("nobody") is None
    assert registry().identity("nobody") is None


def test_an_application_has_no_secret_in_its_printed_form():
    """Nor in what the control listener shows."""
    confidential = registry().applications[CONFIDENTIAL]

    assert "hush" not in repr(confidential)
    assert "hush" not in str(confidential.as_json())


def test_values_look_like_bcrypt():
    """And no two alike."""
    first, second = bcrypt_like(), bcrypt_like()

    assert BCRYPT.fullmatch(first)
    assert first != second
