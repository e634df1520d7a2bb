"""The body of a request, whole or piece by piece, with a time for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion11

from broker.api import problems
from broker.api.guard import MAX_BODY
from broker.api.incoming_body import PIECE_DEADLINE, IncomingBody
from broker.api.problems import Problem, ProblemError


@dataclass
class FakeContent:
    """Gives pieces with pauses before them; an exception is raised."""

    pieces: list[bytes | Exception]
    pause: float = 0.0

    async def readany(self) -> bytes:
        await asyncio.sleep(self.pause)
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def at_eof(self) -> bool:
        return not self.pieces


@dataclass
class FakeRequest:
    content: FakeContent
    content_length: int | None = None
    version: tuple[int, int] = HttpVersion11
    headers: dict[str, str] = field(default_factory=dict)


def body(*pieces: bytes | Exception, pause: float = 0.0, said: list[str] | None = None, **headers: str) -> IncomingBody:
    request = FakeRequest(FakeContent(list(pieces), pause), headers=headers)
    told = [] if said is None else said
    ends_at = asyncio.get_running_loop().time() + 10.0
    return IncomingBody(cast("web.BaseRequest", request), ends_at=ends_at, say_continue=lambda: told.append("continue"))


async def pieces_of(one: IncomingBody) -> list[bytes]:
    pieces: AsyncIterator[bytes] = one.pieces()
    return [piece async for piece in pieces]


async def test_a_body_is_read_whole_or_in_pieces():
    """As it comes."""
    assert await body(b"ab", b"c").whole() == b"abc"
    assert await pieces_of(body(b"ab", b"c")) == [b"ab", b"c"]


async def test_who_waits_to_be_asked_for_a_body_is_asked():
    """Once it is wanted (RFC 9110 section 10.1.1), and only who waits."""
    said: list[str] = []

    await body(b"a", said=said, Expect="100-continue").whole()
    await pieces_of(body(b"a", said=said, Expect="100-continue"))
    await body(b"a", said=said).whole()

    assert said == ["continue", "continue"]


@pytest.mark.parametrize(
    ("pieces", "pause", "problem"),
    [
        ((b"x" * MAX_BODY, b"y"), 0.0, problems.BODY_TOO_LARGE),
        ((b"a", b"b"), 6.0, problems.TOO_SLOW),
        ((web.RequestPayloadError("canary"),), 0.0, problems.MALFORMED),
    ],
)
async def test_a_body_that_is_read_whole_has_a_cap_and_a_deadline(
    pieces: tuple[bytes | Exception, ...], pause: float, problem: Problem
):
    """And nothing of what is wrong with it is told."""
    with pytest.raises(ProblemError) as raised:
        await body(*pieces, pause=pause).whole()

    assert raised.value.problem is problem


async def test_each_piece_of_a_body_that_is_passed_on_has_a_time_of_its_own():
    """The whole has none: it may be large."""
    assert await pieces_of(body(*[b"x" * 60_000] * 5, pause=PIECE_DEADLINE - 1.0)) == [b"x" * 60_000] * 5

    with pytest.raises(ProblemError) as raised:
        await pieces_of(body(b"a", pause=PIECE_DEADLINE + 1.0))

    assert raised.value.problem is problems.TOO_SLOW


async def test_a_stop_ends_the_reading_of_a_whole_body():
    """Its sender is told why."""
    one = body(b"a", pause=5.0)
    reading = asyncio.ensure_future(one.whole())
    await asyncio.sleep(1.0)

    one.give_up(problems.DRAINING)

    with pytest.raises(ProblemError) as raised:
        await reading
    assert raised.value.problem is problems.DRAINING
