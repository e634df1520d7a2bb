"""The body of a request: read whole, under a cap and a deadline, or piece by piece as it is passed on to an API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError

from broker.api import problems
from broker.api.guard import MAX_BODY
from broker.api.problems import Problem, ProblemError

PIECE_DEADLINE = 30.0
"""Seconds for the next piece of a body: a caller that pauses for longer holds a connection of the API for nothing."""


class IncomingBody:
    """
    Implements ``tokens.calls.Body`` over a request of aiohttp.

    *say_continue* is what some senders wait for, *ends_at* when a body that is read whole has to be there, by the
    loop.
    """

    def __init__(self, request: web.BaseRequest, *, ends_at: float, say_continue: Callable[[], None]) -> None:
        self._request = request
        self._ends_at = ends_at
        self._say_continue = say_continue
        self._late = problems.TOO_SLOW
        self._is_broken = False
        self._reading: asyncio.Timeout | None = None

    @property
    def length(self) -> int | None:
        """Its bytes, if the sender said how many."""
        return self._request.content_length

    @property
    def is_read(self) -> bool:
        """Say whether nothing of it is left."""
        return self._request.content.at_eof() and not self._is_broken

    async def whole(self) -> bytes:
        """Read it to its end. Raises ProblemError."""
        self._begin()
        body = bytearray()
        try:
            async with asyncio.timeout_at(self._ends_at) as self._reading:
                while piece := await self._request.content.readany():
                    body += piece
                    if len(body) > MAX_BODY:
                        raise ProblemError(problems.BODY_TOO_LARGE)
        except TimeoutError:
            raise ProblemError(self._late) from None
        except (HttpProcessingError, web.RequestPayloadError):
            raise ProblemError(problems.MALFORMED) from None
        finally:
            self._reading = None
        return bytes(body)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give it piece by piece. Raises ProblemError."""
        self._begin()
        while piece := await self._next():
            yield piece

    def drop(self) -> None:
        """Read it to its end if all of it is here, and nothing more if not. To be called when nobody reads it."""
        content = self._request.content
        if content.is_eof() and content.exception() is None:
            content.read_nowait()

    def give_up(self, problem: Problem) -> None:
        """Wait no longer for what is read whole: the reader gets *problem*."""
        if self._reading is not None and not self._reading.expired():
            self._late = problem
            self._reading.reschedule(asyncio.get_running_loop().time())

    def break_off(self) -> None:
        """
        Note that what came cannot be parsed, if that was before the end: the reader gets a problem and waits no longer.

        aiohttp tells nobody who reads. It is told that nothing more comes, or it would read on for a while.
        """
        content = self._request.content
        if not content.is_eof():
            self._is_broken = True
            content.set_exception(web.RequestPayloadError("not the body that was announced"))
            content.feed_eof()

    def _begin(self) -> None:
        if self._request.version == HttpVersion11 and "Expect" in self._request.headers:
            self._say_continue()

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(PIECE_DEADLINE):
                return await self._request.content.readany()
        except TimeoutError:
            raise ProblemError(problems.TOO_SLOW) from None
        except (HttpProcessingError, web.RequestPayloadError):
            raise ProblemError(problems.MALFORMED) from None
