"""
Entity tags as callers send them: in ``If-None-Match`` (RFC 9110 sections 8.8.3 and 13.1.2) and in bodies.

Tags are compared weakly: what follows ``W/`` decides, and the tag of a token is its generation, however it
was written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from broker.api import problems
from broker.api.problems import ProblemError

ENTITY_TAG = re.compile(r'(?:W/)?"([^\x00-\x20"\x7f]*)"')
"""Without quotes and controls inside; the group is the opaque tag (RFC 9110 section 8.8.3)."""

TAG_PATTERN = r'^(W/)?"[^\x00-\x20"\x7f]*"$'
"""The same for the OpenAPI document, as ECMA-262 has it."""

LIST_PATTERN = r'^(\*|(W/)?"[!#-~\x80-\xff]*"([ \t]*,[ \t]*(W/)?"[!#-~\x80-\xff]*")*)$'
"""``If-None-Match`` for the OpenAPI document; empty members of the list are let pass, but nobody needs them."""

SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)+")
"""Between two members of a list; empty members are skipped (RFC 9110 section 5.6.1.2)."""

EDGE = " \t,"

ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a caller has already: the opaque *tags*, or *anything* there may be."""

    tags: frozenset[str] = frozenset()
    anything: bool = False

    def has(self, etag: str) -> bool:
        """Say whether the caller has what *etag* marks."""
        return self.anything or etag in self.tags


def read_if_none_match(values: Iterable[str]) -> Known | None:
    """
    Read the values of all ``If-None-Match`` lines, which are one list; None where there is no line.

    Raises ProblemError for what is no list of entity tags, an empty one among them: whoever sends it has
    lost the tag that it meant to send.
    """
    lines = tuple(values)
    if not lines:
        return None
    text = ",".join(lines).strip(EDGE)
    if text == ANY:
        return Known(anything=True)
    tags: set[str] = set()
    at = 0
    while match := ENTITY_TAG.match(text, at):
        tags.add(match.group(1))
        if match.end() == len(text):
            return Known(tags=frozenset(tags))
        between = SEPARATOR.match(text, match.end())
        if between is None:
            break
        at = between.end()
    raise ProblemError(problems.CONDITION_REFUSED)


def read_etag(text: str) -> str | None:
    """Give the opaque tag of one entity tag, as an ``ETag`` header has it; None if it is none."""
    match = ENTITY_TAG.fullmatch(text)
    return None if match is None else match.group(1)
