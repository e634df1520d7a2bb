"""JWT-secured authorization responses (JARM): the parameters of a response, signed by the server."""

from __future__ import annotations

from collections.abc import Sequence

from broker.oauth.authorization_response import only_once
from broker.oauth.checks import Check, CheckFailedError, response_invalid
from broker.oauth.id_token import check_jwt_times
from broker.oauth.jwks import JwkSet, verify
from broker.oauth.reasons import Reason

_ABOUT = frozenset({"aud", "exp", "iat", "nbf", "jti"})
"""Claims about the JWT; ``iss`` is both, and stays (RFC 9207 section 2.4)."""


def response_jwt(pairs: Sequence[tuple[str, str]]) -> str:
    """Give the one parameter that a JARM response has. Raises CheckFailedError for any other response."""
    members = only_once(pairs)
    if members.keys() != {"response"}:
        # An unsigned response where a signed one was asked for is what an attacker would send.
        raise response_invalid(Check.RESPONSE_MODE)
    return members["response"]


def unwrap(
    response: str, keys: JwkSet, *, issuer: str, client_id: str, alg: str, wall_now: float
) -> tuple[tuple[str, str], ...]:
    """
    Give the parameters of a response that passes the checks of JARM section 2.4; *wall_now* in Unix seconds.

    Raises CheckFailedError, and KeyNotFoundError when the keys should be fetched anew.
    """
    reason = Reason.AUTHORIZATION_RESPONSE_INVALID
    claims = verify(response, keys, alg=alg, reason=reason)
    if claims.get("iss") != issuer:
        raise CheckFailedError(reason, Check.SIGNED_ISS)
    if claims.get("aud") not in (client_id, [client_id]):
        raise CheckFailedError(reason, Check.AUD)
    check_jwt_times(claims, reason, wall_now=wall_now)
    # What is no string is there all the same, and as an empty one fails the check of its name: an error that is a
    # number is no consent. Null is how some servers write what they leave out.
    return tuple(
        (name, value if isinstance(value, str) else "")
        for name, value in claims.items()
        if name not in _ABOUT and value is not None
    )
