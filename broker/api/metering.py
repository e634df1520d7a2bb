"""
How many bytes of a request's head have come, counted before they are parsed.

aiohttp caps each header, not all of them together, and has no deadline for a head that drips. Both need to
know where heads end, and in HTTP/1.1 as it is accepted here a head ends with its first empty line.
"""

from __future__ import annotations

END_OF_HEAD = b"\r\n\r\n"


class HeadMeter:
    """
    Counts bytes between requests.

    *open_bytes* came since the last empty line: between requests they are the beginning of the next one. *ended*
    counts the empty lines.
    """

    def __init__(self) -> None:
        self.open_bytes = 0
        self.ended = 0
        self._first: int | None = None
        self._tail = b""

    def feed(self, received: bytes) -> None:
        """Count *received*."""
        carried = len(self._tail)
        first, *others = (self._tail + received).split(END_OF_HEAD)
        if others:
            self.ended += len(others)
            if self._first is None:
                self._first = self.open_bytes - carried + len(first) + len(END_OF_HEAD)
            self.open_bytes = len(others[-1])
        else:
            self.open_bytes += len(received)
        # These may begin an empty line that the next bytes end.
        self._tail = (others[-1] if others else first)[-len(END_OF_HEAD) + 1 :]

    def head_size(self) -> int:
        """Give the bytes of the head that is coming, or has come, since ``next_request``."""
        return self.open_bytes if self._first is None else self._first

    def is_cut_short(self) -> bool:
        """Say whether a head has begun and not ended; one that ended may wait for its turn."""
        return self._first is None and self.open_bytes > 0

    def next_request(self) -> None:
        """Begin to count the next head; what came of it already is counted."""
        self._first = None
