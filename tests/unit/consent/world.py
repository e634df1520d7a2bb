"""Consents over fakes: a server that issues what a test says, a store, real grants, and a life on a jumping clock."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from broker.consent.asking import Ask
from broker.consent.authorizations import Authorizations, Begun
from broker.consent.redemption import Redeemed
from broker.errors import BrokerError, RemoteError
from broker.oauth.client import Issuer
from broker.oauth.jwks import JwkSet
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer, read_metadata
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.grants import Grants
from broker.tokens.passage import Passage
from broker.tokens.proofs import Proofs
from broker.tokens.refreshing import Refresher
from broker.tokens.spec import Consent, TokenSpec
from broker.tokens.vault import Vault
from tests.fakes import Dice, Events, LoopClock
from tests.unit.oauth.keys import published, server_key
from tests.unit.tokens.stores import FakeStore
from tests.unit.tokens.world import CLIENT, METADATA, THUMBPRINT, FakeMetadata, FakeSigner, bound_jwt, json_response

REDIRECT_URI = "https://app.example/callback"
ISSUER = Issuer(name="as", issuer="https://as.example", max_requests_per_second=1000)
PEOPLE_CLIENT = replace(
    CLIENT, redirect_uris=(REDIRECT_URI, "http://127.0.0.1/callback"), id_token_signed_response_alg="ES256",
    authorization_signed_response_alg="ES256",
)  # fmt: skip
SPEC = TokenSpec(
    name="person", client="app", grant_type="authorization_code", scope=("openid", "accounts"), consent=Consent()
)
PEOPLE_METADATA = METADATA | {
    "grant_types_supported": ["client_credentials", "authorization_code", "refresh_token"],
    "authorization_endpoint": "https://as.example/authorize",
    "pushed_authorization_request_endpoint": "https://as.example/par",
    "revocation_endpoint": "https://as.example/revoke",
    "userinfo_endpoint": "https://as.example/userinfo",
    "jwks_uri": "https://as.example/jwks",
    "authorization_response_iss_parameter_supported": True,
}
KEY = server_key("ES256", "k1")

Answer = Response | BrokerError | Exception


def at_hash(access_token: str) -> str:
    digest = hashlib.sha256(access_token.encode()).digest()
    return urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


@dataclass
class PeopleServer:
    """
    An authorization server at which people consent.

    *claims* and *members* change the ID token and the token response; a value of None leaves a member out.
    *instead* answers in place of the endpoint whose path it names; *sign* makes the ID token.
    """

    clock: LoopClock
    subject: str = "alice"
    thumbprint: str | None = THUMBPRINT
    not_after: float | None = None
    delay: float = 0.0
    claims: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=lambda: {"sub": "alice"})
    instead: dict[str, Callable[[], Answer]] = field(default_factory=dict)
    sign: Callable[[Mapping[str, Any]], str] = lambda claims: KEY.sign(claims)  # noqa: PLW0108 - KEY may be replaced
    calls: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    proofs: list[str | None] = field(default_factory=list)
    nonce: str | None = None
    serial: int = 0

    async def send(self, request: Request) -> Response:
        path = urlsplit(request.url).path
        fields = dict(request.form or ()) | {name: value.reveal() for name, value in request.secret_fields}
        self.calls.append(path)
        self.forms.append(fields)
        self.proofs.append(None if request.proof is None else request.proof.reveal())
        await asyncio.sleep(self.delay)
        if path in self.instead:
            answer = self.instead[path]()
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self._answer(path, fields)

    def _answer(self, path: str, fields: dict[str, str]) -> Response:
        match path:
            case "/par":
                self.serial += 1
                self.nonce = fields.get("nonce")
                body = {"request_uri": f"urn:example:{self.serial}", "expires_in": 60}
                return json_response(body, status=201)
            case "/token":
                return json_response(self.token_response())
            case "/userinfo":
                return json_response(self.userinfo)
            case "/revoke":
                return Response(status=200, headers={}, body=b"")
        raise AssertionError(path)

    def token_response(self) -> dict[str, Any]:
        self.serial += 1
        access_token = bound_jwt(self.thumbprint, self.serial)
        members = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 300,
            "refresh_token": f"rt-{self.serial}",
            "id_token": self.sign(self.id_claims(access_token)),
        }
        return {name: value for name, value in (members | self.members).items() if value is not None}

    def id_claims(self, access_token: str) -> dict[str, Any]:
        now = int(self.clock.wall())
        claims = {
            "iss": ISSUER.issuer,
            "aud": PEOPLE_CLIENT.client_id,
            "sub": self.subject,
            "iat": now,
            "exp": now + 60,
            "auth_time": now - 5,
            "nonce": self.nonce,
            "at_hash": at_hash(access_token),
        }
        return {name: value for name, value in (claims | self.claims).items() if value is not None}

    @property
    def after_par(self) -> list[str]:
        """What was called after the pushed requests."""
        return [path for path in self.calls if path != "/par"]


@dataclass
class PeopleMetadata(FakeMetadata):
    """Metadata of a server at which people consent."""

    changes: dict[str, Any] = field(default_factory=dict)

    async def get(self) -> AuthorizationServer:
        await super().get()
        members = {name: value for name, value in (PEOPLE_METADATA | self.changes).items() if value is not None}
        return read_metadata(json_response(members), ISSUER)


@dataclass
class FakeKeys:
    """The issuer's published keys; *newer* is there from the next fetch on, an error in place of an answer."""

    keys: JwkSet = field(default_factory=lambda: published(KEY.jwk()))
    newer: JwkSet | None = None
    error: RemoteError | None = None
    newer_error: RemoteError | None = None
    refetched: int = 0

    async def get(self) -> JwkSet:
        if self.error is not None:
            raise self.error
        return self.keys

    async def get_newer(self, than: JwkSet) -> JwkSet | None:
        self.refetched += 1
        if self.newer_error is not None:
            raise self.newer_error
        return self.newer


