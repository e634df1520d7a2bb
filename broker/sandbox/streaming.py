"""
Bodies that are never held whole, at a pace: what goes out is made as it goes, what comes in is passed on.

A pace is in bytes a second and kept over tenths of a second, so that a slow peer is slow all the time and
not only at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from aiohttp import StreamReader, web

MAX_SIZE = 64 * 1024 * 1024
"""Bytes of a body that is made here: seven times what tests of flat memory need."""

MAX_PACE = 1_000_000_000
"""Bytes a second: more than loopback gives."""

PERIOD = 251
"""Byte number i of a body is i modulo this. A prime, so that a block that is lost or comes twice shows."""

BLOCK = PERIOD * 261
"""Bytes at a time, a little less than 64 KiB."""

_PATTERN = bytes(range(PERIOD)) * (BLOCK // PERIOD)

STEPS = 10
"""Blocks in a second at a pace."""


def pattern(size: int) -> Iterator[bytes]:
    """Give a body of *size* bytes in blocks."""
    for start in range(0, size, BLOCK):
        yield _PATTERN[: size - start]


async def sent(response: web.StreamResponse, blocks: Iterator[bytes], *, pace: int | None) -> None:
    """Write *blocks*, waiting for the client, at no more than *pace* bytes a second."""
    step = step_of(pace)
    for block in blocks:
        for start in range(0, len(block), step):
            piece = block[start : start + step]
            await _rest(len(piece), pace)
            await response.write(piece)


async def received(content: StreamReader, *, pace: int | None) -> AsyncIterator[bytes]:
    """Read a body in blocks, at no more than *pace* bytes a second."""
    while block := await content.read(step_of(pace)):
        yield block
        await _rest(len(block), pace)


def step_of(pace: int | None) -> int:
    """Give the bytes to move at a time: at a *pace*, a tenth of a second's."""
    return BLOCK if pace is None else max(1, min(BLOCK, pace // STEPS))


async def _rest(moved: int, pace: int | None) -> None:
    if pace is not None:
        await asyncio.sleep(moved / pace)
