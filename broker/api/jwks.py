"""
The public keys of a client, as a set to register at its authorization server (RFC 7517 section 5).

Public keys are no secret, but which clients there are is nobody's business who has nothing of them: a caller
sees those of which it may use a token, and whoever may read states sees all.
"""

from __future__ import annotations

from dataclasses import replace

from broker.api import problems
from broker.api.answers import Answer, json_answer
from broker.api.problems import ProblemError, RefusalReason
from broker.api.table import Call
from broker.api.world import World, hint_for
from broker.policy.peer import Peer
from broker.policy.rules import Denial, may_read_states, tokens_of, workloads_of

JWK_SET = "application/jwk-set+json"
"""RFC 7517 section 8.5."""


async def get_jwks(world: World, call: Call) -> Answer:
    """Give the public keys of a client, to those who may know of it."""
    clients = world.clients()
    seen = _seen(world, call.peer)
    found = next((name for name in seen if name == call.name), None)
    if found is None:
        raise ProblemError(_denied(world, call.peer, seen))
    return replace(json_answer({"keys": list(clients[found].keys)}), content_type=JWK_SET)


def _seen(world: World, peer: Peer) -> tuple[str, ...]:
    """Give the clients that *peer* may know of, in the order of the configuration."""
    clients = world.clients()
    if may_read_states(world.policy, peer):
        return tuple(clients)
    own = tokens_of(world.policy, peer)
    return tuple(name for name, client in clients.items() if not own.isdisjoint(client.tokens))


def _denied(world: World, peer: Peer, seen: tuple[str, ...]) -> problems.Problem:
    """Deny a foreign client and one that does not exist alike, naming those that there are for the caller."""
    if seen:
        hint = f"this caller may see the keys of: {', '.join(seen)}"
        return problems.access_denied(RefusalReason.CLIENT_NOT_VISIBLE, hint)
    nobody = not workloads_of(world.policy, peer)
    return problems.access_denied(
        Denial.NO_WORKLOAD if nobody else RefusalReason.CLIENT_NOT_VISIBLE, hint_for(world, peer)
    )
