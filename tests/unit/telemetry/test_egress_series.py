"""Calls of APIs are counted by a closed set of outcomes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from broker.events import EgressCalled
from broker.telemetry.egress_series import OUTCOMES, Calls
from tests.unit.telemetry.catalogue import example


def test_every_series_is_there_from_the_start_and_a_reason_is_a_failure():
    """So that an alert sees the first failure, and no server can make a label."""
    registry = CollectorRegistry()
    calls = Calls(registry)
    calls.expect(["api"])
    for outcome in ("ok", "timed_out", "whatever"):
        event = example(EgressCalled, outcome=outcome)
        assert isinstance(event, EgressCalled)
        calls.count(event, "api")

    page = generate_latest(registry).decode()
    assert 'token_broker_egress_total{outcome="ok",upstream="api"} 1.0' in page
    assert 'token_broker_egress_total{outcome="failed",upstream="api"} 2.0' in page
    assert page.count("token_broker_egress_total{") == len(OUTCOMES)
    assert 'token_broker_egress_duration_seconds_count{upstream="api"} 3.0' in page
