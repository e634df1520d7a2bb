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
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: token-broker
  labels:
    app.kubernetes.io/name: token-broker
spec:
"""


def rule_of(alerts: str) -> str:
    """Give the text of the PrometheusRule: what is in the file of the alerts, comments included, two columns in."""
    lines = [f"  {line}" if line else "" for line in alerts.splitlines()]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    RULE.write_text(rule_of(ALERTS.read_text()))
