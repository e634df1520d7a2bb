"""A client that gets another certificate, before one and the same server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from broker.errors import BrokerError, Outcome, RemoteError
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.grants import Grants
from tests.unit.tokens.grant_world import GrantWorld, RotatingServer
from tests.unit.tokens.world import OTHER_THUMBPRINT, FakeSigner, json_response


@dataclass
class Rotating:
    """A world with a client that gets another certificate; both are seen by one and the same server."""

    world: GrantWorld
    answer: Response | BrokerError | None = None
    newer: RotatingServer = field(init=False)

    def __post_init__(self) -> None:
        # The families of refresh tokens are those of one server; what is shown to it is not.
        self.newer = replace(self.world.server, thumbprint=OTHER_THUMBPRINT, serial=1_000, before=lambda _: self.answer)

    def registration(self, *, signer: FakeSigner | None = None, old: bool = False) -> Registration:
        session = self.world.server if old else self.newer
        return self.world.registration(
            exchange=Exchange(
                session=session,
                signer=signer or self.world.signer,
                clock=self.world.clock,
                randomness=self.world.dice,
            )
        )

    def rotate(self, grants: Grants, **how: Any) -> Registration:
        registration = self.registration()
        grants.replace(self.world.specs, {"app": registration}, **how)
        return registration


def rotating(*names: str, mode: str = "strict", **changes: Any) -> Rotating:
    world = GrantWorld(RotatingServer(mode, **changes))
    world.stored(*names)
    return Rotating(world)


async def bound_to(grants: Grants, *names: str) -> list[str | None]:
    return [(await grants.get(name, min_valid=None, wait=5.0)).token.certificate_thumbprint for name in names]


def refusal(error: str = "invalid_client") -> Response:
    return json_response({"error": error}, status=401)


def alert() -> RemoteError:
    return RemoteError(Reason.CERTIFICATE_SUSPECTED, "an alert", outcome=Outcome.NOT_SENT)