@dataclass
class ConsentWorld:
    """Everything that a test of consents looks at; the store and the server outlive the broker."""

    specs: tuple[TokenSpec, ...] = (SPEC,)
    clock: LoopClock = field(default_factory=LoopClock)
    store: FakeStore = field(default_factory=FakeStore)
    events: Events = field(default_factory=Events)
    signer: FakeSigner = field(default_factory=FakeSigner)
    metadata: PeopleMetadata = field(default_factory=PeopleMetadata)
    keys: FakeKeys = field(default_factory=FakeKeys)
    has_keys: bool = True
    dice: Dice = field(default_factory=Dice)
    issuer: Issuer = ISSUER
    client: Any = PEOPLE_CLIENT
    proofs: Proofs | None = None
    server: PeopleServer = field(init=False)
    authorizations: Authorizations = field(init=False)
    grants: Grants = field(init=False)

    def __post_init__(self) -> None:
        self.server = PeopleServer(self.clock)

    def registrations(self) -> dict[str, Registration]:
        exchange = Exchange(
            session=self.server, signer=self.signer, proofs=self.proofs, clock=self.clock, randomness=self.dice
        )
        registration = Registration(
            client=self.client,
            issuer=self.issuer,
            metadata=self.metadata,
            exchange=exchange,
            keys=self.keys if self.has_keys else None,
        )
        return {"app": registration}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ConsentWorld]:
        """Run a broker over what the store has."""
        acquirer = Acquirer(clock=self.clock, randomness=self.dice, fingerprint=lambda secret: f"fp-{len(secret)}")
        vault = Vault(self.store, emit=self.events)
        passage = Passage(clock=self.clock, emit=self.events)
        refresher = Refresher(acquirer=acquirer, vault=vault, passage=passage)
        self.grants = Grants(
            self.specs, self.registrations(), refresher=refresher, randomness=self.dice, emit=self.events
        )
        self.authorizations = Authorizations(
            self.specs,
            grants=self.grants,
            acquirer=acquirer,
            passage=passage,
            store=self.store,
            emit=self.events,
        )
        self.grants.restore()
        self.authorizations.restore()
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self.grants.run())
            asking = group.create_task(self.authorizations.run())
            await asyncio.sleep(0)
            try:
                yield self
            finally:
                asking.cancel()
                await asyncio.wait([asking])
                keeping.cancel()

    async def begin(self, **changes: Any) -> Begun:
        """Begin an authorization as the workload ``app`` would."""
        members: dict[str, Any] = {"token": "person", "owner": "app", "redirect_uri": REDIRECT_URI} | changes
        return await self.authorizations.begin(Ask(**members))

    def response(self, **changes: str | None) -> dict[str, str]:
        """Give the parameters that the server sends back with the browser."""
        pushed = self.pushed()
        members = {"code": "the-code", "state": pushed["state"], "iss": ISSUER.issuer} | changes
        return {name: value for name, value in members.items() if value is not None}

    def pushed(self) -> dict[str, str]:
        """Give the last pushed request."""
        return [form for path, form in zip(self.server.calls, self.server.forms, strict=True) if path == "/par"][-1]

    def url(self, query: str | None = None, **changes: str | None) -> str:
        """Give the URL that the browser comes back to."""
        return f"{REDIRECT_URI}?{urlencode(self.response(**changes)) if query is None else query}"

    async def come_back(self, begun: Begun, **changes: Any) -> Redeemed:
        """Pass on what came back with the person."""
        members: dict[str, Any] = {
            "owns": lambda owner, _token: owner == "app",
            "binding": begun.binding.reveal(),
            "callback_url": changes.pop("callback_url", None) or self.url(),
        }
        return await self.authorizations.callback(begun.id, **(members | changes))

    async def consent(self, **changes: Any) -> Redeemed:
        """Have a person consent, from the start to the grant."""
        return await self.come_back(await self.begin(**changes))


def owned(owner: str, _token: str) -> bool:
    """Be the workload ``app``."""
    return owner == "app"


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)
