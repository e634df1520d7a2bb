"""
Each key has one purpose (SEC-07): what signs proofs of DPoP signs nothing else, and belongs to one client.

The configuration is held to that by names (``config.dpop_combinations``). This is the same by what the files hold:
a copy of a file is the same key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.errors import LocalError
from broker.keys.identity import TransportCertificate
from broker.keys.proof_key import ProofKey
from broker.keys.signer import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A DPoP key that another section has, too: *sections* names both, its own first."""

    sections: tuple[str, str]
    error: LocalError


def shared_keys(
    certificates: Mapping[str, TransportCertificate],
    signing: Mapping[str, SigningKey],
    proving: Mapping[str, ProofKey],
) -> tuple[Shared, ...]:
    """Find the keys of *proving* that have another purpose; all are given by the names of their sections."""
    if not proving:
        return ()
    known = {f"certificate.{name}": one.key_thumbprint for name, one in certificates.items()}
    known |= {f"key.{name}": key.thumbprint for name, key in signing.items()}
    found: list[Shared] = []
    for name, key in proving.items():
        section = f"key.{name}"
        found += [_shared(section, other) for other, thumbprint in known.items() if thumbprint == key.jkt]
        known[section] = key.jkt
    return tuple(found)


def _shared(section: str, other: str) -> Shared:
    message = f"[{section}] and [{other}] hold the same key: what signs proofs of DPoP must sign nothing else"
    hint = "make another key for one of them; without dpop_key the broker makes one"
    return Shared(sections=(section, other), error=LocalError("key_shared", message, hint=hint))
