"""
Consents over the API: a caller asks for one, passes on what came back with the person, and gets a grant.

The policy says who may ask; everything else is decided in ``broker.consent``. Of what a caller sends nothing
goes into an answer, and of what the authorization server sends no more than a registered error code.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import TypeVar

from broker.api import consent_problems, waiting
from broker.api.answers import NO_CONTENT, Answer, json_body
from broker.api.bodies import BodyRules
from broker.api.problems import ProblemError
from broker.api.shapes import DETAIL, TEXT_OR_TEXTS
from broker.api.table import Call
from broker.api.world import World, no_stranger, permitted
from broker.consent.asking import Ask, AskError
from broker.consent.authorizations import Authorizations, AuthorizationStatus, Begun, Owns
from broker.consent.errors import FinishedError, NoSuchAuthorizationError, NotAcceptedError, NotRunningError
from broker.consent.redemption import Redeemed
from broker.errors import BrokerError
from broker.policy.peer import Peer
from broker.policy.rules import Action, Allowed, decide

T = TypeVar("T")

WANTED = BodyRules(
    members={
        "token": str,
        "grant": str,
        "redirect_uri": str,
        "scope": str,
        "authorization_details": list,
        "login_hint": str,
        "label": str,
    },
    inside={"authorization_details": {"items": DETAIL}},
    required=("token",),
)
"""What a caller may choose of a consent (rules.md R4); every other parameter of the request is the broker's."""

CAME_BACK = BodyRules(
    members={"binding": str, "callback_url": str, "form": dict},
    inside={"form": {"additionalProperties": TEXT_OR_TEXTS}},
    required=("binding", "callback_url"),
)
"""What came back with the person; *form* for a response that was posted."""


UNSPENT = (NoSuchAuthorizationError, FinishedError, NotRunningError, AskError, NotAcceptedError)
"""Errors that leave an authorization as it was, and so without an event about it."""


async def begin_authorization(world: World, call: Call) -> Answer:
    """Ask for a person's consent to a token."""
    body = call.body
    permission = permitted(world, call, Action.AUTHORIZE, body["token"])
    scope = body.get("scope")
    try:
        authorizations = _to_begin_with(world)
        ask = Ask(
            token=permission.token,
            owner=permission.workloads[0],
            renews=_renewed(world, call.peer, body.get("grant")),
            redirect_uri=body.get("redirect_uri"),
            scope=None if scope is None else tuple(scope.split()),
            authorization_details=body.get("authorization_details"),
            login_hint=body.get("login_hint"),
            label=body.get("label"),
        )
        begun = await _told(authorizations.begin(ask, peer=call.peer))
    except ProblemError as error:
        raise ProblemError(error.problem, token=permission.token, workload=permission.workload) from None
    return begun_answer(begun)


def begun_answer(begun: Begun) -> Answer:
    """Write what the caller needs to send a person off and to know them again."""
    members = {
        "id": begun.id,
        "binding": begun.binding.reveal(),
        "authorization_url": begun.authorization_url,
        "expires_in": math.floor(begun.expires_in),
        "state_sha256": begun.state_sha256,
    }
    return Answer(status=201, body=json_body(members), headers=(("Location", f"/v1/authorizations/{begun.id}"),))


def may_come_back(world: World, call: Call) -> None:
    """Read no body of somebody who has no authorizations here. Raises ProblemError, as for an unknown one."""
    try:
        no_stranger(world, call)
    except ProblemError:
        raise ProblemError(consent_problems.AUTHORIZATION_NOT_VISIBLE) from None


async def pass_callback(world: World, call: Call) -> Answer:
    """Take in what came back with the person: the answer is the grant."""
    body = call.body
    redeemed = await _redeemed(
        _authorizations(world).callback(
            call.name,
            owns=_owns(world, call.peer),
            binding=body["binding"],
            callback_url=body["callback_url"],
            form=body.get("form"),
            peer=call.peer,
        )
    )
    members = {
        "grant": redeemed.grant.id,
        "subject": redeemed.grant.subject,
        "subject_verified": redeemed.grant.subject_verified,
        "scope": " ".join(redeemed.grant.scope),
    }
    return Answer(body=json_body(members))


async def get_authorization(world: World, call: Call) -> Answer:
    """Say how an authorization stands; with ``wait`` when that changes, or the time is up."""
    authorizations, owns = _authorizations(world), _owns(world, call.peer)
    status = await _told(_status(authorizations, call.name, owns))
    wait = call.query.get("wait", 0)
    if wait:
        with waiting.seat(world, call, wait) as seat:
            if not seat.may_wait:
                raise seat.full()
            await waiting.news(seat, authorizations.changed(call.name, owns=owns))
        status = await _told(_status(authorizations, call.name, owns))
    members = {
        "id": status.id,
        "token": status.token,
        "state": status.state,
        "expires_in": math.floor(status.expires_in),
    }
    return Answer(body=json_body(members))


async def abandon_authorization(world: World, call: Call) -> Answer:
    """Give an authorization up."""
    await _told(_authorizations(world).abandon(call.name, owns=_owns(world, call.peer), peer=call.peer))
    return NO_CONTENT


async def _status(authorizations: Authorizations, authorization_id: str, owns: Owns) -> AuthorizationStatus:
    return authorizations.status(authorization_id, owns=owns)


def _to_begin_with(world: World) -> Authorizations:
    """Give the authorizations. Raises ProblemError where nobody consents to anything."""
    if world.authorizations is None:
        raise ProblemError(consent_problems.NOT_CONSENTED_TO)
    return world.authorizations


def _authorizations(world: World) -> Authorizations:
    """Give the authorizations; where nobody consents to anything there is none of that name."""
    if world.authorizations is None:
        raise ProblemError(consent_problems.AUTHORIZATION_NOT_VISIBLE)
    return world.authorizations


def _owns(world: World, peer: Peer) -> Owns:
    """Say which authorizations are the caller's: those of a workload that it is, as long as that may authorize."""

    def owns(owner: str, token: str) -> bool:
        configured = token if token in world.tokens.names() else None
        decision = decide(world.policy, peer, Action.AUTHORIZE, configured)
        return isinstance(decision, Allowed) and owner in decision.workloads

    return owns


def _renewed(world: World, peer: Peer, grant_id: str | None) -> str | None:
    """Give the grant that is to be renewed. Raises ProblemError for one that the caller may not know of."""
    if grant_id is None:
        return None
    if world.grants is None:
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE)
    try:
        grant = world.grants.grant(grant_id)
    except KeyError:
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE) from None
    if not isinstance(decide(world.policy, peer, Action.AUTHORIZE, grant.token, owner=grant.owner), Allowed):
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE)
    return grant_id


async def _redeemed(redeeming: Awaitable[Redeemed]) -> Redeemed:
    """Await a redemption. Raises ProblemError; what an ``authorization_failed`` tells is not told twice."""
    try:
        return await redeeming
    except BrokerError as error:
        raise ProblemError(consent_problems.problem_of(error), is_recorded=not isinstance(error, UNSPENT)) from error


async def _told(doing: Awaitable[T]) -> T:
    """Await what is being done. Raises ProblemError where it fails in a way that a caller is told."""
    try:
        return await doing
    except BrokerError as error:
        raise ProblemError(consent_problems.problem_of(error)) from error
