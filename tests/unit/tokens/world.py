"""A whole lifecycle over fakes: a scripted server, a signer, metadata, and a registry that runs on a jumping clock."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broker.errors import BrokerError
from broker.oauth.client import Client, ClientAuthMethod, Issuer, SenderConstraint
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer, read_metadata
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.passage import Passage
from broker.tokens.registry import Registry
from broker.tokens.spec import TokenSpec
from tests.fakes import Dice, Events, LoopClock
from tests.unit.tokens.tokens import spec

ISSUER = Issuer(name="as", issuer="https://as.example")
THUMBPRINT = base64.urlsafe_b64encode(b"t" * 32).rstrip(b"=").decode()
OTHER_THUMBPRINT = base64.urlsafe_b64encode(b"o" * 32).rstrip(b"=").decode()
CLIENT = Client(
    name="app",
    issuer="as",
    client_id="app-1",
    client_auth_method=ClientAuthMethod.PRIVATE_KEY_JWT,
    sender_constraint=SenderConstraint.CERTIFICATE,
    presents_certificate=True,
    signing_alg="PS256",
)
NEIGHBOR = replace(CLIENT, name="neighbor", client_id="app-2")
"""A second client of the same certificate, and so on the same session."""
METADATA = {
    "issuer": "https://as.example",
    "token_endpoint": "https://as.example/token",
    "mtls_endpoint_aliases": {"token_endpoint": "https://as.example:8443/token"},
    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    "token_endpoint_auth_signing_alg_values_supported": ["PS256"],
    "grant_types_supported": ["client_credentials"],
    "tls_client_certificate_bound_access_tokens": True,
}


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(
        status=status,
        headers={"content-type": "application/json", **(headers or {})},
        body=json.dumps(body).encode(),
    )


def server_metadata() -> AuthorizationServer:
    """Accepted metadata of the fake issuer."""
    return read_metadata(json_response(METADATA), ISSUER)


def bound_jwt(thumbprint: str | None = THUMBPRINT, serial: int = 0) -> str:
    """A JWT whose signature nobody looks at, bound to a certificate or to nothing."""
    claims: dict[str, Any] = {"jti": f"at-{serial}"}
    if thumbprint is not None:
        claims["cnf"] = {"x5t#S256": thumbprint}
    parts = [json.dumps({"alg": "PS256"}).encode(), json.dumps(claims).encode(), b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def token_body(serial: int = 0, expires_in: int = 300, thumbprint: str | None = THUMBPRINT) -> dict[str, Any]:
    """What a sound server answers."""
    return {"access_token": bound_jwt(thumbprint, serial), "token_type": "Bearer", "expires_in": expires_in}


@dataclass
class FakeSession:
    """A server: answers what *script* says, one entry a request, then *default* for ever."""

    thumbprint: str | None = THUMBPRINT
    not_after: float | None = None
    delay: float = 0.0
    expires_in: int = 300
    script: list[Response | BrokerError | Exception] = field(default_factory=list)
    default: Response | BrokerError | Exception | None = None
    requests: list[Request] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        self.at.append(asyncio.get_running_loop().time())
        answer = self.script.pop(0) if self.script else self.default
        await asyncio.sleep(self.delay)
        if isinstance(answer, Exception):
            raise answer
        return answer or json_response(token_body(len(self.requests), self.expires_in))


@dataclass
class FakeSigner:
    """Signs by counting; remembers what it was asked to sign."""

    alg: str = "PS256"
    thumbprint: str = "key-1"
    error: BrokerError | None = None
    signed: list[dict[str, Any]] = field(default_factory=list)

    async def sign(self, typ: str | None, claims: Mapping[str, Any]) -> str:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.signed.append({"typ": typ, **claims})
        return f"assertion-{len(self.signed)}"


@dataclass
class FakeMetadata:
    """Metadata that is there, or is not."""

    error: BrokerError | Exception | None = None
    asked: int = 0
    doubted: int = 0

    def doubt(self) -> None:
        self.doubted += 1

    async def get(self) -> AuthorizationServer:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return server_metadata()


@dataclass
class World:
    """Everything a test of the registry looks at."""

    registry: Registry
    session: FakeSession
    signer: FakeSigner
    metadata: FakeMetadata
    events: Events
    clock: LoopClock
    passage: Passage


def build(*specs: TokenSpec, session: FakeSession | None = None, dice: float = 0.0) -> World:
    """Wire a registry over fakes; it does not run yet."""
    session = session or FakeSession()
    signer, metadata, events, clock, randomness = FakeSigner(), FakeMetadata(), Events(), LoopClock(), Dice(dice)
    exchange = Exchange(session=session, signer=signer, clock=clock, randomness=randomness)
    passage = Passage(clock=clock, emit=events)
    registry = Registry(
        specs or (spec(),),
        {
            client.name: Registration(client=client, issuer=ISSUER, metadata=metadata, exchange=exchange)
            for client in (CLIENT, NEIGHBOR)
        },
        acquirer=Acquirer(clock=clock, randomness=randomness, fingerprint=lambda secret: f"fp-{len(secret)}"),
        clock=clock,
        randomness=randomness,
        emit=events,
        passage=passage,
    )
    return World(registry, session, signer, metadata, events, clock, passage)


@asynccontextmanager
async def running(*specs: TokenSpec, session: FakeSession | None = None, dice: float = 0.0) -> AsyncIterator[World]:
    """Run a registry over fakes for the length of a test."""
    world = build(*specs, session=session, dice=dice)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.registry.run())
        await asyncio.sleep(0)
        try:
            yield world
        finally:
            task.cancel()
