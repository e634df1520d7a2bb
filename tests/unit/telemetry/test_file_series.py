from __future__ import annotations

from prometheus_client import CollectorRegistry

from broker import events
from broker.telemetry.file_series import FileSeries

CERTIFICATE = events.CertificateLoaded(certificate="t", generation=3, thumbprint="x", not_after=9.0)
KEY = events.SigningKeyLoaded(key="k", alg="ES256", kid=None, not_after=7.0)


def values(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.name.removeprefix("token_broker_")
        + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def series() -> tuple[FileSeries, CollectorRegistry]:
    registry = CollectorRegistry()
    made = FileSeries(registry)
    made.expect(["t"], ["k"])
    return made, registry


def test_a_certificate_has_its_end_and_its_generation():
    """And a key has the end of its certificate."""
    made, registry = series()

    made.certificate(CERTIFICATE)
    made.key(KEY)

    assert values(registry) == {
        "certificate_not_after_timestamp_seconds t": 9.0,
        "certificate_generation t": 3.0,
        "key_not_after_timestamp_seconds k": 7.0,
        "rotation_refused": 0.0,
    }


def test_what_is_not_configured_any_more_has_no_series():
    """Nor has a key whose successor came without a certificate, or what was never configured."""
    made, registry = series()
    made.certificate(CERTIFICATE)
    made.key(KEY)

    made.key(events.SigningKeyLoaded(key="k", alg="ES256", kid=None, not_after=None))
    made.expect([], ["k"])
    made.certificate(CERTIFICATE)
    made.key(events.SigningKeyLoaded(key="other", alg="ES256", kid=None, not_after=1.0))
    made.expect([], [])

    assert values(registry) == {"rotation_refused": 0.0}


def test_refused_sections_are_counted_until_they_are_mended():
    """Each once, however often it is said of it."""
    made, registry = series()
    counts = []

    for item, reason in (("a", "x"), ("a", "y"), ("b", "x")):
        made.refused(events.RotationRefused(item=item, reason=reason, problem=""))
        counts.append(values(registry)["rotation_refused"])
    for item in ("a", "b", "b"):
        made.mended(events.RotationMended(item=item))
        counts.append(values(registry)["rotation_refused"])

    assert counts == [1, 1, 2, 1, 0, 0]
