"""strict_json: what everybody reads alike, and nothing else."""

from __future__ import annotations

import json
import math
import time
import traceback
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.oauth.strict_json import MAX_DEPTH, MAX_MEMBERS, NotStrictJsonError, loads

QUICK = settings(derandomize=True, max_examples=100, deadline=None, database=None)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(JSON, st.booleans())
def test_ordinary_json_is_read_as_it_was_written(value: Any, ascii_only: bool) -> None:
    """Whatever Python writes strictly comes back the same, escaped or not."""
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)

    assert loads(text.encode()) == value


@QUICK
@given(st.binary(max_size=60) | st.text('[]{},:"\\ue0+-.1NaIfty \n', max_size=60).map(str.encode))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    """No bytes bring out another exception, and what is accepted is accepted by Python's own reader too."""
    try:
        value = loads(data)
    except NotStrictJsonError:
        return

    assert json.loads(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"a": 1',
        b'{"a": 1} x',
        b"{} {}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"[1 2]",
        b"nul",
        b'"\x01"',
        b'"\\x"',
        b'{"access_token": "abc',
        b'"\\',
        b"01",
        b"+1",
        b"<html></html>",
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    """Half an answer, a page, and the dialects of other readers."""
    with pytest.raises(NotStrictJsonError):
        loads(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a": 1, "a": 2}', id="duplicate members"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="duplicate members, one escaped"),
        pytest.param(b'[{"b": {"a": 1, "a": 1}}]', id="duplicate members deep inside"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'{"a": Infinity}', id="Infinity"),
        pytest.param(b"[-Infinity]", id="-Infinity"),
        pytest.param(b"1e999", id="a float that overflows"),
        pytest.param(b"9223372036854775809", id="an integer above 2**63"),
        pytest.param(b"-9223372036854775809", id="an integer below -2**63"),
        pytest.param(b"1" * 5000, id="an integer that is slow to convert"),
        pytest.param(b"0." + b"1" * 5000, id="a float that is slow to convert"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="a byte order mark"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', id="a surrogate in UTF-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a": "\\ud800"}', id="a lone surrogate"),
        pytest.param(b'{"\\uDC00": 1}', id="a lone surrogate in a name"),
    ],
)
def test_what_two_readers_read_differently_is_refused(data: bytes) -> None:
    """Python's own reader takes nearly all of these."""
    with pytest.raises(NotStrictJsonError):
        loads(data)


def test_the_largest_integers_and_surrogate_pairs_are_read() -> None:
    """The limits are inclusive, and two surrogates that belong together are one character."""
    value = loads(b'[9223372036854775808, -9223372036854775808, "\\ud83d\\ude00", 1e308]')

    assert value == [2**63, -(2**63), "\U0001f600", 1e308]
    assert math.isfinite(value[3])


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_depth_is_limited(opening: bytes, closing: bytes) -> None:
    """As deep as allowed is read, one deeper is not, and a tower of brackets does not reach Python's stack."""
    deepest = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH

    assert loads(deepest)
    for depth in (MAX_DEPTH + 1, 200_000):
        with pytest.raises(NotStrictJsonError):
            loads(opening * depth + b"1" + closing * depth)


def test_brackets_that_are_closed_do_not_make_room_for_deeper_ones() -> None:
    """Many siblings, then a tower."""
    siblings = b"[]," * 100

    assert loads(b"[" + siblings + b"[" * (MAX_DEPTH - 1) + b"]" * MAX_DEPTH)
    with pytest.raises(NotStrictJsonError):
        loads(b"[" + siblings + b"[" * MAX_DEPTH + b"]" * (MAX_DEPTH + 1))


def test_the_number_of_members_is_limited() -> None:
    """Elements count like members, wherever they are."""
    most = b"[" + b",".join([b"0"] * MAX_MEMBERS) + b"]"
    objects = b"[" + b",".join(b'{"a":0,"b":0}' for _ in range(MAX_MEMBERS // 2)) + b"]"

    assert len(loads(most)) == MAX_MEMBERS
    for data in (most.replace(b"]", b",0]"), objects):
        with pytest.raises(NotStrictJsonError):
            loads(data)


def test_brackets_and_commas_inside_strings_do_not_count() -> None:
    """A string may hold whatever it likes, escaped quotes included."""
    text = '\\"[{,' * MAX_MEMBERS

    assert loads(f'["{text}"]'.encode()) == ['"[{,' * MAX_MEMBERS]


def test_a_string_that_never_ends_costs_linear_time() -> None:
    """A mebibyte of escaped quotes is refused at once; a naive search would look at it half a million times."""
    data = b'"' + b'\\"' * 500_000

    began = time.process_time()
    with pytest.raises(NotStrictJsonError):
        loads(data)

    assert time.process_time() - began < 2.0


def test_the_error_holds_nothing_of_the_text() -> None:
    """Python's error carries the whole document; ours has no cause that does."""
    text = f'{{"access_token": "canary-{40 + 2}'.encode()

    with pytest.raises(NotStrictJsonError) as caught:
        loads(text)

    shown = "".join(traceback.format_exception(caught.value))
    assert "canary-42" not in shown
    assert caught.value.__suppress_context__
    assert str(caught.value) == "not strict JSON"
