"""What the local API gets from the lifecycle: a token that may be served, a state, or a definite no."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from broker.errors import BrokerError
from broker.oauth.reasons import Reason
from broker.tokens.spec import IssuedToken
from broker.tokens.state import Failure

TEMPORARY_ERRORS = frozenset({"server_error", "slow_down", "temporarily_unavailable", "use_dpop_nonce"})
"""
OAuth errors that do not mean that the client is refused (RFC 6749 section 4.1.2.1, RFC 8628 section 3.5). The last is
what a server says of nonces that it replaces faster than it can be answered (RFC 9449 section 8).
"""


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
    CONSENT_REQUIRED = "consent_required"
    """None, and only a person can change that."""


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
    *retry_in* the seconds to the next attempt, at the earliest where it waits for somebody who asks. *grants*
    counts them where there is one for each person: how each stands has to be asked of them.
    """

    name: str
    state: TokenState
    required: bool
    expires_in: int | None = None
    reason: str | None = None
    hint: str | None = None
    retry_in: int | None = None
    grants: int | None = None


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


class ConsentRequiredError(BrokerError):
    """Only a person can help: *reason* is an ``EndReason``, or ``no_consent`` where there never was one."""

    def __init__(self, reason: str) -> None:
        super().__init__("consent_required", "a person has to consent")
        self.reason = reason


class GrantRequiredError(BrokerError):
    """The token has a grant for each person: one of them has to be named."""

    def __init__(self) -> None:
        super().__init__("grant_required", "the token has a grant for each person, and none is named")


def unavailable(failure: Failure | None, *, retry_in: float) -> TokenUnavailableError:
    """Make the error for a token that is not there because of *failure*; the next attempt is in *retry_in* seconds."""
    code, message = "temporarily_unavailable", "there is no valid token now"
    if failure is not None and failure.code == Reason.SERVER_REFUSED and failure.server_error not in TEMPORARY_ERRORS:
        code, message = "authorization_server_error", "the authorization server refuses the client"
    return TokenUnavailableError(
        code,
        message,
        retry_after=max(1, math.ceil(retry_in)),
        reason=None if failure is None else failure.code,
        server_error=None if failure is None else failure.server_error,
        hint=None if failure is None else failure.hint,
    )
