"""
What an application passes on when a person comes back: the URL, and the form where there was one.

The address is compared with the one that was sent (RFC 6749 section 3.1.2); what is left are the parameters
of the response, as they came. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from broker.consent.asking import AskError
from broker.oauth.checks import Check, response_invalid
from broker.oauth.client import ResponseMode

MAX_PARAMETERS = 50
"""A response has a handful."""

Pairs = tuple[tuple[str, str], ...]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """
    What came back, decoded and not judged; it holds the code.

    *form* is None for a response in the query.
    """

    address: SplitResult = field(repr=False)
    query: Pairs = field(repr=False)
    form: Pairs | None = field(repr=False)


def read_callback(callback_url: str, form: Mapping[str, Any] | None) -> Callback:
    """Read what the application passed on. Raises AskError for what no browser would have sent."""
    try:
        address = urlsplit(callback_url)
        _ = address.port  # raises for what is no port
        # Not strictly: an empty pair is nothing, and a name without a value one that is empty, as in every form.
        query = parse_qsl(address.query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:  # a UnicodeDecodeError is one
        raise _malformed("callback_url") from None
    if not address.hostname or not callback_url.isascii() or not callback_url.isprintable():
        raise _malformed("callback_url")
    return Callback(address=address, query=tuple(query), form=None if form is None else _pairs(form))


def parameters_of(callback: Callback, *, redirect_uri: str, response_mode: ResponseMode) -> Pairs:
    """
    Give the parameters of the response. Raises CheckFailedError when it came to another address or in another way.

    The parameters that the redirect URI itself has are the application's business and left out, once each.
    """
    expected = urlsplit(redirect_uri)
    if _place(callback.address) != _place(expected):
        raise response_invalid(Check.REDIRECT_URI)
    query = list(callback.query)
    for own in parse_qsl(expected.query, keep_blank_values=True):
        if own not in query:
            raise response_invalid(Check.REDIRECT_URI)
        query.remove(own)
    if response_mode is not ResponseMode.FORM_POST:
        if callback.form is not None:
            raise response_invalid(Check.RESPONSE_MODE)
        return tuple(query)
    if callback.form is None or query:
        raise response_invalid(Check.RESPONSE_MODE)
    return callback.form


def _place(address: SplitResult) -> tuple[str, str | None, str | None, int | None, str]:
    """Give what tells addresses apart (rules.md R4): scheme, host, port and path, and who somebody poses as."""
    port = address.port if address.port is not None else _PORTS.get(address.scheme)
    return address.scheme, address.username, address.hostname, port, address.path or "/"


def _pairs(form: Mapping[str, Any]) -> Pairs:
    """Give the fields of a form; an array stands for a field that came several times."""
    pairs: list[tuple[str, str]] = []
    for name, value in form.items():
        values = value if isinstance(value, list) and value else [value]
        if not all(isinstance(one, str) for one in values):
            raise _malformed("form")
        pairs += [(name, one) for one in values]
    if len(pairs) > MAX_PARAMETERS:
        raise _malformed("form")
    return tuple(pairs)


def _malformed(member: str) -> AskError:
    return AskError(member, f"the {member} is not what a browser was sent to", hint=_HINTS[member])


_HINTS = {
    "callback_url": "the whole URL that the browser asked for, with its query",
    "form": "an object of strings; an array of strings for a field that came several times",
}
