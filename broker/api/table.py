"""
What a route is, and how a path finds it.

A route's path is matched against the raw bytes of the request line. A placeholder, ``{name}`` or another, is
one segment, compared as it stands: an escaped letter is another name. This module knows no HTTP library.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from broker.api import problems
from broker.api.answers import JSON, Answer
from broker.api.bodies import BodyRules
from broker.api.conditions import Known
from broker.api.passing import Passage
from broker.api.problems import ProblemError
from broker.api.wire import Writer
from broker.events import TokenServed
from broker.policy.peer import Peer
from broker.policy.rules import Action

W = TypeVar("W")

PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
"""In a template; there is at most one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    A request that passed the guard: *name* fills the template, *query* and *texts* are read, *plain_text* was
    asked for.

    *known* is what the caller has already, by its ``If-None-Match``, None without one; *body* are the members
    of the body, none where there was none. *passage* is there where the request is one for an API.
    """

    peer: Peer
    name: str = ""
    query: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    plain_text: bool = False
    known: Known | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    passage: Passage | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offer:
    """
    An answer that is ready, and of which nothing has happened yet: its bytes, which may hold a token.

    *last*: the connection ends with it. *record* has to be written before it leaves, with the pid of the caller; None
    where there is nothing to record.
    """

    written: bytes = field(repr=False)
    last: bool
    outcome: str
    record: TokenServed | None = None


Act = Callable[[int], Offer | None]
"""
Gives what a request that was read before is answered in a turn of the loop, by its number, and looks once in each.

None: the handler of the route has to be asked.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    What a route answers when it does not refuse, as the OpenAPI document describes it.

    *shape* names the body's schema in ``shapes``, None: there is no body; *etag*: it comes with an ``ETag``,
    *location*: with a ``Location``.
    """

    status: int = 200
    meaning: str
    shape: str | None = None
    media_types: tuple[str, ...] = (JSON,)
    etag: bool = False
    location: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[W]):
    """
    A row of the table: *handler* works with a world of type *W*.

    *action* is what the policy is asked about, None where it is not; *parameters* are the names of the query
    with the numbers that each may have, *texts* those of its other parameters with their patterns; *body* says
    what it takes as a body, None: it takes none;
    *enter* raises ProblemError for those from whom it takes none, before it is read.
    *at_once* makes what may answer a call without the handler, None for a call that always needs it.
    *conditional*: it looks at ``If-None-Match``. *replies* and *errors* describe its answers, the latter by
    their statuses; those that every route has are not repeated.
    """

    method: str
    template: str
    handler: Callable[[W, Call], Awaitable[Answer]]
    summary: str
    action: Action | None = None
    parameters: Mapping[str, range] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    body: BodyRules | None = None
    enter: Callable[[W, Call], object] | None = None
    at_once: Callable[[W, Call, Writer], Act | None] | None = None
    conditional: bool = False
    replies: tuple[Reply, ...] = ()
    errors: tuple[int, ...] = ()


def fill(template: str, path: str) -> str | None:
    """Give what *path* has in place of the placeholder ("" where there is none), or None if it is another path."""
    placeholder = PLACEHOLDER.search(template)
    if placeholder is None:
        return "" if path == template else None
    before, after = template[: placeholder.start()], template[placeholder.end() :]
    name = path[len(before) : len(path) - len(after)]
    return name if name and "/" not in name and path == before + name + after else None


def routes_at(table: Sequence[Route[W]], path: str) -> tuple[tuple[Route[W], str], ...]:
    """Give the routes of *path*, one for each method it has, with what fills the template. Raises ProblemError."""
    found = tuple((route, name) for route in table if (name := fill(route.template, path)) is not None)
    if not found:
        raise ProblemError(problems.ROUTE_UNKNOWN)
    return found


def route_for(found: Sequence[tuple[Route[W], str]], method: str) -> tuple[Route[W], str]:
    """Choose by method, exactly: HEAD is not GET. Raises ProblemError."""
    for route, name in found:
        if route.method == method:
            return route, name
    raise ProblemError(problems.method_not_allowed(tuple(route.method for route, _ in found)))
