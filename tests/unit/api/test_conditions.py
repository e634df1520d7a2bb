"""Entity tags as callers send them."""

from __future__ import annotations

import re

import pytest

from broker.api.conditions import LIST_PATTERN, TAG_PATTERN, Known, read_etag, read_if_none_match
from broker.api.problems import ProblemError, RefusalReason


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (('W/"a"',), {"a"}),
        (('"a"',), {"a"}),
        (('W/"a", "b"',), {"a", "b"}),
        (('W/"a"', 'W/"b"'), {"a", "b"}),
        (('"a",,\t "b" ,',), {"a", "b"}),
        (('"a,b"',), {"a,b"}),
        (('""',), {""}),
        ((' "a" ', "", '"b"'), {"a", "b"}),
        (('"\xe4\udcff"',), {"\xe4\udcff"}),
    ],
)
def test_all_lines_are_one_list_of_tags(values: tuple[str, ...], tags: set[str]):
    """Weak and strong ones alike, with the empty members that some senders leave in."""
    assert read_if_none_match(values) == Known(tags=frozenset(tags))


def test_without_a_line_there_is_no_condition():
    """That is another thing than an empty one."""
    assert read_if_none_match(()) is None


@pytest.mark.parametrize(
    "values",
    [
        ("",),
        (",",),
        ("a",),
        ("W/a",),
        ('w/"a"',),
        ('"a',),
        ('"a" "b"',),
        ('"a"x',),
        ('"a";q=1',),
        ('*, "a"',),
        ("*", "*"),
        ('"a\x7f"',),
        ('"a, b"',),
        ("null",),
    ],
)
def test_what_is_no_list_of_tags_is_refused(values: tuple[str, ...]):
    """A tag that lost its quotes in a shell would otherwise never match, and every poll would bring the token."""
    with pytest.raises(ProblemError) as refused:
        read_if_none_match(values)

    assert refused.value.problem.status == 400
    assert refused.value.problem.reason is RefusalReason.CONDITION_REFUSED
    assert refused.value.problem.hint


def test_a_long_list_takes_no_time():
    """The head of a request is 8 KiB at most, and nothing in it makes the reader go back."""
    for text in ('"' * 8_000, '"a",' * 2_000 + "x", "," * 8_000, " ," * 4_000 + "x"):
        with pytest.raises(ProblemError):
            read_if_none_match((text,))


def test_what_a_caller_has_is_told_by_its_tag():
    """The star stands for anything."""
    known = Known(tags=frozenset({"a"}))

    assert (known.has("a"), known.has("b")) == (True, False)
    assert Known(anything=True).has("b")
    assert read_if_none_match((" * ",)) == Known(anything=True)


@pytest.mark.parametrize(
    ("text", "tag"),
    [('W/"a"', "a"), ('"a"', "a"), ("a", None), ("*", None), ("", None), ('"a" ', None), ('"a", "b"', None)],
)
def test_one_tag_is_read_as_a_header_of_an_answer_has_it(text: str, tag: str | None):
    """Not a list, and not the star."""
    assert read_etag(text) == tag


@pytest.mark.parametrize(
    "text", ['"a"', 'W/"a"', '""', 'W/"!#~"', "W/a", '"a', 'w/"a"', '"a b"', '"a\x7f"', '"a""b"', "a", "", "*", '"a"\n']
)
def test_the_pattern_of_the_document_is_what_is_read(text: str):
    """One tag, as a member of a body."""
    documented = re.search(TAG_PATTERN.replace("$", r"\Z"), text) is not None

    assert documented == (read_etag(text) is not None)


@pytest.mark.parametrize("text", ["*", '"a"', 'W/"a", "b"', '"a","b" ,\t"c"', "a", '"a" "b"', '*, "a"', '"a', 'w/"a"'])
def test_the_pattern_of_a_list_is_what_is_read(text: str):
    """A whole header."""
    documented = re.search(LIST_PATTERN.replace("$", r"\Z"), text) is not None

    if documented:
        assert read_if_none_match([text]) is not None
        return
    with pytest.raises(ProblemError):
        read_if_none_match([text])
