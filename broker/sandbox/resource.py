"""
The resource API's guard: is this access token good on this connection?

RFC 6750, RFC 9068 section 4, RFC 8705 section 3, RFC 9449 section 7. Sans I/O. It trusts nothing but the
signing key of the sandbox's authorization server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.dpop import NO_POSSESSION, Possession, ProofReader, ProofRefusedError
from broker.sandbox.jose import JsonWebKey, NotSignedError, SigningAlg, unverified_header, verify

DPOP_CHALLENGE = f'DPoP realm="sandbox", algs="{" ".join(SigningAlg)}"'


class AccessRefusedError(Exception):
    """
    The request is not let in.

    *error* is a code of RFC 6750 section 3.1, or None when the request had no token at all, *reason* a
    constant for people. The challenge is one for *dpop*, or for bearer tokens.
    """

    def __init__(self, error: str | None, reason: str, *, status: int = 401, dpop: bool = False) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.status = status
        self.dpop = dpop

    def challenge(self) -> str:
        """Give the value of ``WWW-Authenticate`` (RFC 6750 section 3, RFC 9449 section 7.1)."""
        if self.error is None:
            return f'Bearer realm="sandbox", {DPOP_CHALLENGE}'
        scheme = DPOP_CHALLENGE if self.dpop else 'Bearer realm="sandbox"'
        return f'{scheme}, error="{self.error}", error_description="{self.reason}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """
    What a request shows to be let in.

    *authorization* is the header, *certificate* the thumbprint of that of the connection, *possession* what came of
    DPoP.
    """

    authorization: str | None = field(repr=False)
    certificate: str | None
    possession: Possession = NO_POSSESSION

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
    Lets in tokens of *issuer* for *audience* (None: any) with *scope*, from who has what they are bound to.

    *proofs* reads the proofs of possession that this server gets. *is_over* says whether the grant that the token
    with this ``jti`` belongs to has ended.
    """

    issuer: str
    audience: str | None
    scope: str
    signing_key: JsonWebKey
    proofs: ProofReader
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
        if presented.scheme not in {"bearer", "dpop"} or not presented.token:
            raise AccessRefusedError("invalid_request", "neither a bearer token nor one for DPoP", status=400)
        claims = self._verified(presented.token)
        if claims.get("iss") != self.issuer:
            raise AccessRefusedError("invalid_token", "another issuer")
        if claims["exp"] <= now:
            raise AccessRefusedError("invalid_token", "the access token expired")
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if self.audience not in {None, *audience}:
            raise AccessRefusedError("invalid_token", "the access token is for another resource")
        self._check_binding(claims.get("cnf", {}), presented, now=now)
        if self.is_over(claims.get("jti", "")):
            raise AccessRefusedError("invalid_token", "the grant of the access token has ended")
        if self.scope not in claims["scope"].split(" "):
            raise AccessRefusedError("insufficient_scope", "the access token lacks the scope", status=403)
        return claims

    def _check_binding(self, cnf: Mapping[str, Any], presented: Presented, *, now: float) -> None:
        by_proof = presented.scheme == "dpop"
        if by_proof is not ("jkt" in cnf):
            reason = "the access token is bound to no key" if by_proof else "a token for DPoP came as a bearer token"
            raise AccessRefusedError("invalid_token", reason, dpop=not by_proof)
        if by_proof:
            try:
                jkt = self.proofs.read(presented.possession, token=presented.token, now=now)
            except ProofRefusedError as refusal:
                raise AccessRefusedError(refusal.error, refusal.reason, dpop=True) from None
            if jkt != cnf["jkt"]:
                raise AccessRefusedError("invalid_token", "the access token is bound to another key", dpop=True)
        if not _is_bound(cnf, presented):
            raise AccessRefusedError("invalid_token", "the access token is bound to another certificate")

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            if unverified_header(token).get("typ") != "at+jwt":
                raise AccessRefusedError("invalid_token", "not an access token")
            _, claims = verify(self.signing_key, token)
        except NotSignedError:
            raise AccessRefusedError("invalid_token", "not an access token of this server") from None
        return claims


def _is_bound(cnf: Mapping[str, Any], presented: Presented) -> bool:
    """Say whether the request has all that *cnf* names; a token that is bound to nothing never is at home."""
    shown = {"x5t#S256": presented.certificate, "jkt": presented.possession.unverified_jkt()}
    named = set(shown) & set(cnf)
    return bool(named) and all(shown[name] is not None and cnf[name] == shown[name] for name in named)
