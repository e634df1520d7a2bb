"""
What a request must not be, whatever it asks for (local-api.md, "Requests that are refused").

Pure checks of a request that aiohttp has parsed: each gives what it has checked, or raises ``ProblemError``.
Nothing is decoded and compared in two forms: paths are the raw bytes of the request line, and of the query only
values that stand for themselves are decoded, after it was taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from broker.api import problems
from broker.api.problems import ProblemError

MAX_HEAD = 8_192
"""Bytes of request line and headers together (local-api.md)."""

MAX_BODY = 65_536
"""Bytes of a body (local-api.md)."""

FIXED_HOSTS = frozenset({"localhost", "token-broker", "unix"})
"""Values of ``Host`` that clients of Unix sockets send."""

FORBIDDEN_HEADERS = frozenset({"origin", "referer", "forwarded", "via"})

FORBIDDEN_PREFIXES = ("sec-fetch-", "x-forwarded-")

FORBIDDEN_PASSING = frozenset({"origin", "referer"})
FORBIDDEN_PASSING_PREFIXES = ("sec-fetch-",)
"""Those that are left where a request is passed on to an API: what proxies add is dropped there (local-api.md)."""

EXPECTATION = "100-continue"
"""The one value of ``Expect`` that there is; its case does not matter."""

HTTP_VERSIONS = frozenset({(1, 0), (1, 1)})

FORBIDDEN_IN_PATH = ("..", "//", "\\", ";", "#", "%2e", "%2f", "%5c", "%25", "%3b")
"""What could make two readers of a path see two paths; compared in lower case."""

VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What a request target is made of (RFC 9112 section 3.2): no spaces, no controls, no bytes above ASCII."""

BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """
    A request as it was parsed.

    *target* is the raw request target, *headers* in their order with repetitions, *head_size* the bytes of
    request line and headers, *has_body* says that a body was announced, *content_length* how long, if so.
    """

    method: str
    target: str
    version: tuple[int, int]
    headers: tuple[tuple[str, str], ...]
    head_size: int
    has_body: bool
    content_length: int | None

    def values(self, name: str) -> tuple[str, ...]:
        """Give all values of a header; *name* in lower case."""
        return tuple(value for given, value in self.headers if given.lower() == name)


def check_head(incoming: Incoming) -> None:
    """Check version and size."""
    if incoming.version not in HTTP_VERSIONS:
        raise ProblemError(problems.VERSION_UNSUPPORTED)
    if incoming.head_size > MAX_HEAD:
        raise ProblemError(problems.HEADERS_TOO_LARGE)


def check_headers(
    incoming: Incoming, hosts: frozenset[str], *, fixed: frozenset[str] = FIXED_HOSTS, passing: bool = False
) -> None:
    """
    Refuse what a browser or a proxy sends on, and a ``Host`` that is neither *fixed* nor in *hosts*.

    *passing*: the request is passed on to an API, and what a proxy sends may be there.

    A web page that was made to reach a socket by DNS rebinding or through a forwarding proxy shows itself
    by these. ``_`` counts as ``-``: some readers fold them (CVE-2025-64484).
    """
    names, prefixes = (
        (FORBIDDEN_PASSING, FORBIDDEN_PASSING_PREFIXES) if passing else (FORBIDDEN_HEADERS, FORBIDDEN_PREFIXES)
    )
    for name, _ in incoming.headers:
        folded = name.lower().replace("_", "-")
        if folded in names or folded.startswith(prefixes):
            raise ProblemError(problems.HEADER_FORBIDDEN)
    given = incoming.values("host")
    if len(given) != 1 or given[0].lower() not in fixed | hosts:
        raise ProblemError(problems.HOST_REFUSED)


def split_target(target: str) -> tuple[str, str]:
    """Give the path and the query, both raw, of a target that is a path in origin form (RFC 9112 section 3.2.1)."""
    if not target.startswith("/") or not VISIBLE.fullmatch(target) or "#" in target:
        raise ProblemError(problems.TARGET_REFUSED)
    path, _, query = target.partition("?")
    folded = path.lower()
    if any(forbidden in folded for forbidden in FORBIDDEN_IN_PATH) or BROKEN_ESCAPE.search(path):
        raise ProblemError(problems.TARGET_REFUSED)
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ProblemError(problems.TARGET_REFUSED) from None
    if CONTROL.search(decoded):
        raise ProblemError(problems.TARGET_REFUSED)
    return path, query


def check_body(incoming: Incoming, *, takes_body: bool, limit: int | None = MAX_BODY) -> None:
    """
    Refuse a body that is longer than *limit*, or that the route does not take; one of length 0 is none.

    Also one that readers could cut in two ways: chunked is the only transfer coding, and HTTP/1.0 has none
    (RFC 9112 section 6.1). And what is expected but cannot be fulfilled (RFC 9110 section 10.1.1).
    """
    codings = tuple(value.lower() for value in incoming.values("transfer-encoding"))
    if codings and (codings != ("chunked",) or incoming.version == (1, 0)):
        raise ProblemError(problems.MALFORMED)
    if any(value.lower() != EXPECTATION for value in incoming.values("expect")):
        raise ProblemError(problems.EXPECTATION_REFUSED)
    if incoming.content_length is not None and limit is not None and incoming.content_length > limit:
        raise ProblemError(problems.BODY_TOO_LARGE)
    if not takes_body and (incoming.has_body or incoming.values("transfer-encoding")):
        raise ProblemError(problems.BODY_NOT_ALLOWED)


def read_query(
    query: str, ranges: Mapping[str, range], texts: Mapping[str, str] | None = None
) -> tuple[dict[str, int], dict[str, str]]:
    """
    Read *query*: names of *ranges* and *texts* only, each once.

    A value of the former is a whole number in its range, one of the latter fits its pattern when it is decoded.
    """
    texts = texts or {}
    numbers: dict[str, int] = {}
    others: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name in ranges and name not in numbers and NUMBER.fullmatch(value) and int(value) in ranges[name]:
            numbers[name] = int(value)
        elif name in texts and name not in others and (text := _decoded(value, texts[name])) is not None:
            others[name] = text
        else:
            raise ProblemError(problems.query_refused(_describe(ranges, texts)))
    return numbers, others


def _decoded(value: str, pattern: str) -> str | None:
    """Give the text that *value* stands for, None if it is not one of the route's."""
    if BROKEN_ESCAPE.search(value):
        return None
    try:
        text = unquote_to_bytes(value.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if not CONTROL.search(text) and re.fullmatch(pattern, text) else None


def _describe(ranges: Mapping[str, range], texts: Mapping[str, str]) -> str:
    if not ranges and not texts:
        return "the route has no parameters"
    numbers = [f"{name} ({values.start} to {values.stop - 1})" for name, values in ranges.items()]
    kind = "each once" if texts else "whole numbers, each once"
    return f"{kind}: {', '.join([*numbers, *texts])}"
