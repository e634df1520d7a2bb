"""A server that refreshes and logs out with an access token, and says whose one is: grants over it, as over Iridium."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from broker.errors import BrokerError
from broker.oauth.client import ClientAuthMethod, Profile, RefreshRotation, SenderConstraint
from broker.oauth.dialect import IRIDIUM, Dialect
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.secret import AccessToken
from broker.oauth.static_metadata import described_server
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.grant import SealedAccess
from tests.unit.tokens.grant_world import ISSUER, GrantWorld, RotatingServer
from tests.unit.tokens.world import CLIENT, FakeMetadata, json_response

PUBLIC = replace(
    CLIENT,
    client_auth_method=ClientAuthMethod.NONE,
    sender_constraint=SenderConstraint.NONE,
    presents_certificate=False,
    signing_alg=None,
)
NOT_AUTHORIZED = json_response({"code": "401", "message": "NOT AUTHORIZED"}, status=401)


@dataclass
class BearerServer(RotatingServer):
    """
    *subject* is whose the next access token is; *look_up* and *log_out* are asked for what to answer instead.

    An access token works until the server has ended it, and is in *ended* then.
    """

    mode: str = "grace"
    thumbprint: str | None = None
    subject: str = "alice"
    subjects: dict[str, str] = field(default_factory=lambda: {"at-0": "alice"})
    ended: set[str] = field(default_factory=set)
    look_up: Callable[[], Response | BrokerError | None] = lambda: None
    log_out: Callable[[], Response | BrokerError | None] = lambda: None
    requests: list[Request] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    logged_out: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        bearer = request.credential.reveal() if isinstance(request.credential, AccessToken) else ""
        if request.url.endswith("/token/refresh"):
            self.bearers.append(bearer)
            answer = await super().send(request) if bearer not in self.ended else NOT_AUTHORIZED
            self._note(answer)
            return answer
        instead = self.look_up() if request.method == "GET" else self.log_out()
        (self.looked_up if request.method == "GET" else self.logged_out).append(bearer)
        if isinstance(instead, BrokerError):
            raise instead
        if instead is not None:
            return instead
        if bearer in self.ended:
            return NOT_AUTHORIZED
        if request.method == "GET":
            return json_response({"data": {"id": self.subjects[bearer]}})
        self.ended.add(bearer)
        return Response(status=204, headers={}, body=b"")

    def _note(self, answer: Response) -> None:
        if answer.status == 200:
            self.subjects[json.loads(answer.body)["access_token"]] = self.subject


@dataclass
class DescribedMetadata(FakeMetadata):
    """What a dialect says of a server."""

    server: AuthorizationServer | None = None

    async def get(self) -> AuthorizationServer:
        await super().get()
        assert self.server is not None
        return self.server


@dataclass
class BearerWorld(GrantWorld):
    """Grants at such a server."""

    server: BearerServer = field(default_factory=BearerServer)
    rotation: RefreshRotation = RefreshRotation.NEVER
    dialect: Dialect = IRIDIUM
    client: Any = PUBLIC

    def registration(self, **changes: Any) -> Registration:
        issuer = replace(ISSUER, profile=Profile.OAUTH2, refresh_rotation=self.rotation, dialect=self.dialect)
        exchange = Exchange(
            session=self.server, signer=None, dialect=self.dialect, clock=self.clock, randomness=self.dice
        )
        metadata = DescribedMetadata(server=described_server(issuer))
        made = Registration(client=self.client, issuer=issuer, metadata=metadata, exchange=exchange)
        return replace(made, **changes)

    def consented(self, *names: str, lifetime: float = 300.0, **changes: Any) -> None:
        """Put a grant of alice for each of *names* into the store, with the access token ``at-0``, just given."""
        wall = self.clock.wall()
        access = SealedAccess(
            access_token=AccessToken("at-0"),
            token_type="Bearer",
            scope=(),
            obtained_at=wall,
            expires_at=wall + lifetime,
            binding="none",
        )
        members: dict[str, Any] = {"access": access, "subject": "alice", "subject_verified": True}
        self.stored(*names, **(members | changes))
