"""The body of a request on its way to an API, and as much of it as is needed to send it a second time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker.tokens.calls import Body

MAX_RECORDED = 65_536
"""Bytes: a call with a larger body is not repeated (rules.md R6), so that memory stays flat."""


class RecordedBody:
    """
    Implements ``tokens.calls.Body``.

    *has_begun* says that some of it was asked for, *is_whole* that all of it went through, and is still known.
    """

    def __init__(self, body: Body) -> None:
        self.has_begun = False
        self.is_whole = False
        self._body = body
        self._recorded: list[bytes] | None = []
        self._size = 0

    @property
    def length(self) -> int | None:
        """Its bytes, if the sender said how many."""
        return self._body.length

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give it piece by piece."""
        self.has_begun = True
        async for piece in self._body.pieces():
            self._size += len(piece)
            if self._recorded is not None and self._size <= MAX_RECORDED:
                self._recorded.append(piece)
            else:
                self._recorded = None
            yield piece
        self.is_whole = self._recorded is not None

    def again(self) -> RecordedBody:
        """Give what was recorded, as a body. To be called where it *is_whole*."""
        return RecordedBody(_Known(tuple(self._recorded or ()), self._body.length))


class _Known:
    """A body that is in memory."""

    def __init__(self, pieces: tuple[bytes, ...], length: int | None) -> None:
        self.length = length
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
