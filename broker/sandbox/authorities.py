"""
The certificate authorities of a sandbox, one after the other, and the certificates that they issue.

A change of authority has steps, as it has at a real server: the next one is announced in the file that clients
trust, then the server's certificates are replaced, then the old one leaves that file, and client certificates of
the old one are believed no more. Open connections go on as they are. Blocking, but quick enough for the event
loop to wait for it: files and keys belong together at every handshake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from broker.sandbox.authority import (
    Credential,
    certificate_thumbprint,
    certify_client,
    issue_client,
    make_authority,
    moment,
)
from broker.sandbox.layout import (
    CA,
    CLIENTS_CA,
    SERVER,
    certify_server,
    write_credential,
    write_public,
)

_NAME = re.compile(r"(?!signing-|(?:ca|audit|store)$)[a-z][a-z0-9-]{0,40}")
"""Of a file with a client certificate: none that the sandbox has another use for."""


class Step(StrEnum):
    """What happens to the server's certificates and to those who vouch for them."""

    RENEW = "renew"
    """New server certificates of the same authority."""
    ANNOUNCE = "announce"
    """A new authority is in the file that clients trust, beside those before it."""
    SWITCH = "switch"
    """It issues all certificates from now on, the server's are replaced. Announced, if it was not yet."""
    WITHDRAW = "withdraw"
    """The earlier ones leave the file that clients trust; one that is announced stays."""
    DISTRUST = "distrust"
    """Client certificates that the earlier ones issued are believed no more."""


class CertificateRefusedError(ValueError):
    """A client certificate cannot be issued; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A client certificate and where it lies; *key_file* is None if the key is somebody else's."""

    certificate: x509.Certificate
    cert_file: Path
    key_file: Path | None

    def pem(self) -> bytes:
        """Give it as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def thumbprint(self) -> str:
        """Give its ``x5t#S256``."""
        return certificate_thumbprint(self.certificate.public_bytes(serialization.Encoding.DER))


@dataclass(slots=True, kw_only=True)
class Authorities:
    """
    The *current* authority of the sandbox in *directory*, and one that was *announced*.

    *generation* counts the changes that new handshakes have to see.
    """

    directory: Path
    current: Credential
    announced: Credential | None = None
    generation: int = 0
    _trusted: list[x509.Certificate] = field(default_factory=list)
    _believed: list[x509.Certificate] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path, current: Credential) -> Authorities:
        """Go on with what an earlier run left in *directory*."""
        trusted = x509.load_pem_x509_certificates((directory / CA).read_bytes())
        believed = x509.load_pem_x509_certificates((directory / SERVER / CLIENTS_CA).read_bytes())
        return cls(directory=directory, current=current, _trusted=trusted, _believed=believed)

    def take(self, step: Step, *, now: float) -> None:
        """Take one step; *now* in Unix seconds."""
        match step:
            case Step.RENEW:
                self._certify_server(now)
            case Step.ANNOUNCE:
                self._announce(now)
            case Step.SWITCH:
                self._switch(now)
            case Step.WITHDRAW:
                coming = [] if self.announced is None else [self.announced.certificate]
                self._trusted = [self.current.certificate, *coming]
            case Step.DISTRUST:
                self._believed = [self.current.certificate]
        write_public(self.directory / CA, _pem(self._trusted))
        write_public(self.directory / SERVER / CLIENTS_CA, _pem(self._believed))
        self.generation += 1

    def issue_client(
        self,
        name: str,
        *,
        now: float,
        common_name: str | None = None,
        lifetime: timedelta | None = None,
        request: bytes | None = None,
    ) -> Issued:
        """
        Issue a client certificate and write it to ``NAME.pem`` and ``NAME.key``, replacing both.

        *common_name* is *name* unless given. With a *request* (PKCS#10, PEM) the key is the one that it proves
        to be held, its subject is not looked at, and a ``NAME.key`` that is another one is removed.
        Raises CertificateRefusedError.
        """
        if not _NAME.fullmatch(name):
            raise CertificateRefusedError("name: must be lower-case letters, digits and hyphens, and none of our files")
        stem, subject, today = self.directory / name, common_name or name, moment(now)
        lives = {} if lifetime is None else {"lifetime": lifetime}
        cert_file, key_file = stem.with_name(f"{name}.pem"), stem.with_name(f"{name}.key")
        if request is None:
            made = issue_client(self.current, now=today, common_name=subject, **lives)
            write_credential(stem, made)
            return Issued(certificate=made.certificate, cert_file=cert_file, key_file=key_file)
        try:
            asked = x509.load_pem_x509_csr(request)
            certificate = certify_client(self.current, asked, now=today, common_name=subject, **lives)
        except ValueError:
            raise CertificateRefusedError("csr: not a certificate request that is signed by its own key") from None
        issued = Issued(certificate=certificate, cert_file=cert_file, key_file=None)
        if key_file.exists() and not _is_key_of(key_file, certificate):
            key_file.unlink()
        write_public(cert_file, issued.pem())
        return issued

    def _announce(self, now: float) -> None:
        self.announced = make_authority(moment(now))
        self._trusted.append(self.announced.certificate)

    def _switch(self, now: float) -> None:
        if self.announced is None:
            self._announce(now)
        assert self.announced is not None
        self.current, self.announced = self.announced, None
        self._believed.append(self.current.certificate)
        write_credential(self.directory / SERVER / "ca", self.current)
        self._certify_server(now)

    def _certify_server(self, now: float) -> None:
        certify_server(self.directory / SERVER, self.current, now=now)


def _is_key_of(key_file: Path, certificate: x509.Certificate) -> bool:
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key()


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
