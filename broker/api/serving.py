"""
Handing out a token: obtained, recorded, then written (local-api.md, "The serve contract").

The policy is asked before anything else, and again when it was replaced while the caller waited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from broker.api import consent_problems, problems, waiting
from broker.api.answers import NOT_MODIFIED, PLAIN_TEXT, Answer, json_answer
from broker.api.bodies import BodyRules
from broker.api.conditions import TAG_PATTERN, read_etag
from broker.api.problems import ProblemError
from broker.api.table import Call
from broker.api.world import Permission, World, permitted
from broker.events import AuditUnavailableError, TokenRefreshForced, TokenServed
from broker.policy.peer import Peer
from broker.policy.rules import Action
from broker.tokens.serving import ConsentRequiredError, GrantRequiredError, Serving
from broker.tokens.source import how_to_consent

DEFAULT_WAIT = 10
"""Seconds that a caller waits for a token when it does not say (local-api.md)."""

WAIT_RANGE = range(61)
"""Seconds."""

MIN_VALID_RANGE = range(86_401)
"""Seconds; whatever is asked for, half of a token's lifetime is the most that is wanted of it."""

REJECTED = BodyRules(members={"rejected": str}, patterns={"rejected": TAG_PATTERN})
"""The body of a forced refresh: the ETag of the token that was rejected."""

Permit = Callable[[], Permission]
"""Says what the caller may have, by the policy in force. Raises ProblemError."""

Obtain = Callable[[Permission], Awaitable[tuple[Serving, bool]]]
"""Obtains what was permitted; gives whether the caller has it already, too. Raises ProblemError."""


async def get_token(world: World, call: Call) -> Answer:
    """Hand out a token, recorded before it leaves; to whom has it already, only say so."""

    def permit() -> Permission:
        return permitted(world, call, Action.GET)

    async def obtain(permission: Permission) -> tuple[Serving, bool]:
        return await get_or_poll(world, call, world.tokens, permission.token, permit)

    return await hand_out(world, call, permit, obtain)


async def refresh_token(world: World, call: Call) -> Answer:
    """Have a token replaced now, and hand out the one that is in hand then."""
    rejected = _rejected(call)

    def permit() -> Permission:
        return permitted(world, call, Action.REFRESH)

    async def obtain(permission: Permission) -> tuple[Serving, bool]:
        token = permission.token

        def begun() -> None:
            peer = call.peer
            world.emit(
                TokenRefreshForced(
                    listener=peer.listener,
                    uid=peer.uid,
                    gid=peer.gid,
                    pid=peer.pid,
                    workload=permission.workload,
                    token=token,
                )
            )

        async def ask(wait: float) -> Serving:
            return await world.tokens.refresh(token, rejected=rejected, wait=wait, begun=begun)

        with waiting.seat(world, call, DEFAULT_WAIT) as seat:
            return await waiting.obtain(seat, token, ask), False

    return await hand_out(world, call, permit, obtain)


async def get_or_poll(
    world: World, call: Call, source: waiting.Source, name: str, permit: Permit
) -> tuple[Serving, bool]:
    """Get what *source* has under *name*, or wait for another one than the caller has. Raises ProblemError."""
    with waiting.seat(world, call, call.query.get("wait", DEFAULT_WAIT), source) as seat:
        if call.known is not None and call.query.get("wait"):
            return await waiting.poll(seat, call, name, permit)
        serving = await waiting.get(seat, call, name)
        return serving, waiting.has_already(call, serving)


def _rejected(call: Call) -> str | None:
    """Give the opaque tag of the token that the caller says was rejected. Raises ProblemError."""
    given = call.body.get("rejected")
    rejected = None if given is None else read_etag(given)
    if given is not None and rejected is None:
        raise ProblemError(problems.body_refused("rejected is the ETag of an answer as it was, W/ and quotes included"))
    return rejected


async def hand_out(
    world: World,
    call: Call,
    permit: Permit,
    obtain: Obtain,
    *,
    event: Callable[..., TokenServed] = TokenServed,
    write: Callable[[Serving], Answer] | None = None,
) -> Answer:
    """
    Obtain a token that the caller is permitted to have, record it, write it.

    *event* makes the record of what ``TokenServed`` has, *write* the answer, both once the token was obtained.
    """
    policy = world.policy
    permission = permit()
    try:
        serving, has_already = await _obtained(obtain, permission)
    except ProblemError as error:
        # What it is told is for those who may know, and that it may have changed while it waited.
        permission = permit() if world.policy is not policy else permission
        raise ProblemError(error.problem, token=permission.token, workload=permission.workload) from None
    if world.policy is not policy:
        permission = permit()
    if has_already:
        return replace(NOT_MODIFIED, headers=etag_header(serving))
    try:
        _record(world, call.peer, permission, serving, event)
    except AuditUnavailableError as error:
        raise ProblemError(problems.AUDIT_UNAVAILABLE, token=permission.token, workload=permission.workload) from error
    return token_answer(serving, plain_text=call.plain_text) if write is None else write(serving)


async def _obtained(obtain: Obtain, permission: Permission) -> tuple[Serving, bool]:
    """Obtain a token. Raises ProblemError, also where only a person can help."""
    try:
        return await obtain(permission)
    except ConsentRequiredError as error:
        hint = how_to_consent(permission.token)
        raise ProblemError(consent_problems.consent_required(error.reason, hint)) from error
    except GrantRequiredError as error:
        raise ProblemError(consent_problems.GRANT_REQUIRED) from error


def _record(
    world: World, peer: Peer, permission: Permission, serving: Serving, event: Callable[..., TokenServed]
) -> None:
    """Report the token before it leaves. Raises AuditUnavailableError: without its record it stays (rules.md R9)."""
    world.emit(
        event(
            listener=peer.listener,
            uid=peer.uid,
            gid=peer.gid,
            pid=peer.pid,
            workload=permission.workload,
            token=permission.token,
            fingerprint=serving.token.fingerprint,
            generation=serving.token.generation,
            stale=serving.stale,
            grant=permission.grant,
        )
    )


def token_answer(serving: Serving, *, plain_text: bool) -> Answer:
    """Write a token with the mark of its generation."""
    answer = _bare(serving) if plain_text else _served(serving)
    return replace(answer, headers=etag_header(serving))


def etag_header(serving: Serving) -> tuple[tuple[str, str], ...]:
    """Give the ETag, a weak one: ``expires_in`` changes under it."""
    return (("ETag", f'W/"{serving.token.etag}"'),)


def _served(serving: Serving) -> Answer:
    """Write a token as JSON (local-api.md, "The serve contract")."""
    token = serving.token
    return json_answer(
        {
            "access_token": token.access_token.reveal(),
            "token_type": token.token_type,
            "expires_in": serving.expires_in,
            "expires_at": serving.expires_at,
            "scope": " ".join(token.scope),
            "issuer": token.issuer,
            "stale": serving.stale,
            "cnf": token.confirmation(),
        }
    )


def _bare(serving: Serving) -> Answer:
    """Write the token and nothing else, so that ``$(curl ...)`` is it."""
    return Answer(content_type=PLAIN_TEXT, body=serving.token.access_token.reveal().encode())
