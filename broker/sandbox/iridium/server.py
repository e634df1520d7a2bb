"""The HTTP side: which request goes where, how it meets its fault, what is written down of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from broker.sandbox.iridium.client_credentials import ClientCredentials
from broker.sandbox.iridium.external import AUTHORIZE as EXTERNAL_AUTHORIZE
from broker.sandbox.iridium.external import CALLBACK, ExternalFlow
from broker.sandbox.iridium.journal import Entry, Journal, values_of
from broker.sandbox.iridium.local_flow import AUTHORIZE, LocalFlow
from broker.sandbox.iridium.protected import API, IDENTITIES, Protected
from broker.sandbox.iridium.providers import ProviderPages
from broker.sandbox.iridium.redemption import TOKEN, Redemption
from broker.sandbox.iridium.refreshing import REFRESH, Refreshing
from broker.sandbox.iridium.refusals import RefusedError, Shape, documented_answer, observed_answer
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.troubles import Kind, Troubles
from broker.sandbox.iridium.wire import Answer, Asked, read_pairs

FORM = "application/x-www-form-urlencoded"

MAX_BODY = 1_048_576
"""Bytes that ``/api/echo`` takes; everything else is much smaller."""

Process = Callable[[Asked], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Iridium, behind its two listeners, and the pages of its providers; *wall* gives Unix time."""

    switches: Switches
    journal: Journal
    troubles: Troubles
    external: ExternalFlow
    local: LocalFlow
    redemption: Redemption
    client_credentials: ClientCredentials
    refreshing: Refreshing
    protected: Protected
    wall: Callable[[], float]

    def application(self, listener: str, origin: str) -> web.Application:
        """Make Iridium's application for the *listener* at *origin*."""
        place = _Place(server=self, listener=listener, origin=origin)
        application = web.Application(client_max_size=MAX_BODY)
        router = application.router
        router.add_post(EXTERNAL_AUTHORIZE, place.serving("external", self.external.authorize))
        router.add_get(CALLBACK, place.serving("callback", self.external.callback))
        for method in ("GET", "POST"):
            router.add_route(method, AUTHORIZE, place.serving("authorize", self.local.authorize))
        router.add_post(TOKEN, place.serving("token", self._token))
        router.add_post(REFRESH, place.serving("refresh", self.refreshing.answer))
        router.add_delete("/applications/{id}/tokens", place.logging_out(plural=True))
        router.add_delete("/application/{id}/tokens", place.logging_out(plural=False))
        router.add_get(IDENTITIES, place.serving("identities", self.protected.identities))
        router.add_get(f"{API}/me", place.serving("api", self.protected.me))
        router.add_post(f"{API}/echo", place.echo)
        router.add_route("*", "/{path:.*}", place.serving("nothing", _nothing))
        return application

    def provider_application(self, pages: ProviderPages) -> web.Application:
        """Make the application of a provider."""
        place = _Place(server=self, listener=pages.provider.manner.name, origin=pages.provider.origin)
        application = web.Application(client_max_size=MAX_BODY)
        for method in ("GET", "POST"):
            application.router.add_route(method, pages.provider.manner.path, place.serving("provider", pages.visit))
        application.router.add_route("*", "/{path:.*}", place.serving("nothing", _nothing))
        return application

    def _token(self, asked: Asked) -> Answer:
        grant_type = asked.first("grant_type")
        if not grant_type:
            raise RefusedError(Shape.BAD_REQUEST, "grant_type must not be blank", "invalid_request")
        if grant_type == "client_credentials":
            return self.client_credentials.answer(asked)
        if grant_type == "authorization_code":
            return self.redemption.answer(asked)
        raise RefusedError(Shape.BAD_REQUEST, "invalid_grant", "unsupported_grant_type")

    def answer(self, process: Process, asked: Asked) -> Answer:
        """Give what *process* answers, refusals included (IRI-09)."""
        try:
            return process(asked)
        except RefusedError as refused:
            if self.switches.documented(Switch.ERROR_SHAPES):
                return documented_answer(refused)
            return observed_answer(refused, asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A listener, for what is the same at all its paths."""

    server: Server
    listener: str
    origin: str

    def serving(self, endpoint: str, process: Process) -> Handler:
        """Make the handler of *endpoint*."""

        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, endpoint, process)

        return handler

    def logging_out(self, *, plural: bool) -> Handler:
        """Make the handler of one of the two paths for logout."""

        async def handler(request: web.Request) -> web.StreamResponse:
            client_id = request.match_info["id"]
            protected = self.server.protected
            return await self._serve(request, "logout", lambda asked: protected.logout(asked, client_id, plural=plural))

        return handler

    async def echo(self, request: web.Request) -> web.StreamResponse:
        body, protected = await request.read(), self.server.protected
        content_type = request.headers.get("Content-Type", "application/octet-stream")
        return await self._serve(request, "api", lambda asked: protected.echo(asked, body, content_type))

    async def _serve(self, request: web.Request, endpoint: str, process: Process) -> web.StreamResponse:
        asked = await self._asked(request)
        trouble = self.server.troubles.take(endpoint)
        kind = None if trouble is None else trouble.kind
        if trouble is not None and kind is Kind.STATUS:
            answer = Answer(status=trouble.status, outcome="fault")
        else:
            answer = self.server.answer(process, asked)
        self._record(request, endpoint, asked, answer, fault=None if kind is None else str(kind))
        if trouble is not None and kind is Kind.DELAY:
            await asyncio.sleep(trouble.delay_seconds)
        if kind is Kind.LOST_ANSWER and request.transport is not None:
            request.transport.close()
        return _written(answer)

    async def _asked(self, request: web.Request) -> Asked:
        is_form = request.content_type == FORM
        return Asked(
            method=request.method,
            path=request.path,
            origin=self.origin,
            query=read_pairs(request.rel_url.raw_query_string.encode()),
            form=read_pairs(await request.read()) if is_form else (),
            authorization=request.headers.get("Authorization"),
            accept=request.headers.get("Accept"),
            now=self.server.wall(),
        )

    def _record(self, request: web.Request, endpoint: str, asked: Asked, answer: Answer, *, fault: str | None) -> None:
        headers = tuple((name, value) for name, value in request.headers.items())
        self.server.journal.record(
            Entry(
                time=asked.now,
                listener=self.listener,
                endpoint=endpoint,
                method=asked.method,
                path=asked.path,
                outcome=answer.outcome,
                status=answer.status,
                query=tuple(name for name, _ in asked.query),
                form=tuple(name for name, _ in asked.form),
                headers=tuple(name for name, _ in headers),
                scheme=(asked.authorization or "").partition(" ")[0] or None,
                accept=asked.accept,
                grant_type=_known(asked.first("grant_type")),
                fault=fault,
                sent=values_of(asked, headers),
            )
        )


def _known(grant_type: str) -> str | None:
    return grant_type if grant_type in {"authorization_code", "client_credentials", "refresh_token"} else None


def _nothing(_asked: Asked) -> Answer:
    raise RefusedError(Shape.NOT_FOUND, "there is nothing here", "not_found")


def _written(answer: Answer) -> web.Response:
    headers = dict(answer.headers)
    if answer.content_type is not None:
        headers["Content-Type"] = answer.content_type
    return web.Response(status=answer.status, body=answer.body, headers=headers)
