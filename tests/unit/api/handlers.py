"""What tests of handlers share: a world of three workloads, and calls of its inhabitants."""

from __future__ import annotations

from typing import Any

from broker.api.limits import Limits, WaitingRoom
from broker.api.table import Call
from broker.api.world import World
from broker.policy.peer import Peer
from broker.policy.rules import Action, Policy, Workload
from tests.fakes import Events
from tests.unit.api.world import FakeTokens, serving

APP = Workload(name="app", uids=frozenset({1000}), tokens=frozenset({"directory", "ledger"}))
OTHER = Workload(name="other", uids=frozenset({2000}), tokens=frozenset({"payments"}))
LOOKING = Workload(
    name="looking", uids=frozenset({3000}), tokens=frozenset({"directory"}), may=frozenset({Action.LIST})
)

PEER = Peer(listener="api", uid=1000, gid=1000, pid=12)
ROOT = Peer(listener="api", uid=0, gid=0)
STRANGER = Peer(listener="api", uid=4000, gid=4000)
UNKNOWN = Peer(listener="api")


def world(tokens: FakeTokens | None = None, *, emit: Any = None, limits: Limits | None = None) -> World:
    tokens = tokens or FakeTokens(answers={"directory": serving(), "payments": serving(), "ledger": serving()})
    return World(
        policy=Policy(workloads=(APP, OTHER, LOOKING), own_uid=900),
        tokens=tokens,
        emit=emit or Events(),
        waiting=WaitingRoom(limits or Limits()),
        sandbox=lambda: ("play",),
    )


def call(name: str = "directory", peer: Peer = PEER, *, plain_text: bool = False, **query: int) -> Call:
    return Call(peer=peer, name=name, query=query, plain_text=plain_text)
