"""
The lines of records of tokens that are handed out, written once but for what differs each time.

The same bytes as ``audit_format.encode`` makes, at a tenth of its time: a program that asks again and again has the
same record each time but for ``seq`` and ``time``, and another process of the same program but for ``pid``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from broker.events import TokenServed
from broker.telemetry.audit_format import MAX_LINE, encode, members_of, rest_of, timestamp

KEPT = 1_024
"""Records that are kept: twice as many as there are connections by default. All together below 1 MiB."""

MAX_REST = MAX_LINE - 128
"""Bytes behind the time: ``seq``, ``time`` and ``pid`` with their names are less than 128."""

MICRO = 1_000_000
"""Microseconds in a second."""

NO_PID = b'"pid":null,'
"""Where the pid goes. No string can have these bytes in it: quotes are escaped there."""

Parts = tuple[TokenServed, tuple[bytes, bytes] | None]
"""An event with what stands before and behind the pid; None for one whose line may be too long as it is."""


class Lines:
    """Makes the lines of ``TokenServed``."""

    def __init__(self) -> None:
        self._second = -1
        self._date = b""
        self._parts: dict[int, Parts] = {}

    def lines(self, seq: int, wall: float, served: Iterable[tuple[TokenServed, int | None]]) -> list[bytes]:
        """Make the lines of events with their pids, all of the same moment; *seq* is that of the first."""
        time, kept, made = self._time(wall), self._parts, []
        for event, pid in served:
            _, parts = kept.get(id(event)) or self._keep(event)
            if parts is None or pid is None:
                made.append(encode(seq, wall, event.name, members_of(replace(event, pid=pid))))
            else:
                made.append(b'{"seq":%d,%b%b"pid":%d,%b' % (seq, time, parts[0], pid, parts[1]))
            seq += 1
        return made

    def _time(self, wall: float) -> bytes:
        """Write the member ``time``; the date is written once a second."""
        fraction, whole = math.modf(wall)
        second, microseconds = int(whole), round(fraction * 1e6)
        if microseconds == MICRO:  # as datetime rounds
            second, microseconds = second + 1, 0
        if second != self._second:
            self._second, self._date = second, timestamp(second, "seconds")[:-1].encode("ascii")
        return b'"time":"%b.%06dZ",' % (self._date, microseconds)

    def _keep(self, event: TokenServed) -> Parts:
        """Write what stands behind the time, and keep it: by identity, with *event*, so that no other has its place."""
        rest = rest_of(event.name, members_of(replace(event, pid=None)))
        before, _, after = rest.partition(NO_PID)
        if len(self._parts) >= KEPT:
            self._parts.clear()
        kept = self._parts[id(event)] = event, (before, after) if len(rest) <= MAX_REST else None
        return kept
