"""Certificates and signing keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateLoaded(Event):
    """A transport certificate is in use; *not_after* in Unix seconds, *thumbprint* is ``x5t#S256``."""

    name: ClassVar[str] = "certificate_loaded"
    audited: ClassVar[bool] = True

    certificate: str
    generation: int
    thumbprint: str
    not_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyLoaded(Event):
    """A signing key is in use; *not_after* in Unix seconds where the key came with a certificate."""

    name: ClassVar[str] = "signing_key_loaded"
    audited: ClassVar[bool] = True

    key: str
    alg: str
    kid: str | None
    not_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyPublished(Event):
    """A new signing key is in the client's key set; it signs after *signs_in* seconds, and the older one until then."""

    name: ClassVar[str] = "signing_key_published"
    audited: ClassVar[bool] = True

    key: str
    alg: str
    kid: str | None
    signs_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRetired(Event):
    """
    No token is bound to an earlier generation of a certificate any more, and no connection presents it.

    *reason* is ``unused``, ``expired`` or ``compromised``.
    """

    name: ClassVar[str] = "certificate_retired"
    audited: ClassVar[bool] = True

    certificate: str
    generation: int
    thumbprint: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateExpiring(Event):
    """A transport certificate ends in *expires_in* seconds, and no other one is in its place yet."""

    name: ClassVar[str] = "certificate_expiring"
    severity: ClassVar[Severity] = Severity.WARNING

    certificate: str
    thumbprint: str
    not_after: float
    expires_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyExpiring(Event):
    """The certificate of a signing key ends in *expires_in* seconds, and no other one is in its place yet."""

    name: ClassVar[str] = "signing_key_expiring"
    severity: ClassVar[Severity] = Severity.WARNING

    key: str
    kid: str | None
    not_after: float
    expires_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndsWithCertificate(Event):
    """A token would live longer than the certificate that it is bound to: it ends at *not_after*, with that."""

    name: ClassVar[str] = "token_ends_with_certificate"
    severity: ClassVar[Severity] = Severity.WARNING

    token: str
    certificate: str
    thumbprint: str
    not_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DpopKeyInUse(Event):
    """Tokens of *client* are bound to a DPoP key from now on; *thumbprint* is its ``jkt`` (RFC 7638)."""

    name: ClassVar[str] = "dpop_key_in_use"
    audited: ClassVar[bool] = True

    client: str
    alg: str
    thumbprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DpopKeyUnreadable(Event):
    """
    The DPoP key of *client* in the store is not understood, and left as it is: *record* is its name.

    Another one is used, which is gone with the process; no consent or grant is bound to it that would be lost then.
    """

    name: ClassVar[str] = "dpop_key_unreadable"
    severity: ClassVar[Severity] = Severity.ERROR
    audited: ClassVar[bool] = True

    client: str
    record: str
