"""
Reads the members of a record from the store, each for what it must be.

They raise TypeError without a word about the value, which may be a secret; whoever reads the record says what
it was.
"""

from __future__ import annotations


def text(value: object) -> str:
    """Give *value*, a string."""
    if not isinstance(value, str):
        raise TypeError
    return value


def optional_text(value: object) -> str | None:
    """Give *value*, a string or None."""
    return None if value is None else text(value)


def texts(value: object) -> tuple[str, ...]:
    """Give *value*, a list of strings."""
    if not isinstance(value, list):
        raise TypeError
    return tuple(text(item) for item in value)


def number(value: object) -> float:
    """Give *value*, a number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def optional_number(value: object) -> float | None:
    """Give *value*, a number or None."""
    return None if value is None else number(value)


def count(value: object) -> int:
    """Give *value*, a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def flag(value: object) -> bool:
    """Give *value*, true or false."""
    if not isinstance(value, bool):
        raise TypeError
    return value
