"""
Short retries of idempotent GETs (discovery, key sets), and of nothing else.

They bridge what is over in a moment: a restarting server, a dropped packet. Everything longer belongs to
the backoff of the keeper. A document that was refused is never asked for again, and a POST never comes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, retry_if_result, stop_after_attempt

from broker.errors import RemoteError
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.tokens.ports import Clock, Randomness, Session

MAX_TRIES = 3
"""The first one and two more: what three tries do not bridge is not over in a moment."""

FIRST_WAIT = 0.5
"""Seconds before the second try at most, twice as long before the third: all three are made within 1.5 s."""

BUDGET = 1.5
"""Seconds after which no further try is begun: what fails slowly (a time-out) is not tried again here."""

TRANSIENT = frozenset(
    {
        Reason.DNS_FAILED,
        Reason.CONNECT_FAILED,
        Reason.PROXY_UNREACHABLE,
        Reason.PROXY_FAILED,
        Reason.PROXY_TIMED_OUT,
        Reason.TLS_FAILED,
        Reason.CONNECTION_LOST,
        Reason.TIMED_OUT,
    }
)
"""Failures that may be over the next moment; a refused certificate, or a proxy that refuses, is not."""

Sleep = Callable[[float], Awaitable[None]]


async def get_with_retries(
    session: Session, request: Request, *, clock: Clock, randomness: Randomness, sleep: Sleep = asyncio.sleep
) -> Response:
    """
    Send a GET, again if it fails in passing; gives the last answer, whatever its status.

    Raises the RemoteError of the last try; ValueError for another method than GET.
    """
    if request.method != "GET":
        raise ValueError("only a GET is sent again")
    began = clock.boot()

    def wait(state: RetryCallState) -> float:
        return FIRST_WAIT * 2.0 ** (state.attempt_number - 1) * randomness.uniform()

    def out_of_time(_state: RetryCallState) -> bool:
        return clock.boot() - began >= BUDGET

    tries: AsyncRetrying = AsyncRetrying(
        sleep=sleep,
        wait=wait,
        stop=lambda state: out_of_time(state) or stop_after_attempt(MAX_TRIES)(state),
        retry=retry_if_exception(_is_transient) | retry_if_result(_is_failure_of_server),
        retry_error_callback=_last_answer,
    )
    answer: Response = await tries(session.send, request)
    return answer


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, RemoteError) and error.code in TRANSIENT


def _is_failure_of_server(answer: Response) -> bool:
    """Say whether the same GET may succeed at once; a server that says when to come back is not asked earlier."""
    return answer.status >= 500 and "retry-after" not in answer.headers


def _last_answer(state: RetryCallState) -> Response:
    """Give the last answer or raise the last error, instead of an error of tenacity's own."""
    assert state.outcome is not None
    answer: Response = state.outcome.result()
    return answer
