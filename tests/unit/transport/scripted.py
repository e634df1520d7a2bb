"""A session that answers from a script, for what stands above sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason

ISSUER = "https://as.example"


def failure(reason: Reason, outcome: Outcome = Outcome.NOT_SENT) -> RemoteError:
    return RemoteError(reason, "it failed", outcome=outcome, hint="do something")


def document(**members: object) -> Response:
    """Make the metadata of ``ISSUER`` with *members* on top."""
    content: dict[str, Any] = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", **members}
    return answer(200, json.dumps(content).encode())


def answer(status: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Response:
    return Response(status=status, headers={"content-type": "application/json", **(headers or {})}, body=body)


@dataclass
class ScriptedSession:
    """Gives the answers of *script* in turn, the last one for ever; each takes *delay* seconds."""

    script: list[Response | RemoteError]
    delay: float = 0.0
    thumbprint: str | None = None
    not_after: float | None = None
    sent: list[Request] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        result = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(result, RemoteError):
            raise result
        return result
