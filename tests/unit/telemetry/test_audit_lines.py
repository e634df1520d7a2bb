"""Lines that are kept are those that would have been written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.events import TokenServed
from broker.telemetry.audit_format import MAX_LINE, encode, members_of
from broker.telemetry.audit_lines import KEPT, Lines
from tests.unit.telemetry.catalogue import served

WALL = 1_790_000_000.25


def encoded(seq: int, wall: float, event: TokenServed) -> bytes:
    """Write a line as any other is."""
    return encode(seq, wall, event.name, members_of(event))


@given(
    st.integers(1, 2**63),
    st.floats(0.0, 4e9) | st.integers(0, 4 * 10**9).map(float) | st.integers(0, 4 * 10**15).map(lambda us: us / 1e6),
    st.text(max_size=300),
    st.none() | st.integers(0, 2**31),
)
def test_a_line_of_which_the_rest_was_kept_is_the_same_line(seq: int, wall: float, workload: str, pid: int | None):
    """Byte for byte, whatever the time is rounded to, the second time as the first."""
    event = served(workload=workload, pid=99)
    lines = Lines()

    for at in (wall, wall + 0.000_000_5, wall + 0.999_999_7, wall):
        assert lines.lines(seq, at, [(event, pid)]) == [encoded(seq, at, replace(event, pid=pid))]


@pytest.mark.parametrize("text", ['"pid":null,', '"pid":null', "\\", '{"pid":null,', "\n"])
def test_a_name_that_looks_like_the_pid_is_not_taken_for_it(text: str):
    """In each member, before the pid and behind it."""
    event = served(listener=text, workload=text, token=text, grant=text, fingerprint=text, pid=77)

    assert Lines().lines(1, WALL, [(event, 77)]) == [encoded(1, WALL, event)]


def test_several_lines_are_numbered_one_after_the_other():
    """They are of the same moment."""
    event = served()

    assert Lines().lines(7, WALL, [(event, pid) for pid in range(3)]) == [
        encoded(7 + pid, WALL, replace(event, pid=pid)) for pid in range(3)
    ]


def test_records_that_differ_in_anything_have_lines_of_their_own():
    """Whatever is kept of the others."""
    lines, event = Lines(), served()
    others = [
        replace(event, listener="x"),
        replace(event, uid=77),
        replace(event, gid=77),
        replace(event, workload="x"),
        replace(event, token="x"),
        replace(event, grant="x"),
        replace(event, fingerprint="x"),
        replace(event, generation=77),
        replace(event, stale=not event.stale),
        replace(event, uid=None, gid=None, grant=None),
    ]
    for other in (event, *others, event):
        assert lines.lines(1, WALL, [(other, 5)]) == [encoded(1, WALL, replace(other, pid=5))]


def test_a_line_that_would_be_too_long_is_made_anew():
    """With shorter members, as any other."""
    text = "\N{SNOWMAN}" * 250
    event = served(listener=text, workload=text, token=text, grant=text, pid=5)
    expected = encoded(1, WALL, event)

    assert len(expected) < MAX_LINE
    assert Lines().lines(1, WALL, [(event, 5)]) == [expected]


def test_no_more_is_kept_than_there_is_room_for():
    """However many tokens there are; what comes again is right all the same."""
    lines, again = Lines(), served(generation=0, pid=5)
    for number in range(2 * KEPT + 1):
        event = served(pid=5, generation=number)
        made = lines.lines(1, WALL, [(event, 5), (again, 5)])
        assert made == [encoded(1, WALL, event), encoded(2, WALL, again)]

    assert len(lines._parts) <= KEPT
