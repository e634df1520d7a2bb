"""
When to refresh and how long to wait after a failure: arithmetic.

All times are seconds of the boot clock, all chances numbers in [0, 1); both come in as arguments. This
module must not read a clock, draw a random number or await.
"""

from __future__ import annotations

from enum import StrEnum

from broker.errors import BrokerError, RemoteError
from broker.oauth.reasons import Reason
from broker.tokens.spec import IssuedToken

EARLIEST_REFRESH = 0.70
"""Share of the lifetime: a refresh this early leaves nearly a third of it for retries."""

LATEST_REFRESH = 0.80
"""Share of the lifetime: tokens fetched together are spread over the tenth between the two."""

MIN_LEAD = 10.0
"""Seconds before expiry: room for one slow answer and a retry, even where a fifth of the lifetime is less."""

MAX_LEAD = 0.50
"""Share of the lifetime: a short token is still used for half of its life."""

FIRST_BACKOFF = 1.0
"""Seconds: the least wait after a failure, so that no loop can become tight."""

LAST_BACKOFF = 60.0
"""Seconds: the most that a recovered server waits for us."""

MAX_WAITED = 0.50
"""
Share of what is left of a token in hand: when the server comes back there is time left for the token.

Each wait halves what is left, so even of a minute it takes but a handful of attempts.
"""

SLOW_RETRY_FROM = 300.0
SLOW_RETRY_TO = 900.0
"""Seconds: how often an error is retried that only an operator or the server's operator mends."""

MAX_RETRY_AFTER = 300.0
"""Seconds: a Retry-After beyond this is taken for a mistake; servers that mean it repeat it."""

DEFAULT_MIN_VALID = 5.0
DEFAULT_MIN_VALID_SHARE = 0.01
"""The validity that a caller gets without asking: 5 s or a hundredth of the lifetime, whichever is more."""

REFRESH_COOLDOWN = 60.0
"""Seconds after a token was fetched in which no wish of a caller causes another request (local-api.md)."""

CLIENT_SIDE_ERRORS = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_dpop_proof",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
"""OAuth errors that the same request would meet again (RFC 6749 section 5.2, RFC 8707, RFC 9449)."""


class Pace(StrEnum):
    """How eagerly a failure is retried."""

    ORDINARY = "ordinary"
    SLOW = "slow"
    HELD = "held"
    """Not tried at all, because the client is held back: it waits for exactly as long as it is told."""


def refresh_at(token: IssuedToken, spread: float) -> float:
    """
    Say when *token* should be refreshed.

    *spread* is drawn once for each token name, so that its place among the others stays.
    """
    share = EARLIEST_REFRESH + (LATEST_REFRESH - EARLIEST_REFRESH) * spread
    lead = max(token.lifetime * (1.0 - share), MIN_LEAD)
    return token.expires_at - min(lead, token.lifetime * MAX_LEAD)


def pace_of(error: BrokerError) -> Pace:
    """Say whether waiting a little may help (ORDINARY), or somebody has to mend something first (SLOW)."""
    if not isinstance(error, RemoteError):
        return Pace.SLOW
    if error.code == Reason.CLIENT_SUSPENDED:
        return Pace.HELD
    if error.code == Reason.SERVER_REFUSED and error.server_error in CLIENT_SIDE_ERRORS:
        return Pace.SLOW
    return Pace.ORDINARY


def backoff(failures: int, dice: float) -> float:
    """Give the wait after the *failures*-th failure in a row: exponential, with full jitter above the least."""
    ceiling = min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 16))
    return FIRST_BACKOFF + (ceiling - FIRST_BACKOFF) * dice


def slow_retry(dice: float) -> float:
    """Give the wait after an error that somebody has to mend."""
    return SLOW_RETRY_FROM + (SLOW_RETRY_TO - SLOW_RETRY_FROM) * dice


def retry_delay(*, failures: int, pace: Pace, retry_after: float | None, remaining: float | None, dice: float) -> float:
    """
    Give the wait before the next attempt.

    A Retry-After is honored within ``MAX_RETRY_AFTER``. But where more than ``MIN_LEAD`` is left of a token
    in hand (*remaining* seconds of it, None without), one attempt is made before it ends, whatever the
    server asks for and however slow the pace: the promise to serve outweighs both. And an ordinary wait takes no
    more than ``MAX_WAITED`` of what is left.
    """
    if pace is Pace.HELD:
        return max(FIRST_BACKOFF, retry_after or 0.0)
    soon = backoff(failures, dice)
    if remaining is not None:
        soon = min(soon, max(FIRST_BACKOFF, remaining * MAX_WAITED))
    wait = slow_retry(dice) if pace is Pace.SLOW else soon
    if retry_after is not None:
        wait = max(wait, min(retry_after, MAX_RETRY_AFTER))
    if remaining is not None and remaining - MIN_LEAD > soon:
        wait = min(wait, remaining - MIN_LEAD)
    return wait


def min_valid_of(token: IssuedToken, asked: float | None) -> float:
    """Give the validity a caller needs: as asked or the default, never more than half of the lifetime."""
    lifetime = token.lifetime
    default = max(DEFAULT_MIN_VALID, lifetime * DEFAULT_MIN_VALID_SHARE)
    return min(default if asked is None else asked, lifetime / 2.0)


DATED = frozenset(
    {
        Reason.SERVER_CERTIFICATE_REFUSED.value,
        Reason.CERTIFICATE_SUSPECTED.value,
        Reason.CERTIFICATE_EXPIRED.value,
    }
)
"""Reasons that may be gone as soon as a clock is put right, or a certificate or an authority is replaced."""

SUSPECTS_CERTIFICATE = frozenset({Reason.CERTIFICATE_SUSPECTED.value, Reason.CERTIFICATE_EXPIRED.value})
"""Reasons that count against a client's certificate (rules.md R1)."""
