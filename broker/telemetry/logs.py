"""
Log lines: one JSON object for each event, on a stream that may be broken, full or slow.

The message is the event's name, a constant; everything else is a field. No line can be broken by what is in a
field (JSON escapes, ASCII only), no field is longer than its cap, and a value that is not a primitive shows its
type and nothing else. A line that cannot be written at once is lost and counted: logging never stops the daemon
and never waits. The standard library's logging is not configured; see ``foreign`` for what libraries say.
"""

from __future__ import annotations

import json
import math
import os
import select
from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from typing import Any, Protocol, TextIO

import structlog

from broker.errors import LocalError
from broker.events import Event, Severity
from broker.telemetry.audit_format import timestamp
from broker.tokens.ports import Clock

MAX_FIELD = 256
"""Characters of a string field: every name and hint of ours is shorter."""

MAX_FRAMES = 2_048
"""Characters of ``frames`` and ``problems``, which are our own words, and worth more room."""

LONG = frozenset({"frames", "problems"})
"""The fields that have it."""

SHORT_FIELD = 16
"""Characters of a string field in a line that would be too long otherwise."""

MAX_LINE = 4_096
"""Bytes of a line: PIPE_BUF, up to which a write to a pipe is whole or not at all, and never waits after poll(2)."""


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: str) -> bool:
        """Write *line* with its newline, at once; say whether it was written."""


class _Descriptor:
    """A pipe, socket, terminal or file, written to only when it takes a line without waiting."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._fd = stream.fileno()
        stream.flush()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._torn = False

    def write(self, line: str) -> bool:
        text = f"\n{line}" if self._torn else line
        try:
            # A descriptor that was closed may be somebody else's by now.
            if self._stream.closed or not self._poll.poll(0):
                return False
            written = os.write(self._fd, text.encode("ascii"))
        except OSError:
            return False
        self._torn = written < len(text)
        return not self._torn


class _Text:
    """A stream without a descriptor, in memory."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> bool:
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return False
        return True


class _Lines:
    """What structlog calls a logger: takes rendered lines, counts those that are lost."""

    def __init__(self, sink: Sink) -> None:
        self.lost = 0
        self._sink = sink

    def msg(self, line: str) -> None:
        if not self._sink.write(line):
            self.lost += 1

    debug = info = warning = error = msg


class Logs:
    """Turns events into lines; made by ``open_log``. Events below *level* make none."""

    def __init__(self, sink: Sink, *, level: Severity, clock: Clock) -> None:
        self.level = level
        self._lines = _Lines(sink)
        self._logger = structlog.wrap_logger(
            self._lines,
            processors=[_Stamp(clock), _render],
            wrapper_class=structlog.make_filtering_bound_logger(int(level)),
            context_class=dict,
        ).bind()

    @property
    def lost(self) -> int:
        """Count the lines that could not be written."""
        return self._lines.lost

    def write(self, event: Event) -> None:
        """Write the line of *event*, if its severity asks for one. Never raises because of the stream."""
        if event.severity >= self.level:
            self._logger.log(event.severity, event.name, **members_of(event))


def members_of(event: Event) -> dict[str, Any]:
    """Give all fields of *event*: events hold nothing that may not be logged."""
    return {field.name: getattr(event, field.name) for field in fields(event)}


class _Stamp:
    """Puts time, level and event first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _: Any, level: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
        first = {"time": timestamp(self._clock.wall(), "milliseconds"), "level": level, "event": line.pop("event")}
        return first | dict(line)


def _render(_: Any, __: str, line: Mapping[str, Any]) -> str:
    text = _dump(line, MAX_FIELD, MAX_FRAMES)
    if len(text) > MAX_LINE:
        # Escapes are up to twelve times as long as what they stand for.
        text = _dump(line, SHORT_FIELD, MAX_FIELD)
    return text


def _dump(line: Mapping[str, Any], limit: int, limit_frames: int) -> str:
    safe = {name: _safe(value, limit_frames if name in LONG else limit) for name, value in line.items()}
    return json.dumps(safe, separators=(",", ":"), allow_nan=False) + "\n"


def _safe(value: Any, limit: int) -> str | int | float | None:
    """Make a field that JSON can hold: strings are cut, numbers are finite, anything else is only named."""
    if isinstance(value, str):
        return value if len(value) <= limit else value[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if value is None or isinstance(value, (int, float)):
        return value
    return f"<{type(value).__name__}>"[:limit]


def open_log(stream: TextIO, level: str, *, clock: Clock) -> Logs:
    """
    Log to *stream* what is at least *level*: ``debug``, ``info``, ``warning`` or ``error``.

    A stream with a descriptor is written to by its descriptor, past Python's buffers. Raises LocalError for
    another level.
    """
    try:
        severity = Severity[level.upper()]
    except KeyError:
        raise LocalError("log_level", "there is no such log level", hint="debug, info, warning or error") from None
    return Logs(_sink(stream), level=severity, clock=clock)


def _sink(stream: TextIO) -> Sink:
    try:
        return _Descriptor(stream)
    except OSError:  # io.UnsupportedOperation is one: there is no descriptor
        return _Text(stream)
