"""The control listener of a fake Iridium: switches, lifetimes, applications, faults and what was seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from broker.sandbox.commands import CommandRefusedError, guard, only, read_object
from broker.sandbox.iridium.journal import Journal
from broker.sandbox.iridium.registry import Registry
from broker.sandbox.iridium.switches import Switches
from broker.sandbox.iridium.tokens import Tokens
from broker.sandbox.iridium.troubles import Troubles, read_trouble

MAX_SECONDS = 31_536_000
"""A year: longer than any token that a test needs."""

SECONDS = ("lifetime_seconds", "refresh_lifetime_seconds", "code_lifetime_seconds")


class Controlled(Protocol):
    """What the control listener commands."""

    @property
    def switches(self) -> Switches:
        """Documented or observed."""

    @property
    def journal(self) -> Journal:
        """What was seen."""

    @property
    def troubles(self) -> Troubles:
        """The faults that wait."""

    @property
    def registry(self) -> Registry:
        """The applications."""

    @property
    def tokens(self) -> Tokens:
        """What was issued."""

    def settings(self) -> dict[str, Any]:
        """Give switches and lifetimes by name."""

    def set_lifetimes(self, **seconds: int | None) -> None:
        """Set lifetimes, named as in ``SECONDS``."""

    def set_application(
        self, client_id: str, *, redirect_uri: str | None = None, secret: str | None = None
    ) -> dict[str, Any]:
        """Change an application. Raises CommandRefusedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The routes; *token* is what a caller must show."""

    controlled: Controlled
    token: str

    def application(self) -> web.Application:
        """Make the application."""
        application = web.Application(middlewares=[guard(self.token)])
        router = application.router
        router.add_get("/sandbox/settings", self._show_settings)
        router.add_put("/sandbox/settings", self._change_settings)
        router.add_get("/sandbox/applications", self._list_applications)
        router.add_put("/sandbox/applications/{id}", self._change_application)
        router.add_get("/sandbox/faults", self._list_faults)
        router.add_post("/sandbox/faults", self._add_fault)
        router.add_delete("/sandbox/faults", self._clear_faults)
        router.add_get("/sandbox/requests", self._list_requests)
        router.add_delete("/sandbox/requests", self._clear_requests)
        router.add_post("/sandbox/requests/places", self._find_places)
        router.add_get("/sandbox/tokens", self._list_tokens)
        router.add_delete("/sandbox/tokens", self._end_tokens)
        return application

    async def _show_settings(self, _request: web.Request) -> web.Response:
        return web.json_response(self.controlled.settings())

    async def _change_settings(self, request: web.Request) -> web.Response:
        given = await read_object(request)
        seconds = {name: given.pop(name) for name in SECONDS if name in given}
        for name, value in seconds.items():
            _check_seconds(name, value)
        self.controlled.switches.change(given)
        self.controlled.set_lifetimes(**seconds)
        return await self._show_settings(request)

    async def _list_applications(self, _request: web.Request) -> web.Response:
        known = self.controlled.registry.applications.values()
        return web.json_response({"applications": [one.as_json() for one in known]})

    async def _change_application(self, request: web.Request) -> web.Response:
        given = only(await read_object(request), "redirect_uri", "secret")
        if not all(isinstance(value, str) and value for value in given.values()):
            raise CommandRefusedError("redirect_uri and secret: must be texts")
        return web.json_response(self.controlled.set_application(request.match_info["id"], **given))

    async def _list_faults(self, _request: web.Request) -> web.Response:
        return web.json_response({"faults": self.controlled.troubles.as_json()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        trouble = read_trouble(await read_object(request))
        self.controlled.troubles.add(trouble)
        return web.json_response(trouble.as_json(), status=201)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self.controlled.troubles.clear()
        return web.Response(status=204)

    async def _list_requests(self, _request: web.Request) -> web.Response:
        return web.json_response(self.controlled.journal.as_json())

    async def _clear_requests(self, _request: web.Request) -> web.Response:
        self.controlled.journal.clear()
        return web.Response(status=204)

    async def _find_places(self, request: web.Request) -> web.Response:
        value = only(await read_object(request), "value").get("value")
        if not isinstance(value, str) or not value:
            raise CommandRefusedError("value: must be a text")
        return web.json_response({"places": [asdict(one) for one in self.controlled.journal.places_of(value)]})

    async def _list_tokens(self, _request: web.Request) -> web.Response:
        return web.json_response({"tokens": self.controlled.tokens.as_json()})

    async def _end_tokens(self, _request: web.Request) -> web.Response:
        return web.json_response({"ended": self.controlled.tokens.end_all()})


def check_redirect_uri(uri: str) -> str:
    """Give *uri* back if an application can have it. Raises CommandRefusedError."""
    parts = urlsplit(uri)
    plain = uri.isascii() and uri.isprintable() and not set(uri) & set(" \"'\\<>;")
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.fragment or not plain:
        raise CommandRefusedError("redirect_uri: must be a URL, http or https, without a fragment")
    return uri


def _check_seconds(name: str, value: Any) -> None:
    if value is None and name == "refresh_lifetime_seconds":
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SECONDS:
        raise CommandRefusedError(f"{name}: must be an integer from 1 to {MAX_SECONDS}")
