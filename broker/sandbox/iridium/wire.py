"""
Requests as the endpoints see them, and answers as they give them; no HTTP library in between.

Parameters are read as Spring's ``@RequestParam`` does: from the query and from the form body alike, the query first,
and the first of several with one name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

JSON = "application/json"
HTML = "text/html"

NO_STORE = {"Cache-Control": "no-store"}

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    A request.

    *origin* is where it was sent, *authorization* and *accept* are its headers, *now* is when it came, in Unix
    seconds.
    """

    method: str
    path: str
    origin: str = ""
    query: Pairs = field(default=(), repr=False)
    form: Pairs = field(default=(), repr=False)
    authorization: str | None = field(default=None, repr=False)
    accept: str | None = None
    now: float

    def first(self, name: str) -> str:
        """Give the parameter *name*; an empty text where there is none, or where it is blank."""
        value = next((value for given, value in (*self.query, *self.form) if given == name), "")
        return value if value.strip() else ""

    @property
    def bearer(self) -> str:
        """The token in ``Authorization: Bearer``, whatever its characters; an empty text for none."""
        scheme, _, token = (self.authorization or "").partition(" ")
        return token if scheme == "Bearer" else ""

    @property
    def basic(self) -> str:
        """What ``Authorization: Basic`` has, as it was sent; an empty text for none."""
        scheme, _, credentials = (self.authorization or "").partition(" ")
        return credentials if scheme == "Basic" else ""


def raw_basic(credentials: str) -> str:
    """Read Basic *credentials* without decoding id and secret; an empty text where they are not base64."""
    try:
        return base64.b64decode(credentials, validate=True).decode(errors="replace")
    except ValueError:
        return ""


def decoded_basic(credentials: str) -> tuple[str, str] | None:
    """Read id and secret from Basic *credentials* as RFC 6749 section 2.3.1 has them; None where they are none."""
    client_id, colon, secret = raw_basic(credentials).partition(":")
    return (unquote_plus(client_id), unquote_plus(secret)) if colon else None


def read_pairs(raw: bytes) -> Pairs:
    """Read a query or a form body."""
    return tuple(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; *outcome* is what the journal says of it."""

    status: int
    outcome: str
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def json_answer(
    status: int, value: Any, *, outcome: str, content_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer with *value* as JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status=status, outcome=outcome, body=body, content_type=content_type, headers=headers or {})


def redirect(location: str, *, outcome: str) -> Answer:
    """Send a browser to *location*."""
    return Answer(status=302, outcome=outcome, headers={"Location": location})


def with_parameters(url: str, parameters: Iterable[tuple[str, str]], *, encoded: bool) -> str:
    """Add *parameters* to *url*, as they are or *encoded*."""
    pairs = list(parameters)
    query = urlencode(pairs) if encoded else "&".join(f"{name}={value}" for name, value in pairs)
    return f"{url}{'&' if '?' in url else '?'}{query}"
