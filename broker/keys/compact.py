"""
Compact JWS (RFC 7515 section 7.1) with a private key in memory.

What the header says is decided by whoever holds the key for a purpose (``signer``, ``proof_key``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.errors import JoseError

from broker.errors import LocalError
from broker.keys.jwk import public_members, wrap
from broker.keys.private_keys import PrivateKey


class _FixedAlgorithms(jws.JWSRegistry):
    """
    Takes the algorithm that was configured without a warning for each signature that EdDSA has a newer name.

    The members of the header are ours; joserfc would take a public key in it for one to be checked with.
    """

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


class CompactSigner:
    """
    Signs with one key and one algorithm.

    RSA takes a millisecond and more, so it signs in a thread of its own, until ``close``; the others take a tenth
    and sign at once. *what* says what kind of key it is, and its name, for messages.
    """

    __slots__ = ("_alg", "_closed", "_key", "_registry", "_thread", "_what")

    def __init__(self, *, what: str, name: str, alg: str, key: PrivateKey) -> None:
        self._what = f"{what} {name}"
        self._alg = alg
        self._key = wrap(key)
        self._registry = _FixedAlgorithms(algorithms=[alg])
        self._closed = False
        self._thread = ThreadPoolExecutor(1, f"sign-{name}") if isinstance(key, rsa.RSAPrivateKey) else None

    @property
    def alg(self) -> str:
        """The JWS algorithm (RFC 7518 section 3.1)."""
        return self._alg

    def thumbprint(self) -> str:
        """Give the thumbprint of the key (RFC 7638)."""
        return self._key.thumbprint()

    def public_members(self) -> dict[str, Any]:
        """Give the public half of the key, and nothing that says what it is for."""
        return public_members(self._key)

    async def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """Make a JWS of *claims*; ``alg`` is added to *header*. Raises LocalError ``signing_failed``."""
        if self._closed:
            raise self._failure("it is closed")
        header = {"alg": self._alg, **header}
        payload = self._encode(claims)
        if self._thread is None:
            return self._make(header, payload)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._make, header, payload)

    def close(self) -> None:
        """Sign no more; what is being signed is finished, and the thread ends."""
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not serialized")

    def _encode(self, claims: Mapping[str, Any]) -> bytes:
        try:
            return json.dumps(dict(claims), allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, TypeError, RecursionError):
            raise self._failure("the claims are not JSON") from None  # which may quote them

    def _make(self, header: dict[str, Any], payload: bytes) -> str:
        try:
            return jws.serialize_compact(header, payload, self._key, registry=self._registry)
        except (JoseError, ValueError, TypeError):
            raise self._failure("the key does not do") from None

    def _failure(self, why: str) -> LocalError:
        return LocalError("signing_failed", f"{self._what}: cannot sign: {why}")
