"""
The alerts of ``deploy/monitoring/alerts.yaml`` as the Prometheus Operator takes them.

``python -m tests.deploy.prometheus_rule`` writes the file anew; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]

ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yaml"

RULE = ROOT / "deploy" / "kubernetes" / "monitoring" / "prometheusrule.yaml"

HEAD = """\
# Made of deploy/monitoring/alerts.yaml, which is the file to change: python -m tests.deploy.prometheus_rule
# Its head says what the severities mean. The links to the runbook want the address of your copy of the documentation:
# docs/howto/kubernetes.md, "Monitoring", has the line that puts it in.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: token-broker
  labels:
    app.kubernetes.io/name: token-broker
spec:
"""


def rule_of(alerts: str) -> str:
    """Give the text of the PrometheusRule: the groups of the alerts, comments included, two columns in."""
    groups = alerts[alerts.index("groups:\n") :]  # what stands before is about files of rules
    lines = [f"  {line}" if line else "" for line in groups.splitlines()]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    RULE.write_text(rule_of(ALERTS.read_text()))
