"""
JSON from a peer, read strictly (RFC 8259, with the limits that its section 9 allows).

Python's own reader keeps the last of duplicate members, accepts NaN, Infinity and lone surrogates, and
lets a number or a tower of brackets cost as much as it likes. Two parties who read one text differently
can be played against each other, so anything with two readings is refused here. The errors hold nothing of
the text: it may be a token.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 32
"""Brackets inside brackets; metadata and token responses need about 4."""
MAX_MEMBERS = 10_000
"""Members and elements of the whole text; the largest metadata we know has about 400."""
MAX_NUMBER = 64
"""Characters of one number; no honest date, lifetime or count is longer."""
MAX_INTEGER = 2**63
"""Magnitude of an integer; beyond it other readers wrap around or round."""

_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
"""A string (the closing quote may be missing, so that a broken text costs linear time) or one structural character."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NotStrictJsonError(ValueError):
    """The bytes are not JSON that everybody reads alike."""

    def __init__(self) -> None:
        super().__init__("not strict JSON")


def loads(data: bytes) -> Any:
    """
    Read one JSON text in UTF-8.

    Raises NotStrictJsonError for anything else, for a byte order mark, duplicate members, NaN, infinities,
    lone surrogates, and whatever passes the limits of this module.
    """
    _check_structure(data)
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be encoded
    except ValueError:
        raise NotStrictJsonError from None
    return value


def _check_structure(data: bytes) -> None:
    """Bound depth and number of values before anything is built of them."""
    depth = members = 0
    for found in _STRUCTURE.finditer(data):
        match found[0]:
            case b"[" | b"{":
                depth += 1
                members += 1
            case b"]" | b"}":
                depth -= 1
            case b",":
                members += 1
        if depth > MAX_DEPTH or members > MAX_MEMBERS:
            raise NotStrictJsonError


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJsonError
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER or abs(int(text)) > MAX_INTEGER:
        raise NotStrictJsonError
    return int(text)


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER or not math.isfinite(float(text)):
        raise NotStrictJsonError
    return float(text)


def _constant(_: str) -> NoReturn:
    raise NotStrictJsonError
