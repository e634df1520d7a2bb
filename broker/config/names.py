"""
Names: what they look like, which one was probably meant, and how a place in the file is written.

Only what passes through here appears in a message: bare names as they are, anything else not at all (a
value) or escaped and cut (a key).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""A name of a section: also a label of metrics, a part of a URL path and a file name, so neither more nor longer."""

NAME_RULE = "a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,63}")

_MAX_SHOWN = 64
"""Characters: longer than any valid name or key, so that only nonsense is cut."""

_MIN_BEGINNING = 3
"""Letters: fewer begin anything."""

_MAX_LISTED = 8
"""Names: what still fits in one line of a terminal."""


def is_name(text: str) -> bool:
    """Tell whether *text* may be the name of a section."""
    return NAME.fullmatch(text) is not None


def shown(value: str) -> str:
    """Give *value* in quotation marks if it looks like a name, else words that stand for it."""
    return f'"{value}"' if _WORD.fullmatch(value) else "the value given"


def missing(kind: str, value: str) -> str:
    """Say that there is no *kind* named *value*."""
    return f'no {kind} named "{value}"' if _WORD.fullmatch(value) else f"no {kind} has the name given here"


def nearest(value: str, candidates: Iterable[str]) -> str | None:
    """
    Give the one of *candidates* that was probably meant, or None.

    Capital letters do not matter, and the beginning of a single candidate stands for it (``drain`` for
    ``drain_seconds``).
    """
    by_folded = {candidate.lower(): candidate for candidate in candidates}
    folded = value[:_MAX_SHOWN].lower()
    import difflib  # noqa: PLC0415 - only when something is wrong

    close = difflib.get_close_matches(folded, by_folded, n=1)
    if not close and len(folded) >= _MIN_BEGINNING:
        begun = [candidate for candidate in by_folded if candidate.startswith(folded)]
        close = begun if len(begun) == 1 else []
    return by_folded[close[0]] if close else None


def suggestion(value: str, candidates: Iterable[str]) -> str | None:
    """Say which of *candidates* was probably meant, or which there are; None if there are none."""
    known = sorted(candidates)
    if not known:
        return None
    meant = nearest(value, known)
    if meant is not None:
        return f'did you mean "{meant}"?'
    listed = ", ".join(f'"{name}"' for name in known[:_MAX_LISTED])
    more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
    return f"known: {listed}{more}"


def place(*parts: str | int) -> str:
    """Write a place in the file as a dotted key of TOML, with indexes of arrays in brackets."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _key(part)
    return text


def _key(part: str) -> str:
    """Give a key as TOML would have it, escaped and cut where it is not a bare one."""
    if _BARE_KEY.fullmatch(part):
        return part
    return json.dumps(part if len(part) <= _MAX_SHOWN else f"{part[:_MAX_SHOWN]}...")
