"""
What goes to an authorization server and what comes back, as values.

A ``Draft`` is a request that lacks only what needs a clock, randomness or a key; ``tokens.exchange``
completes it to a ``Request``, once for every transmission. The transport turns a ``Request`` into bytes
and bytes into a ``Response``; it does not judge the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.oauth.secret import ClientAssertion


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSpec:
    """
    What a client assertion has to say (RFC 7523 section 3), but for ``jti``, ``iat`` and ``exp``.

    *audience* is the issuer, or the exact URL dialed (rules.md R5): one string, never an array.
    """

    client_id: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A POST of a form to an endpoint; *form* keeps its order and may repeat a name (``resource``)."""

    url: str
    form: tuple[tuple[str, str], ...]
    assertion: AssertionSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    A request that is ready to be sent, once.

    *form* is None for a GET. *client_assertion* is sent as ``client_assertion`` beside the form; it is
    held apart so that the rest of the value may be looked at in a debugger without harm.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    form: tuple[tuple[str, str], ...] | None = None
    client_assertion: ClientAssertion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """
    An answer, whole: *body* is at most the cap of the transport and is never decoded by it.

    *headers* has lower-case names, the first value of each. *body* has no printable form: it may hold
    tokens, and servers are known to echo secrets in errors.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
