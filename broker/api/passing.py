"""
Requests that are passed on to an API: which they are, where they lead, and what they must not be (rules.md R6).

Pure. Paths are the raw bytes of the request line, as everywhere; the guard has looked at them, or will.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from broker.api import problems
from broker.api.guard import Incoming
from broker.api.problems import ProblemError
from broker.tokens.calls import Body, Fields

BY_NAME = "/v1/egress/{upstream}/{path}"
BY_GRANT = "/v1/grants/{id}/egress/{upstream}/{path}"
BY_BASE_URL = "/{path}"
"""The routes, as records and the OpenAPI document have them; the last is all that a base URL has."""

_BY_NAME = re.compile(r"/v1/egress/([^/]+)(/.*)")
_BY_GRANT = re.compile(r"/v1/grants/([^/]+)/egress/([^/]+)(/.*)")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Those of RFC 9110 and RFC 5789 that are passed on; whatever an allow list says, no others are understood."""

PLAIN_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
"""What a path is made of (RFC 3986 section 3.3): who sends something else leaves it to others to guess."""

ACCESS_TOKEN = b"access_token"
"""RFC 6750 section 2.3: a token in a query ends up in logs, and it would not be ours."""

BROKEN_TEXT = re.compile(r"[\ud800-\udfff]")
"""What aiohttp makes of bytes that are not UTF-8, and leaves out when it writes them: a value would change silently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """
    A request that is to be passed on: to *path* (raw, from ``/`` on) and *query* of *upstream*.

    Names are the caller's until they are looked up; *grant* is None where the path names none. *takes_chunks*: the
    caller can be told where a body ends whose length nobody knows before.
    """

    route: str
    upstream: str
    path: str
    query: str
    grant: str | None = None
    method: str = "GET"
    fields: Fields = field(default=(), repr=False)
    body: Body | None = None
    takes_chunks: bool = True


def is_passed_on(target: str, base: str | None) -> bool:
    """Say whether the request with this raw *target* is one that is passed on; *base* as in ``passage_of``."""
    return base is not None or target.startswith("/v1/egress/") or _BY_GRANT.match(target) is not None


def passage_of(path: str, query: str, *, base: str | None) -> Passage:
    """
    Give where a request leads that is passed on. Raises ProblemError.

    *base* is the upstream of a listener that is a base URL: everything there is a call of that.
    """
    if base is not None:
        return Passage(route=BY_BASE_URL, upstream=base, path=path, query=query)
    if found := _BY_NAME.fullmatch(path):
        return Passage(route=BY_NAME, upstream=found[1], path=found[2], query=query)
    if found := _BY_GRANT.fullmatch(path):
        return Passage(route=BY_GRANT, grant=found[1], upstream=found[2], path=found[3], query=query)
    raise ProblemError(problems.ROUTE_UNKNOWN)


def check_passage(incoming: Incoming, passage: Passage) -> None:
    """Refuse what is no plain call of an API. Raises ProblemError."""
    if "." in passage.path.split("/") or not PLAIN_PATH.fullmatch(passage.path):
        raise ProblemError(problems.TARGET_REFUSED)  # the API may resolve it, and the allow list did not
    if incoming.method not in METHODS or incoming.values("upgrade") or incoming.values("http2-settings"):
        raise ProblemError(problems.NOT_PASSED_ON)
    if any(BROKEN_TEXT.search(value) for _, value in incoming.headers):
        raise ProblemError(problems.FIELD_NOT_TEXT)
    for pair in re.split("[&;]", passage.query):
        if unquote_to_bytes(pair.partition("=")[0].replace("+", " ")).strip() == ACCESS_TOKEN:
            raise ProblemError(problems.TOKEN_IN_QUERY)


Bases = Mapping[str, str]
"""The upstreams of listeners that are base URLs, by the listener's name."""
