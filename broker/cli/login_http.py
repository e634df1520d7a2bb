"""
As much of HTTP/1.1 (RFC 9112) as a browser needs to come back from a login: reading a request, writing an answer.

Pure. A request is read whole or not at all: whatever is unusual in it makes it junk, and nobody is told what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

from broker.cli.login_pages import CONTENT_SECURITY_POLICY

MAX_HEAD = 32 * 1024
"""Bytes of a request line and its fields: a browser sends the cookies of every program on this address."""

MAX_BODY = 48 * 1024
"""Bytes of a form: as JSON it still fits into a request to the daemon."""

MAX_FIELDS = 50
"""Fields of a form; a response of an authorization server has a handful."""

FORM = "application/x-www-form-urlencoded"

_REQUEST_LINE = re.compile(r"(GET|POST) (/[\x21-\x7e]*) HTTP/1\.1")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*)")

Form = Mapping[str, str | list[str]]
"""The fields of a form; a list for one that came several times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of a browser; *target* as it was written, *form* for a POST. They may hold a code."""

    method: str
    target: str = field(repr=False)
    fields: Mapping[str, tuple[str, ...]] = field(repr=False)
    form: Form | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the path."""
        return self.target.partition("?")[2]

    def cookies(self, name: str) -> tuple[str, ...]:
        """Give the values of all cookies of a name."""
        pairs = [pair.strip().partition("=") for line in self.fields.get("cookie", ()) for pair in line.split(";")]
        return tuple(value for key, _, value in pairs if key == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back: a page, or a way to go on."""

    status: HTTPStatus
    page: bytes = b""
    location: str | None = field(default=None, repr=False)
    cookie: str | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """Write it."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            "Content-Type: text/html; charset=utf-8",
            f"Content-Length: {len(self.page)}",
            f"Content-Security-Policy: {CONTENT_SECURITY_POLICY}",
            "Referrer-Policy: no-referrer",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "X-Frame-Options: DENY",
            "Cross-Origin-Opener-Policy: same-origin",
            "Connection: close",
        ]
        if self.location is not None:
            lines.append(f"Location: {self.location}")
        if self.cookie is not None:
            lines.append(f"Set-Cookie: {self.cookie}; Path=/; HttpOnly; SameSite=Lax")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.page


def read_head(head: bytes, *, host: str) -> tuple[Request, int] | None:
    """
    Read a request line and its fields, up to the empty line; give them, and the length of the body to come.

    None for anything that a browser on its way to *host* would not send.
    """
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    fields: dict[str, tuple[str, ...]] = {}
    for text in rest:
        matched = _FIELD.fullmatch(text)
        if matched is None:
            return None
        name = matched[1].lower()
        fields[name] = (*fields.get(name, ()), matched[2].strip(" \t"))
    if line is None or fields.get("host") != (host,) or not _is_a_visit(fields):
        return None
    length = _body_length(line[1], fields)
    return None if length is None else (Request(method=line[1], target=line[2], fields=fields), length)


def _is_a_visit(fields: Mapping[str, tuple[str, ...]]) -> bool:
    """Say whether a person goes there: not a page that is loaded ahead or in a frame, nor an image."""
    ahead = fields.get("sec-purpose", ()) + fields.get("purpose", ())
    return not ahead and fields.get("sec-fetch-dest", ("document",)) == ("document",)


def _body_length(method: str, fields: Mapping[str, tuple[str, ...]]) -> int | None:
    if "transfer-encoding" in fields:
        return None
    given = fields.get("content-length", ("0",))
    if len(given) != 1 or not re.fullmatch(r"[0-9]{1,6}", given[0], re.ASCII):
        return None
    length = int(given[0])
    if method == "GET":
        return 0 if length == 0 else None
    media_type = fields.get("content-type", ("",))[0].partition(";")[0].strip().lower()
    return length if length <= MAX_BODY and media_type == FORM else None


def read_form(body: bytes) -> Form | None:
    """Read a form, or give None for what is none."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:  # a UnicodeDecodeError is one
        return None
    form: dict[str, str | list[str]] = {}
    for name, value in pairs:
        earlier = form.get(name)
        if earlier is None:
            form[name] = value
        elif isinstance(earlier, list):
            earlier.append(value)
        else:
            form[name] = [earlier, value]
    return form
