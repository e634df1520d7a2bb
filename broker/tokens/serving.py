"""What the local API gets from the lifecycle: a token that may be served, a state, or a definite no."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.errors import BrokerError
from broker.tokens.spec import IssuedToken


class TokenState(StrEnum):
    """The state of a token as callers see it."""

    FRESH = "fresh"
    """Usable, and its time to be refreshed has not come."""
    STALE = "stale"
    """Usable, past the time when it should have been refreshed."""
    IDLE = "idle"
    """None, because nobody asks: it is fetched for the next caller."""
    PENDING = "pending"
    """None yet; the first request is under way or about to be."""
    UNAVAILABLE = "unavailable"
    """None, and the last attempt failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """
    A token for one answer.

    *expires_in* are whole seconds left and *expires_at* Unix seconds, both computed now, whatever happened to
    the wall clock; *stale*: past its refresh time; *enough*: it has the validity that was asked for, and is
    not merely the best there is.
    """

    token: IssuedToken
    expires_in: int
    expires_at: int
    stale: bool
    enough: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What callers can see of a token, but for the passing of time: which one it is, and whether its refresh fails.

    That a refresh began is nothing to be seen, nor is that it failed once more.
    """

    etag: str | None
    failing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatus:
    """
    How a token stands, without the token.

    *expires_in* in whole seconds or None; *reason* is the code of the last failure while it matters;
    *retry_in* the seconds to the next attempt, at the earliest where it waits for somebody who asks.
    """

    name: str
    state: TokenState
    required: bool
    expires_in: int | None = None
    reason: str | None = None
    hint: str | None = None
    retry_in: int | None = None


class TokenUnavailableError(BrokerError):
    """
    There is no token to serve now.

    *code* is ``temporarily_unavailable``, or ``authorization_server_error`` when the server refuses the
    client and says so (*server_error* then holds a registered OAuth code or ``unrecognized``). *reason* is
    the code of the last failure or None; *retry_after* in whole seconds, at least 1.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: int,
        reason: str | None = None,
        server_error: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.retry_after = retry_after
        self.reason = reason
        self.server_error = server_error
