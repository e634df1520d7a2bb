"""What is reported of authorizations: one event for each turn, with names and codes and never a value."""

from __future__ import annotations

from typing import Any

from broker.consent.pending import Failed, Pending
from broker.consent.redemption import Redeemed
from broker.errors import BrokerError, LocalError, RemoteError, frames_of
from broker.events import (
    AuthorizationAbandoned,
    AuthorizationExpired,
    AuthorizationFailed,
    AuthorizationGranted,
    AuthorizationStarted,
    Emit,
    UnexpectedFailure,
)
from broker.oauth.checks import CheckFailedError
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.tokens.grant import Grant
from broker.tokens.ports import Randomness

INCIDENT_BYTES = 6
"""48 random bits: enough to find one line in a log."""


class Reporter:
    """Emits events about authorizations."""

    def __init__(self, *, emit: Emit, randomness: Randomness) -> None:
        self._emit = emit
        self._randomness = randomness

    def started(self, pending: Pending, client: str, peer: Peer | None) -> None:
        """Report that a person is asked."""
        self._emit(
            AuthorizationStarted(
                **_caller(peer),
                authorization=pending.id,
                workload=pending.owner,
                token=pending.token,
                client=client,
                grant=pending.renews,
            )
        )

    def granted(self, pending: Pending, client: str, peer: Peer | None, redeemed: Redeemed) -> None:
        """Report a grant in use."""
        self._emit(
            AuthorizationGranted(
                **_caller(peer),
                authorization=pending.id,
                workload=pending.owner,
                token=pending.token,
                client=client,
                grant=redeemed.grant.id,
                renewed=redeemed.renewed,
                verified=redeemed.grant.subject_verified,
                expires_at=redeemed.token.expires_at_wall,
                binding=redeemed.token.binding,
                fingerprint=redeemed.token.fingerprint,
                jti=redeemed.token.jti,
            )
        )

    def granted_before(self, pending: Pending, client: str, grant: Grant) -> None:
        """Report a grant in use whose redemption an earlier process did not report, or could not say that it did."""
        access = grant.access
        self._emit(
            AuthorizationGranted(
                **_caller(None),
                authorization=pending.id,
                workload=pending.owner,
                token=pending.token,
                client=client,
                grant=grant.id,
                renewed=pending.renews == grant.id,
                verified=grant.subject_verified,
                expires_at=None if access is None else access.expires_at,
                binding=None if access is None else access.binding,
                fingerprint=None,
                jti=None,
            )
        )

    def failed(self, pending: Pending, client: str, peer: Peer | None, error: BrokerError) -> None:
        """Report that there is no grant, and which check it was."""
        remote = error if isinstance(error, RemoteError) else None
        self._emit(
            AuthorizationFailed(
                **_caller(peer),
                authorization=pending.id,
                workload=pending.owner,
                token=pending.token,
                client=client,
                reason=str(error.code),
                check=error.check.value if isinstance(error, CheckFailedError) else None,
                status=None if remote is None else remote.status,
                server_error=None if remote is None else remote.server_error,
                hint=error.hint,
            )
        )

    def abandoned(self, pending: Pending, peer: Peer | None) -> None:
        """Report that its owner gave it up."""
        self._emit(
            AuthorizationAbandoned(
                **_caller(peer), authorization=pending.id, workload=pending.owner, token=pending.token
            )
        )

    def expired(self, pending: Pending) -> None:
        """Report that nobody came back."""
        self._emit(AuthorizationExpired(authorization=pending.id, workload=pending.owner, token=pending.token))

    def bug(self, error: Exception) -> LocalError:
        """Report a bug; its incident is the hint of what is given."""
        incident = self._randomness.token(INCIDENT_BYTES)
        self._emit(
            UnexpectedFailure(where="consent", incident=incident, error=type(error).__name__, frames=frames_of(error))
        )
        return LocalError(Reason.UNEXPECTED, "an unexpected failure of the broker", hint=incident)


def _caller(peer: Peer | None) -> dict[str, Any]:
    """Give the fields that say whose request it was."""
    if peer is None:
        return {"listener": None, "uid": None, "gid": None, "pid": None}
    return {"listener": peer.listener, "uid": peer.uid, "gid": peer.gid, "pid": peer.pid}


def failure_of(error: BrokerError) -> Failed:
    """Give the phase that *error* leaves behind."""
    check = error.check.value if isinstance(error, CheckFailedError) else None
    return Failed(reason=str(error.code), check=check)
