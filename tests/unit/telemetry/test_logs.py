from __future__ import annotations

import errno
import io
import json
import os
import socket
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import LocalError
from broker.events import DaemonStarted, Event, Severity, TokenExpired, TokenServed, UnexpectedFailure
from broker.oauth.secret import AccessToken
from broker.telemetry.logs import MAX_FIELD, MAX_FRAMES, MAX_LINE, Logs, open_log
from tests.fakes import HandClock
from tests.unit.telemetry.catalogue import KINDS, example, served


def logged(event: Event, level: str = "debug") -> list[dict[str, Any]]:
    stream = io.StringIO()
    open_log(stream, level, clock=HandClock()).write(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def started() -> DaemonStarted:
    return DaemonStarted(version="1.2.3", tokens=1, listeners=2, pid=4_711)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_event_is_one_line_with_its_fields(kind: type[Event]):
    """The message is a constant, the fields are those of the event, and none hides time, level or message."""
    event = example(kind)

    (line,) = logged(event)

    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["event"], line["level"]) == (kind.name, kind.severity.name.lower())
    assert set(line) - {"time", "level", "event"} == {field.name for field in fields(kind)}


def test_a_line_looks_like_this():
    """Byte for byte, since others parse it."""
    stream = io.StringIO()

    open_log(stream, "info", clock=HandClock(now=0.25)).write(started())

    assert stream.getvalue() == (
        '{"time":"2026-09-21T14:13:20.250Z","level":"info","event":"daemon_started",'
        '"version":"1.2.3","tokens":1,"listeners":2,"pid":4711}\n'
    )


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_only_what_is_at_least_as_severe_is_logged(level: str):
    """``token_served`` is for debugging: the audit log has it."""
    for kind in KINDS:
        assert bool(logged(example(kind), level)) == (kind.severity >= Severity[level.upper()])
    assert TokenServed.severity == Severity.DEBUG


def test_there_is_no_other_level():
    """The configuration checks it as well; a misspelled level must not mean silence."""
    with pytest.raises(LocalError):
        open_log(io.StringIO(), "verbose", clock=HandClock())


@given(st.text(max_size=2_000), st.text(max_size=2_000))
def test_nothing_in_a_field_breaks_a_line(text: str, frames: str):
    """One line of ASCII that JSON reads back, within the size that a pipe takes at once."""
    stream = io.StringIO()
    log = open_log(stream, "debug", clock=HandClock())

    log.write(UnexpectedFailure(where=text, incident=text, error=text, frames=frames))

    line = stream.getvalue()
    assert line.isascii()
    assert line.count("\n") == 1
    assert all(0x20 <= ord(character) < 0x7F for character in line[:-1])
    assert len(line) <= MAX_LINE
    json.loads(line)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_longest_line_fits(kind: type[Event]):
    """Nothing but escapes, in all fields at once."""
    stream = io.StringIO()

    open_log(stream, "debug", clock=HandClock()).write(example(kind, text="\N{PILE OF POO}" * 10_000))

    assert len(stream.getvalue()) <= MAX_LINE


def test_long_strings_are_cut_and_say_so():
    """Frames are our own words and may be longer."""
    (line,) = logged(UnexpectedFailure(where="w" * 10_000, incident="", error="E", frames="f" * 10_000))

    assert line["where"] == "w" * (MAX_FIELD - 1) + "…"
    assert line["frames"] == "f" * (MAX_FRAMES - 1) + "…"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (AccessToken("s3cret"), "<AccessToken>"),
        (b"s3cret", "<bytes>"),
        (["s3cret"], "<list>"),
        ({"s3cret": 1}, "<dict>"),
        (ValueError("s3cret"), "<ValueError>"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (None, None),
        (True, True),
    ],
    ids=repr,
)
def test_a_value_that_is_not_a_primitive_is_only_named(value: Any, shown: Any):
    """Its repr may hold anything."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd(Event):
        name: ClassVar[str] = "odd"
        value: Any

    (line,) = logged(Odd(value=value))

    assert line["value"] == shown


# --- streams that fail ---


class Broken(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, "full")


def test_a_stream_that_fails_loses_lines_and_nothing_else():
    """They are counted."""
    log = open_log(Broken(), "info", clock=HandClock())

    log.write(started())
    log.write(started())
    log.write(served())

    assert log.lost == 2


def test_a_closed_stream_loses_lines_and_nothing_else(tmp_path: Path):
    """Its descriptor may be somebody else's by now."""
    in_memory = io.StringIO()
    with (tmp_path / "log").open("w", encoding="utf-8") as on_disk:
        logs = [open_log(stream, "info", clock=HandClock()) for stream in (in_memory, on_disk)]
    in_memory.close()

    with (tmp_path / "other").open("w", encoding="utf-8"):
        for log in logs:
            log.write(started())

    assert [log.lost for log in logs] == [1, 1]
    assert (tmp_path / "other").read_text(encoding="utf-8") == ""


def pipe() -> tuple[int, TextIO]:
    reading, writing = os.pipe()
    return reading, os.fdopen(writing, "w", encoding="utf-8")


@pytest.mark.real_time
def test_a_reader_that_went_away_loses_lines_and_nothing_else():
    """A broken pipe is not the end of the daemon."""
    reading, stream = pipe()
    with stream:
        log = open_log(stream, "info", clock=HandClock())
        log.write(started())
        os.close(reading)
        log.write(started())

    assert log.lost == 1


@pytest.mark.real_time
def test_a_reader_that_stalls_does_not_stall_us():
    """Whatever does not fit into the pipe at once is lost and counted; what is in it is whole."""
    reading, stream = pipe()
    with stream:
        log = open_log(stream, "info", clock=HandClock())
        for _ in range(2_000):
            log.write(started())
        lost = log.lost
        read = os.read(reading, 1_000_000)
        log.write(started())
        rest = os.read(reading, 1_000_000)
    os.close(reading)

    assert 0 < lost < 2_000
    assert log.lost == lost
    lines = (read + rest).splitlines()
    assert len(lines) == 2_001 - lost
    assert all(json.loads(line)["pid"] == 4_711 for line in lines)


@pytest.mark.real_time
def test_a_socket_is_written_to_like_a_pipe():
    """As systemd hands one to its services."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w", encoding="utf-8") as stream:
        log = open_log(stream, "info", clock=HandClock())
        for _ in range(5_000):
            log.write(started())

        assert 0 < log.lost < 5_000
        assert theirs.recv(64).startswith(b'{"time":')


@pytest.mark.real_time
def test_a_line_after_half_a_line_begins_anew(tmp_path: Path):
    """A disk that filled up in the middle of a line spoils that line only."""
    import resource

    path = tmp_path / "log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("w", encoding="utf-8") as stream:
        log = open_log(stream, "info", clock=HandClock())
        log.write(started())
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
        try:
            log.write(started())
            log.write(started())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.write(started())

    first, half, last = path.read_text(encoding="utf-8").splitlines()
    assert log.lost == 2
    assert len(half) == 10
    assert json.loads(first) == json.loads(last)


def test_text_that_was_written_before_comes_first(tmp_path: Path):
    """Lines go past Python's buffer, which is emptied first."""
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as stream:
        stream.write("before\n")
        log: Logs = open_log(stream, "info", clock=HandClock())
        log.write(TokenExpired(token="t"))

    assert path.read_text(encoding="utf-8").splitlines()[0] == "before"
