"""Names and places in messages."""

from __future__ import annotations

import pytest

from broker.config.names import is_name, missing, nearest, place, shown, suggestion


@pytest.mark.parametrize("text", ["a", "0", "raidiam", "a.b-c_d", "a" * 63])
def test_a_name_is_accepted(text: str) -> None:
    """All characters of the rule, and the longest name."""
    accepted = is_name(text)

    assert accepted


@pytest.mark.parametrize("text", ["", "A", ".a", "-a", "_a", "a b", "a/b", "é", "a" * 64, "a\n", "a\0"])
def test_what_could_harm_a_url_a_label_or_a_file_name_is_no_name(text: str) -> None:
    """Names go to URLs, labels and file names as they are."""
    accepted = is_name(text)

    assert not accepted


def test_a_misspelled_name_leads_to_the_one_that_was_meant() -> None:
    """Swapped letters are the usual mistake."""
    meant = nearest("raidaim", ["directory", "raidiam"])

    assert meant == "raidiam"


def test_capital_letters_do_not_hide_what_was_meant() -> None:
    """Enumerations are in lower case, habits are not."""
    meant = nearest("FAPI2", ["fapi2", "oidc"])

    assert meant == "fapi2"


@pytest.mark.parametrize(
    ("value", "meant"), [("drain", "drain_seconds"), ("max", None), ("dr", None), ("request", "request_seconds")]
)
def test_the_beginning_of_one_name_stands_for_it(value: str, meant: str | None) -> None:
    """A forgotten unit; but not the beginning of several names, or of a word of two letters."""
    found = nearest(value, ["drain_seconds", "request_seconds", "max_connections", "max_waiting"])

    assert found == meant


def test_a_name_like_no_other_leads_nowhere() -> None:
    """A wrong suggestion is worse than none."""
    meant = nearest("zzz", ["directory", "raidiam"])

    assert meant is None


def test_without_a_near_name_the_known_ones_are_listed() -> None:
    """Few enough for a line."""
    hint = suggestion("zzz", ["b", "a"])

    assert hint == 'known: "a", "b"'


def test_a_long_list_of_names_is_cut() -> None:
    """A message stays a line, however many sections there are."""
    hint = suggestion("zzz", [f"name-{n:02}" for n in range(20)])

    assert hint is not None
    assert hint.endswith('"name-07" and 12 more')


def test_nothing_is_suggested_where_there_is_nothing() -> None:
    """No section of that kind exists."""
    hint = suggestion("zzz", [])

    assert hint is None


def test_a_megabyte_of_a_name_is_compared_in_no_time() -> None:
    """Comparing is quadratic, so what is compared is cut."""
    meant = nearest("a" * 1_000_000, ["a" * 63])

    assert meant == "a" * 63


@pytest.mark.parametrize("value", ["two words", "a/b", "+", "x" * 64, "", "\x1b[2J", "e30.e30.x=="])
def test_a_value_that_is_no_name_is_not_shown(value: str) -> None:
    """It may be a secret in the wrong place, or control characters for a terminal."""
    text = shown(value)

    assert text == "the value given"
    assert missing("token", value) == "no token has the name given here"


def test_a_place_is_written_as_a_key_of_toml() -> None:
    """It can be searched for in the file."""
    written = place("workload", "app", "uid", 2)

    assert written == "workload.app.uid[2]"


def test_a_key_with_control_characters_is_escaped_and_cut() -> None:
    """A key is shown even if it is nonsense, but does nothing to a terminal."""
    written = place("token", "\x1b[2J" + "x" * 100)

    assert written.startswith('token."\\u001b[2J')
    assert len(written) < 90
