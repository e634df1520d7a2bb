"""
The resource API's guard: is this access token good on this connection?

RFC 6750, RFC 9068 section 4, RFC 8705 section 3. Sans I/O. It trusts nothing but the
signing key of the sandbox's authorization server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.sandbox.jose import JsonWebKey, NotSignedError, unverified_header, verify


class AccessRefusedError(Exception):
    """
    The request is not let in.

    *error* is a code of RFC 6750 section 3.1, or None when the request had no token at all, *reason* a
    constant for people.
    """

    def __init__(self, error: str | None, reason: str, *, status: int = 401) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.status = status

    def challenge(self) -> str:
        """Give the value of ``WWW-Authenticate`` (RFC 6750 section 3)."""
        if self.error is None:
            return 'Bearer realm="sandbox"'
        return f'Bearer realm="sandbox", error="{self.error}", error_description="{self.reason}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """
    Lets in tokens of *issuer* for *audience* (None: any) with *scope*, on the connection they are bound to.

    *is_over* says whether the grant that the token with this ``jti`` belongs to has ended.
    """

    issuer: str
    audience: str | None
    scope: str
    signing_key: JsonWebKey
    is_over: Callable[[str], bool] = lambda _jti: False

    def admit(self, authorization: str | None, certificate_thumbprint: str | None, *, now: float) -> dict[str, Any]:
        """
        Give the claims of the token in the header *authorization*.

        *certificate_thumbprint* is that of this connection's certificate, *now* in Unix seconds. Raises
        AccessRefusedError.
        """
        if authorization is None:
            raise AccessRefusedError(None, "no access token")
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise AccessRefusedError("invalid_request", "not a bearer token", status=400)
        claims = self._verified(token)
        if claims.get("iss") != self.issuer:
            raise AccessRefusedError("invalid_token", "another issuer")
        if claims["exp"] <= now:
            raise AccessRefusedError("invalid_token", "the access token expired")
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if self.audience not in {None, *audience}:
            raise AccessRefusedError("invalid_token", "the access token is for another resource")
        bound_to = claims.get("cnf", {}).get("x5t#S256")
        if certificate_thumbprint is None or bound_to != certificate_thumbprint:
            raise AccessRefusedError("invalid_token", "the access token is bound to another certificate")
        if self.is_over(claims.get("jti", "")):
            raise AccessRefusedError("invalid_token", "the grant of the access token has ended")
        if self.scope not in claims["scope"].split(" "):
            raise AccessRefusedError("insufficient_scope", "the access token lacks the scope", status=403)
        return claims

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            if unverified_header(token).get("typ") != "at+jwt":
                raise AccessRefusedError("invalid_token", "not an access token")
            _, claims = verify(self.signing_key, token)
        except NotSignedError:
            raise AccessRefusedError("invalid_token", "not an access token of this server") from None
        return claims
