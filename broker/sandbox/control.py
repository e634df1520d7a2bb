"""
The control listener: faults, counters, settings, grants and keys, for whoever holds the control token.

Commands about keys and certificates of clients and of the listeners are in ``rotation_control``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from broker.sandbox.commands import CommandRefusedError, guard, read_object, yes_or_no
from broker.sandbox.families import Families
from broker.sandbox.faults import KINDS, Fault, FaultBoard, FaultRefusedError, read_fault
from broker.sandbox.journal import Journal
from broker.sandbox.keyring import Keyring
from broker.sandbox.options import OptionRefusedError, Options
from broker.sandbox.rotation_control import Rotated, RotationControl

MAX_LIFETIME = 86_400
"""Seconds of an access token's life: a day is longer than any sandbox test."""


class Controlled(Rotated, Protocol):
    """What the control listener commands."""

    @property
    def faults(self) -> FaultBoard:
        """The faults that are waiting."""

    @property
    def journal(self) -> Journal:
        """What was seen."""

    @property
    def options(self) -> Options:
        """How grants of people are treated."""

    @property
    def families(self) -> Families:
        """The grants of people."""

    @property
    def keyring(self) -> Keyring:
        """The keys that sign ID tokens and authorization responses."""

    @property
    def down(self) -> bool:
        """Whether the server's listeners are closed."""

    @property
    def lifetime(self) -> int:
        """Seconds that access tokens live."""

    def add_fault(self, fault: Fault) -> None:
        """Put a fault up."""

    def set_lifetime(self, seconds: int) -> None:
        """Set the seconds that access tokens issued from now on live."""

    async def set_down(self, down: bool) -> None:
        """Close the server's listeners, or open them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The routes; *token* is what a caller must show."""

    controlled: Controlled
    token: str

    def application(self) -> web.Application:
        """Make the application."""
        application = web.Application(middlewares=[guard(self.token, FaultRefusedError, OptionRefusedError)])
        router = application.router
        router.add_get("/sandbox/faults", self._list_faults)
        router.add_post("/sandbox/faults", self._add_fault)
        router.add_delete("/sandbox/faults", self._clear_faults)
        router.add_get("/sandbox/requests", self._list_requests)
        router.add_delete("/sandbox/requests", self._clear_requests)
        router.add_get("/sandbox/settings", self._show_settings)
        router.add_put("/sandbox/settings", self._change_settings)
        router.add_get("/sandbox/grants", self._list_grants)
        router.add_delete("/sandbox/grants", self._end_grants)
        router.add_post("/sandbox/keys", self._rotate_keys)
        RotationControl(rotated=self.controlled).add_to(router)
        return application

    async def _list_faults(self, _request: web.Request) -> web.Response:
        kinds = {name: kind.summary for name, kind in KINDS.items()}
        return web.json_response({"faults": self.controlled.faults.as_json(), "kinds": kinds})

    async def _add_fault(self, request: web.Request) -> web.Response:
        fault = read_fault(await read_object(request))
        self.controlled.add_fault(fault)
        return web.json_response(fault.as_json(), status=201)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self.controlled.faults.clear()
        return web.Response(status=204)

    async def _list_requests(self, _request: web.Request) -> web.Response:
        return web.json_response(self.controlled.journal.as_json())

    async def _clear_requests(self, _request: web.Request) -> web.Response:
        self.controlled.journal.clear()
        return web.Response(status=204)

    async def _show_settings(self, _request: web.Request) -> web.Response:
        own = {"lifetime_seconds": self.controlled.lifetime, "down": self.controlled.down}
        return web.json_response({**own, **self.controlled.options.as_json()})

    async def _change_settings(self, request: web.Request) -> web.Response:
        settings = await read_object(request)
        lifetime = settings.pop("lifetime_seconds", self.controlled.lifetime)
        if not isinstance(lifetime, int) or isinstance(lifetime, bool) or not 1 <= lifetime <= MAX_LIFETIME:
            raise CommandRefusedError(f"lifetime_seconds: must be an integer from 1 to {MAX_LIFETIME}")
        down = yes_or_no(settings, "down", unless=self.controlled.down)
        settings.pop("down", None)
        self.controlled.options.change(settings)
        self.controlled.set_lifetime(lifetime)
        await self.controlled.set_down(down)
        return await self._show_settings(request)

    async def _list_grants(self, _request: web.Request) -> web.Response:
        return web.json_response({"grants": self.controlled.families.as_json()})

    async def _end_grants(self, _request: web.Request) -> web.Response:
        return web.json_response({"ended": self.controlled.families.end()})

    async def _rotate_keys(self, request: web.Request) -> web.Response:
        keep = yes_or_no(await read_object(request), "keep_published", unless=True)
        self.controlled.keyring.rotate(keep_published=keep)
        return web.Response(status=204)
