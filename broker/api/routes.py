"""The routes of the API sockets: a table of values, and a short function for each that hands out no token."""

from __future__ import annotations

from functools import cache

from broker.api.answers import JSON, PLAIN_TEXT, Answer, json_answer
from broker.api.at_once import token_at_once
from broker.api.authorizations import (
    CAME_BACK,
    WANTED,
    abandon_authorization,
    begin_authorization,
    get_authorization,
    may_come_back,
    pass_callback,
)
from broker.api.dpop import REQUEST, make_proof
from broker.api.grants import (
    LIMIT_RANGE,
    NOTHING,
    OWNER,
    TEXTS,
    get_grant_token,
    list_grants,
    reassign_grant,
    retry_grant,
    revoke_grant,
)
from broker.api.jwks import JWK_SET, get_jwks
from broker.api.openapi import description_of
from broker.api.readiness import one_answer, readiness, readiness_answer, states_of
from broker.api.rotating import COMPROMISED, rotate
from broker.api.serving import MIN_VALID_RANGE, REJECTED, WAIT_RANGE, get_token, refresh_token
from broker.api.table import Call, Reply, Route
from broker.api.world import World, may_refresh, no_stranger, own_words, visible
from broker.policy.rules import Action, may_read_states
from broker.tokens.serving import TokenStatus


async def live(_world: object, _call: Call) -> Answer:
    """Answer: that is all there is to say."""
    return json_answer({"status": "ok"})


async def ready(world: World, call: Call) -> Answer:
    """Say whether the required tokens are there; names go only to those who may know them."""
    is_told = may_read_states(world.policy, call.peer)
    restart, refused = (world.restart(), world.refused()) if is_told else ((), False)
    names = visible(world, call.peer)
    return readiness_answer(await readiness(world.tokens, world.sandbox(), names), names, restart, refused=refused)


async def ready_one(world: World, call: Call) -> Answer:
    """Say whether one token is there, to those who may know of it."""
    return one_answer(world.tokens, call.name, visible(world, call.peer))


async def list_tokens(world: World, call: Call) -> Answer:
    """List the tokens that the caller may use or see, and how they stand."""
    no_stranger(world, call)
    policy = world.policy
    states = await states_of(world.tokens, visible(world, call.peer))
    if world.policy is not policy:
        return await list_tokens(world, call)
    return json_answer({"tokens": [_state(state) for state in states]})


def _state(status: TokenStatus) -> dict[str, str | int]:
    members = {
        "name": status.name,
        "state": status.state.value,
        "expires_in": status.expires_in,
        "reason": status.reason,
        "hint": own_words(status.reason, status.hint),
        "retry_in": status.retry_in,
        "grants": status.grants,
    }
    return {name: value for name, value in members.items() if value is not None}


async def describe(_world: object, _call: Call) -> Answer:
    """Give the OpenAPI document of these routes."""
    return _description()


TOKEN = Reply(meaning="A token that may be used.", shape="Token", media_types=(JSON, PLAIN_TEXT), etag=True)

LIVE = (Reply(meaning="It is.", shape="Live"),)

READY = (
    Reply(meaning="Every required token can be served.", shape="Ready"),
    Reply(status=503, meaning="One cannot.", shape="NotReady"),
)

ONE_READY = (
    Reply(meaning="It can be served.", shape="OneReady"),
    Reply(status=503, meaning="It cannot.", shape="OneNotReady"),
)

DESCRIPTION = (Reply(meaning="The OpenAPI document of this listener.", shape="Document"),)

