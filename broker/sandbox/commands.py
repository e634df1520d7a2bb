"""
What commands to a control listener have in common: who may give them, a JSON object, a refusal that says why.

Plain HTTP on loopback. A web page that somebody has open could reach it too, so that it wants a token which
such a page cannot have, and a ``Host`` which it cannot forge (DNS rebinding).
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


class CommandRefusedError(ValueError):
    """A command makes no sense, or cannot be carried out; the message says why."""


async def read_object(request: web.Request) -> dict[str, Any]:
    """Read the body of a command. Raises CommandRefusedError."""
    try:
        value = json.loads(await request.read())
    except ValueError:
        raise CommandRefusedError("the body must be a JSON object") from None
    if not isinstance(value, dict):
        raise CommandRefusedError("the body must be a JSON object")
    return value


def only(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Give *given* back if it has no other members than *names*. Raises CommandRefusedError."""
    if set(given) - set(names):
        raise CommandRefusedError(f"unknown member: there are {', '.join(names)}")
    return given


def yes_or_no(given: dict[str, Any], name: str, *, unless: bool) -> bool:
    """Give the member *name*, or *unless*. Raises CommandRefusedError."""
    value = given.get(name, unless)
    if not isinstance(value, bool):
        raise CommandRefusedError(f"{name}: must be true or false")
    return value


def guard(token: str, *refusals: type[Exception]) -> Middleware:
    """Make the middleware that wants *token* and our own ``Host``; *refusals* and a refused command are 400."""
    refused: tuple[type[Exception], ...] = (CommandRefusedError, *refusals)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, _, port = (request.host or "").rpartition(":")
        if host not in {"127.0.0.1", "localhost"} or port != str(_local_port(request)):
            return _refusal(403, "Host must be the control listener's own")
        shown = request.headers.get("Authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            return _refusal(401, "the control token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        try:
            return await handler(request)
        except refused as refusal:
            return _refusal(400, str(refusal))
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)

    return guarded


def _local_port(request: web.Request) -> int | None:
    address = request.get_extra_info("sockname")
    return address[1] if isinstance(address, tuple) else None


def _refusal(status: int, description: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": "refused", "error_description": description}, status=status, headers=headers)
