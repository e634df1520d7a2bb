"""
Signing keys: make compact JWS (RFC 7515) and say which public key checks them.

The algorithm is what the configuration says; a key that does not fit is refused when it is loaded. The
whole header is made here: an ``alg``, a ``kid`` and a ``typ``, and nothing that a caller could add.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from broker.errors import LocalError
from broker.keys import certificates
from broker.keys.compact import CompactSigner
from broker.keys.files import read_private
from broker.keys.jwk import Jwk, parse_jwk
from broker.keys.private_keys import PrivateKey, parse_pem, same_key

ALGORITHMS = ("PS256", "ES256", "EdDSA", "RS256")
"""FAPI 2.0 section 5.4.1, and RS256 for servers that know nothing better. Never guessed from the key."""

_SAME_ALGORITHM = {"Ed25519": "EdDSA"}
"""RFC 9864 section 2.2 gives EdDSA with this curve a name of its own; servers know the one of RFC 8037."""


class SigningKey:
    """
    Implements ``tokens.ports.Signer`` with a key in memory.

    *kid* is None when the header shall have none. *not_after* in Unix seconds, if the key came with a
    certificate.
    """

    __slots__ = ("_kid", "_name", "_not_after", "_signer")

    def __init__(self, *, name: str, alg: str, kid: str | None, not_after: float | None, key: PrivateKey) -> None:
        self._name = name
        self._signer = CompactSigner(what="signing key", name=name, alg=alg, key=key)
        self._kid = self._signer.thumbprint() if kid is None else kid or None
        self._not_after = not_after

    @property
    def name(self) -> str:
        """The name in the configuration."""
        return self._name

    @property
    def alg(self) -> str:
        """The JWS algorithm (RFC 7518 section 3.1)."""
        return self._signer.alg

    @property
    def kid(self) -> str | None:
        """The key id in the header of what is signed."""
        return self._kid

    @property
    def thumbprint(self) -> str:
        """The thumbprint of the public key (RFC 7638): another one is another key, whatever the ``kid`` says."""
        return self._signer.thumbprint()

    @property
    def not_after(self) -> float | None:
        """Unix time when the key's certificate ends, or None."""
        return self._not_after

    async def sign(self, typ: str | None, claims: Mapping[str, Any]) -> str:
        """Make a compact JWS of *claims*. Raises LocalError ``signing_failed``."""
        header = {"kid": self._kid, "typ": typ}
        return await self._signer.sign({name: value for name, value in header.items() if value is not None}, claims)

    def public_jwk(self) -> dict[str, Any]:
        """Give the public key as a JWK (RFC 7517) to register."""
        public = {**self._signer.public_members(), "use": "sig", "alg": self.alg}
        return public if self._kid is None else public | {"kid": self._kid}

    def close(self) -> None:
        """Sign no more; what is being signed is finished."""
        self._signer.close()

    def __repr__(self) -> str:
        return f"SigningKey(name={self._name!r}, alg={self.alg!r}, kid={self._kid!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not serialized")


def load_signing_key(
    *,
    name: str,
    file: Path,
    alg: str,
    kid: str | None = None,
    passphrase_file: Path | None = None,
    cert_file: Path | None = None,
    wall_now: float = 0.0,
) -> SigningKey:
    """
    Read the private key in *file*, PEM or JWK, for *alg*, one of ``ALGORITHMS``.

    *kid* None means the JWK's own, or else the thumbprint (RFC 7638); an empty one means none at all. *cert_file*
    holds its certificate: it has to be for this key, and its dates to include *wall_now* (Unix seconds).
    Blocks; RSA takes some tens of milliseconds. Raises LocalError ``key_algorithm``, ``key_id``, or those
    of ``private_keys``, ``jwk``, ``files`` and, of the certificate, ``certificates``.
    """
    read = read_key(file=file, alg=alg, passphrase_file=passphrase_file)
    if kid and read.kid is not None and kid != read.kid:
        message = f"{file}: the JWK has another kid than the configuration of key {name}"
        raise LocalError("key_id", message, hint="remove one of them, or correct it")
    not_after = read.not_after if cert_file is None else _end_of_certificate(read, cert_file, file, wall_now)
    return SigningKey(name=name, alg=alg, kid=read.kid if kid is None else kid, not_after=not_after, key=read.key)


def _end_of_certificate(read: Jwk, cert_file: Path, file: Path, wall_now: float) -> float:
    """Give the end of the certificate of a key, which is looked at like one of ``identity``, but for its usage."""
    chain = certificates.read_chain(cert_file)
    if not same_key(certificates.public_key_of(chain[0]), read.key.public_key()):
        message = f"{cert_file} and {file}: the certificate is not for this private key"
        raise LocalError("certificate_mismatch", message, hint="do they come from the same request?")
    certificates.check_dates(chain, cert_file, wall_now=wall_now)
    return certificates.not_after(chain[0])


def read_key(*, file: Path, alg: str, passphrase_file: Path | None) -> Jwk:
    """Read the private key in *file* and see that it fits *alg*; as ``load_signing_key``."""
    read = _read(file, passphrase_file)
    _check_algorithm(read, alg, file)
    return read


def _read(path: Path, passphrase_file: Path | None) -> Jwk:
    content = read_private(path)
    if not content.lstrip().startswith(b"{"):
        return Jwk(key=parse_pem(content, path, passphrase_file))
    if passphrase_file is not None:
        message = f"{path}: a JWK is not encrypted"
        raise LocalError("key_not_encrypted", message, hint="remove passphrase, or use an encrypted PEM")
    return parse_jwk(content, path)


def _check_algorithm(read: Jwk, alg: str, path: Path) -> None:
    if alg not in ALGORITHMS:
        raise LocalError("key_algorithm", f"{path}: the algorithm is not one of {', '.join(ALGORITHMS)}")
    if read.alg is not None and _SAME_ALGORITHM.get(read.alg, read.alg) != alg:
        message = f"{path}: the JWK is for another algorithm than {alg}"
        raise LocalError("key_algorithm", message, hint="correct alg in the configuration, or in the JWK")
    what, fitting = _fitting(read.key)
    if alg not in fitting:
        hint = f"it can sign with {' or '.join(fitting)}" if fitting else "use P-256 and ES256"
        raise LocalError("key_algorithm", f"{path}: {what} cannot sign with {alg}", hint=hint)


def _fitting(key: PrivateKey) -> tuple[str, tuple[str, ...]]:
    """Say what kind of key it is, and which of our algorithms it can sign with."""
    match key:
        case rsa.RSAPrivateKey():
            return "an RSA key", ("PS256", "RS256")
        case ed25519.Ed25519PrivateKey():
            return "an Ed25519 key", ("EdDSA",)
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return "a P-256 key", ("ES256",)
        case _:
            return "a key on another curve than P-256", ()
