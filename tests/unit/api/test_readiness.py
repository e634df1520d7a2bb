"""Readiness is computed from state."""

from __future__ import annotations

import json

import pytest

from broker.api.readiness import Readiness, readiness, readiness_answer
from broker.tokens.serving import TokenState, TokenStatus
from tests.unit.api.world import FakeTokens, serving


def status(name: str, state: TokenState, *, required: bool, reason: str | None = None) -> TokenStatus:
    return TokenStatus(name=name, state=state, required=required, reason=reason)


def found(*tokens: TokenStatus, sandbox: tuple[str, ...] = ()) -> Readiness:
    return Readiness(tokens=tokens, sandbox=sandbox)


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (TokenState.FRESH, True),
        (TokenState.STALE, True),
        (TokenState.PENDING, False),
        (TokenState.UNAVAILABLE, False),
    ],
)
def test_a_required_token_decides(state: TokenState, ready: bool):
    """It is enough that it can be served, stale or not."""
    assert found(status("a", state, required=True)).ready is ready


def test_a_token_that_nobody_asked_for_is_ready_to_be_asked_for():
    """A probe that waits for it would otherwise keep away the only thing that fetches it."""
    assert found(status("a", TokenState.IDLE, required=True)).ready


@pytest.mark.parametrize("state", list(TokenState))
def test_a_token_that_is_not_required_does_not_decide(state: TokenState):
    """A missing consent never keeps a pod from starting."""
    assert found(status("a", state, required=False)).ready


def test_no_tokens_at_all_is_ready():
    """There is nothing that is not there."""
    assert found().ready


def test_readiness_says_why_not():
    """In the shape of an error, with the members of a good answer beside it."""
    answer = readiness_answer(found(status("a", TokenState.UNAVAILABLE, required=True, reason="connect_failed")), {"a"})

    assert answer.status == 503
    assert dict(answer.headers)["Retry-After"]
    assert json.loads(answer.body) == {
        "error": "temporarily_unavailable",
        "error_description": "a token that is needed is not available",
        "status": "not_ready",
        "tokens": {"a": {"state": "unavailable", "required": True, "reason": "connect_failed"}},
    }


def test_names_are_shown_to_those_who_may_know_them_only():
    """A token that is not visible decides all the same."""
    answer = readiness_answer(
        found(status("a", TokenState.UNAVAILABLE, required=True), status("b", TokenState.FRESH, required=True)), {"b"}
    )

    assert answer.status == 503
    assert list(json.loads(answer.body)["tokens"]) == ["b"]


def test_a_sandbox_issuer_shows():
    """Whoever looks at readiness sees that the tokens are worth nothing."""
    members = json.loads(readiness_answer(found(sandbox=("play",)), ()).body)

    assert members == {"status": "ready", "tokens": {}, "sandbox": ["play"]}


def test_all_tokens_are_looked_at_in_the_order_of_the_configuration():
    """Each time anew."""
    tokens = FakeTokens(answers={"b": serving(), "a": serving()})

    assert [token.name for token in readiness(tokens, ()).tokens] == ["b", "a"]
