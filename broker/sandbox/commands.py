"""What commands to the control listener have in common: a JSON object, and a refusal that says what is wrong."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web


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
