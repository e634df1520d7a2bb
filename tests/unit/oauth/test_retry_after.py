"""retry_after: seconds or a date, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.oauth.retry_after import LONGEST, parse_retry_after
from tests.unit.oauth.builders import NOW

QUICK = settings(derandomize=True, max_examples=100, deadline=None, database=None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7\t", 7.0),
        ("007", 7.0),
        ("86400", 86_400.0),
        ("86401", LONGEST),
        ("99999999999", LONGEST),
        ("9" * 10_000, LONGEST),
    ],
)
def test_seconds_are_taken_up_to_a_day(value: str, seconds: float) -> None:
    """A number too long to convert is a day as well."""
    assert parse_retry_after(value, wall_now=NOW) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
        ("Monday, 21-Sep-26 14:14:20 GMT", 60.0),
        ("Mon Sep 21 14:14:20 2026", 60.0),
        ("Thu Oct  1 14:14:20 2026", LONGEST),
        ("Mon, 21 Sep 2026 14:13:20 GMT", 0.0),
        ("Mon, 21 Sep 2026 14:13:19 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
        ("Mon, 21 Sep 2026 14:13:60 GMT", 39.0),
    ],
)
def test_a_date_is_a_wait_from_now(value: str, seconds: float) -> None:
    """All three forms of RFC 9110; the past is no wait, a leap second is its neighbor."""
    assert parse_retry_after(value, wall_now=NOW) == seconds


@pytest.mark.parametrize(("year", "seconds"), [("26", 60.0), ("76", LONGEST), ("77", 0.0), ("94", 0.0), ("00", 0.0)])
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(year: str, seconds: float) -> None:
    """26 is now, 76 is the far future, 77 was in the last century."""
    assert parse_retry_after(f"Monday, 21-Sep-{year} 14:14:20 GMT", wall_now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "0x10",
        "1_000",
        "\u0661\u0662",
        "soon",
        "120, 60",
        "120 seconds",
        "Mon, 21 Sep 2026 14:14:20",
        "Mon, 21 Sep 2026 14:14:20 +0000",
        "Mon, 21 Sep 2026 14:14:20 CET",
        "mon, 21 sep 2026 14:14:20 GMT",
        "Mon, 31 Feb 2026 14:14:20 GMT",
        "Mon, 21 Sep 0000 14:14:20 GMT",
        "Mon, 21 Sep 2026 24:14:20 GMT",
        "2026-09-21T14:14:20Z",
        "Mon, 21 Sep 2026 14:14:20 GMT\n",
    ],
)
def test_junk_is_no_value(value: str) -> None:
    """What is not exactly one of the forms is not guessed at."""
    assert parse_retry_after(value, wall_now=NOW) is None


@QUICK
@given(
    st.text(max_size=40)
    | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{2} (Feb|Sep) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT\Z")
)
def test_any_text_is_a_bounded_wait_or_none(value: str) -> None:
    """Nothing that a peer writes raises, or keeps us away for longer than a day."""
    wait = parse_retry_after(value, wall_now=NOW)

    assert wait is None or 0.0 <= wait <= LONGEST


@QUICK
@given(st.integers(1, 86_400))
def test_a_date_that_a_server_writes_is_understood(ahead: int) -> None:
    """The ordinary form, made by somebody else."""
    instant = datetime.fromtimestamp(NOW + ahead, UTC)

    assert parse_retry_after(instant.strftime("%a, %d %b %Y %H:%M:%S GMT"), wall_now=NOW) == ahead
