"""
The HTTP side of the sandbox: which request goes where, what is recorded of it, which fault it meets.

The protocol is in ``token_endpoint``, ``resource`` and ``metadata``; this module reads requests, hands them
on with the time and the connection's certificate, and writes answers.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from broker.sandbox.authority import certificate_thumbprint
from broker.sandbox.clients import Assertion, unverified_assertion
from broker.sandbox.faults import Fault, FaultBoard, Where
from broker.sandbox.journal import Entry, Journal
from broker.sandbox.metadata import Addresses, metadata_document
from broker.sandbox.misbehaving import INSTEAD, Scene, deliver
from broker.sandbox.resource import AccessRefusedError, Guard
from broker.sandbox.token_endpoint import FORM, Answer, TokenEndpoint, TokenRequest
from broker.sandbox.twists import twist_body, twist_claims

NO_STORE = {"Cache-Control": "no-store"}

SECRETS_IN_FORMS = ("client_assertion", "client_secret", "refresh_token", "code", "assertion")
"""Form fields whose presence at another origin is a leak; their values are never recorded."""

MAX_BODY = 65_536
"""Bytes of a request: many times a token request with the largest of keys."""

WELL_KNOWN = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the journal says of a request besides its outcome."""

    endpoint: str
    assertion: Assertion = field(default_factory=Assertion)


Process = Callable[[Fault | None], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The authorization server and the resource API; *wall* gives Unix time."""

    addresses: Addresses
    tokens: TokenEndpoint
    guard: Guard
    faults: FaultBoard
    journal: Journal
    wall: Callable[[], float]

    def issuer_application(self) -> web.Application:
        """Make the application of the listener that asks for no client certificate."""
        application = _application()
        for path in WELL_KNOWN:
            application.router.add_get(path, self._metadata)
        application.router.add_get("/jwks", self._jwks)
        application.router.add_post("/token", self._token)
        return application

    def mtls_application(self) -> web.Application:
        """Make the application behind the mutual TLS aliases."""
        application = _application()
        application.router.add_post("/token", self._token)
        return application

    def resource_application(self) -> web.Application:
        """Make the resource API."""
        application = _application()
        application.router.add_get("/api/hello", self._hello)
        return application

    def elsewhere_application(self) -> web.Application:
        """Make the other origin: it takes everything, and answers as if it were the token endpoint."""
        application = _application()
        application.router.add_route("*", "/{path:.*}", self._elsewhere)
        return application

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        document = metadata_document(self.addresses)
        answer = Answer(status=200, body=document, outcome="ok")
        return await self._respond(request, Where.METADATA, _Seen(endpoint="metadata"), lambda _: answer)

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        self.journal.record(self._entry(request, _Seen(endpoint="jwks"), outcome="ok"))
        return web.json_response(
            {"keys": [self.tokens.signing_key.public_jwk()]}, content_type="application/jwk-set+json"
        )

    async def _token(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        token_request = TokenRequest(
            form=_read_form(body) if request.content_type == FORM else None,
            certificate_thumbprint=_thumbprint(request),
            authorization_header="Authorization" in request.headers,
        )
        assertion = unverified_assertion(token_request.first("client_assertion"), self.tokens.clients)
        seen = _Seen(endpoint="token", assertion=assertion)

        def process(fault: Fault | None) -> Answer:
            return self.tokens.answer(token_request, now=self.wall(), twist=twist_claims(fault))

        return await self._respond(request, Where.TOKEN, seen, process)

    async def _hello(self, request: web.Request) -> web.StreamResponse:
        authorization, thumbprint = request.headers.get("Authorization"), _thumbprint(request)
        challenges: list[str] = []

        def process(_fault: Fault | None) -> Answer:
            try:
                claims = self.guard.admit(authorization, thumbprint, now=self.wall())
            except AccessRefusedError as refusal:
                challenges.append(refusal.challenge())
                error = refusal.error or "unauthorized"
                body = {"error": error, "error_description": refusal.reason}
                return Answer(status=refusal.status, body=body, outcome=error)
            hello = {"message": "hello", "client_id": claims["client_id"], "scope": claims["scope"]}
            return Answer(status=200, body={**hello, "certificate": thumbprint}, outcome="ok")

        return await self._respond(request, Where.RESOURCE, _Seen(endpoint="resource"), process, challenges)

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        names = {name for name, _ in _read_form(body) or ()}
        leaked = [name for name in SECRETS_IN_FORMS if name in names]
        leaked += [name for name in ("Authorization", "Cookie", "DPoP") if name in request.headers]
        self.journal.record(
            self._entry(request, _Seen(endpoint="elsewhere"), outcome="ok", size=len(body), credentials=tuple(leaked))
        )
        # A client that got here has made its mistake; it must also be able to make the next one.
        return web.json_response({"access_token": "from-elsewhere", "token_type": "Bearer", "expires_in": 60})

    async def _respond(
        self,
        request: web.Request,
        where: Where,
        seen: _Seen,
        process: Process,
        challenges: list[str] | None = None,
    ) -> web.StreamResponse:
        fault = self.faults.take(where)
        if fault is not None:
            await asyncio.sleep(fault.delay_seconds)
        scene = Scene(request=request, now=self.wall(), elsewhere=self.addresses.elsewhere)
        if fault is not None and fault.kind in INSTEAD:
            self.journal.record(self._entry(request, seen, outcome="fault", fault=fault))
            return await INSTEAD[fault.kind](scene, fault)
        answer = process(fault)
        self.journal.record(self._entry(request, seen, outcome=answer.outcome, fault=fault, answer=answer))
        body = answer.body
        if answer.status == 200:
            opaque = secrets.token_urlsafe(32)
            body = twist_body(fault, body, elsewhere=self.addresses.elsewhere, opaque=opaque)
        headers = {**NO_STORE, **({"WWW-Authenticate": challenges[0]} if challenges else {})}
        return await deliver(scene, fault, answer.status, body, headers)

    def _entry(
        self,
        request: web.Request,
        seen: _Seen,
        *,
        outcome: str,
        fault: Fault | None = None,
        answer: Answer | None = None,
        size: int = 0,
        credentials: tuple[str, ...] = (),
    ) -> Entry:
        refused = answer is not None and answer.status != 200
        return Entry(
            time=self.wall(),
            endpoint=seen.endpoint,
            method=request.method,
            outcome=outcome,
            client=seen.assertion.client_id,
            jti=seen.assertion.jti,
            alg=seen.assertion.alg,
            certificate=_thumbprint(request),
            reason=answer.body.get("error_description") if refused and answer is not None else None,
            fault=fault.kind if fault is not None else None,
            body_bytes=size,
            credentials=credentials,
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


def _application() -> web.Application:
    return web.Application(middlewares=[json_errors], client_max_size=MAX_BODY)


def _read_form(body: bytes) -> tuple[tuple[str, str], ...] | None:
    try:
        return tuple(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1_000))
    except ValueError:
        return None


def _thumbprint(request: web.Request) -> str | None:
    connection: Any = request.get_extra_info("ssl_object")
    if not isinstance(connection, (ssl.SSLObject, ssl.SSLSocket)):
        return None
    der = connection.getpeercert(binary_form=True)
    return certificate_thumbprint(der) if der else None
