"""
The HTTP side of the sandbox: which request goes where.

The protocol is in ``token_endpoint`` and ``metadata``, for the resource API behind ``resource_routes`` and for
people's grants behind ``grant_routes``; faults and the journal are in ``responding``.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from broker.sandbox.clients import unverified_assertion
from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import GRANT_TYPES, Fault
from broker.sandbox.grant_routes import GrantRoutes
from broker.sandbox.metadata import JWKS, PAR, TOKEN, USERINFO, metadata_document
from broker.sandbox.resource import Guard
from broker.sandbox.resource_routes import ResourceRoutes
from broker.sandbox.responding import Responding, Seen, new_application, read_form, tell_nonces
from broker.sandbox.token_endpoint import Answer, TokenEndpoint

SECRETS_IN_FORMS = (
    "client_assertion",
    "client_secret",
    "refresh_token",
    "code",
    "code_verifier",
    "assertion",
    "token",
    "request",
)
"""Form fields whose presence at another origin is a leak; their values are never recorded."""

WELL_KNOWN = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")

JWK_SET = "application/jwk-set+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The authorization server and the resource API."""

    tokens: TokenEndpoint
    grants: GrantRoutes
    guard: Guard
    responding: Responding

    def issuer_application(self) -> web.Application:
        """Make the application of the listener that asks for no client certificate."""
        application = new_application()
        for path in WELL_KNOWN:
            application.router.add_get(path, self._metadata)
        application.router.add_get(JWKS, self._jwks)
        application.router.add_post(TOKEN, self._token)
        self.grants.add_pages(application.router)
        self.grants.add_endpoints(application.router)
        self._tell_nonces(application)
        return application

    def mtls_application(self) -> web.Application:
        """Make the application behind the mutual TLS aliases."""
        application = new_application()
        application.router.add_post(TOKEN, self._token)
        self.grants.add_endpoints(application.router)
        self._tell_nonces(application)
        return application

    def resource_application(self) -> web.Application:
        """Make the resource API."""
        application = new_application()
        ResourceRoutes(guard=self.guard, responding=self.responding).add_to(application.router)
        tell_nonces(application, self.guard.proofs.nonces, self.responding.wall)
        return application

    def elsewhere_application(self) -> web.Application:
        """Make the other origin: it takes everything, and answers as if it were the token endpoint."""
        application = new_application()
        application.router.add_route("*", "/{path:.*}", self._elsewhere)
        return application

    def _tell_nonces(self, application: web.Application) -> None:
        nonces, paths = self.tokens.proofs.nonces, {TOKEN, PAR, USERINFO}
        tell_nonces(application, nonces, self.responding.wall, paths=paths)

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        document = metadata_document(self.responding.addresses, self.tokens.options)
        answer = Answer(status=200, body=document, outcome="ok")
        return await self.responding.respond(request, Where.METADATA, Seen(endpoint="metadata"), lambda _: answer)

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        keyring = self.tokens.keyring

        def process(fault: Fault | None) -> Answer:
            among_decoys = fault is not None and fault.kind == "decoy_keys"
            keys = keyring.published_with_decoys() if among_decoys else keyring.published()
            return Answer(status=200, body={"keys": keys}, outcome="ok")

        return await self.responding.respond(request, Where.JWKS, Seen(endpoint="jwks"), process, content_type=JWK_SET)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        asked = await self.responding.read(request)
        grant_type = asked.first("grant_type")
        seen = Seen(
            endpoint="token",
            assertion=unverified_assertion(asked.first("client_assertion"), self.tokens.clients),
            grant_type=grant_type if grant_type in GRANT_TYPES else None,
        )

        def process(fault: Fault | None) -> Answer:
            return self.tokens.answer(asked, now=self.responding.wall(), fault=fault)

        return await self.responding.respond(request, Where.TOKEN, seen, process)

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        names = {name for name, _ in read_form(body) or ()}
        leaked = [name for name in SECRETS_IN_FORMS if name in names]
        leaked += [name for name in ("Authorization", "Cookie", "DPoP") if name in request.headers]
        seen = Seen(endpoint="elsewhere")
        self.responding.record(request, seen, outcome="ok", body_bytes=len(body), credentials=tuple(leaked))
        # A client that got here has made its mistake; it must also be able to make the next one.
        return web.json_response({"access_token": "from-elsewhere", "token_type": "Bearer", "expires_in": 60})
