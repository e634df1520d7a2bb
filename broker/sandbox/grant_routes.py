"""
The HTTP side of people's grants: pages for their browsers, endpoints for the clients that they allow.

The protocol is in ``authorization_endpoint`` and ``grant_endpoints``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from broker.sandbox.authorization_endpoint import AuthorizationEndpoint, Shown, Visit
from broker.sandbox.clients import unverified_assertion
from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import Fault
from broker.sandbox.grant_endpoints import GrantEndpoints
from broker.sandbox.metadata import AUTHORIZE, END_SESSION, PAR, REVOCATION, USERINFO
from broker.sandbox.misbehaving import INSTEAD
from broker.sandbox.pages import form_post_page, logged_out_page, policy
from broker.sandbox.responding import Responding, Seen, presented_by, read_form
from broker.sandbox.token_endpoint import FORM, Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRoutes:
    """Reads requests for *authorization* and *endpoints*, and writes their answers."""

    authorization: AuthorizationEndpoint
    endpoints: GrantEndpoints
    responding: Responding

    def add_pages(self, router: web.UrlDispatcher) -> None:
        """Add what browsers ask for."""
        router.add_get(AUTHORIZE, self._authorize)
        router.add_post(AUTHORIZE, self._authorize)
        router.add_get(END_SESSION, self._end_session)

    def add_endpoints(self, router: web.UrlDispatcher) -> None:
        """Add what clients ask for."""
        router.add_post(PAR, self._push)
        router.add_post(REVOCATION, self._revoke)
        router.add_get(USERINFO, self._userinfo)
        router.add_post(USERINFO, self._userinfo)

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        form = read_form(await request.read()) if request.content_type == FORM else ()
        met: list[Fault] = []

        def take() -> Fault | None:
            fault = self.responding.faults.take(Where.AUTHORIZE)
            met.extend([fault] if fault is not None else [])
            return fault

        now = self.responding.wall()
        query = read_form(request.rel_url.raw_query_string.encode()) or ()
        await self.responding.client_keys.freshen(dict(query).get("request"))
        shown = self.authorization.visit(Visit(query=query, form=form or (), now=now, take=take))
        fault = met[0] if met else None
        self.responding.record(
            request,
            Seen(endpoint="authorize"),
            outcome=shown.outcome,
            fault=fault,
            client=shown.client,
            reason=shown.reason,
        )
        if fault is not None:
            await asyncio.sleep(fault.delay_seconds)
            if fault.kind in INSTEAD:
                return await INSTEAD[fault.kind](self.responding.scene(request), fault)
        return _written(shown)

    async def _end_session(self, request: web.Request) -> web.StreamResponse:
        self.responding.record(request, Seen(endpoint="end_session"), outcome="ok")
        return _page(logged_out_page(), 200, None)

    async def _push(self, request: web.Request) -> web.StreamResponse:
        pushed = await self.responding.read(request)
        seen = self._seen("par", pushed.first("client_assertion"))

        def process(_fault: Fault | None) -> Answer:
            return self.endpoints.push(pushed, now=self.responding.wall())

        return await self.responding.respond(request, Where.PAR, seen, process)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        asked = await self.responding.read(request)
        seen = self._seen("revocation", asked.first("client_assertion"))

        def process(_fault: Fault | None) -> Answer:
            return self.endpoints.revoke(asked, now=self.responding.wall())

        return await self.responding.respond(request, Where.REVOCATION, seen, process)

    async def _userinfo(self, request: web.Request) -> web.StreamResponse:
        challenges: list[str] = []
        presented = presented_by(request)

        def process(_fault: Fault | None) -> Answer:
            return self.endpoints.userinfo(presented, challenges.append, now=self.responding.wall())

        seen = Seen(endpoint="userinfo")
        return await self.responding.respond(request, Where.USERINFO, seen, process, challenges=challenges)

    def _seen(self, endpoint: str, assertion: str | None) -> Seen:
        return Seen(endpoint=endpoint, assertion=unverified_assertion(assertion, self.endpoints.tokens.clients))


def _written(shown: Shown) -> web.Response:
    if shown.returned is None:
        return _page(shown.page or "", shown.status, shown.redirect_uri)
    if shown.returned.posted:
        page = form_post_page(shown.returned.redirect_uri, shown.returned.pairs)
        return _page(page, 200, shown.redirect_uri)
    return web.Response(status=303, headers={**_HEADERS, "Location": shown.returned.location})


_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def _page(page: str, status: int, redirect_uri: str | None) -> web.Response:
    headers = {**_HEADERS, "Content-Security-Policy": policy(redirect_uri)}
    return web.Response(status=status, text=page, content_type="text/html", charset="utf-8", headers=headers)
