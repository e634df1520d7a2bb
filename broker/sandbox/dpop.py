"""
Proofs of possession as a server checks them (RFC 9449 sections 4.3, 8 and 9), and the nonces that it wants in them.

Sans I/O. An authorization server and a resource server have a ``ProofReader`` each: neither knows the other's
nonces, nor the proofs that the other has seen.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.clients import CLOCK_TOLERANCE, UsedAssertions
from broker.sandbox.jose import (
    JsonWebKey,
    NotSignedError,
    SigningAlg,
    read_proof_key,
    unverified_claims,
    unverified_header,
    verify,
)
from broker.sandbox.options import MAX_NONCES, NonceMode, Options

TYP = "dpop+jwt"


class ProofRefusedError(Exception):
    """A proof is not good: *error* is ``invalid_dpop_proof`` or ``use_dpop_nonce``, *reason* a constant."""

    def __init__(self, reason: str, *, error: str = "invalid_dpop_proof") -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Possession:
    """
    What a request shows of a key: its *method*, its *url* as the server sees it, and its headers ``DPoP``.

    *url* has neither query nor fragment.
    """

    method: str = "GET"
    url: str = ""
    proofs: tuple[str, ...] = field(default=(), repr=False)

    def unverified_jkt(self) -> str | None:
        """Give the thumbprint of the key that the proof names, without believing it: for the journal."""
        try:
            return _key(unverified_header(self.proofs[0])).kid if self.proofs else None
        except (NotSignedError, ProofRefusedError):
            return None

    def unverified_nonce(self) -> bool | None:
        """Say whether the proof has a nonce; None: there is no proof that can be read."""
        try:
            return "nonce" in unverified_claims(self.proofs[0]) if self.proofs else None
        except NotSignedError:
            return None


NO_POSSESSION = Possession()
"""Of requests that show nothing."""


@dataclass(slots=True, kw_only=True)
class Nonces:
    """
    The nonces of one server, in the *mode* that its options say; *new_value* makes them.

    The current one is good, and as many before it as the options keep.
    """

    options: Options
    mode: Callable[[], NonceMode]
    new_value: Callable[[], str]
    _current: str | None = field(default=None, repr=False)
    _made_at: float = 0.0
    _earlier: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_NONCES), repr=False)

    def told(self, *, now: float) -> str | None:
        """Give the nonce for an answer; None where answers have none."""
        return None if self.mode() is NonceMode.OFF else self.made(now=now)

    def made(self, *, now: float) -> str:
        """Give the nonce for an answer that has to have one, whatever the mode."""
        old = self._current is not None and self._made_at + self.options.dpop_nonce_lifetime_seconds <= now
        if self._current is None or old or self.mode() is NonceMode.ROTATING:
            if self._current is not None:
                self._earlier.appendleft(self._current)
            self._current, self._made_at = self.new_value(), now
        return self._current

    def check(self, nonce: Any, *, now: float) -> None:
        """Let the nonce of a proof pass. Raises ProofRefusedError."""
        wanted = self.mode() is not NonceMode.OFF
        if nonce is None:
            if wanted:
                raise ProofRefusedError("a nonce is wanted in the proof", error="use_dpop_nonce")
            return
        fresh = self._made_at + self.options.dpop_nonce_lifetime_seconds > now
        kept = [*self._earlier][: self.options.dpop_nonces_kept]
        if nonce in kept or (nonce == self._current and fresh):
            return
        if self._current is None:
            raise ProofRefusedError("the proof has a nonce, and this server gave none")
        raise ProofRefusedError("the nonce of the proof is not the current one", error="use_dpop_nonce")


@dataclass(slots=True, kw_only=True)
class ProofReader:
    """Checks the proofs that one server gets, and remembers them."""

    nonces: Nonces
    options: Options
    _used: UsedAssertions = field(default_factory=UsedAssertions)

    def read(self, shown: Possession, *, token: str | None, now: float) -> str:
        """
        Give the thumbprint of the key (``jkt``) that the proof in *shown* proves to be held.

        *token* is the access token that comes along, None at an authorization server; *now* in Unix seconds.
        Raises ProofRefusedError.
        """
        if len(shown.proofs) != 1:
            raise ProofRefusedError("there is not exactly one proof")
        key, claims = _verified(shown.proofs[0])
        if claims.get("htm") != shown.method:
            raise ProofRefusedError("htm of the proof is not the method")
        if claims.get("htu") != shown.url:
            raise ProofRefusedError("htu of the proof is not the URL, letter by letter and without its query")
        self._check_time(claims, now)
        _check_token(claims, token)
        self.nonces.check(claims.get("nonce"), now=now)
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise ProofRefusedError("jti of the proof is missing")
        until = claims["iat"] + self.options.proof_lifetime_seconds + CLOCK_TOLERANCE
        if not self._used.use(key.kid, jti, expires_at=until, now=now):
            raise ProofRefusedError("the proof was used before (jti)")
        return key.kid

    def _check_time(self, claims: Mapping[str, Any], now: float) -> None:
        issued_at = claims.get("iat")
        if isinstance(issued_at, bool) or not isinstance(issued_at, (int, float)):
            raise ProofRefusedError("iat of the proof is missing or not a number")
        if issued_at > now + CLOCK_TOLERANCE:
            raise ProofRefusedError("the proof comes from the future (iat)")
        if issued_at + self.options.proof_lifetime_seconds < now:
            raise ProofRefusedError("the proof is too old (iat)")


def access_token_hash(token: str) -> str:
    """Give ``ath`` of *token* (RFC 9449 section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def _check_token(claims: Mapping[str, Any], token: str | None) -> None:
    ath = claims.get("ath")
    if token is None:
        if ath is not None:
            raise ProofRefusedError("the proof has an ath, and there is no access token")
        return
    if not isinstance(ath, str) or not hmac.compare_digest(ath.encode(), access_token_hash(token).encode()):
        raise ProofRefusedError("ath of the proof is not that of the access token")


def _verified(proof: str) -> tuple[JsonWebKey, dict[str, Any]]:
    try:
        header = unverified_header(proof)
        if header.get("typ") != TYP:
            raise ProofRefusedError("typ of the proof is not dpop+jwt")
        key = _key(header)
        _, claims = verify(key, proof)
    except NotSignedError:
        raise ProofRefusedError("the proof is not signed by the key that it names") from None
    return key, claims


def _key(header: Mapping[str, Any]) -> JsonWebKey:
    alg, jwk = header.get("alg"), header.get("jwk")
    if not isinstance(alg, str) or alg not in set(SigningAlg):
        raise ProofRefusedError("alg of the proof is none that is supported")
    if not isinstance(jwk, dict):
        raise ProofRefusedError("the proof names no key (jwk)")
    try:
        return read_proof_key(SigningAlg(alg), jwk)
    except ValueError:
        raise ProofRefusedError("the key of the proof is not a public key for its alg") from None
