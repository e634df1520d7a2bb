"""
Whether the broker can do what it is for, computed from the state of its tokens each time it is asked.

Only tokens with ``required = true`` decide, so that a token that needs a person never keeps a pod from
starting. Names are shown only to those who may know them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from broker.api.answers import Answer, json_answer, problem_answer
from broker.api.problems import ROUTE_UNKNOWN, ErrorCode, Problem, ProblemError, RefusalReason
from broker.tokens.ports import TokenSource
from broker.tokens.serving import TokenState, TokenStatus

AT_ONCE = 100
"""Tokens to look at before others have their turn: a fraction of a millisecond."""

USABLE = frozenset({TokenState.FRESH, TokenState.STALE, TokenState.IDLE})
"""An idle token lacks nothing but a caller: were it not ready, whoever waits for that would never ask for it."""

NOT_READY = Problem(
    status=503,
    error=ErrorCode.TEMPORARILY_UNAVAILABLE,
    description="a token that is needed is not available",
    reason=RefusalReason.NO_TOKEN,
    headers=(("Retry-After", "1"),),
)
"""Answered with the members of a good answer beside its own. Health is counted, not audited (rules.md R9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The state of the tokens that count or show, as they are configured, and the names of sandbox issuers in use."""

    tokens: tuple[TokenStatus, ...]
    sandbox: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether every required token can be served now."""
        return all(status.state in USABLE for status in self.tokens if status.required)


async def readiness(tokens: TokenSource, sandbox: Sequence[str], visible: Collection[str]) -> Readiness:
    """Look at the tokens that are required or *visible*: who may see none shall not have thousands looked at."""
    required = tokens.required()
    names = [name for name in tokens.names() if name in visible or name in required] if visible else required
    return Readiness(tokens=await states_of(tokens, names), sandbox=tuple(sandbox))


async def states_of(tokens: TokenSource, names: Iterable[str]) -> tuple[TokenStatus, ...]:
    """Look at the tokens with these *names*, and let others have their turn; one that is dropped meanwhile is none."""
    found: list[TokenStatus] = []
    for count, name in enumerate(tuple(names), 1):
        if name in tokens.names():
            found.append(tokens.status(name))
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
    return tuple(found)


def readiness_answer(
    found: Readiness, visible: Container[str], restart: Sequence[str] = (), *, refused: bool = False
) -> Answer:
    """
    Answer 200 or 503, naming the tokens among *visible*, and the sections in *restart*, which wait for one.

    *refused*: the last reload was, which is told, and makes nothing unready.
    """
    members: dict[str, Any] = {
        "status": "ready" if found.ready else "not_ready",
        "tokens": {status.name: _shown(status) for status in found.tokens if status.name in visible},
        "sandbox": list(found.sandbox) or None,
        "restart": list(restart) or None,
        "reload_refused": refused or None,
    }
    return json_answer(members) if found.ready else problem_answer(NOT_READY, members)


def one_answer(tokens: TokenSource, name: str, visible: Container[str]) -> Answer:
    """Answer 200 or 503 for one token, required or not. Raises ProblemError for a name not among *visible*."""
    if name not in tokens.names() or name not in visible:
        raise ProblemError(ROUTE_UNKNOWN)  # an unknown name and a foreign one: alike
    status = tokens.status(name)
    is_ready = status.state in USABLE
    members = {"status": "ready" if is_ready else "not_ready", **_shown(status)}
    return json_answer(members) if is_ready else problem_answer(NOT_READY, members)


def _shown(status: TokenStatus) -> dict[str, Any]:
    shown = {"state": status.state.value, "required": status.required, "reason": status.reason}
    return {name: value for name, value in shown.items() if value is not None}
