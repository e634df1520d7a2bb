from __future__ import annotations

import pytest

from broker.cli.tables import cut, duration, fitted, folded, has_colors, plain, shortened, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3_600, "1 h 0 min"),
        (172_799, "47 h 59 min"),
        (172_800, "2 d 0 h"),
        (7_776_000 + 3_600, "90 d 1 h"),
    ],
)
def test_a_duration_has_the_two_units_that_matter(seconds: int | None, text: str):
    """A token lives for minutes, a consent for months."""
    assert duration(seconds) == text


def test_a_table_is_aligned_and_one_of_its_columns_is_colored():
    """Only the text gets the color, not the room beside it."""
    lines = table([("A", "STATE", "B"), ("long", "good", "x"), ("y", "odd", "z")], column=1, colors={"good": "32"})

    assert lines == ["A     STATE  B", "long  \x1b[32mgood\x1b[0m   x", "y     odd    z"]


def test_what_could_steer_a_terminal_is_not_shown():
    """Escapes, new lines, and letters that turn the direction of what follows."""
    assert plain("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb\ufffdc\ufffdd"


def test_sentences_are_broken_at_the_edge_of_a_terminal_that_is_wide_enough():
    """In a pipe each is one line."""
    sentence = "one two three four five six seven eight nine ten eleven"

    assert (folded(sentence, None), folded(sentence, 20)) == ([sentence], [sentence])
    assert folded(sentence, 40) == ["one two three four five six seven eight", "  nine ten eleven"]


@pytest.mark.parametrize(
    ("variables", "is_terminal", "shown"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({}, True, False),
    ],
)
def test_colors_are_for_terminals_that_have_them(variables: dict[str, str], is_terminal: bool, shown: bool):
    """And for people who want them."""
    assert has_colors(variables, is_terminal=is_terminal) is shown


def test_what_is_cut_shows_that_something_is_missing():
    """At the end, or in the middle of a name."""
    assert [cut("abcdef", width) for width in (6, 5, 1, 0)] == ["abcdef", "abcd…", "…", ""]
    assert [shortened("accounts-read", width) for width in (13, 7, 1)] == ["accounts-read", "acc…ead", "…"]


def test_a_table_that_is_too_wide_does_without_columns_before_names_are_cut():
    """In the order that is wanted; a narrow one is cut at its edge."""
    rows = [("NAME", "B", "LAST"), ("n" * 20, "b" * 20, "reason")]

    assert fitted(rows, 50, dropped=["B"]) == [list(row) for row in rows]
    assert fitted(rows, 30, dropped=["B"]) == [["NAME", "LAST"], ["n" * 20, "reason"]]
    assert fitted(rows, 24, dropped=["B"])[1] == ["nnnnnnnn…nnnnnnn", "reason"]
    assert fitted(rows, 17, dropped=["B"])[1] == ["nnnnnn…nnnnn", "re…"]
