"""
The states of one grant, what happens to it, and what has to be done then: the values of ``grant_steps``.

As in ``state`` for tokens that a client gets by itself; this is for those that a person consented to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.tokens.grant import EndReason, Grant
from broker.tokens.spec import IssuedToken
from broker.tokens.state import Expired, Failure


class Replay(StrEnum):
    """What a server does with a refresh token that it has seen before: ``refresh_rotation``, resolved (R2.5)."""

    NEVER = "never"
    """Nothing: refresh tokens are not rotated."""
    GRACE = "grace"
    """It takes it for a while, because answers get lost."""
    STRICT = "strict"
    """It takes it for a theft, and may end the grant."""


class Doubt(StrEnum):
    """What hangs over a grant between two attempts."""

    NONE = "none"
    UNKNOWN = "unknown"
    """A request may have been processed whose answer did not come."""
    REFUSED = "refused"
    """``invalid_grant`` was said once; it is to be said again before it counts (R2.6)."""
    PREVIOUS = "previous"
    """It was said twice; the previous refresh token is still to be tried (R2.4)."""


class Trouble(StrEnum):
    """How an attempt failed, as far as it matters to the grant."""

    NOT_SENT = "not_sent"
    """The server got nothing: no connection, no durable intent, no turn."""
    REFUSED = "refused"
    """The server did not process it, for a reason that says nothing about the grant."""
    UNKNOWN = "unknown"
    INVALID_GRANT = "invalid_grant"
    CHECK_FAILED = "check_failed"
    """It was processed, and the access token or ID token in the answer failed a check (R2.3)."""
    BEARER_REFUSED = "bearer_refused"
    """The server did not take the access token that a refresh is made with (``Dialect``)."""
    SUBJECT_CHANGED = "subject_changed"
    """It was processed, and the access token is another's than the person's: the next one would be, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    What the configuration says about a grant.

    *replay* is what the server does as far as it is known; *keepalive* in seconds for a grant that is
    refreshed on demand, None for an eager one; *serve_to_expiry* of a token whose grant was ended.
    *needs_access_token*: a refresh takes an access token that is still good. *refreshes* is false where refresh
    tokens are of no use.
    """

    replay: Replay
    keepalive: float | None = None
    serve_to_expiry: bool = False
    needs_access_token: bool = False
    refreshes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """
    No request runs.

    *token* is the access token in hand or None, *refresh_at* the time from which it is stale; the next
    attempt is at *due_at*. *forced_at* is when a caller last forced one, as long as nothing has succeeded since.
    """

    grant: Grant
    due_at: float
    token: IssuedToken | None = None
    refresh_at: float = 0.0
    doubt: Doubt = Doubt.NONE
    failure: Failure | None = None
    forced_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshing:
    """*attempt* runs."""

    grant: Grant
    attempt: int
    token: IssuedToken | None = None
    refresh_at: float = 0.0
    doubt: Doubt = Doubt.NONE
    failure: Failure | None = None
    forced_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A person is needed; *grant* says why, and *token* is served to its end where it may be."""

    grant: Grant
    token: IssuedToken | None = None


State = Resting | Refreshing | Over


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed, perhaps a lot of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A caller needs more validity than the token in hand has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """A caller says that the token in hand is of no use: it was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblocked:
    """What held attempts back is gone: the client is answered again, or a key, certificate or setting is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebound:
    """The client has another certificate: what is in hand is served on, and its successor is fetched soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disowned:
    """What the access token in hand is bound to is compromised: it is never served again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """*attempt* brought a refresh token, and *grant* with it is safe; the rest of the answer is still to be checked."""

    attempt: int
    grant: Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """*attempt* brought *token*, and *grant* is written down as it stands now."""

    attempt: int
    grant: Grant
    token: IssuedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """*attempt* brought nothing; *suspect* says that the client is, so that no grant may suffer (R2.7)."""

    attempt: int
    trouble: Trouble
    failure: Failure
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprieved:
    """The verdict is taken back: it fell while the client was suspect. The next attempt waits for *wait* seconds."""

    wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """An operator wants it tried again, whatever the server said (R2.8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consented:
    """A person consented anew, under the same id."""

    grant: Grant
    token: IssuedToken | None


Event = (
    Tick
    | Wanted
    | Forced
    | Unblocked
    | Rebound
    | Disowned
    | Stored
    | Succeeded
    | Failed
    | Reprieved
    | Retried
    | Consented
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Start *attempt*; *previous*: with the previous refresh token; *confirms*: the server said no once (R2.6)."""

    attempt: int
    previous: bool = False
    confirms: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Write the grant down as it stands in the state now; nothing waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The grant came to its end."""

    reason: EndReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An answer failed a check; the grant lives."""

    reason: str


Effect = Begin | Expired | Keep | Ended | Quarantined
Step = tuple[State, tuple[Effect, ...]]
