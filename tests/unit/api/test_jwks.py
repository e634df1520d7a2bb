"""Who sees which client's public keys, and that nobody learns what clients there are otherwise."""

from __future__ import annotations

import json

import pytest

from broker.api.jwks import JWK_SET, get_jwks
from broker.api.problems import Problem, ProblemError, RefusalReason
from broker.api.table import Call
from broker.api.world import PublicKeys, World
from broker.policy.peer import Peer
from broker.policy.rules import Denial
from tests.unit.api.handlers import PEER, ROOT, STRANGER, UNKNOWN, world

KEY = {"kty": "EC", "crv": "P-256", "x": "an-x", "y": "a-y", "use": "sig", "alg": "ES256", "kid": "one"}

CLIENTS = {
    "app": PublicKeys(keys=(KEY,), tokens=frozenset({"directory"})),
    "other": PublicKeys(keys=(KEY,), tokens=frozenset({"payments"})),
    "idle": PublicKeys(),
}


def with_clients() -> World:
    made = world()
    made.clients = lambda: CLIENTS
    return made


async def refused(peer: Peer, client: str) -> Problem:
    with pytest.raises(ProblemError) as caught:
        await get_jwks(with_clients(), Call(peer=peer, name=client))
    return caught.value.problem


async def test_the_keys_of_a_client_are_a_set_of_jwks():
    """For a caller that may use one of its tokens."""
    answer = await get_jwks(with_clients(), Call(peer=PEER, name="app"))

    assert answer.content_type == JWK_SET
    assert json.loads(answer.body) == {"keys": [KEY]}


@pytest.mark.parametrize("client", ["app", "other", "idle"])
async def test_whoever_may_read_states_sees_every_client(client: str):
    """Also one that no token is of; the set is empty where nothing is registered."""
    answer = await get_jwks(with_clients(), Call(peer=ROOT, name=client))

    assert json.loads(answer.body) == {"keys": [dict(key) for key in CLIENTS[client].keys]}


async def test_a_foreign_client_and_an_unknown_one_are_refused_alike():
    """In every byte; the hint has the names that the caller knows anyway."""
    foreign, unknown, empty = [await refused(PEER, name) for name in ("other", "canary-5c1f", "")]

    assert foreign == unknown == empty
    assert foreign.status == 403
    assert foreign.reason == RefusalReason.CLIENT_NOT_VISIBLE
    assert foreign.hint == "this caller may see the keys of: app"


@pytest.mark.parametrize("peer", [STRANGER, UNKNOWN])
async def test_whoever_is_no_workload_sees_none(peer: Peer):
    """Not even that there is one."""
    problem = await refused(peer, "app")

    assert (problem.status, problem.reason) == (403, Denial.NO_WORKLOAD)
    assert "keys of" not in (problem.hint or "")


async def test_whoever_may_read_states_is_told_which_clients_there_are():
    """When the name is none of them."""
    problem = await refused(ROOT, "canary-5c1f")

    assert problem.status == 403
    assert problem.hint == "this caller may see the keys of: app, other, idle"


async def test_the_keys_are_those_of_the_moment():
    """After a reload there are others, or the client is gone."""
    asking, current = with_clients(), dict(CLIENTS)
    asking.clients = lambda: current

    del current["app"]

    with pytest.raises(ProblemError):
        await get_jwks(asking, Call(peer=PEER, name="app"))
