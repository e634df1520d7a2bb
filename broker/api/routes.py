"""The routes of the API sockets: a table of values, and a short function for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from broker.api import problems
from broker.api.answers import PLAIN_TEXT, Answer, json_answer
from broker.api.limits import WaitingRoom
from broker.api.problems import ErrorCode, Problem, ProblemError, RefusalReason
from broker.api.readiness import one_answer, readiness, readiness_answer
from broker.api.table import Call, Route
from broker.events import AuditUnavailableError, Emit, TokenServed
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.policy.rules import (
    Action,
    Denial,
    Denied,
    Policy,
    decide,
    may_read_states,
    tokens_of,
    workloads_of,
)
from broker.tokens.ports import TokenSource
from broker.tokens.serving import Serving, TokenStatus, TokenUnavailableError

DEFAULT_WAIT = 10
"""Seconds that a caller waits for a token when it does not say (local-api.md)."""

WAIT_RANGE = range(61)
"""Seconds."""

MIN_VALID_RANGE = range(86_401)
"""Seconds; whatever is asked for, half of a token's lifetime is the most that is wanted of it."""


@dataclass(slots=True, kw_only=True)
class World:
    """
    What the handlers of the API sockets work with; *sandbox* gives the names of sandbox issuers in use.

    Only *policy* is ever replaced (``ApiServer.replace_policy``): handlers read it for each decision.
    """

    policy: Policy
    tokens: TokenSource
    emit: Emit
    waiting: WaitingRoom
    sandbox: Callable[[], Sequence[str]] = tuple


async def live(_world: object, _call: Call) -> Answer:
    """Answer: that is all there is to say."""
    return json_answer({"status": "ok"})


async def ready(world: World, call: Call) -> Answer:
    """Say whether the required tokens are there; names go only to those who may know them."""
    return readiness_answer(readiness(world.tokens, world.sandbox()), _visible(world, call.peer))


async def ready_one(world: World, call: Call) -> Answer:
    """Say whether one token is there, to those who may know of it."""
    return one_answer(world.tokens, call.name, _visible(world, call.peer))


async def list_tokens(world: World, call: Call) -> Answer:
    """List the tokens that the caller may use or see, and how they stand."""
    if not workloads_of(world.policy, call.peer) and not may_read_states(world.policy, call.peer):
        raise ProblemError(problems.access_denied(Denial.NO_WORKLOAD, _hint(world, call.peer)))
    states = [_state(world.tokens.status(name)) for name in _visible(world, call.peer)]
    return json_answer({"tokens": states})


async def get_token(world: World, call: Call) -> Answer:
    """Hand out a token, recorded before it leaves."""
    policy = world.policy
    token, workload = _permitted(world, call)
    try:
        serving = await _obtain(world, call, token)
        if world.policy is not policy:  # it was replaced while the caller waited
            token, workload = _permitted(world, call)
        _record(world, call.peer, token, workload, serving)
    except ProblemError as error:
        raise ProblemError(error.problem, token=token, workload=workload) from None
    return token_answer(serving, plain_text=call.plain_text)


def _permitted(world: World, call: Call) -> tuple[str, str]:
    """Give the token's name, now known to be a configured one, and the workloads that may have it."""
    configured = next((name for name in world.tokens.names() if name == call.name), None)
    decision = decide(world.policy, call.peer, Action.GET, configured)
    workload = ",".join(decision.workloads)
    if isinstance(decision, Denied):
        denied = problems.access_denied(decision.reason, _hint(world, call.peer))
        raise ProblemError(denied, token=configured, workload=workload or None)
    assert configured is not None  # the policy allows nothing with a name that is not configured
    return configured, workload


def _visible(world: World, peer: Peer) -> tuple[str, ...]:
    """Give the tokens whose state *peer* may see, in the order of the configuration."""
    names = world.tokens.names()
    if may_read_states(world.policy, peer):
        return names
    own = tokens_of(world.policy, peer)
    return tuple(name for name in names if name in own)


def _hint(world: World, peer: Peer) -> str:
    """Say what the caller may get, or as whom the broker sees it; names from the configuration only."""
    own = tokens_of(world.policy, peer, Action.GET)
    names = [name for name in world.tokens.names() if name in own]
    if names:
        return f"this caller may get: {', '.join(names)}"
    uid = "unknown in the broker's user namespace" if peer.uid is None else str(peer.uid)
    gid = "unknown" if peer.gid is None else str(peer.gid)
    return f"no [workload] section lets this caller get a token: listener {peer.listener}, uid {uid}, gid {gid}"


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
        hint=_own_words(error.reason, error.hint),
        server_error=error.server_error,
        headers=(("Retry-After", str(max(1, error.retry_after))),),
    )


def _own_words(reason: str | None, hint: str | None) -> str | None:
    """Leave a hint out that names hosts which a server chose: it is for the log, not for callers."""
    return None if reason == Reason.ENDPOINT_REFUSED else hint


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


def _state(status: TokenStatus) -> dict[str, str | int]:
    members = {
        "name": status.name,
        "state": status.state.value,
        "expires_in": status.expires_in,
        "reason": status.reason,
        "hint": _own_words(status.reason, status.hint),
        "retry_in": status.retry_in,
    }
    return {name: value for name, value in members.items() if value is not None}


API_ROUTES: tuple[Route[World], ...] = (
    Route(
        method="GET",
        template="/v1/tokens",
        handler=list_tokens,
        summary="The tokens that this caller may use, and how they stand.",
    ),
    Route(
        method="GET",
        template="/v1/tokens/{name}",
        handler=get_token,
        summary="A usable access token.",
        action=Action.GET,
        parameters={"min_valid": MIN_VALID_RANGE, "wait": WAIT_RANGE},
    ),
    Route(method="GET", template="/livez", handler=live, summary="The socket is serving."),
    Route(method="GET", template="/readyz", handler=ready, summary="Every required token can be served."),
    Route(method="GET", template="/readyz/{name}", handler=ready_one, summary="One token can be served."),
)
