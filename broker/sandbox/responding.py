"""
How a request meets its fault, is recorded and answered: the same for every endpoint.

The endpoints say what the answer is; nothing here knows the protocol.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from broker.sandbox.authority import certificate_thumbprint
from broker.sandbox.client_keys import ClientKeys
from broker.sandbox.clients import Assertion
from broker.sandbox.dpop import Nonces, Possession
from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import Fault, FaultBoard
from broker.sandbox.journal import Entry, Journal
from broker.sandbox.listeners import NAME
from broker.sandbox.metadata import Addresses
from broker.sandbox.misbehaving import BEFORE, INSTEAD, deliver
from broker.sandbox.resource import Presented
from broker.sandbox.token_endpoint import FORM, Answer, TokenRequest
from broker.sandbox.twists import twist_body
from broker.sandbox.wire_misbehaving import DPOP_NONCE, NONCES, Scene

NO_STORE = {"Cache-Control": "no-store"}

MAX_BODY = 65_536
"""Bytes of a request: many times a token request with the largest of keys."""

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the journal says of a request besides its outcome."""

    endpoint: str
    assertion: Assertion = field(default_factory=Assertion)
    grant_type: str | None = None


Process = Callable[[Fault | None], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Responding:
    """
    Answers requests in the name of the server at *addresses*; *wall* gives Unix time.

    *client_keys* are brought up to date before what a client signed is looked at.
    """

    addresses: Addresses
    faults: FaultBoard
    journal: Journal
    wall: Callable[[], float]
    client_keys: ClientKeys

    async def respond(
        self,
        request: web.Request,
        where: Where,
        seen: Seen,
        process: Process,
        *,
        challenges: list[str] | None = None,
        content_type: str = JSON,
    ) -> web.StreamResponse:
        """Answer *request* with what *process* makes of the fault that waits at *where*; record it."""
        fault = await self.meet(request, where, grant_type=seen.grant_type)
        scene = self.scene(request)
        if fault is not None and fault.kind in INSTEAD:
            self.record(request, seen, outcome="fault", fault=fault)
            return await INSTEAD[fault.kind](scene, fault)
        answer = process(fault)
        refused = answer.status >= 400
        self.record(
            request,
            seen,
            outcome=answer.outcome,
            fault=fault,
            reason=answer.body.get("error_description") if refused else None,
            grant=answer.grant,
        )
        body = answer.body
        if not refused:
            opaque = secrets.token_urlsafe(32)
            body = twist_body(fault, body, elsewhere=self.addresses.elsewhere, opaque=opaque)
        headers = {**NO_STORE, **({"WWW-Authenticate": challenges[0]} if challenges else {})}
        return await deliver(scene, fault, answer.status, body, headers, content_type=content_type)

    async def read(self, request: web.Request) -> TokenRequest:
        """Read the form that a client sends, and see to it that the keys are known that it is signed with."""
        asked = await read_request(request)
        await self.client_keys.freshen(asked.first("client_assertion"), asked.first("request"))
        return asked

    async def meet(self, request: web.Request, where: Where, *, grant_type: str | None = None) -> Fault | None:
        """Give the fault that *request* meets at *where*, after what of it comes before everything else."""
        fault = self.faults.take(where, grant_type=grant_type)
        if fault is not None:
            await asyncio.sleep(fault.delay_seconds)
            if fault.kind in BEFORE:
                await BEFORE[fault.kind](self.scene(request), fault)
        return fault

    def scene(self, request: web.Request) -> Scene:
        """Say where a fault would happen."""
        return Scene(request=request, now=self.wall(), elsewhere=self.addresses.elsewhere)

    def record(
        self, request: web.Request, seen: Seen, *, outcome: str, fault: Fault | None = None, **more: Any
    ) -> None:
        """Write the journal's entry for *request*; *more* members as in ``Entry``."""
        said: Mapping[str, Any] = {"client": seen.assertion.client_id, **more}
        possession = possession_of(request)
        self.journal.record(
            Entry(
                time=self.wall(),
                endpoint=seen.endpoint,
                method=request.method,
                outcome=outcome,
                jti=seen.assertion.jti,
                alg=seen.assertion.alg,
                certificate=thumbprint(request),
                fault=fault.kind if fault is not None else None,
                grant_type=seen.grant_type,
                jkt=possession.unverified_jkt(),
                proof_nonce=possession.unverified_nonce(),
                **said,
            )
        )


@web.middleware
async def json_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give aiohttp's own errors (no such path, wrong method, too large) a JSON body."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {name: value for name, value in error.headers.items() if name == "Allow"}
        return web.json_response({"error": "invalid_request"}, status=error.status, headers=allow)


def new_application() -> web.Application:
    """Make an application without routes."""
    return web.Application(middlewares=[json_errors], client_max_size=MAX_BODY)


def tell_nonces(
    application: web.Application, nonces: Nonces, wall: Callable[[], float], *, paths: Container[str] | None = None
) -> None:
    """Let all answers at *paths* (None: everywhere) carry the *nonces* of their server (RFC 9449 section 8.2)."""
    application[NONCES] = nonces

    async def told(request: web.Request, response: web.StreamResponse) -> None:
        if DPOP_NONCE in response.headers or (paths is not None and request.path not in paths):
            return
        nonce = nonces.told(now=wall())
        if nonce is not None:
            response.headers[DPOP_NONCE] = nonce

    application.on_response_prepare.append(told)


async def read_request(request: web.Request) -> TokenRequest:
    """Read the form that a client sends."""
    body = await request.read()
    return TokenRequest(
        form=read_form(body) if request.content_type == FORM else None,
        certificate_thumbprint=thumbprint(request),
        authorization_header="Authorization" in request.headers,
        possession=possession_of(request),
    )


def presented_by(request: web.Request) -> Presented:
    """Say what *request* shows to be let in."""
    return Presented(
        authorization=request.headers.get("Authorization"),
        certificate=thumbprint(request),
        possession=possession_of(request),
    )


def possession_of(request: web.Request) -> Possession:
    """
    Say what *request* shows of a key.

    The URL is put together from what is known and not from ``Host``, which is the client's word: all listeners that
    read proofs are called ``localhost``.
    """
    address = request.get_extra_info("sockname")
    port = address[1] if isinstance(address, tuple) else None
    return Possession(
        method=request.method,
        url=f"https://{NAME}:{port}{request.raw_path.partition('?')[0]}",
        proofs=tuple(request.headers.getall("DPoP", ())),
    )


def read_form(body: bytes) -> tuple[tuple[str, str], ...] | None:
    """Decode a form; None when it is none."""
    try:
        return tuple(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1_000))
    except ValueError:
        return None


def thumbprint(request: web.Request) -> str | None:
    """Give the thumbprint of the certificate of the connection; None where there is none."""
    connection: Any = request.get_extra_info("ssl_object")
    if not isinstance(connection, (ssl.SSLObject, ssl.SSLSocket)):
        return None
    der = connection.getpeercert(binary_form=True)
    return certificate_thumbprint(der) if der else None
