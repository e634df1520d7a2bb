"""The alert rules: valid, tested one by one, about metrics that exist, and each explained in the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.telemetry.grant_series import STATES
from broker.telemetry.sink_series import HOOKS, WRITES
from broker.telemetry.token_series import SUCCESS
from tests.deploy import promql
from tests.unit.telemetry.catalogue import exposed

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = MONITORING / "alerts.yaml"
TESTS = sorted(MONITORING.glob("tests*.yaml"))
RUNBOOK = (ROOT / "docs" / "howto" / "runbook.md").read_text()

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
NAMES = [alert["alert"] for alert in ALERTS]

REQUIRED_BY_OPERATORS = {
    "TokenBrokerDown",
    "TokenBrokerTokenUnavailable",
    "TokenBrokerTokenExpiresSoon",
    "TokenBrokerRefreshFails",
    "TokenBrokerClientSuspended",
    "TokenBrokerClientSuspect",
    "TokenBrokerConsentMissing",
    "TokenBrokerConsentEndsSoon",
    "TokenBrokerCertificateEndsSoon",
    "TokenBrokerSigningCertificateEndsSoon",
    "TokenBrokerRotationRefused",
    "TokenBrokerStoreDegraded",
    "TokenBrokerAuditGap",
    "TokenBrokerLogLinesLost",
    "TokenBrokerUnexpectedFailure",
    "TokenBrokerConfigurationRefused",
    "TokenBrokerRestartPending",
    "TokenBrokerSandboxInUse",
}

MANY = 600
"""Tokens of a broker that is given a minute to fetch them: a tenth of a second for each."""


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool, which is in Debian's prometheus."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("there is no promtool (Debian, Ubuntu: apt-get install prometheus)")
    return subprocess.run((found, *arguments), capture_output=True, text=True, check=False)


def test_the_rules_are_valid() -> None:
    """As Prometheus itself checks them when it loads them."""
    done = promtool("check", "rules", RULES)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_the_alerts_come_when_they_should_and_only_then() -> None:
    """The unit tests beside the rules pass."""
    done = promtool("test", "rules", *TESTS)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_unit_test_in_which_it_fires(name: str) -> None:
    """Whoever adds an alert shows it."""
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]

    fires = [
        case
        for test in tests
        for case in test["promql_expr_test"]
        if case.get("exp_samples") and (f'alertname="{name}"' in case["expr"] or name in str(case["exp_samples"]))
    ]

    assert fires


@pytest.mark.parametrize(("at", "fires"), [("0m", False), ("4m", True)])
def test_a_start_with_many_tokens_is_given_its_time(tmp_path: Path, at: str, fires: bool) -> None:
    """In proportion to their number: all are missing at first, and after some minutes one is still."""
    available = [
        {
            "series": f'token_broker_token_available{{job="token-broker",instance="vm",token="t{number}"}}',
            "values": values,
        }
        for number, values in enumerate(["0x10"] + ["0 1x9"] * (MANY - 1))
    ]
    start = {"series": 'process_start_time_seconds{job="token-broker",instance="vm"}', "values": "0x10"}
    case = {
        "expr": 'count(ALERTS{alertname="TokenBrokerTokenUnavailable"})',
        "eval_time": at,
        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
    }
    written = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": [*available, start], "promql_expr_test": [case]}],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(written))

    done = promtool("test", "rules", tmp_path / "tests.yaml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_an_alert_for_everything_that_operators_have_to_know() -> None:
    """Others may be added, and none of these goes away or changes its name unnoticed."""
    assert set(NAMES) >= REQUIRED_BY_OPERATORS
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_every_alert_is_about_metrics_and_labels_that_exist(alert: dict[str, Any]) -> None:
    """Names come from the registry of the code."""
    known = exposed()

    used = list(promql.metrics(alert["expr"]))
    labels = set().union(*(known[name][1] for name, _ in used)) | promql.TARGET
    assert used or alert["expr"].startswith("up{")
    for name, matched in used:
        assert set(matched) <= known[name][1]
        assert {matched[label] for label in matched if label == "outcome"} <= {SUCCESS, *WRITES, *HOOKS}
        assert {matched[label] for label in matched if label == "state"} <= set(STATES)
    assert promql.groupings(alert["expr"]) <= labels
    assert set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"]))) <= labels


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_every_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """And the address of its paragraph is that of a heading of the runbook."""
    annotations = alert["annotations"]

    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert "$labels.instance" in annotations["summary"] + annotations["description"]
    assert annotations["runbook_url"].endswith(f"/howto/runbook.html#{alert['alert'].lower()}")


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert() -> None:
    """In the same order, each with what it means, who notices, what to look at and what to do."""
    _, *paragraphs = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)

    assert [paragraph.splitlines()[0] for paragraph in paragraphs] == NAMES
    for paragraph in paragraphs:
        assert re.findall(r"^- \*\*(\w+(?: at)?)\*\*: ", paragraph, re.MULTILINE) == [
            "Meaning",
            "Noticed",
            "Look at",
            "Do",
        ]


def test_every_wait_has_its_reason() -> None:
    """A comment stands above each ``for``."""
    lines = RULES.read_text().splitlines()

    bare = [
        lines[number] for number in range(len(lines)) if " for: " in lines[number] and "# " not in lines[number - 1]
    ]

    assert bare == []
