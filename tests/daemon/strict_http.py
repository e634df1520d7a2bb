"""
HTTP/1.1 as the strictest of readers takes it: the second opinion of tests that send what is nearly HTTP.

It shares nothing with the broker. What it accepts is what anybody would accept; behind what it does not accept it
reads nothing, because nobody knows where the next request begins there (RFC 9112 sections 2.2, 6.3 and 11.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

REQUEST_LINE = re.compile(rb"([A-Z]+) +([\x21-\x7e]+) +HTTP/(1\.[01])")
"""With one space or more, as any reader that splits words takes it (RFC 9112 section 3)."""

FIELD = re.compile(
    rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)

CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})((?:;[\t \x21-\x7e]*)?)")


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A request: with its *body* as far as it came, and whether that *is_whole*."""

    method: str
    target: str
    version: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    is_whole: bool

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given.lower() == name]


def heard_in(raw: bytes) -> list[Heard]:
    """Give the requests in *raw*, up to the first that is none."""
    heard: list[Heard] = []
    while raw:
        head, end, raw = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")  # empty lines are skipped (RFC 9112 section 2.2)
        one = _head(head) if end else None
        if one is None:
            break
        framed = _framed(one, raw)
        if framed is None:
            break
        body, rest = framed
        heard.append(Heard(**{**vars(one), "body": body, "is_whole": rest is not None}))
        if rest is None:
            break
        raw = rest
    return heard


def _head(head: bytes) -> Heard | None:
    line, *lines = head.split(b"\r\n")
    asked = REQUEST_LINE.fullmatch(line)
    fields = [FIELD.fullmatch(one) for one in lines]
    if asked is None or not all(fields):
        return None
    return Heard(
        method=asked[1].decode(),
        target=asked[2].decode(),
        version=asked[3].decode(),
        fields=tuple((one[1].decode(), one[2].decode("latin-1")) for one in fields if one is not None),
        body=b"",
        is_whole=False,
    )


def _framed(one: Heard, raw: bytes) -> tuple[bytes, bytes | None] | None:
    """Give the body and what comes behind it (None: it does not end); None where it could be framed in two ways."""
    lengths, codings = one.values("content-length"), one.values("transfer-encoding")
    if codings:
        if lengths or one.version == "1.0" or [coding.lower() for coding in codings] != ["chunked"]:
            return None
        return _chunks(raw)
    if not lengths:
        return b"", raw
    if len(lengths) != 1 or not re.fullmatch("[0-9]{1,15}", lengths[0]):
        return None
    length = int(lengths[0])
    return raw[:length], (raw[length:] if len(raw) >= length else None)


def _chunks(raw: bytes) -> tuple[bytes, bytes | None]:
    body = b""
    while True:
        line, end, rest = raw.partition(b"\r\n")
        size = CHUNK.fullmatch(line)
        if not end or size is None:
            return body, None
        length = int(size[1], 16)
        if not length:
            return body, _behind_trailers(rest)
        body += rest[:length]
        if rest[length : length + 2] != b"\r\n":
            return body, None
        raw = rest[length + 2 :]


def _behind_trailers(raw: bytes) -> bytes | None:
    while True:
        line, end, raw = raw.partition(b"\r\n")
        if not end or (line and FIELD.fullmatch(line) is None):
            return None
        if not line:
            return raw


@dataclass(frozen=True, kw_only=True)
class Given:
    """An answer: *is_whole* says that all of its body came."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    is_whole: bool

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given.lower() == name]


STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [\x20-\x7e]*")


def given_in(received: bytes, *, bodiless: bool) -> list[Given]:
    """
    Take *received* apart into answers. Fails for what is no answer at all.

    *bodiless*: there may be answers to HEAD, which announce a body only. An answer that ends with the connection is
    whole as far as anybody can say.
    """
    answers: list[Given] = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received
        line, *lines = head.split(b"\r\n")
        status = STATUS_LINE.fullmatch(line)
        fields = [FIELD.fullmatch(one) for one in lines]
        assert status is not None, head
        assert all(fields), head
        told = Given(
            status=int(status[1]),
            fields=tuple((one[1].decode(), one[2].decode("latin-1")) for one in fields if one is not None),
            body=b"",
            is_whole=True,
        )
        body, received, is_whole = _answered(told, rest, bodiless=bodiless)
        answers.append(Given(status=told.status, fields=told.fields, body=body, is_whole=is_whole))
    return [one for one in answers if one.status >= 200]


def _answered(told: Given, rest: bytes, *, bodiless: bool) -> tuple[bytes, bytes, bool]:
    """Give the body, what is behind it, and whether the body is whole."""
    lengths, codings = told.values("content-length"), told.values("transfer-encoding")
    assert len(lengths) + len(codings) <= 1, told.fields
    if told.status < 200 or told.status in (204, 304) or (bodiless and (not rest or rest.startswith(b"HTTP/1."))):
        return b"", rest, True
    if codings:
        body, behind = _chunks(rest)
        return body, behind or b"", behind is not None
    if not lengths:
        return rest, b"", True
    length = int(lengths[0])
    return rest[:length], rest[length:], len(rest) >= length
