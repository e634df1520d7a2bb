"""What ``deploy/kubernetes/monitoring`` has for the Prometheus Operator: fields that it takes, and our alerts."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.deploy.manifests import BROKER, MONITORING, NATIVE, ORDINARY, Manifest, container, one, pod, rendered
from tests.deploy.operator_kinds import SCHEMAS
from tests.deploy.prometheus_rule import ALERTS, RULE, rule_of

RULES: Manifest = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PrometheusRule",
    "metadata": {"name": "rules"},
    "spec": {"groups": [{"name": "one", "rules": [{"alert": "Down", "expr": "up == 0", "for": "5m"}]}]},
}


def rule_changed(**changes: Any) -> Manifest:
    """Give ``RULES`` with another rule; None takes a field out."""
    rule = {**RULES["spec"]["groups"][0]["rules"][0], **changes}
    rule = {field: value for field, value in rule.items() if value is not None}
    return {**RULES, "spec": {"groups": [{"name": "one", "rules": [rule]}]}}


def test_the_kinds_of_the_operator_are_well_formed() -> None:
    """Each has a schema, and keeps to it."""
    manifests = rendered(MONITORING)

    assert {manifest["kind"] for manifest in manifests} == set(SCHEMAS)
    for manifest in manifests:
        jsonschema_rs.validate(SCHEMAS[manifest["kind"]], manifest)


@pytest.mark.parametrize(
    "wrong",
    [
        {"severity": "page"},
        {"for": "5 minutes"},
        {"for": 300},
        {"expr": None},
        {"alert": None},
        {"record": "a:b"},
        {"alert": "It is down"},
        {"labels": {"severity": 1}},
    ],
    ids=str,
)
def test_a_rule_that_the_operator_refuses_is_refused(wrong: dict[str, Any]) -> None:
    """The schema is as strict as the operator's."""
    jsonschema_rs.validate(SCHEMAS["PrometheusRule"], RULES)

    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMAS["PrometheusRule"], rule_changed(**wrong))


def test_a_field_that_a_pod_monitor_does_not_have_is_refused() -> None:
    """``port`` is at the endpoint."""
    monitor = one(rendered(MONITORING), "PodMonitor")
    monitor["spec"]["port"] = "metrics"

    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMAS["PodMonitor"], monitor)


@pytest.mark.parametrize("name", [*NATIVE, *ORDINARY])
def test_the_monitor_asks_at_the_port_of_the_broker(name: str) -> None:
    """By its name, which is what Prometheus finds it by."""
    (endpoint,) = one(rendered(MONITORING), "PodMonitor")["spec"]["podMetricsEndpoints"]

    (port,) = container(pod(rendered(name)), BROKER)["ports"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")


def test_the_rule_is_made_of_the_alerts() -> None:
    """One file of alerts is written by hand, the other by ``python -m tests.deploy.prometheus_rule``."""
    assert RULE.read_text() == rule_of(ALERTS.read_text())
    assert yaml.safe_load(RULE.read_text())["spec"]["groups"] == yaml.safe_load(ALERTS.read_text())["groups"]
