"""
Keys that tokens are bound to by DPoP (RFC 9449): they sign proofs, and nothing else ever (SEC-07).

From a file like other signing keys, or made here. One that was made can be written down for the store to seal;
that is the only way by which its private half leaves this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec

from broker.errors import LocalError
from broker.keys.compact import CompactSigner
from broker.keys.making import key_pem, new_key
from broker.keys.private_keys import PrivateKey, parse_pem
from broker.keys.signer import read_key
from broker.oauth.dpop import MADE_ALG, PROOF_ALGS, PROOF_TYP


class ProofKey:
    """Implements ``tokens.ports.ProofKey`` with a key in memory."""

    __slots__ = ("_header", "_jkt", "_name", "_signer")

    def __init__(self, *, name: str, alg: str, key: PrivateKey) -> None:
        if alg not in PROOF_ALGS:
            message = f"DPoP key {name}: proofs are not signed with {alg}"
            raise LocalError("key_algorithm", message, hint=f"use one of {', '.join(sorted(PROOF_ALGS))}")
        self._name = name
        self._signer = CompactSigner(what="DPoP key", name=name, alg=alg, key=key)
        self._jkt = self._signer.thumbprint()
        self._header = {"typ": PROOF_TYP, "jwk": self._signer.public_members()}

    @property
    def name(self) -> str:
        """The name of the ``[key.NAME]``, or of the client that it was made for."""
        return self._name

    @property
    def alg(self) -> str:
        """The JWS algorithm (RFC 7518 section 3.1)."""
        return self._signer.alg

    @property
    def jkt(self) -> str:
        """The thumbprint of the key (RFC 7638)."""
        return self._jkt

    async def prove(self, claims: Mapping[str, Any]) -> str:
        """Make a proof that says *claims*. Raises LocalError ``signing_failed``."""
        return await self._signer.sign(self._header, claims)

    def close(self) -> None:
        """Sign no more; what is being signed is finished."""
        self._signer.close()

    def __repr__(self) -> str:
        return f"ProofKey(name={self._name!r}, alg={self.alg!r}, jkt={self._jkt!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DPoP key is not serialized")


def load_proof_key(*, name: str, file: Path, alg: str, passphrase_file: Path | None = None) -> ProofKey:
    """Read the private key in *file*, PEM or JWK, for *alg*; as ``signer.load_signing_key``."""
    read = read_key(file=file, alg=alg, passphrase_file=passphrase_file)
    return ProofKey(name=name, alg=alg, key=read.key)


def make_proof_key(name: str) -> tuple[ProofKey, bytes]:
    """Make a key for the client *name*, and give it also as it is written down: in the clear, for the store to seal."""
    key = new_key(MADE_ALG)
    return ProofKey(name=name, alg=MADE_ALG, key=key), key_pem(key)


def stored_proof_key(name: str, written: bytes) -> ProofKey:
    """Take up a key that was made and written down. Raises LocalError: one of ``private_keys``."""
    key = parse_pem(written, Path("the store"), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LocalError("key_unsupported", f"the DPoP key of client {name} in the store is of another kind")
    return ProofKey(name=name, alg=MADE_ALG, key=key)
