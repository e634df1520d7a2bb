"""Readiness is computed from state."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.api.readiness import Readiness, readiness, readiness_answer, states_of
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


async def test_all_tokens_are_looked_at_in_the_order_of_the_configuration():
    """Each time anew."""
    tokens = FakeTokens(answers={"b": serving(), "a": serving()})

    found = await readiness(tokens, (), {"a", "b"})

    assert [token.name for token in found.tokens] == ["b", "a"]


async def test_for_who_may_see_none_only_required_tokens_are_looked_at():
    """However many others there are: everybody may ask, and asking costs time."""
    needed = status("b", TokenState.UNAVAILABLE, required=True)
    tokens = FakeTokens(answers=dict.fromkeys("abc", serving()), states={"b": needed})

    found = await readiness(tokens, (), ())

    assert not found.ready
    assert tokens.looked_at == ["b"]


async def test_others_have_their_turn_while_many_tokens_are_looked_at():
    """And a token that is dropped in one of these turns is left out."""
    tokens = FakeTokens(answers={str(number): serving() for number in range(500)})
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(len(tokens.looked_at))
            tokens.answers.pop("499", None)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    found = await states_of(tokens, tokens.names())
    task.cancel()

    assert turns == [100, 200, 300, 400, 499]
    assert len(found) == 499
