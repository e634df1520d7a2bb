"""A small body can be sent twice, a large one goes by without being kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.egress.recording import MAX_RECORDED, RecordedBody


class Given:
    """A body of some pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.length: int | None = sum(map(len, pieces))
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def read(body: RecordedBody) -> bytes:
    return b"".join([piece async for piece in body.pieces()])


@pytest.mark.parametrize("pieces", [(), (b"a", b"b"), (b"x" * MAX_RECORDED,)])
async def test_a_body_that_went_out_whole_can_be_sent_again(pieces: tuple[bytes, ...]):
    """As often as need be, with the same length."""
    body = RecordedBody(Given(*pieces))

    first = await read(body)
    again = body.again()

    assert body.is_whole
    assert first == await read(again) == b"".join(pieces)
    assert again.length == body.length == len(first)
    assert await read(again.again()) == first


async def test_a_large_body_is_not_kept():
    """A byte too many is enough."""
    body = RecordedBody(Given(b"x" * MAX_RECORDED, b"y", b"z"))

    assert len(await read(body)) == MAX_RECORDED + 2
    assert not body.is_whole


async def test_a_body_that_is_still_on_its_way_is_not_whole():
    """The rest of it would be missing."""
    body = RecordedBody(Given(b"a", b"b"))
    pieces = body.pieces()

    assert await anext(pieces) == b"a"
    assert not body.is_whole
