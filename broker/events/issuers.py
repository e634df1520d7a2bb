"""Authorization servers: what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker.events.event import Event, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataLoaded(Event):
    """The metadata of an issuer was fetched and accepted."""

    name: ClassVar[str] = "metadata_loaded"

    issuer: str
    token_endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRefused(Event):
    """The metadata of an issuer could not be fetched or was refused. *kept* says that an older one goes on serving."""

    name: ClassVar[str] = "metadata_refused"
    severity: ClassVar[Severity] = Severity.WARNING

    issuer: str
    reason: str
    hint: str | None
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxIssuerInUse(Event):
    """The configuration trusts an issuer that is a sandbox."""

    name: ClassVar[str] = "sandbox_issuer_in_use"
    severity: ClassVar[Severity] = Severity.WARNING
    audited: ClassVar[bool] = True

    issuer: str
