"""What callers of the local API get and do not get."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from broker.events.event import AuditUnavailableError, Emit, Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptFailed(Event):
    """A listener cannot accept connections for now, *reason* as in errno(3): EMFILE, mostly. Said once an outage."""

    name: ClassVar[str] = "accept_failed"
    severity: ClassVar[Severity] = Severity.ERROR

    listener: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServed(Event):
    """A caller is about to get a token: the record is written before the answer is sent."""

    name: ClassVar[str] = "token_served"
    severity: ClassVar[Severity] = Severity.DEBUG
    audited: ClassVar[bool] = True
    indispensable: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    token: str
    fingerprint: str
    generation: int
    stale: bool
    grant: str | None = None


EmitServed = Callable[[Sequence[tuple[TokenServed, int | None]]], Collection[int]]
"""
Takes what happened in one turn of the loop, for less than what each would cost by ``Emit``. Raises nothing.

Each comes with the pid that it has in place of its own: several processes of one program share all the rest. Gives the
places of those that could not be recorded, and for which no token may be served therefore.
"""


def one_by_one(emit: Emit) -> EmitServed:
    """Take several by taking each."""

    def emit_served(served: Sequence[tuple[TokenServed, int | None]]) -> Collection[int]:
        unrecorded = []
        for place, (event, pid) in enumerate(served):
            try:
                emit(replace(event, pid=pid))
            except AuditUnavailableError:
                unrecorded.append(place)
        return unrecorded

    return emit_served


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressCalled(Event):
    """
    A caller had an API called: the record is written before the last of the reply is sent.

    *pattern* is the path of the allow rule that let it through, never that of the call; *status* that of the reply,
    None where there was none. *outcome* is ``ok``, ``client_error`` (4xx), ``server_error`` (5xx), ``cut_off`` (the
    reply broke off), ``caller_left``, or the reason why there was no reply. *waited* and *duration* are seconds until
    the head of the reply, and until its end; *sent* and *received* are bytes of the bodies.
    """

    name: ClassVar[str] = "egress_called"
    severity: ClassVar[Severity] = Severity.DEBUG
    audited: ClassVar[bool] = True
    indispensable: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    upstream: str
    token: str
    grant: str | None
    fingerprint: str | None
    jti: str | None
    method: str
    pattern: str
    status: int | None
    outcome: str
    waited: float | None
    duration: float
    sent: int
    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofServed(TokenServed):
    """
    A caller is about to get a token with a DPoP proof for one request of its own.

    *method* and *origin* (scheme, host, port) are what the proof is good for, *jti* is its own; the path is not
    told, it may say whose account it is.
    """

    name: ClassVar[str] = "proof_served"

    method: str
    origin: str
    jti: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshForced(Event):
    """A caller had a token refreshed ahead of its time: an attempt begins that would not have come now."""

    name: ClassVar[str] = "token_refresh_forced"
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantGivenUp(Event):
    """A caller gave a grant up; *workload* is empty for an operator. How its revocation ends is told apart."""

    name: ClassVar[str] = "grant_given_up"
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    token: str
    grant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantReassigned(Event):
    """An operator gave a grant to another *workload*."""

    name: ClassVar[str] = "grant_reassigned"
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str
    token: str
    grant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """
    A caller did not get what it asked for.

    *route* is the template (``/v1/tokens/{name}``) or ``unrouted``, *token* a configured name or None (a
    name that only the caller knows is not recorded), *error* and *reason* are closed codes. *count* says how
    many alike this one stands for, when a caller repeats itself (rules.md R9).
    """

    name: ClassVar[str] = "request_refused"
    severity: ClassVar[Severity] = Severity.INFO
    audited: ClassVar[bool] = True

    listener: str
    uid: int | None
    gid: int | None
    pid: int | None
    workload: str | None
    route: str
    token: str | None
    status: int
    error: str
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(Event):
    """
    Any request of any listener was answered; counted, not audited. *outcome* is ``ok`` or the error code.

    So many *requests* were, all in the same way: those that came in one turn of the loop are told of together.
    """

    name: ClassVar[str] = "request_answered"
    severity: ClassVar[Severity] = Severity.DEBUG

    route: str
    outcome: str
    duration: float
    requests: int = 1
