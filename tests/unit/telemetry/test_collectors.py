from __future__ import annotations

from prometheus_client import Counter, generate_latest

from broker.telemetry import collectors


def test_counters_come_without_the_time_of_their_making():
    """It doubles the page and serves nobody here."""
    registry = collectors.Registry()
    Counter("things", "Things.", registry=registry).inc()

    page = generate_latest(registry).decode()

    assert "things_total 1.0" in page
    assert "_created" not in page
