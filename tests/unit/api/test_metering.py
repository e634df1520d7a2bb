"""Heads are counted however they are cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.api.metering import HeadMeter


def metered(*pieces: bytes) -> HeadMeter:
    meter = HeadMeter()
    for piece in pieces:
        meter.feed(piece)
    return meter


def test_a_head_that_has_not_ended_is_as_long_as_what_came():
    """Every byte counts."""
    assert metered(b"GET / HT", b"TP/1.1\r\n").head_size() == 16


def test_a_head_ends_with_its_empty_line():
    """What comes behind it is not of it."""
    meter = metered(b"GET / HTTP/1.1\r\n\r\nGET")

    assert meter.head_size() == 18
    assert meter.open_bytes == 3


def test_an_empty_line_is_found_across_pieces():
    """Its four bytes may come one by one."""
    meter = metered(b"GET / HTTP/1.1\r", b"\n", b"\r", b"\n", b"X")

    assert meter.head_size() == 18
    assert meter.open_bytes == 1


def test_two_empty_lines_do_not_share_bytes():
    """CR LF CR LF CR LF is one empty line and the beginning of another."""
    meter = metered(b"a\r\n\r\n", b"\r\n")

    assert meter.open_bytes == 2


def test_the_next_head_begins_with_what_came_early():
    """Bytes of a pipelined request that came while the one before was answered are counted."""
    meter = metered(b"a\r\n\r\nbcd")

    meter.next_request()
    meter.feed(b"ef")

    assert meter.head_size() == 5


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"x", b"header: value"]), max_size=12), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(parts: list[bytes], data: st.DataObject):
    """One read of everything, and any other way to cut it, count the same."""
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    at_once, in_pieces = metered(whole), metered(*(piece for piece in pieces if piece))

    assert in_pieces.head_size() == at_once.head_size()
    assert in_pieces.open_bytes == at_once.open_bytes


def test_the_empty_lines_that_have_come_are_counted():
    """Each ends a head, however it was cut."""
    assert metered(b"a\r\n\r\nb\r\n\r", b"\nc").ended == 2
    assert metered(b"a").ended == 0
