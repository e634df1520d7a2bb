"""
Which calls of an API are allowed, and where a call goes: the allow list of an ``[upstream.NAME]`` section.

Paths are compared as they stand, segment by segment; nothing is decoded. A call that no rule names is refused
before a connection is made. Everything here is a function of values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANY_METHOD = "*"
"""Stands for every method but those that are never passed on."""

ONE = "*"
"""Stands for one segment of a path, whatever it is, but not an empty one."""

REST = "**"
"""Stands for all segments that are left, one at least; only at the end."""

NEVER_PASSED = frozenset({"TRACE", "CONNECT"})
"""TRACE shows a caller the credentials that were added for it, CONNECT is no call of an API (rules.md R6)."""

_METHOD = re.compile(r"[A-Z]{1,20}")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@-]*")  # pchar of RFC 3986 without escapes, ";" and "*"


class NotARuleError(ValueError):
    """The text is not a method and a path; the message is constant."""

    def __init__(self) -> None:
        super().__init__("not an allow rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """One entry of an allow list: a *method* and the *segments* of a path, with their wildcards."""

    method: str
    segments: tuple[str, ...]

    @property
    def template(self) -> str:
        """The path as it was configured: what records have in place of the path of a call."""
        return "/" + "/".join(self.segments)

    def allows(self, method: str, segments: tuple[str, ...]) -> bool:
        """Say whether a call of *method* to the path of *segments* is meant."""
        if self.method not in (ANY_METHOD, method):
            return False
        wanted = self.segments
        if wanted[-1] == REST:
            wanted = wanted[:-1]
            if len(segments) <= len(wanted):
                return False
            segments = segments[: len(wanted)]
        return len(segments) == len(wanted) and all(map(_is_meant, wanted, segments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """
    An API: calls go to *base_url* (https, without a slash at the end) with the token *token*.

    *allow* says which, *interaction_id* that an ``x-fapi-interaction-id`` is added where there is none. There are so
    many *connections* to it at the most.
    """

    name: str
    base_url: str
    token: str
    allow: tuple[AllowRule, ...]
    interaction_id: bool = False
    connections: int = 64

    @property
    def authority(self) -> str:
        """Host and port, as a client that takes a listener for the API sends them in ``Host``."""
        return self.base_url.removeprefix("https://").partition("/")[0]

    def rule_for(self, method: str, path: str) -> AllowRule | None:
        """Give the first rule that allows *method* at *path* (raw, from ``/`` on), None if none does."""
        if method in NEVER_PASSED or not path.startswith("/"):
            return None
        segments = tuple(path[1:].split("/"))
        return next((rule for rule in self.allow if rule.allows(method, segments)), None)

    def url_of(self, path: str, query: str) -> str:
        """Give the URL of a call, exactly as it is dialed; *path* and *query* are raw."""
        return f"{self.base_url}{path}{f'?{query}' if query else ''}"


def read_rule(text: str) -> AllowRule:
    """Read ``METHOD /path``. Raises NotARuleError."""
    method, _, path = text.partition(" ")
    if not path.startswith("/") or method in NEVER_PASSED:
        raise NotARuleError
    if method != ANY_METHOD and not _METHOD.fullmatch(method):
        raise NotARuleError
    segments = tuple(path[1:].split("/"))
    if REST in segments[:-1] or any(not _is_segment(segment) for segment in segments):
        raise NotARuleError
    return AllowRule(method=method, segments=segments)


def _is_segment(segment: str) -> bool:
    return segment in (ONE, REST) or (bool(_SEGMENT.fullmatch(segment)) and segment not in (".", ".."))


def _is_meant(wanted: str, segment: str) -> bool:
    return segment != "" if wanted == ONE else segment == wanted
