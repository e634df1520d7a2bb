"""
What kinds of fault are made of: where one can strike, and which parameters it takes.

The catalogue itself is in ``faults`` and ``grant_faults``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_DELAY = 3_600.0
"""Seconds: longer than any deadline of a client."""

MAX_BYTES = 1_000_000_000
"""Of a body that a fault makes: more than any client should read, little enough to be streamed in a test."""


class Where(StrEnum):
    """Which requests meet a fault; for the faults of the handshake, which listener."""

    TOKEN = "token"  # noqa: S105 (a place, not a password)
    """The token endpoint at both listeners; handshakes of the mutual TLS listener."""
    METADATA = "metadata"
    """Both well-known locations; handshakes of the issuer's listener."""
    RESOURCE = "resource"
    """The resource API; handshakes of its listener."""
    AUTHORIZE = "authorize"
    """Authorization responses: what a person's browser takes back to the client."""
    PAR = "par"
    JWKS = "jwks"
    USERINFO = "userinfo"
    REVOCATION = "revocation"


EVERYWHERE = frozenset(Where) - {Where.AUTHORIZE}
"""Wherever programs ask and are answered with JSON."""
HANDSHAKES = frozenset({Where.TOKEN, Where.METADATA, Where.RESOURCE})
ENDPOINTS_WITH_ERRORS = frozenset({Where.TOKEN, Where.PAR, Where.USERINFO, Where.REVOCATION})
AUTHORIZE_ONLY = frozenset({Where.AUTHORIZE})
JWKS_ONLY = frozenset({Where.JWKS})
METADATA_ONLY = frozenset({Where.METADATA})
PAR_ONLY = frozenset({Where.PAR})
RESOURCES = frozenset({Where.RESOURCE, Where.USERINFO})
"""Where access tokens are shown."""
TOKEN_ONLY = frozenset({Where.TOKEN})
USERINFO_ONLY = frozenset({Where.USERINFO})


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a kind of fault: *default* where none is given, *form* says what is accepted."""

    default: Any
    form: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault; *handshake* says that it strikes before there is a request."""

    summary: str
    where: frozenset[Where] = EVERYWHERE
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    handshake: bool = False


def integer(default: int | None, least: int, most: int) -> Parameter:
    """Give a parameter that is an integer."""

    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Parameter(default, f"an integer from {least} to {most}", accepts)


def one_of(default: Any, *choices: Any) -> Parameter:
    """Give a parameter with these choices."""
    return Parameter(default, "one of " + ", ".join(map(str, choices)), lambda value: value in choices)


def text(default: str | None) -> Parameter:
    """Give a parameter that is text for a header or a code."""
    return Parameter(default, "printable ASCII", is_text)


def is_text(value: Any) -> bool:
    """Say whether *value* is text without line breaks."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


def is_seconds(value: Any) -> bool:
    """Say whether *value* is a number of seconds that a delay may have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_DELAY


def is_header_value(value: Any) -> bool:
    """Say whether *value* may stand in a header."""
    return is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def is_object(value: Any) -> bool:
    """Say whether *value* is a JSON object."""
    return isinstance(value, dict)


def is_names(value: Any) -> bool:
    """Say whether *value* is a list of strings."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