API_ROUTES: tuple[Route[World], ...] = (
    Route(
        method="GET",
        template="/v1/tokens",
        handler=list_tokens,
        summary="The tokens that this caller may use, and how they stand.",
        replies=(Reply(meaning="In the order of the configuration.", shape="TokenList"),),
        errors=(403,),
    ),
    Route(
        method="GET",
        template="/v1/tokens/{name}",
        handler=get_token,
        at_once=token_at_once,
        summary="A usable access token.",
        action=Action.GET,
        parameters={"min_valid": MIN_VALID_RANGE, "wait": WAIT_RANGE},
        conditional=True,
        replies=(
            TOKEN,
            Reply(status=304, meaning="The caller has it already.", etag=True),
        ),
        errors=(403, 409, 502, 503),
    ),
    Route(
        method="POST",
        template="/v1/tokens/{name}/refresh",
        handler=refresh_token,
        summary="A token that replaces a rejected one.",
        action=Action.REFRESH,
        body=REJECTED,
        enter=may_refresh,
        replies=(TOKEN,),
        errors=(403, 409, 502, 503),
    ),
    Route(
        method="POST",
        template="/v1/authorizations",
        handler=begin_authorization,
        summary="A person is asked to consent to a token.",
        action=Action.AUTHORIZE,
        body=WANTED,
        enter=no_stranger,
        replies=(Reply(status=201, meaning="The URL for the person's browser.", shape="Begun", location=True),),
        errors=(403, 404, 502, 503),
    ),
    Route(
        method="POST",
        template="/v1/authorizations/{id}/callback",
        handler=pass_callback,
        summary="What came back with the person is redeemed.",
        action=Action.AUTHORIZE,
        body=CAME_BACK,
        enter=may_come_back,
        replies=(Reply(meaning="The grant that came of it.", shape="Consented"),),
        errors=(404, 409, 410, 502, 503),
    ),
    Route(
        method="GET",
        template="/v1/authorizations/{id}",
        handler=get_authorization,
        summary="How an authorization stands.",
        action=Action.AUTHORIZE,
        parameters={"wait": WAIT_RANGE},
        replies=(Reply(meaning="It is open.", shape="Authorization"),),
        errors=(404, 410, 503),
    ),
    Route(
        method="DELETE",
        template="/v1/authorizations/{id}",
        handler=abandon_authorization,
        summary="An authorization is given up.",
        action=Action.AUTHORIZE,
        replies=(Reply(status=204, meaning="It is."),),
        errors=(404, 410),
    ),
    Route(
        method="GET",
        template="/v1/grants",
        handler=list_grants,
        summary="The grants that this caller may know of.",
        action=Action.LIST,
        parameters={"limit": LIMIT_RANGE},
        texts=TEXTS,
        replies=(Reply(meaning="Sorted by id; with a cursor if there are more.", shape="GrantList"),),
        errors=(403,),
    ),
    Route(
        method="GET",
        template="/v1/grants/{id}/token",
        handler=get_grant_token,
        summary="A usable access token of one grant.",
        action=Action.GET,
        parameters={"min_valid": MIN_VALID_RANGE, "wait": WAIT_RANGE},
        conditional=True,
        replies=(
            TOKEN,
            Reply(status=304, meaning="The caller has it already.", etag=True),
        ),
        errors=(403, 404, 409, 502, 503),
    ),
    Route(
        method="DELETE",
        template="/v1/grants/{id}",
        handler=revoke_grant,
        summary="A grant is given up.",
        action=Action.REVOKE,
        replies=(Reply(meaning="It is not served any more, and is being revoked.", shape="Revoked"),),
        errors=(403, 404, 503),
    ),
    Route(
        method="POST",
        template="/v1/grants/{id}/retry",
        handler=retry_grant,
        summary="A grant that has ended is tried again: for operators.",
        body=NOTHING,
        enter=no_stranger,
        replies=(Reply(meaning="How it stands.", shape="Grant"),),
        errors=(403, 404),
    ),
    Route(
        method="POST",
        template="/v1/grants/{id}/reassign",
        handler=reassign_grant,
        summary="A grant is given to another workload: for operators.",
        body=OWNER,
        enter=no_stranger,
        replies=(Reply(meaning="How it stands.", shape="Grant"),),
        errors=(403, 404, 503),
    ),
    Route(
        method="POST",
        template="/v1/dpop",
        handler=make_proof,
        summary="A token, and a DPoP proof for one request with it.",
        action=Action.DPOP,
        body=REQUEST,
        enter=no_stranger,
        replies=(Reply(meaning="Both, to be sent together, once.", shape="Proven"),),
        errors=(403, 404, 409, 502, 503),
    ),
    Route(
        method="GET",
        template="/v1/jwks/{client}",
        handler=get_jwks,
        summary="The public keys of a client, to register.",
        replies=(Reply(meaning="A set of public keys.", shape="JwkSet", media_types=(JWK_SET,)),),
        errors=(403,),
    ),
    Route(
        method="POST",
        template="/v1/rotate",
        handler=rotate,
        summary="Files of certificates and keys are looked at now: for operators.",
        body=COMPROMISED,
        enter=no_stranger,
        replies=(Reply(meaning="What came of it.", shape="Rotated"),),
        errors=(403, 404),
    ),
    Route(
        method="GET",
        template="/livez",
        handler=live,
        summary="The socket is serving.",
        replies=LIVE,
    ),
    Route(
        method="GET",
        template="/readyz",
        handler=ready,
        summary="Every required token can be served.",
        replies=READY,
    ),
    Route(
        method="GET",
        template="/readyz/{name}",
        handler=ready_one,
        summary="One token can be served.",
        replies=ONE_READY,
        errors=(404,),
    ),
    Route(
        method="GET",
        template="/openapi.json",
        handler=describe,
        summary="This document.",
        replies=DESCRIPTION,
    ),
)


@cache
def _description() -> Answer:
    return description_of(API_ROUTES, "Token Broker: local API", with_secret=True, with_calls=True)
