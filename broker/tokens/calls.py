"""
A call of an API with a token: what the local API hands to the egress, and the egress to a connection.

Values and ports only, so that the three know nothing of one another. Bodies are streams that are read once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from broker.errors import LocalError
from broker.policy.upstreams import Upstream
from broker.tokens.serving import Serving

Fields = tuple[tuple[str, str], ...]
"""Header fields in their order, with repetitions."""


class Body(Protocol):
    """The body of a request, read once."""

    @property
    def length(self) -> int | None:
        """Its bytes, if the sender said how many."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Give it piece by piece; raises what keeps it from being read to its end."""


class ReplyBody(Protocol):
    """The body of a reply, read once."""

    async def read(self) -> bytes:
        """Give the next piece, none at the end. Raises RemoteError."""

    async def close(self) -> None:
        """Let go of the connection: kept if the body was read to its end, cut if not. Twice does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """A request to an API; *fields* may hold credentials."""

    method: str
    url: str
    fields: Fields = field(repr=False)
    body: Body | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiReply:
    """The head of a reply, and its *body*; *length* in bytes where the server said it. *started_at*: boot clock."""

    status: int
    fields: Fields = field(repr=False)
    length: int | None
    body: ReplyBody


class Line(Protocol):
    """Connections to one API with one certificate generation, or with none."""

    async def open(self, request: ApiRequest) -> ApiReply:
        """
        Transmit once, and give the reply as soon as its head is there; never retried, never redirected.

        Raises RemoteError, or what the body of the request raised.
        """


class Lines(Protocol):
    """All connections to APIs: those of the configuration in force, and older ones whose tokens are still served."""

    def line(self, upstream: str, thumbprint: str | None) -> Line | None:
        """
        Give the line to *upstream* that presents the certificate with *thumbprint* (``x5t#S256``).

        Without one: the line of the client as it is now. None where the certificate is gone.
        """


Renew = Callable[[str], Awaitable[Serving]]
"""Gives another token than the one of that ETag, which an API refused; raises what obtaining one raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """
    A call that the policy allows: *path* from ``/`` on and *query* are raw and relative to the *upstream*.

    *serving* has the token; *renew* gets another one. *grant* is the grant of that, None where nobody consented.
    """

    upstream: Upstream
    method: str
    path: str
    query: str
    fields: Fields = field(repr=False)
    body: Body | None
    serving: Serving
    renew: Renew
    grant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A *reply*, and with which token it was got (*serving*): another one, where an API refused the first."""

    reply: ApiReply
    serving: Serving


class EndpointOfServerError(LocalError):
    """A call would go to the authorization server of its token, where certificate and key stand for the client."""

    def __init__(self) -> None:
        super().__init__("endpoint_of_server", "the URL is an endpoint of the authorization server")


class Egress(Protocol):
    """Makes calls of APIs: implemented by ``egress.caller.Caller``."""

    async def call(self, call: ApiCall) -> Called:
        """Make a call. Raises RemoteError, LocalError, what *renew* raises and what the body of the request raises."""
