"""The other program is asked as its own clients ask it."""

from __future__ import annotations

import json

import pytest

from bench import agent
from bench.agent import ACCOUNT, WORDS
from bench.rig import GaveUpError


def test_the_words_are_a_request_for_the_account():
    """One JSON object, and nothing behind it."""
    assert json.loads(WORDS)["account"] == ACCOUNT


def test_a_program_that_is_not_there_is_missed(monkeypatch: pytest.MonkeyPatch):
    """By its name."""
    monkeypatch.setenv("PATH", "/nonexistent")

    assert not agent.is_installed()
    with pytest.raises(GaveUpError, match="oidc-gen"):
        agent._program("oidc-gen")
