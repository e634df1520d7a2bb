"""
Handing out a token: obtained, recorded, then written (local-api.md, "The serve contract").

The policy is asked before anything else, and again when it was replaced while the caller waited.
"""

from __future__ import annotations

from dataclasses import replace

from broker.api import problems
from broker.api.answers import PLAIN_TEXT, Answer, json_answer
from broker.api.problems import ErrorCode, Problem, ProblemError, RefusalReason
from broker.api.table import Call
from broker.api.world import World, own_words, permitted
from broker.events import AuditUnavailableError, TokenServed
from broker.policy.peer import Peer
from broker.tokens.serving import Serving, TokenUnavailableError

DEFAULT_WAIT = 10
"""Seconds that a caller waits for a token when it does not say (local-api.md)."""

WAIT_RANGE = range(61)
"""Seconds."""

MIN_VALID_RANGE = range(86_401)
"""Seconds; whatever is asked for, half of a token's lifetime is the most that is wanted of it."""


async def get_token(world: World, call: Call) -> Answer:
    """Hand out a token, recorded before it leaves."""
    policy = world.policy
    token, workload = permitted(world, call)
    try:
        serving = await _obtain(world, call, token)
        if world.policy is not policy:  # it was replaced while the caller waited
            token, workload = permitted(world, call)
        _record(world, call.peer, token, workload, serving)
    except ProblemError as error:
        raise ProblemError(error.problem, token=token, workload=workload) from None
    return token_answer(serving, plain_text=call.plain_text)


async def _obtain(world: World, call: Call, token: str) -> Serving:
    """Get the token, waiting only if there is a place to wait. Raises ProblemError."""
    wait = call.query.get("wait", DEFAULT_WAIT)
    min_valid = call.query.get("min_valid")
    with world.waiting.place(call.peer.uid) as has_place:
        try:
            async with world.waiting.until_closed():
                return await world.tokens.get(
                    token,
                    min_valid=None if min_valid is None else float(min_valid),
                    wait=float(wait if has_place else 0),
                )
        except TimeoutError:
            if not world.waiting.closed:
                raise
            return await _last_resort(world, token)
        except TokenUnavailableError as error:
            if wait and not has_place:
                full = problems.DRAINING if world.waiting.closed else problems.TOO_MANY_WAITING
                raise ProblemError(full) from error
            raise ProblemError(_unavailable(error)) from error


async def _last_resort(world: World, token: str) -> Serving:
    """Get what is in hand when the broker stops: a token that is good is served, also then."""
    try:
        return await world.tokens.get(token, min_valid=0.0, wait=0.0)
    except TokenUnavailableError as error:
        raise ProblemError(problems.DRAINING) from error


def _unavailable(error: TokenUnavailableError) -> Problem:
    """Translate: 502 where the server refuses the client, 503 for everything that may pass by itself."""
    refused = error.code == ErrorCode.AUTHORIZATION_SERVER_ERROR
    return Problem(
        status=502 if refused else 503,
        error=ErrorCode.AUTHORIZATION_SERVER_ERROR if refused else ErrorCode.TEMPORARILY_UNAVAILABLE,
        description=error.message,
        reason=error.reason or RefusalReason.NO_TOKEN,
        hint=own_words(error.reason, error.hint),
        server_error=error.server_error,
        headers=(("Retry-After", str(max(1, error.retry_after))),),
    )


def _record(world: World, peer: Peer, token: str, workload: str, serving: Serving) -> None:
    """Report the token before it leaves; without its record it stays (rules.md R9)."""
    try:
        world.emit(
            TokenServed(
                listener=peer.listener,
                uid=peer.uid,
                gid=peer.gid,
                pid=peer.pid,
                workload=workload,
                token=token,
                fingerprint=serving.token.fingerprint,
                generation=serving.token.generation,
                stale=serving.stale,
            )
        )
    except AuditUnavailableError as error:
        raise ProblemError(problems.AUDIT_UNAVAILABLE) from error


def token_answer(serving: Serving, *, plain_text: bool) -> Answer:
    """Write a token with the mark of its generation, a weak one: ``expires_in`` changes under it."""
    answer = _bare(serving) if plain_text else _served(serving)
    return replace(answer, headers=(("ETag", f'W/"{serving.token.etag}"'),))


def _served(serving: Serving) -> Answer:
    """Write a token as JSON (local-api.md, "The serve contract")."""
    token = serving.token
    bound = token.binding == "certificate" and token.certificate_thumbprint is not None
    return json_answer(
        {
            "access_token": token.access_token.reveal(),
            "token_type": token.token_type,
            "expires_in": serving.expires_in,
            "expires_at": serving.expires_at,
            "scope": " ".join(token.scope),
            "issuer": token.issuer,
            "stale": serving.stale,
            "cnf": {"x5t#S256": token.certificate_thumbprint} if bound else None,
        }
    )


def _bare(serving: Serving) -> Answer:
    """Write the token and nothing else, so that ``$(curl ...)`` is it."""
    return Answer(content_type=PLAIN_TEXT, body=serving.token.access_token.reveal().encode())
