"""
What the handlers of the API sockets work with, and what a caller may do and know in it.

Whatever is decided here is decided by the policy in force at that moment; nothing is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.api import problems
from broker.api.limits import WaitingRoom
from broker.api.problems import ProblemError
from broker.api.rotated import Rotate
from broker.api.shares import Shares
from broker.api.table import Call
from broker.consent.authorizations import Authorizations
from broker.events import Emit
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.policy.rules import (
    Action,
    Denial,
    Denied,
    Policy,
    decide,
    decide_call,
    may_read_states,
    tokens_of,
    upstreams_of,
    workloads_of,
)
from broker.policy.upstreams import Upstream
from broker.tokens.calls import Egress
from broker.tokens.ports import TokenSource
from broker.tokens.proving import Proving
from broker.tokens.source import GrantSource


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """What can be registered of a client: its public *keys* as JWKs, and the names of the *tokens* it is used for."""

    keys: tuple[Mapping[str, Any], ...] = ()
    tokens: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class World:
    """
    What the handlers of the API sockets work with; *sandbox* gives the names of sandbox issuers in use.
    *rotate* looks at the files now, None where nobody watches them.
    *restart* gives the sections of the configuration that wait for a restart, *refused* says whether the last
    reload was refused, *clients* gives the public keys of each client by its name. *grants* and *authorizations*
    are there where people consent. *egress* makes the calls of *upstreams*, by their names; *takes_records* says
    whether what may not happen unrecorded may be begun. *proving* makes DPoP proofs, *resources* gives the base URLs
    of the APIs that they may be for, by the name of the token. *shares* counts the calls of each caller.

    Only *policy* is ever replaced, by ``replace_policy``: handlers read it for each decision.
    """

    policy: Policy
    tokens: TokenSource
    emit: Emit
    waiting: WaitingRoom
    sandbox: Callable[[], Sequence[str]] = tuple
    restart: Callable[[], Sequence[str]] = tuple
    refused: Callable[[], bool] = bool
    clients: Callable[[], Mapping[str, PublicKeys]] = dict
    grants: GrantSource | None = None
    authorizations: Authorizations | None = None
    egress: Egress | None = None
    upstreams: Callable[[], Mapping[str, Upstream]] = dict
    takes_records: Callable[[], bool] = lambda: True
    shares: Shares = field(default_factory=Shares)
    rotate: Callable[[], Rotate | None] = lambda: None
    proving: Proving | None = None
    resources: Callable[[str], Sequence[str]] = lambda _token: ()
    replacement: asyncio.Future[None] | None = field(default=None, init=False)

    def replace_policy(self, policy: Policy) -> None:
        """Decide by *policy* from now on, and let those who wait ask again."""
        self.policy = policy
        replaced, self.replacement = self.replacement, None
        if replaced is not None and not replaced.done():
            replaced.set_result(None)

    def replaced(self) -> asyncio.Future[None]:
        """Give what is resolved when the policy is replaced. Shared: not to be cancelled."""
        if self.replacement is None:
            self.replacement = asyncio.get_running_loop().create_future()
        return self.replacement


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """
    What may be done: with *token*, by the names of *workloads* that say so.

    *grant* is the id of the grant that is meant, None where nobody consented.
    """

    token: str
    workloads: tuple[str, ...]
    grant: str | None = None

    @property
    def workload(self) -> str:
        """The names of the workloads, as events have them."""
        return ",".join(self.workloads)


def permitted(world: World, call: Call, action: Action, name: str | None = None) -> Permission:
    """
    Say that the caller may do *action* with the token *name*, by default that of the path. Raises ProblemError.

    The name is known to be a configured one then. Where the token stands for one grant, that has to be open to
    the caller, too.
    """
    name = call.name if name is None else name
    configured = name if name in world.tokens.names() else None
    grant = None if configured is None else world.tokens.grant_of(configured)
    owner = None if grant is None or world.grants is None else world.grants.grant(grant).owner
    decision = decide(world.policy, call.peer, action, configured, owner=owner)
    if isinstance(decision, Denied):
        denied = problems.access_denied(decision.reason, hint_for(world, call.peer, action))
        raise ProblemError(denied, token=configured, workload=",".join(decision.workloads) or None)
    assert configured is not None  # the policy allows nothing with a name that is not configured
    return Permission(token=configured, workloads=decision.workloads, grant=grant)


def permitted_call(world: World, call: Call, upstream: Upstream | None, *, owner: str | None) -> tuple[str, ...]:
    """
    Give the workloads that let the caller call *upstream*, None for one that is not configured. Raises ProblemError.

    *owner* is the workload that started the grant it is called with, None where it is called with none.
    """
    decision = decide_call(world.policy, call.peer, None if upstream is None else upstream.name, owner=owner)
    if isinstance(decision, Denied):
        own = sorted(upstreams_of(world.policy, call.peer))
        nobody = f"no [workload] section lets this caller call an API: {_whereabouts(call.peer)}"
        hint = f"this caller may call: {', '.join(own)}" if own else nobody
        denied = problems.access_denied(decision.reason, hint)
        token = None if upstream is None else upstream.token
        raise ProblemError(denied, token=token, workload=",".join(decision.workloads) or None)
    return decision.workloads


def may_refresh(world: World, call: Call) -> None:
    """Ask before a body is read what is asked again after it. Raises ProblemError."""
    permitted(world, call, Action.REFRESH)


def no_stranger(world: World, call: Call) -> None:
    """Read no body of somebody who may have nothing here. Raises ProblemError."""
    if not workloads_of(world.policy, call.peer) and not may_read_states(world.policy, call.peer):
        raise ProblemError(problems.access_denied(Denial.NO_WORKLOAD, hint_for(world, call.peer)))


def visible(world: World, peer: Peer) -> Collection[str]:
    """Give the tokens whose state *peer* may see, in the order of the configuration."""
    names = world.tokens.names()
    if may_read_states(world.policy, peer):
        return names
    own = tokens_of(world.policy, peer)
    return {name: None for name in names if name in own}.keys() if own else ()


def hint_for(world: World, peer: Peer, action: Action = Action.GET) -> str:
    """Say with what the caller may do *action*, or as whom the broker sees it; names from the configuration only."""
    own = tokens_of(world.policy, peer, action)
    names = [name for name in world.tokens.names() if name in own] if own else []
    if names:
        return f"this caller may {action.value}: {', '.join(names)}"
    return f"no [workload] section lets this caller {action.value} a token: {_whereabouts(peer)}"


def _whereabouts(peer: Peer) -> str:
    uid = "unknown in the broker's user namespace" if peer.uid is None else str(peer.uid)
    gid = "unknown" if peer.gid is None else str(peer.gid)
    return f"listener {peer.listener}, uid {uid}, gid {gid}"


def own_words(reason: str | None, hint: str | None) -> str | None:
    """Leave a hint out that names hosts which a server chose: it is for the log, not for callers."""
    return None if reason == Reason.ENDPOINT_REFUSED else hint
