"""Why a caller does not get a DPoP proof: the part of ``problems`` that only ``dpop`` speaks of."""

from __future__ import annotations

from collections.abc import Sequence

from broker.api.problems import ErrorCode, Problem, RefusalReason, invalid

NOT_DPOP = invalid(
    400,
    RefusalReason.NOT_DPOP,
    "the token is not bound to a key by DPoP, so there is no proof for it",
    hint='GET /v1/tokens/{name} gives it; sender_constraint = "dpop" in its [client.NAME] would bind it',
    close=False,
)

NONCE_UNKNOWN = invalid(
    400,
    RefusalReason.NONCE_UNKNOWN,
    "the API has not handed out this nonce to the broker within the last five minutes",
    hint="leave nonce out: the broker uses the newest that it knows of",
    close=False,
)

NO_PROOF = Problem(
    status=503,
    error=ErrorCode.TEMPORARILY_UNAVAILABLE,
    description="no proof can be made now",
    reason=RefusalReason.NO_PROOF,
    headers=(("Retry-After", "1"),),
)


def resource_refused(resources: Sequence[str]) -> Problem:
    """Say what proofs may be for; *resources* are base URLs from the configuration."""
    where = f"proofs for this token are for URLs under: {', '.join(resources)}" if resources else None
    return Problem(
        status=403,
        error=ErrorCode.ACCESS_DENIED,
        description="there is no proof for this URL",
        reason=RefusalReason.RESOURCE_REFUSED,
        hint=where or "name the API in dpop_resources of the [token.NAME], or in an [upstream.NAME]",
    )
