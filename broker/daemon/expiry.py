"""Says ahead of time that a certificate ends: each warning once in the life of the process."""

from __future__ import annotations

from collections.abc import Iterator

from broker.events import CertificateExpiring, SigningKeyExpiring, TokenEndsWithCertificate
from broker.keys.identity import TransportCertificate
from broker.wiring import Parts

AHEAD = (30 * 86_400.0, 7 * 86_400.0, 86_400.0, 3_600.0)
"""Seconds before the end: time to order a certificate, to ask where it is, to hurry, and to wake somebody."""

LONGEST_SHARE = 1.0 / 3.0
"""
Of the life of a certificate: a warning further ahead would come while all is well.

Those that are renewed by a machine are so after two thirds of their life, usually.
"""

LAST_SHARE = 0.1
"""Of the life of a certificate so short that none of ``AHEAD`` is left: it is warned about so long before its end."""

LIMITING = 86_400.0
"""Seconds before the end of a certificate from which on tokens are looked at that it may cut short."""


class Expiry:
    """Looks at what is in force; remembers what was said of which certificate."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._said: dict[tuple[str, float], float] = {}
        self._limited: set[tuple[str, str]] = set()

    def look(self) -> None:
        """Say what is to be said now."""
        wall, identities = self._parts.clock.wall(), self._parts.identities
        for name, certificate in identities.certificates.items():
            left = certificate.not_after - wall
            if self._is_new(f"certificate.{name}", certificate.not_after, left, steps_of(certificate)):
                self._parts.emit(
                    CertificateExpiring(
                        certificate=name,
                        thumbprint=certificate.thumbprint,
                        not_after=certificate.not_after,
                        expires_in=left,
                    )
                )
        for name, key in identities.keys.items():
            if key.not_after is None:
                continue
            left = key.not_after - wall
            if self._is_new(f"key.{name}", key.not_after, left, AHEAD):
                self._parts.emit(SigningKeyExpiring(key=name, kid=key.kid, not_after=key.not_after, expires_in=left))
        ending = {one.thumbprint: one for one in self._ending(wall)}
        if ending:
            self._look_at_tokens(ending)

    def _is_new(self, what: str, end: float, left: float, steps: tuple[float, ...]) -> bool:
        """Say whether a step is reached that nothing was said of yet; also when it is past the end."""
        reached = [step for step in steps if left <= step]
        if not reached or min(reached) >= self._said.get((what, end), float("inf")):
            return False
        self._said[what, end] = min(reached)
        return True

    def _ending(self, wall: float) -> Iterator[TransportCertificate]:
        """Give the certificates in force that end soon."""
        for certificate in self._parts.identities.certificates.values():
            if wall < certificate.not_after <= wall + LIMITING:
                yield certificate

    def _look_at_tokens(self, ending: dict[str, TransportCertificate]) -> None:
        """Name each token once that would live longer than the certificate that it is bound to."""
        for name, token in self._parts.life.in_hand():
            certificate = ending.get(token.certificate_thumbprint or "")
            if certificate is None or not token.ends_with_certificate:
                continue
            if (name, certificate.thumbprint) in self._limited:
                continue
            self._limited.add((name, certificate.thumbprint))
            self._parts.emit(
                TokenEndsWithCertificate(
                    token=name,
                    certificate=certificate.name,
                    thumbprint=certificate.thumbprint,
                    not_after=certificate.not_after,
                )
            )


def steps_of(certificate: TransportCertificate) -> tuple[float, ...]:
    """Give how many seconds before its end a certificate is warned about."""
    life = certificate.not_after - certificate.not_before
    return tuple(step for step in AHEAD if step < life * LONGEST_SHARE) or (life * LAST_SHARE,)
