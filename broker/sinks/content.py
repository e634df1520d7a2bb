"""The bytes of a token file, and how to know such a file again. Pure."""

from __future__ import annotations

import json
import re

from broker.sinks.spec import Format
from broker.tokens.serving import Serving

MAX_BYTES = 262_144
"""Of a token file: well above the answer that a token can come in, so that nothing large is read by mistake."""

_LINE = re.compile(rb"[\x20-\x7e]*")


def content_of(serving: Serving, wanted: Format) -> bytes:
    """
    Write a token as the sink has it.

    As JSON it has the members of the serve contract (local-api.md) but ``expires_in`` and ``stale``: both would be
    wrong a moment later, and nobody would correct them.
    """
    token = serving.token
    bare = token.access_token.reveal()
    if wanted is Format.TEXT:
        return bare.encode("ascii")
    members = {
        "access_token": bare,
        "token_type": token.token_type,
        "expires_at": serving.expires_at,
        "scope": " ".join(token.scope),
        "issuer": token.issuer,
        "cnf": token.confirmation(),
    }
    return json.dumps(
        {name: value for name, value in members.items() if value is not None}, separators=(",", ":")
    ).encode("ascii")


def is_content(found: bytes) -> bool:
    """
    Say whether a file that holds this may be replaced: it may be one of ours, in either format, or it is empty.

    Ours have one line of printable ASCII and no newline, which hardly a file has that somebody wrote by hand: a path
    that was written by mistake costs nothing.
    """
    return len(found) <= MAX_BYTES and _LINE.fullmatch(found) is not None
