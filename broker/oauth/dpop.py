"""
DPoP (RFC 9449): what a proof says, and how servers ask for a nonce in one.

Claims are made here and signed elsewhere. Each transmission needs a new proof with a new ``jti``: servers remember
them, also those of requests that they refused.
"""

from __future__ import annotations

import hashlib
import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from broker.oauth.answers import oauth_error
from broker.oauth.challenges import parse_challenges
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, parse_url
from broker.oauth.messages import Response
from broker.oauth.secret import AccessToken, DpopProof

PROOF_TYP = "dpop+jwt"
"""``typ`` in the header of a proof (RFC 9449 section 4.2)."""

PROOF_ALGS = frozenset({"ES256", "PS256", "EdDSA"})
"""What a proof may be signed with (FAPI 2.0 section 5.4.1); EdDSA is Ed25519."""

MADE_ALG = "ES256"
"""Of keys that we make: every server that does DPoP takes it, and a signature takes a tenth of a millisecond."""

TOKEN_TYPE = "DPoP"  # noqa: S105 - the name of a type
"""``token_type``, and the scheme of the ``Authorization`` header (RFC 9449 sections 5 and 7.1)."""

USE_NONCE = "use_dpop_nonce"
"""The error of both kinds of servers (RFC 9449 sections 8 and 9)."""

PROOF_HEADER = "dpop"
NONCE_HEADER = "dpop-nonce"

MAX_NONCE = 1_024
"""Characters; servers' nonces have some 50, those that carry an encrypted state a few hundred."""

_AMBIGUOUS = re.compile(r"//|;|%(?:2[def5]|3[0-9b]|4[1-9a-f]|5[0-9acf]|6[1-9a-f]|7[0-9ae])", re.IGNORECASE)
"""What is no ``htu`` for everybody: escaped dots, slashes and the like, and escaped letters that need no escape."""

_NONCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""NQCHAR (RFC 9449 section 8.1)."""


def proof_claims(
    *, htm: str, htu: str, jti: str, now: float, access_token: AccessToken | None = None, nonce: str | None = None
) -> dict[str, Any]:
    """
    Give the claims of one proof (RFC 9449 section 4.2); *now* in Unix seconds.

    *access_token* goes with a request to a resource server, and never to an authorization server; *nonce* only to
    a server that gave it (DP-03).
    """
    claims: dict[str, Any] = {"jti": jti, "htm": htm, "htu": htu, "iat": math.floor(now)}
    if access_token is not None:
        claims["ath"] = token_hash(access_token)
    if nonce is not None:
        claims["nonce"] = nonce
    return claims


def token_hash(access_token: AccessToken) -> str:
    """Give ``ath``: base64url(SHA-256(token)) without padding."""
    digest = hashlib.sha256(access_token.reveal().encode("ascii")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def htu_of(url: str) -> str:
    """
    Give ``htu`` of a request to *url*: without query and fragment, and otherwise as the server sees it (DP-02).

    Scheme and host in lower case, no default port, the path as it is. Raises NotAnEndpointUrlError, also for a
    URL with userinfo or a fragment.
    """
    parsed = parse_url(url)
    _, _, path = url.partition("?")[0].partition("://")[2].partition("/")
    return f"{parsed.scheme}://{parsed.authority}/{path}"


def is_under(htu: str, base_url: str) -> bool:
    """Say whether *htu*, as ``htu_of`` gives it, is *base_url* or lies under its path."""
    base = _base_of(base_url)
    return htu == base or htu.startswith(f"{base}/")


@lru_cache(maxsize=256)
def _base_of(base_url: str) -> str:
    """Read a base URL once: they are few, come from the configuration, and are compared with at every proof."""
    return htu_of(base_url).removesuffix("/")


def is_canonical(url: str) -> bool:
    """
    Say whether *url* is an ``htu`` already, with a path that every server takes for the same one.

    No encoded dots and slashes, no empty segments and no path parameters: what one server reads as a name leads
    another out of the path.
    """
    try:
        return htu_of(url) == url and _AMBIGUOUS.search(url.partition("://")[2]) is None
    except NotAnEndpointUrlError:
        return False


def origin_of(url: str) -> str:
    """Give scheme, host and port of *url* in one spelling. Raises NotAnEndpointUrlError."""
    parsed = parse_url(url)
    return f"{parsed.scheme}://{parsed.authority}"


def nonce_of(headers: Iterable[tuple[str, str]]) -> str | None:
    """Give the nonce that an answer with *headers* hands out, None where there is none, or several, or a bad one."""
    found = [value for name, value in headers if name.lower() == NONCE_HEADER]
    return found[0] if len(found) == 1 and is_nonce(found[0]) else None


def is_nonce(text: str) -> bool:
    """Say whether *text* can be a nonce."""
    return len(text) <= MAX_NONCE and _NONCE.fullmatch(text) is not None


def asks_for_nonce(response: Response) -> bool:
    """Say whether an authorization server refuses a request for the want of a nonce (RFC 9449 section 8)."""
    return response.status == 400 and oauth_error(response) == USE_NONCE


def is_nonce_challenge(status: int, www_authenticate: Iterable[str]) -> bool:
    """
    Say whether a resource server refuses a request for the want of a nonce (RFC 9449 section 9).

    *www_authenticate*: the values of all fields of that name.
    """
    if status != 401:
        return False
    return any(one.scheme == "dpop" and one.error == USE_NONCE for one in parse_challenges(www_authenticate))


def presented(access_token: AccessToken, proof: DpopProof) -> dict[str, str]:
    """Give the headers that show a token with its proof to a resource server, revealed."""
    return {"authorization": f"{TOKEN_TYPE} {access_token.reveal()}", PROOF_HEADER: proof.reveal()}
