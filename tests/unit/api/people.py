"""The API over consents and grants in memory: requests go through the desk, answers are held to the document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from broker.api.answers import Answer
from broker.api.desk import Desk, HeaderRules
from broker.api.guard import Incoming
from broker.api.limits import Limits, WaitingRoom
from broker.api.routes import API_ROUTES
from broker.api.table import fill
from broker.api.world import World
from broker.policy.peer import Peer
from broker.policy.rules import Action, GrantsOf, Policy, Workload
from broker.tokens.registry import Registry
from broker.tokens.source import Tokens
from broker.tokens.spec import Consent, Grants, TokenSpec
from tests.unit.api.conformance import api_document, check_answer
from tests.unit.consent.world import REDIRECT_URI, SPEC, ConsentWorld
from tests.unit.tokens.world import build

EVERYTHING = frozenset({Action.GET, Action.REFRESH, Action.AUTHORIZE, Action.LIST, Action.REVOKE})
TOKENS = frozenset({"person", "people", "plain"})
APP = Workload(name="app", uids=frozenset({1000}), tokens=TOKENS, may=EVERYTHING)
OWN = Workload(name="own", uids=frozenset({2000}), tokens=TOKENS, may=EVERYTHING, grants=GrantsOf.OWN)
MEAN = Workload(name="mean", uids=frozenset({3000}), tokens=TOKENS, may=frozenset({Action.LIST}))
ELSEWHERE = Workload(name="elsewhere", uids=frozenset({4000}), tokens=frozenset({"other"}), may=EVERYTHING)

PEER = Peer(listener="api", uid=1000, gid=1000, pid=12)
OWN_PEER = replace(PEER, uid=2000)
MEAN_PEER = replace(PEER, uid=3000)
FOREIGN_PEER = replace(PEER, uid=4000)
STRANGER = replace(PEER, uid=5000)
ROOT = replace(PEER, uid=0)
OVER_TCP = Peer(listener="tcp")

PEOPLE = replace(SPEC, name="people", consent=Consent(grants=Grants.MANY))
PLAIN = TokenSpec(name="plain", client="app", scope=("accounts",))


@dataclass
class Api:
    """A desk with the routes of the API sockets."""

    desk: Desk[World]
    world: World
    consents: ConsentWorld

    async def send(self, method: str, target: str, body: Any = None, *, peer: Peer = PEER, **headers: str) -> Answer:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = [("Host", "localhost"), *((name.replace("_", "-"), value) for name, value in headers.items())]
        given += [("Content-Type", "application/json")] if raw else []

        async def read() -> bytes:
            return raw

        answer = await self.desk.answer(
            Incoming(
                method=method,
                target=target,
                version=(1, 1),
                headers=tuple(given),
                head_size=100,
                has_body=bool(raw),
                content_length=len(raw) if raw else None,
            ),
            peer,
            read,
        )
        path = target.partition("?")[0]
        template = next(
            route.template for route in API_ROUTES if route.method == method and fill(route.template, path) is not None
        )
        headers_sent = {name.lower(): value for name, value in answer.all_headers().items()}
        check_answer(api_document(), template, method, answer.status, headers_sent, answer.body)
        return answer

    async def begin(self, *, peer: Peer = PEER, **changes: Any) -> Any:
        body = {"token": "person", "redirect_uri": REDIRECT_URI} | changes
        answer = await self.send("POST", "/v1/authorizations", body, peer=peer)
        assert answer.status == 201, answer.body
        return json.loads(answer.body)

    async def come_back(self, begun: Any, *, peer: Peer = PEER, **changes: Any) -> Answer:
        body = {"binding": begun["binding"], "callback_url": self.consents.url()} | changes
        return await self.send("POST", f"/v1/authorizations/{begun['id']}/callback", body, peer=peer)

    async def consent(self, *, peer: Peer = PEER, **changes: Any) -> Any:
        """Have a person consent; gives the grant's id."""
        answer = await self.come_back(await self.begin(peer=peer, **changes), peer=peer)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)["grant"]


def members(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    return found


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, members(answer)["error"]


@asynccontextmanager
async def api(*, without_people: bool = False, limits: Limits | None = None) -> AsyncIterator[Api]:
    """Run consents and grants under an API."""
    async with ConsentWorld(specs=(SPEC, PEOPLE)).running() as consents:
        registry: Registry = build(PLAIN).registry
        world = World(
            policy=Policy(workloads=(APP, OWN, MEAN, ELSEWHERE), own_uid=900),
            tokens=registry if without_people else Tokens(registry, consents.grants, (SPEC, PEOPLE, PLAIN)),
            emit=consents.events,
            waiting=WaitingRoom(limits or Limits()),
            grants=None if without_people else consents.grants,
            authorizations=None if without_people else consents.authorizations,
        )
        desk = Desk(
            API_ROUTES,
            world,
            header_rules=HeaderRules(),
            emit=consents.events,
            clock=consents.clock,
            randomness=consents.dice,
        )
        yield Api(desk, world, consents)
