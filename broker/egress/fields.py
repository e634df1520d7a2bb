"""
Which header fields pass through, in either direction (rules.md R6). Pure.

Hop-by-hop fields go first, with all that ``Connection`` names, then what would speak for somebody else than the
caller; what is ours is added after that, so that no caller can have it removed.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.tokens.calls import Fields

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
"""RFC 9110 section 7.6.1."""

OF_THE_MESSAGE = frozenset({"host", "content-length", "expect"})
"""Written anew for each connection."""

DROPPED_INBOUND = frozenset(
    {
        "authorization",
        "dpop",
        "cookie",
        "forwarded",
        "via",
        "x-forwarded",
        "x-method-override",
        "x-real-ip",
        "x-rewrite-url",
    }
)
DROPPED_INBOUND_PREFIXES = (
    "proxy-",
    "x-forwarded-",
    "client-cert",
    "x-ssl-",
    "x-http-method",
    "x-original-",
    "ssl-client-",
    "x-token-broker-",
)

DROPPED_OUTBOUND = frozenset({"set-cookie", "set-cookie2", "dpop-nonce", "authorization", "content-length"})
DROPPED_OUTBOUND_PREFIXES = ("proxy-auth",)

OUR_NAME = "token-broker"
"""As it stands in ``Proxy-Status`` (RFC 9209): only answers of ours carry it."""


def of_request(fields: Fields) -> Fields:
    """Give what of a caller's fields goes to an API; credentials are still missing."""
    return tuple((name, value) for folded, name, value in _end_to_end(fields) if not _is_dropped_inbound(folded))


def of_reply(fields: Fields) -> Fields:
    """Give what of an API's fields goes to the caller; the length is added by who writes the reply."""
    return tuple(
        (name, stripped)
        for folded, name, value in _end_to_end(fields)
        if not _is_dropped_outbound(folded)
        and (stripped := without_our_status(value) if folded == "proxy-status" else value)
    )


def values_of(fields: Fields, wanted: str) -> tuple[str, ...]:
    """Give all values of a field; *wanted* in lower case."""
    return tuple(value for name, value in fields if name.lower() == wanted)


def without_our_status(value: str) -> str:
    """Leave our own member out of a ``Proxy-Status`` that an API sent: only we speak for ourselves."""
    members = [member.strip() for member in value.split(",")]
    return ", ".join(member for member in members if member and _first_word(member) != OUR_NAME)


def _first_word(member: str) -> str:
    return member.partition(";")[0].strip().strip('"').lower()


def _end_to_end(fields: Fields) -> Iterable[tuple[str, str, str]]:
    """Give what is not of one connection only: each field as it is, behind its folded name."""
    known = [(_folded(name), name, value) for name, value in fields]
    named = {_folded(word.strip()) for folded, _, value in known if folded == "connection" for word in value.split(",")}
    return [field for field in known if field[0] not in HOP_BY_HOP and field[0] not in named]


def _is_dropped_inbound(folded: str) -> bool:
    foreign_certificate = "clientcert" in folded.replace("-", "")  # in the spellings of all kinds of proxies
    return (
        folded in DROPPED_INBOUND
        or folded in OF_THE_MESSAGE
        or foreign_certificate
        or folded.startswith(DROPPED_INBOUND_PREFIXES)
    )


def _is_dropped_outbound(folded: str) -> bool:
    return folded in DROPPED_OUTBOUND or folded.startswith(DROPPED_OUTBOUND_PREFIXES)


def _folded(name: str) -> str:
    """Fold case, and ``_`` to ``-``: some readers take the one for the other (CVE-2025-64484)."""
    return name.lower().replace("_", "-")
