"""
Bodies of requests: one JSON object of known members, or nothing.

Read strictly: what two readers could take in two ways is refused, and so is every member that the route
does not have. Nothing of a body goes into an answer or a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.api import problems
from broker.api.guard import Incoming
from broker.api.problems import ProblemError
from broker.oauth.strict_json import NotStrictJsonError, loads

MEDIA_TYPE = "application/json"

PARAMETERS = frozenset({"", "charset=utf-8", 'charset="utf-8"'})
"""What may follow the media type: nothing, or what JSON is in anyway (RFC 8259 section 8.1)."""

TYPES = {str: "a string", int: "a whole number", bool: "true or false", dict: "an object", list: "an array"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRules:
    """
    What a route takes: *members* by name with their types. Those that are *required* have to be there, and the
    body with them; of those in *either* exactly one.

    *patterns* tell the OpenAPI document what strings its handler takes, *inside* what there may be in objects and
    arrays, as keywords of a schema; neither is checked here.
    """

    members: Mapping[str, type] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    inside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    either: tuple[str, ...] = ()


def check_media_type(incoming: Incoming) -> None:
    """Refuse a body that does not say to be JSON, or is encoded. Raises ProblemError."""
    types = incoming.values("content-type")
    media_type, _, parameters = (types[0] if len(types) == 1 else "").partition(";")
    if media_type.strip().lower() != MEDIA_TYPE or parameters.strip().lower() not in PARAMETERS:
        raise ProblemError(problems.MEDIA_TYPE_REFUSED)
    if any(value.strip().lower() != "identity" for value in incoming.values("content-encoding")):
        raise ProblemError(problems.MEDIA_TYPE_REFUSED)


def read_body(body: bytes, rules: BodyRules) -> Mapping[str, Any]:
    """Read *body* under *rules*. Raises ProblemError."""
    try:
        value = loads(body)
    except NotStrictJsonError:
        value = None
    if not isinstance(value, dict) or not all(type(given) is rules.members.get(name) for name, given in value.items()):
        raise ProblemError(problems.body_refused(_describe(rules)))
    return complete(value, rules)


def complete(members: Mapping[str, Any], rules: BodyRules) -> Mapping[str, Any]:
    """Give *members* if what is required is among them. Raises ProblemError."""
    is_one = not rules.either or sum(name in members for name in rules.either) == 1
    if not is_one or any(name not in members for name in rules.required):
        raise ProblemError(problems.body_refused(_describe(rules)))
    return members


def _describe(rules: BodyRules) -> str:
    known = ", ".join(
        f"{name} ({TYPES[kind]}{', required' if name in rules.required else ''})"
        for name, kind in rules.members.items()
    )
    either = f"; one of {' and '.join(rules.either)}" if rules.either else ""
    return f"a JSON object, each member once: {known}{either}" if known else "a JSON object without members"
