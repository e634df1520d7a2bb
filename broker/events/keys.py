"""Certificates and signing keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event


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
