"""Grants over fakes: a server that rotates refresh tokens as real ones do, a store, and a life on a jumping clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broker.errors import BrokerError, Outcome, RemoteError
from broker.oauth.client import Client, Issuer, RefreshRotation
from broker.oauth.jwks import JwkSet
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer, read_metadata
from broker.oauth.reasons import Reason
from broker.oauth.secret import RefreshToken
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.grant import Grant
from broker.tokens.grants import Grants
from broker.tokens.passage import Passage
from broker.tokens.proofs import Proofs
from broker.tokens.refreshing import Refresher
from broker.tokens.spec import Consent, IssuedToken, TokenSpec
from broker.tokens.vault import Vault
from tests.fakes import Dice, Events, LoopClock
from tests.unit.tokens.stores import FakeStore
from tests.unit.tokens.world import CLIENT, METADATA, THUMBPRINT, FakeMetadata, FakeSigner, bound_jwt, json_response

ISSUER = Issuer(name="as", issuer="https://as.example", max_requests_per_second=1000)
SPEC = TokenSpec(name="person", client="app", grant_type="authorization_code", consent=Consent())
MANY_METADATA = METADATA | {
    "grant_types_supported": ["client_credentials", "authorization_code", "refresh_token"],
    "revocation_endpoint": "https://as.example/revoke",
}


def lost() -> RemoteError:
    """The request was processed, or not: the answer did not come."""
    return RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN)


def not_sent() -> RemoteError:
    """Nobody listened."""
    return RemoteError(Reason.CONNECT_FAILED, "down", outcome=Outcome.NOT_SENT)


@dataclass
class RotatingServer:
    """
    An authorization server with the families of refresh tokens that it issued.

    *mode* is never, grace or strict. *before* and *after* processing a request they are asked what to raise or to
    answer instead; None lets it pass. *delay* passes before a request is processed, *answer_after* before it is
    answered.
    """

    mode: str = "strict"
    expires_in: int = 300
    delay: float = 0.01
    answer_after: float = 0.0
    thumbprint: str | None = THUMBPRINT
    not_after: float | None = None
    before: Callable[[dict[str, str]], Response | BrokerError | None] = lambda _: None
    after: Callable[[dict[str, str]], Response | BrokerError | None] = lambda _: None
    members: Callable[[dict[str, str]], dict[str, Any]] = lambda _: {}
    current: dict[str, str] = field(default_factory=dict)
    spent: dict[str, str] = field(default_factory=dict)
    graced: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    revoked: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    proofs: list[str | None] = field(default_factory=list)
    serial: int = 0

    def issue(self, family: str) -> str:
        """Give the first refresh token of a family."""
        self.serial += 1
        self.current[f"rt-{family}-{self.serial}"] = family
        return f"rt-{family}-{self.serial}"

    async def send(self, request: Request) -> Response:
        fields = dict(request.form or ()) | {name: value.reveal() for name, value in request.secret_fields}
        await asyncio.sleep(self.delay)
        self.proofs.append(None if request.proof is None else request.proof.reveal())
        instead = self.before(fields)
        if instead is None:
            answer = self._revoke(fields) if "token" in fields else self._refresh(fields)
            await asyncio.sleep(self.answer_after)
            instead = self.after(fields) or answer
        if isinstance(instead, BrokerError):
            raise instead
        return instead

    def alive(self, family: str) -> str | None:
        """Give the refresh token that works, None when the family is dead."""
        if family in self.dead:
            return None
        return next((token for token, of in self.current.items() if of == family), None)

    def _refresh(self, fields: dict[str, str]) -> Response:
        token = fields["refresh_token"]
        self.asked.append(token)
        self.at.append(asyncio.get_running_loop().time())
        family = self.current.get(token) or self.graced.get(token)
        if family is None or family in self.dead:
            if self.mode == "strict" and token in self.spent:
                self.dead.add(self.spent[token])  # a spent one again: for all that the server knows, a theft
            return json_response({"error": "invalid_grant"}, status=400)
        self.serial += 1
        body = {
            "access_token": bound_jwt(self.thumbprint, self.serial),
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }
        if self.mode != "never":
            body["refresh_token"] = self._rotate(token, family)
        return json_response(body | self.members(fields))

    def _rotate(self, token: str, family: str) -> str:
        for old in [each for each, of in self.current.items() if of == family]:
            self.spent[old] = family
            del self.current[old]
        if self.mode == "grace":
            self.graced = {each: of for each, of in self.graced.items() if of != family} | {token: family}
        new = f"rt-{family}-{self.serial}"
        self.current[new] = family
        return new

    def _revoke(self, fields: dict[str, str]) -> Response:
        token = fields["token"]
        self.revoked.append(token)
        family = self.current.get(token) or self.spent.get(token) or self.graced.get(token)
        if family is not None:
            self.dead.add(family)
        return Response(status=200, headers={}, body=b"")


@dataclass
class GrantMetadata(FakeMetadata):
    """Metadata of a server with refresh tokens."""

    changes: dict[str, Any] = field(default_factory=dict)

    async def get(self) -> AuthorizationServer:
        await super().get()
        return read_metadata(json_response(MANY_METADATA | self.changes), ISSUER)


class Keys:
    """Public keys: the sets that are published, one after the other; none can be had when there are no more."""

    def __init__(self, *sets: JwkSet) -> None:
        self._sets = list(sets)

    async def get(self) -> JwkSet:
        if not self._sets:
            raise RemoteError(Reason.KEYS_UNAVAILABLE, "no keys", outcome=Outcome.NOT_SENT)
        return self._sets[0]

    async def get_newer(self, than: JwkSet) -> JwkSet | None:
        del self._sets[: self._sets.index(than) + 1]
        return self._sets[0] if self._sets else None


@dataclass
class GrantWorld:
    """Everything that a test of grants looks at; the store and the server outlive the broker."""

    server: RotatingServer
    store: FakeStore = field(default_factory=FakeStore)
    rotation: RefreshRotation = RefreshRotation.OBSERVE
    specs: tuple[TokenSpec, ...] = (SPEC,)
    events: Events = field(default_factory=Events)
    clock: LoopClock = field(default_factory=LoopClock)
    signer: FakeSigner = field(default_factory=FakeSigner)
    metadata: GrantMetadata = field(default_factory=GrantMetadata)
    dice: Dice = field(default_factory=lambda: Dice(0.5))
    keys: Keys | None = None
    client: Client = CLIENT
    proofs: Proofs | None = None

    def registration(self, **changes: Any) -> Registration:
        exchange = Exchange(
            session=self.server, signer=self.signer, proofs=self.proofs, clock=self.clock, randomness=self.dice
        )
        issuer = replace(ISSUER, refresh_rotation=self.rotation)
        made = Registration(
            client=self.client, issuer=issuer, metadata=self.metadata, exchange=exchange, keys=self.keys
        )
        return replace(made, **changes)

    def stored(self, *names: str, **changes: Any) -> None:
        """Put a grant for each of *names* into the store, as if they had been consented to long ago."""
        for name in names:
            grant = Grant(
                id=name,
                token="person",
                owner="app",
                issuer="https://as.example",
                client_id="app-1",
                created_at=1.0,
                refresh_token=RefreshToken(self.server.issue(name)),
            )
            self.store.values[f"grant/{name}"] = replace(grant, **changes).to_bytes()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Grants]:
        """Run a broker over what the store has; it stops in an orderly way."""
        acquirer = Acquirer(clock=self.clock, randomness=self.dice, fingerprint=lambda secret: f"fp-{len(secret)}")
        refresher = Refresher(
            acquirer=acquirer,
            vault=Vault(self.store, emit=self.events),
            passage=Passage(clock=self.clock, emit=self.events),
        )
        grants = Grants(
            self.specs, {"app": self.registration()}, refresher=refresher, randomness=self.dice, emit=self.events
        )
        grants.restore()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(grants.run())
            await asyncio.sleep(0)
            try:
                yield grants
            finally:
                task.cancel()

    @asynccontextmanager
    async def crashing(self) -> AsyncIterator[Grants]:
        """Run a broker that is killed at the end: nothing that it has not acknowledged is written any more."""
        store = self.store
        self.store = _Mortal(values=store.values)
        try:
            async with self.running() as grants:
                try:
                    yield grants
                finally:
                    self.store.dead = True
        finally:
            self.store = store


@dataclass
class _Mortal(FakeStore):
    """A store whose process is killed: from then on nothing reaches the disk."""

    dead: bool = False

    async def write(self, changes: Any) -> None:
        if self.dead:
            return
        await super().write(changes)


async def issued_elsewhere(clock: LoopClock) -> IssuedToken:
    """Give a token as a server issues it, by way of another broker."""
    other = GrantWorld(RotatingServer("strict"), clock=clock)
    other.stored("z")
    async with other.running() as grants:
        return (await grants.get("z", min_valid=None, wait=5.0)).token
