"""
Grants over the API: which there are, the token of one, and their end.

A grant that does not exist and one that is not the caller's are answered alike. What only an operator may do
is for root and the uid of the broker, who could do it anyway.
"""

from __future__ import annotations

from typing import Any

from broker.api import consent_problems, problems
from broker.api.answers import Answer, json_answer
from broker.api.bodies import BodyRules
from broker.api.problems import ProblemError
from broker.api.serving import get_or_poll, hand_out
from broker.api.table import Call
from broker.api.world import Permission, World, hint_for, own_words
from broker.events import GrantGivenUp, GrantReassigned
from broker.policy.peer import Peer
from broker.policy.rules import Action, Allowed, Denial, decide, grants_of, may_read_states, workloads_of
from broker.tokens.grant import Grant, GrantStatus
from broker.tokens.serving import Serving
from broker.tokens.source import GrantSource

LIMIT_RANGE = range(1, 201)
DEFAULT_LIMIT = 50
"""Grants in one answer."""

TEXTS = {
    "token": r"[a-z0-9][a-z0-9._-]{0,62}",
    "subject": r"[^\x00-\x1f\x7f-\x9f]{1,255}",
    "cursor": r"[A-Za-z0-9_-]{1,64}",
}
"""What a list of grants can be asked for by."""

OWNER = BodyRules(members={"owner": str}, required=("owner",))

NOTHING = BodyRules()
"""A body that may be there, and says nothing."""

REVOKED = {"revoked": True, "not_revocable": False, "pending": "pending"}


async def list_grants(world: World, call: Call) -> Answer:
    """List the grants that the caller may know of."""
    peer, policy = call.peer, world.policy
    sees_all = may_read_states(policy, peer)
    if not workloads_of(policy, peer) and not sees_all:
        raise ProblemError(problems.access_denied(Denial.NO_WORKLOAD, hint_for(world, peer, Action.LIST)))
    visible = dict.fromkeys(world.tokens.names()) if sees_all else grants_of(policy, peer, Action.LIST)
    wanted = call.texts.get("token")
    if world.grants is None:
        return json_answer({"grants": []})
    page = await world.grants.page(
        visible if wanted is None else {name: owners for name, owners in visible.items() if name == wanted},
        subject=call.texts.get("subject"),
        limit=call.query.get("limit", DEFAULT_LIMIT),
        cursor=call.texts.get("cursor"),
    )
    if world.policy is not policy:
        return await list_grants(world, call)
    return json_answer({"grants": [described(status) for status in page.grants], "cursor": page.cursor})


async def get_grant_token(world: World, call: Call) -> Answer:
    """Hand out the access token of a grant."""

    def permit() -> Permission:
        return permitted_grant(world, call.peer, call.name, Action.GET)

    async def obtain(_permission: Permission) -> tuple[Serving, bool]:
        return await get_or_poll(world, call, grants_in(world), call.name, permit)

    return await hand_out(world, call, permit, obtain)


async def revoke_grant(world: World, call: Call) -> Answer:
    """Give a grant up: it is not served from now on, whatever the authorization server says."""
    if may_read_states(world.policy, call.peer):
        grants, grant = _for_operators(world, call)
        token, workload = grant.token, ""
    else:
        permission = permitted_grant(world, call.peer, call.name, Action.REVOKE)
        grants, token, workload = grants_in(world), permission.token, permission.workload
    peer = call.peer
    world.emit(
        GrantGivenUp(
            listener=peer.listener,
            uid=peer.uid,
            gid=peer.gid,
            pid=peer.pid,
            workload=workload,
            token=token,
            grant=call.name,
        )
    )
    grant = grants.grant(call.name)
    outcome = await grants.revoke(call.name)
    if not grants.is_saved(call.name):
        raise ProblemError(consent_problems.NOT_SAVED, token=token, workload=workload or None)
    return json_answer({"revoked": REVOKED[outcome], "end_session_url": await grants.end_session_url(grant)})


async def retry_grant(world: World, call: Call) -> Answer:
    """Have a grant tried again that has ended."""
    grants, grant = _for_operators(world, call)
    grants.retry(grant.id)
    return json_answer(described(grants.status(grant.id)))


async def reassign_grant(world: World, call: Call) -> Answer:
    """Give a grant to another workload."""
    grants, grant = _for_operators(world, call)
    owner = next(
        (one.name for one in world.policy.workloads if one.name == call.body["owner"] and grant.token in one.tokens),
        None,
    )
    if owner is None:
        raise ProblemError(consent_problems.OWNER_REFUSED, token=grant.token)
    await grants.reassign(grant.id, owner)
    world.emit(
        GrantReassigned(
            listener=call.peer.listener,
            uid=call.peer.uid,
            gid=call.peer.gid,
            pid=call.peer.pid,
            workload=owner,
            token=grant.token,
            grant=grant.id,
        )
    )
    if not grants.is_saved(grant.id):
        raise ProblemError(consent_problems.NOT_SAVED, token=grant.token)
    return json_answer(described(grants.status(grant.id)))


def described(status: GrantStatus) -> dict[str, Any]:
    """Give the members of a grant in an answer, without those that are not known."""
    members = {
        "id": status.id,
        "token": status.token,
        "owner": status.owner,
        "state": str(status.state),
        "subject": status.subject,
        "subject_verified": status.subject_verified,
        "label": status.label,
        "scope": " ".join(status.scope),
        "created_at": int(status.created_at),
        "expires_in": status.expires_in,
        "consent_expires_in": status.consent_expires_in,
        "reason": status.reason,
        "hint": own_words(status.reason, status.hint),
        "retry_in": status.retry_in,
    }
    return {name: value for name, value in members.items() if value is not None}


def grants_in(world: World) -> GrantSource:
    """Give the grants; where nobody consents to anything there is none of that name."""
    if world.grants is None:
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE)
    return world.grants


def permitted_grant(world: World, peer: Peer, grant_id: str, action: Action) -> Permission:
    """Say that the caller may do *action* with a grant. Raises ProblemError, alike for all others."""
    try:
        grant = grants_in(world).grant(grant_id)
    except KeyError:
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE) from None
    decision = decide(world.policy, peer, action, grant.token, owner=grant.owner)
    workload = ",".join(decision.workloads)
    if isinstance(decision, Allowed):
        return Permission(token=grant.token, workloads=decision.workloads, grant=grant.id)
    if decision.reason is Denial.ACTION_NOT_GRANTED:
        denied = problems.access_denied(decision.reason, hint_for(world, peer, action))
        raise ProblemError(denied, token=grant.token, workload=workload or None)
    raise ProblemError(consent_problems.GRANT_NOT_VISIBLE, workload=workload or None)


def _for_operators(world: World, call: Call) -> tuple[GrantSource, Grant]:
    """Give the grant of the path to those who may do everything. Raises ProblemError."""
    if not may_read_states(world.policy, call.peer):
        raise ProblemError(consent_problems.NOT_OPERATOR)
    grants = grants_in(world)
    try:
        return grants, grants.grant(call.name)
    except KeyError:
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE) from None
