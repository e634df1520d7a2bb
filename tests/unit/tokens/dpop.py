"""A DPoP client over fakes: keys that sign by counting, and what is bound to them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.errors import BrokerError
from broker.oauth.client import SenderConstraint
from broker.oauth.messages import Response
from broker.tokens.nonces import Nonces
from broker.tokens.ports import Clock
from broker.tokens.proofs import Proofs
from tests.fakes import Dice, LoopClock
from tests.unit.tokens.world import CLIENT, json_response

DPOP_CLIENT = replace(CLIENT, sender_constraint=SenderConstraint.DPOP, presents_certificate=False, dpop_alg="ES256")


@dataclass
class FakeProofKey:
    """Signs by counting; remembers what it was asked to prove."""

    jkt: str = "key-1"
    alg: str = "ES256"
    error: BrokerError | None = None
    proved: list[dict[str, Any]] = field(default_factory=list)

    async def prove(self, claims: Mapping[str, Any]) -> str:
        if self.error is not None:
            raise self.error
        self.proved.append(dict(claims))
        return f"proof-{self.jkt}-{len(self.proved)}"


def proofs_of(*keys: FakeProofKey, clock: Clock | None = None, secure: BrokerError | None = None) -> Proofs:
    """Give the proofs of a client with *keys*, the first of which is the one in use; *secure* raises what is given."""
    clock = clock or LoopClock()

    async def make_durable() -> None:
        if secure is not None:
            raise secure

    return Proofs(
        key=keys[0],
        known={key.jkt: key for key in keys},
        server_nonces=Nonces(clock),
        resource_nonces=Nonces(clock),
        secure=make_durable,
        clock=clock,
        randomness=Dice(),
    )


def key_bound(jkt: str | None = "key-1", serial: int = 0) -> str:
    """A JWT whose signature nobody looks at, bound to a key or to nothing."""
    claims: dict[str, Any] = {"jti": f"at-{serial}"} | ({} if jkt is None else {"cnf": {"jkt": jkt}})
    parts = [json.dumps({"alg": "PS256"}).encode(), json.dumps(claims).encode(), b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def challenge(nonce: str | None = "n-1") -> Response:
    """What an authorization server says that wants a nonce."""
    headers = {} if nonce is None else {"dpop-nonce": nonce}
    return json_response({"error": "use_dpop_nonce"}, status=400, headers=headers)
