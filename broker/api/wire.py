"""
Answers as bytes, exactly as aiohttp writes them to a request in HTTP/1.1.

For the fast path, which has no response object; the differential test holds both to the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from broker.api.answers import Answer
from broker.tokens.ports import Clock

BODILESS = frozenset({204, 304})
"""Statuses of answers without a body, and without a length of one (RFC 9110 section 8.6)."""


class Dates:
    """Writes ``Date``, once a second."""

    def __init__(self, clock: Clock) -> None:
        """Read the wall clock of *clock*."""
        self._clock = clock
        self._second = -1
        self._written = b""

    def now(self) -> bytes:
        """Give the value for an answer that leaves now."""
        second = int(self._clock.wall())
        if second != self._second:
            self._second, self._written = second, formatdate(second, usegmt=True).encode("ascii")
        return self._written


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes answers to one request; *last*: its sender wants the connection to end with the answer."""

    dates: Dates
    last: bool

    def answer(self, answer: Answer) -> tuple[bytes, bool]:
        """Give the bytes of *answer*, and whether the connection ends with it."""
        last = self.last or answer.close
        before, after = head_around_date(answer, last=last)
        return b"".join((before, self.dates.now(), after, answer.body)), last


def head_around_date(answer: Answer, *, last: bool) -> tuple[bytes, bytes]:
    """Write the head of *answer*: what stands before and behind the date."""
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.all_headers().items()]
    if answer.status not in BODILESS:
        lines.append(f"Content-Length: {len(answer.body)}")
    end = "\r\nConnection: close\r\n\r\n" if last else "\r\n\r\n"
    return "\r\n".join([*lines, "Date: "]).encode("ascii"), end.encode("ascii")
