"""
Who may do what with which token: default deny, and several matching workloads add up.

Everything here is a function of values. Names that only a caller knows do not get in: a token that is not
configured is ``None``, so that no reason, hint or record can repeat what a caller made up.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from enum import StrEnum

from broker.policy.peer import Peer

ROOT = 0
"""The uid that may read states, beside the daemon's own: it could read the daemon's memory anyway."""


class Action(StrEnum):
    """What a workload may be allowed to do; a value of ``may``."""

    GET = "get"
    REFRESH = "refresh"
    AUTHORIZE = "authorize"
    LIST = "list"
    REVOKE = "revoke"
    DPOP = "dpop"
    EGRESS = "egress"


class GrantsOf(StrEnum):
    """Whose grants of its tokens a workload may use; a value of ``grants``."""

    ALL = "all"
    """Everybody's."""
    OWN = "own"
    """Those that it started itself."""


class Denial(StrEnum):
    """Why not: for the audit log and metrics. A caller is told all of them alike."""

    NO_WORKLOAD = "no_workload"
    """No workload matches the peer."""
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - the code of a reason, not a secret
    """No such token is configured."""
    NOT_GRANTED = "not_granted"
    """Workloads match, and none of them has the token."""
    FOREIGN_GRANT = "foreign_grant"
    """Workloads match and have the token, but not this grant of it."""
    ACTION_NOT_GRANTED = "action_not_granted"
    """Workloads match and have the token, but may not do this with it."""
    UNKNOWN_UPSTREAM = "unknown_upstream"
    """No such upstream is configured."""
    CALL_NOT_ALLOWED = "call_not_allowed"
    """The upstream's allow list does not have this method and path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """
    A ``[workload.NAME]`` section: who it is (*listeners*, *uids*, *gids*) and what it *may* do with its *tokens*.

    *upstreams* are the APIs that it may call, without ever getting their tokens; *grants* says whose grants it may
    use.

    The first three restrict together, the values of each are alternatives. An empty one does not restrict;
    a workload that restricts nothing is nobody.
    """

    name: str
    listeners: frozenset[str] = frozenset()
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    tokens: frozenset[str] = frozenset()
    upstreams: frozenset[str] = frozenset()
    grants: GrantsOf = GrantsOf.ALL
    may: frozenset[Action] = frozenset({Action.GET})

    def matches(self, peer: Peer) -> bool:
        """Say whether *peer* is this workload; an unknown id is never among the wanted ones."""
        if not (self.listeners or self.uids or self.gids):
            return False
        if self.listeners and peer.listener not in self.listeners:
            return False
        if self.uids and (peer.uid is None or peer.uid not in self.uids):
            return False
        if not self.gids:
            return True
        known = peer.groups if peer.gid is None else peer.groups | {peer.gid}
        return not self.gids.isdisjoint(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All workloads, and the uid that the daemon runs as."""

    workloads: tuple[Workload, ...]
    own_uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """It may; *workloads* are the names of those that say so, in the order of the configuration."""

    workloads: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """It may not; *workloads* are the names of those that match the peer."""

    reason: Denial
    workloads: tuple[str, ...] = ()


Decision = Allowed | Denied


def workloads_of(policy: Policy, peer: Peer) -> tuple[Workload, ...]:
    """Give the workloads that *peer* is."""
    return tuple(workload for workload in policy.workloads if workload.matches(peer))


def decide(policy: Policy, peer: Peer, action: Action, token: str | None, *, owner: str | None = None) -> Decision:
    """
    Say whether *peer* may do *action* with *token*; None stands for any name that is not configured.

    *owner* is the workload that started the grant in question, None where it is about none. One and the same
    workload has to match, to have the token and the grant, and to allow the action: rights are not put together
    from halves.
    """
    unknown = Denial.UNKNOWN_TOKEN
    return _decide(policy, peer, action, token, unknown=unknown, owner=owner, of=lambda workload: workload.tokens)


def decide_call(policy: Policy, peer: Peer, upstream: str | None, *, owner: str | None = None) -> Decision:
    """
    Say whether *peer* may call *upstream*; None stands for any name that is not configured.

    *owner* as in ``decide``. As there, one and the same workload has to give all of it.
    """
    action, unknown = Action.EGRESS, Denial.UNKNOWN_UPSTREAM
    return _decide(policy, peer, action, upstream, unknown=unknown, owner=owner, of=lambda workload: workload.upstreams)


def _decide(
    policy: Policy,
    peer: Peer,
    action: Action,
    name: str | None,
    *,
    unknown: Denial,
    owner: str | None,
    of: Callable[[Workload], Container[str]],
) -> Decision:
    """Decide about *name*, which a workload has if it is among what *of* gives; *unknown*: no such is configured."""
    matching = workloads_of(policy, peer)
    names = tuple(workload.name for workload in matching)
    if not matching:
        return Denied(reason=Denial.NO_WORKLOAD)
    if name is None:
        return Denied(reason=unknown, workloads=names)
    having = tuple(workload for workload in matching if name in of(workload))
    if not having:
        return Denied(reason=Denial.NOT_GRANTED, workloads=names)
    if owner is not None:
        having = tuple(one for one in having if one.grants is GrantsOf.ALL or one.name == owner)
        if not having:
            return Denied(reason=Denial.FOREIGN_GRANT, workloads=names)
    allowing = tuple(workload.name for workload in having if action in workload.may)
    if not allowing:
        return Denied(reason=Denial.ACTION_NOT_GRANTED, workloads=names)
    return Allowed(workloads=allowing)


def upstreams_of(policy: Policy, peer: Peer) -> frozenset[str]:
    """Give the names of the APIs that *peer* may call."""
    callers = (one for one in workloads_of(policy, peer) if Action.EGRESS in one.may)
    return frozenset().union(*(workload.upstreams for workload in callers))


def tokens_of(policy: Policy, peer: Peer, action: Action | None = None) -> frozenset[str]:
    """Give the names of the tokens with which *peer* may do *action*, or anything at all."""
    return frozenset().union(
        *(
            workload.tokens
            for workload in workloads_of(policy, peer)
            if (action in workload.may if action else workload.may)
        )
    )


def grants_of(policy: Policy, peer: Peer, action: Action) -> Mapping[str, frozenset[str] | None]:
    """
    Give the tokens with whose grants *peer* may do *action*, as ``decide`` would say of each.

    With each the workloads that have to have started the grant, or None, where that does not matter.
    """
    found: dict[str, frozenset[str] | None] = {}
    for workload in workloads_of(policy, peer):
        for token in workload.tokens if action in workload.may else ():
            if workload.grants is GrantsOf.ALL:
                found[token] = None
            else:
                before = found.get(token, frozenset())
                found[token] = None if before is None else before | {workload.name}
    return found


def may_read_states(policy: Policy, peer: Peer) -> bool:
    """Say whether *peer* may see the state of every token: root and the daemon's own uid; states, never tokens."""
    return peer.uid is not None and peer.uid in (ROOT, policy.own_uid)
