"""
``Retry-After`` (RFC 9110 section 10.2.3): seconds, or a date in any of the three forms of section 5.6.7.

The value comes from a peer: junk is no value, and no value keeps us away for longer than a day.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

LONGEST = 86_400.0
"""Seconds; a server that means "next week" is asked once a day whether it still does."""

_SECONDS = re.compile(r"[0-9]+")
_MAX_DIGITS = 10
"""Digits of a number of seconds that is worth converting: anything longer is beyond a day anyway."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
"""IMF-fixdate, then the two obsolete forms that a recipient must accept as well (RFC 850, asctime)."""


def parse_retry_after(value: str, *, wall_now: float) -> float | None:
    """
    Give the seconds to wait, from 0 to a day; None if *value* says nothing that we understand.

    *wall_now* in Unix seconds turns a date into a wait; a date in the past is 0.
    """
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        return LONGEST if len(value) > _MAX_DIGITS else min(float(value), LONGEST)
    for form in _DATES:
        if found := form.fullmatch(value):
            instant = _instant(found, wall_now)
            return None if instant is None else min(max(instant - wall_now, 0.0), LONGEST)
    return None


def _instant(found: re.Match[str], wall_now: float) -> float | None:
    """Give Unix seconds, or None for the 31st of February."""
    try:
        return datetime(
            _year(found["year"], wall_now),
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(int(found["second"]), 59),  # a leap second is legal
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None


def _year(digits: str, wall_now: float) -> int:
    """Complete a year of two digits: never more than 50 years ahead (RFC 9110 section 5.6.7)."""
    year = int(digits)
    if len(digits) > 2:
        return year
    this_year = datetime.fromtimestamp(wall_now, UTC).year
    year += this_year - this_year % 100
    return year - 100 if year > this_year + 50 else year
