"""
Waiting for a token or for news of one: in a place, for a time, and no longer than the broker runs.

Who waits is not a promise to anybody: the policy is asked again by whoever called this, when it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from broker.api import problems
from broker.api.limits import account_of
from broker.api.problems import ErrorCode, Problem, ProblemError, RefusalReason
from broker.api.table import Call
from broker.api.world import World, own_words
from broker.tokens.ports import Watch
from broker.tokens.serving import Serving, TokenUnavailableError


class Source(Protocol):
    """Gives tokens by a name: that of a token, or the id of a grant."""

    async def get(self, name: str, /, *, min_valid: float | None, wait: float) -> Serving:
        """Give a token: see ``tokens.ports.TokenSource``."""

    def watch(self, name: str, /) -> AbstractContextManager[Watch]:
        """Let a caller wait for news: see ``tokens.ports.TokenSource``."""


Ask = Callable[[float], Awaitable[Serving]]
"""Asks for a token, waiting for so many seconds at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a caller has to wait in: a place, or none; and until when by the loop's clock. *source* has the token."""

    world: World
    source: Source
    has_place: bool
    ends_at: float

    @property
    def may_wait(self) -> bool:
        """Whether it may wait now; nobody may while the broker stops."""
        return self.has_place and not self.world.waiting.closed

    def left(self) -> float:
        """Give the seconds that the caller still has."""
        return max(0.0, self.ends_at - asyncio.get_running_loop().time())

    def full(self) -> ProblemError:
        """Say why it may not wait."""
        return ProblemError(problems.DRAINING if self.world.waiting.closed else problems.TOO_MANY_WAITING)


@contextmanager
def seat(world: World, call: Call, seconds: float, source: Source | None = None) -> Iterator[Seat]:
    """
    Take a place for as long as the block runs, if there is one; the caller has so many *seconds*.

    It waits for a token of *source*, by default one that is asked for by its name.
    """
    ends_at = asyncio.get_running_loop().time() + seconds
    with world.waiting.place(account_of(call.peer)) as has_place:
        yield Seat(world=world, source=source or world.tokens, has_place=has_place, ends_at=ends_at)


async def get(seat: Seat, call: Call, token: str) -> Serving:
    """Get the token that the caller asks for. Raises ProblemError."""
    min_valid = call.query.get("min_valid")

    async def ask(wait: float) -> Serving:
        needed = None if min_valid is None else float(min_valid)
        return await seat.source.get(token, min_valid=needed, wait=wait)

    return await obtain(seat, token, ask)


async def obtain(seat: Seat, token: str, ask: Ask) -> Serving:
    """Get a token by *ask*, waiting only if there is a place to wait. Raises ProblemError."""
    wait, may_wait = seat.left(), seat.may_wait
    try:
        async with seat.world.waiting.until_closed():
            return await ask(wait if may_wait else 0.0)
    except TimeoutError:
        if not seat.world.waiting.closed:
            raise
        return await _last_resort(seat.source, token)
    except TokenUnavailableError as error:
        if wait and not may_wait:
            raise seat.full() from error
        raise ProblemError(unavailable(error)) from error


async def poll(seat: Seat, call: Call, token: str, still_permitted: Callable[[], object]) -> tuple[Serving, bool]:
    """
    Hold a caller that has the token already until there is something else to tell, or its time is up.

    Gives what it gets then, and whether that is what it had. *still_permitted* raises where it may have
    nothing any more. While the token in hand has less validity than is needed, it waits in the same way: there
    is nothing better to be had until something changes.
    """
    world, known = seat.world, call.known
    assert known is not None  # else it would be an ordinary request
    replaced = world.replaced()
    with seat.source.watch(token) as watch:
        stood = watch.standing()
        serving = await get(seat, call, token)
        if known.has(serving.token.etag) and watch.standing() == stood and not world.waiting.closed:
            if not seat.has_place:
                raise seat.full()
            await news(seat, watch.news, replaced)
            still_permitted()  # and is it configured?
            serving = await get(seat, call, token)
        return serving, has_already(call, serving) and watch.standing() == stood


def has_already(call: Call, serving: Serving) -> bool:
    """Say whether the caller has what it would be given, and that is as good as it needs."""
    return call.known is not None and serving.enough and call.known.has(serving.token.etag)


async def news(seat: Seat, *awaited: asyncio.Future[None]) -> None:
    """Wait for one of what is *awaited*, until the time is up or the broker stops."""
    try:
        async with seat.world.waiting.until_closed():
            await asyncio.wait(awaited, timeout=seat.left(), return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        if not seat.world.waiting.closed:
            raise


async def _last_resort(source: Source, token: str) -> Serving:
    """Get what is in hand when the broker stops: a token that is good is served, also then."""
    try:
        return replace(await source.get(token, min_valid=0.0, wait=0.0), enough=False)
    except (KeyError, TokenUnavailableError) as error:
        # One that a reload has dropped meanwhile is unknown to whoever asks the policy again, as all callers do.
        raise ProblemError(problems.DRAINING) from error


def unavailable(error: TokenUnavailableError) -> Problem:
    """Translate: 502 where the server refuses the client, 503 for everything that may pass by itself."""
    refused = error.code == ErrorCode.AUTHORIZATION_SERVER_ERROR
    return Problem(
        status=502 if refused else 503,
        error=ErrorCode.AUTHORIZATION_SERVER_ERROR if refused else ErrorCode.TEMPORARILY_UNAVAILABLE,
        description=error.message,
        reason=error.reason or RefusalReason.NO_TOKEN,
        hint=own_words(error.reason, error.hint),
        server_error=error.server_error,
        headers=(("Retry-After", str(max(1, error.retry_after))),),
    )
