"""Metrics of certificates and signing keys: when they end, how often they were replaced, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Gauge

from broker import events


class FileSeries:
    """The gauges; a series is there for what the configuration names, and nothing else."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._certificates = Gauge(
            "token_broker_certificate_not_after_timestamp_seconds",
            "Unix time when a transport certificate expires.",
            ("certificate",),
            registry=registry,
        )
        self._generations = Gauge(
            "token_broker_certificate_generation",
            "How many contents of a transport certificate were in use since the start; it goes up with each.",
            ("certificate",),
            registry=registry,
        )
        self._keys = Gauge(
            "token_broker_key_not_after_timestamp_seconds",
            "Unix time when the certificate of a signing key expires; only for keys that have one.",
            ("key",),
            registry=registry,
        )
        self._refused = Gauge(
            "token_broker_rotation_refused",
            "Sections whose files changed and cannot be used: what they held before is in use.",
            registry=registry,
        )
        self._refused_items: set[str] = set()
        self._known: tuple[set[str], set[str]] = (set(), set())

    def expect(self, certificates: Iterable[str], keys: Iterable[str]) -> None:
        """Take in the names of the configuration; series of others disappear."""
        before, self._known = self._known, (set(certificates), set(keys))
        for gone in before[0] - self._known[0]:
            _remove(self._certificates, gone)
            _remove(self._generations, gone)
        for gone in before[1] - self._known[1]:
            _remove(self._keys, gone)

    def certificate(self, event: events.CertificateLoaded) -> None:
        """Take in a certificate that is in use."""
        if event.certificate in self._known[0]:
            self._certificates.labels(event.certificate).set(event.not_after)
            self._generations.labels(event.certificate).set(event.generation)

    def key(self, event: events.SigningKeyLoaded) -> None:
        """Take in a key that is in use; one that has no certificate has no end either."""
        if event.not_after is None:
            _remove(self._keys, event.key)
        elif event.key in self._known[1]:
            self._keys.labels(event.key).set(event.not_after)

    def refused(self, event: events.RotationRefused) -> None:
        """Take in that new files cannot be used."""
        self._refused_items.add(event.item)
        self._refused.set(len(self._refused_items))

    def mended(self, event: events.RotationMended) -> None:
        """Take in that they can, or are gone."""
        self._refused_items.discard(event.item)
        self._refused.set(len(self._refused_items))


def _remove(gauge: Gauge, name: str) -> None:
    with suppress(KeyError):  # some releases of the library raise for a series that is not there, others do not
        gauge.remove(name)
