"""
A token with a DPoP proof for one request that the caller makes itself (RFC 9449, rules.md R7).

The key stays here. A proof is good for one method and one URL, under those that the configuration names for the
token, and with the very token that is handed out beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from broker.api import problems, proof_problems
from broker.api.answers import Answer, json_answer
from broker.api.bodies import BodyRules
from broker.api.grants import grants_in, permitted_grant
from broker.api.problems import Problem, ProblemError
from broker.api.serving import DEFAULT_WAIT, hand_out
from broker.api.table import Call
from broker.api.waiting import Source, get, seat
from broker.api.world import Permission, World, permitted
from broker.errors import LocalError, RemoteError
from broker.events import ProofServed, TokenServed
from broker.oauth.dpop import TOKEN_TYPE, is_canonical, is_nonce, is_under, origin_of
from broker.policy.rules import Action
from broker.tokens.proving import MadeProof, ProofRefusedError, Proving
from broker.tokens.serving import Serving

METHOD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}"
"""RFC 9110 section 9.1; registered ones have at most 17 characters."""

REQUEST = BodyRules(
    members={"token": str, "grant": str, "htm": str, "htu": str, "nonce": str},
    patterns={
        "htm": f"^{METHOD}$",
        "htu": r"^https://([a-z0-9-]{1,40}\.){0,4}[a-z][a-z0-9-]{0,40}(:(?!443/)[1-9][0-9]{0,3})?/"
        r"((?!\.{1,2}(/|$))[A-Za-z0-9._~!$&'()*+,=:@-]+(/|$))*$",
        "nonce": r"^[!#-\[\]-~]{1,1024}$",
    },
    required=("htm", "htu"),
    either=("token", "grant"),
)
"""What a proof is asked for with: the token by its name, or by a grant."""

_URL = (
    "htu is the URL without query and fragment: https, host in lower case, no default port, a path (/ at least), and"
    " in it no '..', '//' or ';', nor those percent-encoded; nonce as the API gave it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a proof is wanted for."""

    method: str
    url: str
    nonce: str | None


async def make_proof(world: World, call: Call) -> Answer:
    """Hand out a token and a proof, recorded before they leave."""
    wanted = _read(call)
    name, grant = call.body.get("token"), call.body.get("grant")
    made: list[MadeProof] = []

    def permit() -> Permission:
        if grant is not None:
            return permitted_grant(world, call.peer, grant, Action.DPOP)
        return permitted(world, call, Action.DPOP, name)

    async def obtain(permission: Permission) -> tuple[Serving, bool]:
        proving = _allowed(world, permission, wanted)
        await _checked(world, proving, permission, wanted)
        source: Source = world.tokens if grant is None else grants_in(world)
        with seat(world, call, DEFAULT_WAIT, source) as place:
            serving = await get(place, call, permission.token if grant is None else grant)
        made.append(await _proved(proving, permission, serving, wanted))
        return serving, False

    def event(**members: object) -> TokenServed:
        (proof,) = made
        return ProofServed(**members, method=wanted.method, origin=origin_of(wanted.url), jti=proof.jti)  # type: ignore[arg-type]

    def write(serving: Serving) -> Answer:
        (proof,) = made
        return json_answer(
            {
                "access_token": serving.token.access_token.reveal(),
                "token_type": TOKEN_TYPE,
                "proof": proof.proof.reveal(),
                "expires_in": serving.expires_in,
            }
        )

    return await hand_out(world, call, permit, obtain, event=event, write=write)


def _read(call: Call) -> _Wanted:
    """Read what the proof is to say. Raises ProblemError."""
    method, url, nonce = call.body["htm"], call.body["htu"], call.body.get("nonce")
    if not re.fullmatch(METHOD, method) or not is_canonical(url) or not (nonce is None or is_nonce(nonce)):
        raise ProblemError(problems.body_refused(_URL))
    return _Wanted(method=method, url=url, nonce=nonce)


def _allowed(world: World, permission: Permission, wanted: _Wanted) -> Proving:
    """See that the URL is one of those that the token is for. Raises ProblemError."""
    if world.proving is None:
        raise ProblemError(proof_problems.NOT_DPOP)
    resources = world.resources(permission.token)
    if not any(is_under(wanted.url, base_url) for base_url in resources):
        raise ProblemError(proof_problems.resource_refused(resources))
    return world.proving


async def _checked(world: World, proving: Proving, permission: Permission, wanted: _Wanted) -> None:
    """Raise ProblemError unless a proof may be made."""
    try:
        await proving.check(permission.token, wanted.url, nonce=wanted.nonce)
    except ProofRefusedError as refused:
        raise ProblemError(_problem(refused, world.resources(permission.token))) from None
    except RemoteError as error:
        raise ProblemError(proof_problems.NO_PROOF) from error


def _problem(refused: ProofRefusedError, resources: Sequence[str]) -> Problem:
    match refused.code:
        case "not_dpop":
            return proof_problems.NOT_DPOP
        case "nonce_unknown":
            return proof_problems.NONCE_UNKNOWN
        case _:
            return proof_problems.resource_refused(resources)


async def _proved(proving: Proving, permission: Permission, serving: Serving, wanted: _Wanted) -> MadeProof:
    try:
        return await proving.prove(
            permission.token, serving.token, method=wanted.method, url=wanted.url, nonce=wanted.nonce
        )
    except ProofRefusedError:
        raise ProblemError(proof_problems.NOT_DPOP) from None
    except LocalError as error:
        raise ProblemError(proof_problems.NO_PROOF) from error
