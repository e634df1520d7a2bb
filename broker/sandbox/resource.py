"""
The resource API's guard: is this access token good on this connection?

RFC 6750, RFC 9068 section 4, RFC 8705 section 3. Sans I/O. It trusts nothing but the
signing key of the sandbox's authorization server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
class Presented:
    """What a request shows: its header *authorization*, and the thumbprint of its connection's *certificate*."""

    authorization: str | None = field(repr=False)
    certificate: str | None

    @property
    def scheme(self) -> str:
        """Give the scheme of the header, in lower case."""
        return (self.authorization or "").partition(" ")[0].lower()

    @property
    def token(self) -> str:
        """Give what stands behind the scheme."""
        return (self.authorization or "").partition(" ")[2]

    def fingerprint(self) -> str | None:
        """Give a name for the token that does not tell it; None where there is none."""
        return f"sha256:{hashlib.sha256(self.token.encode()).hexdigest()[:16]}" if self.token else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Whose a token is, what it is bound to (*cnf*), and whether the request *matched* that; None: not known."""

    client: str | None = None
    cnf: Mapping[str, Any] | None = None
    matched: bool | None = None


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

    def binding(self, presented: Presented) -> Binding:
        """Say what the token of a request is bound to, good or not: for the journal."""
        try:
            claims = self._verified(presented.token)
        except AccessRefusedError:
            return Binding()
        cnf = claims.get("cnf", {})
        return Binding(client=claims.get("client_id"), cnf=cnf, matched=_is_bound(cnf, presented))

    def admit(self, presented: Presented, *, now: float) -> dict[str, Any]:
        """Give the claims of the token that is *presented*; *now* in Unix seconds. Raises AccessRefusedError."""
        if presented.authorization is None:
            raise AccessRefusedError(None, "no access token")
        if presented.scheme != "bearer" or not presented.token:
            raise AccessRefusedError("invalid_request", "not a bearer token", status=400)
        claims = self._verified(presented.token)
        if claims.get("iss") != self.issuer:
            raise AccessRefusedError("invalid_token", "another issuer")
        if claims["exp"] <= now:
            raise AccessRefusedError("invalid_token", "the access token expired")
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if self.audience not in {None, *audience}:
            raise AccessRefusedError("invalid_token", "the access token is for another resource")
        if not _is_bound(claims.get("cnf", {}), presented):
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


def _is_bound(cnf: Mapping[str, Any], presented: Presented) -> bool:
    """Say whether *cnf* names the certificate that is *presented*; nothing is bound to none."""
    return presented.certificate is not None and cnf.get("x5t#S256") == presented.certificate
