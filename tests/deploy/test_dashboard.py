"""
The dashboard: of the shape that Grafana loads, its expressions valid, and about metrics that exist.

Grafana publishes its model as types for TypeScript, and no JSON schema; what matters of it is written down here.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from broker.telemetry.egress_series import OUTCOMES
from broker.telemetry.grant_series import STATES
from broker.telemetry.metrics import CONSENT_OUTCOMES, REFRESH_OUTCOMES, REQUEST_OUTCOMES
from tests.deploy import promql
from tests.deploy.test_alerts import promtool
from tests.unit.telemetry.catalogue import exposed

FILE = Path(__file__).parents[2] / "deploy" / "monitoring" / "dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TITLES = [panel["title"] for panel in PANELS]

ROWS = [
    "Now",
    "Tokens",
    "Refreshes",
    "Callers",
    "Egress: calls of APIs",
    "Certificates and keys",
    "Consents",
    "Token files",
    "Store and audit",
    "Process",
]

DATA_SOURCE = {
    "type": "object",
    "required": ["type", "uid"],
    "additionalProperties": False,
    "properties": {"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}},
}
"""A variable: the identifier of a data source belongs to one Grafana."""

GRID = {
    "type": "object",
    "required": ["h", "w", "x", "y"],
    "additionalProperties": False,
    "properties": {
        "h": {"type": "integer", "minimum": 1},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": {"type": "integer", "minimum": 0},
    },
}

TARGET = {
    "type": "object",
    "required": ["datasource", "refId", "expr", "legendFormat", "instant", "range"],
    "additionalProperties": False,
    "properties": {
        "datasource": DATA_SOURCE,
        "refId": {"type": "string", "pattern": "^[A-Z]$"},
        "expr": {"type": "string", "minLength": 1},
        "legendFormat": {"type": "string"},
        "format": {"enum": ["table", "time_series"]},
        "instant": {"type": "boolean"},
        "range": {"type": "boolean"},
        "editorMode": {"enum": ["code", "builder"]},
    },
}

THRESHOLDS = {
    "type": "object",
    "required": ["mode", "steps"],
    "properties": {
        "mode": {"const": "absolute"},
        "steps": {
            "type": "array",
            "minItems": 1,
            "prefixItems": [{"properties": {"value": {"type": "null"}}}],
            "items": {"type": "object", "required": ["color", "value"]},
        },
    },
}
"""The first step is what is below all others, and has no value."""

UNITS = ["none", "short", "s", "bytes", "percentunit", "reqps"]
"""Of the units of Grafana, those that are used: a misspelt one is shown as a suffix, without an error."""

PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "description", "datasource", "targets", "gridPos", "fieldConfig", "options"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "type": {"enum": ["stat", "timeseries", "table"]},
        "title": {"type": "string", "minLength": 1},
        "description": {"type": "string", "pattern": r"\.$"},
        "datasource": DATA_SOURCE,
        "targets": {"type": "array", "minItems": 1, "items": TARGET},
        "gridPos": GRID,
        "fieldConfig": {
            "type": "object",
            "required": ["defaults", "overrides"],
            "additionalProperties": False,
            "properties": {
                "defaults": {
                    "type": "object",
                    "required": ["unit", "thresholds", "color", "mappings"],
                    "properties": {"unit": {"enum": UNITS}, "thresholds": THRESHOLDS},
                },
                "overrides": {
                    "type": "array",
                    "items": {"type": "object", "required": ["matcher", "properties"]},
                },
            },
        },
        "options": {"type": "object"},
        "transformations": {"type": "array", "items": {"type": "object", "required": ["id", "options"]}},
    },
}

ROW = {
    "type": "object",
    "required": ["id", "type", "title", "collapsed", "gridPos", "panels"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "type": {"const": "row"},
        "title": {"enum": ROWS},
        "collapsed": {"const": False},
        "gridPos": GRID,
        "panels": {"type": "array", "maxItems": 0},
    },
}

VARIABLE = {
    "type": "object",
    "required": ["name", "label", "type", "query", "current", "options", "refresh", "multi", "includeAll"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "type": {"enum": ["datasource", "query"]},
        "current": {"type": "object", "maxProperties": 0},
        "options": {"type": "array", "maxItems": 0},
    },
    "if": {"properties": {"type": {"const": "query"}}},
    "then": {"required": ["datasource", "definition"], "properties": {"datasource": DATA_SOURCE}},
}
"""With nothing chosen: what was chosen belongs to one Grafana."""

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "uid", "title", "schemaVersion", "version", "panels", "templating", "annotations", "time"],
    "properties": {
        "id": {"type": "null"},
        "uid": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,40}$"},
        "title": {"type": "string", "minLength": 1},
        "schemaVersion": {"type": "integer", "minimum": 39, "maximum": 42},
        "panels": {
            "type": "array",
            "minItems": 1,
            "items": {"if": {"properties": {"type": {"const": "row"}}}, "then": ROW, "else": PANEL},
        },
        "templating": {
            "type": "object",
            "required": ["list"],
            "properties": {"list": {"type": "array", "items": VARIABLE}},
        },
        "annotations": {
            "type": "object",
            "required": ["list"],
            "properties": {
                "list": {
                    "type": "array",
                    "items": {"required": ["datasource"], "properties": {"datasource": DATA_SOURCE}},
                }
            },
        },
        "time": {"type": "object", "required": ["from", "to"]},
        "__inputs": False,
        "__requires": False,
    },
}
"""The model of Grafana 11.0 (39) to 12 (42), as far as this dashboard uses it; `id` is given by each Grafana."""


def expressions() -> list[str]:
    """Give all expressions, with variables filled in as Grafana does."""
    panels = [target["expr"] for panel in PANELS for target in panel["targets"]]
    others = [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
    filled = [expr.replace("$__rate_interval", "2m") for expr in panels + others]
    return [re.sub(r"\$(job|instance)\b", ".+", expr) for expr in filled]


def test_grafana_can_load_it() -> None:
    """It is of the shape of its model, and bound to no Grafana and no data source."""
    problems = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(DASHBOARD)
    ]

    assert problems == []


def test_it_has_a_row_for_each_question() -> None:
    """In the order in which they are asked, and none is empty."""
    kinds = [panel["type"] for panel in DASHBOARD["panels"]]

    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    assert ("row", "row") not in itertools.pairwise(kinds)
    assert kinds[-1] != "row"


def test_every_expression_is_valid(tmp_path: Path) -> None:
    """As Prometheus parses it: promtool checks them as rules that are recorded."""
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = promtool("check", "rules", file)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("panel", PANELS, ids=TITLES)
def test_every_panel_is_about_metrics_and_labels_that_exist(panel: dict[str, Any]) -> None:
    """Names come from the registry of the code, words from its closed sets."""
    known = exposed()
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    words = {*OUTCOMES, *STATES, *CONSENT_OUTCOMES.values(), *REFRESH_OUTCOMES, *REQUEST_OUTCOMES}

    for target in panel["targets"]:
        used = list(promql.metrics(target["expr"]))
        labels = set().union(*(known[name][1] for name, _ in used)) | promql.TARGET
        assert used or target["expr"].startswith("sum(up{")
        assert promql.groupings(target["expr"]) <= labels | {"le"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
        for name, matched in used:
            assert set(matched) <= known[name][1] | promql.TARGET
            chosen = [matched[label] for label in matched if label not in promql.TARGET]
            assert {word for value in chosen for word in value.split("|")} <= words
        for matched in re.findall(r"\{([^}]*)\}", target["expr"]):
            assert 'job=~"$job",instance=~"$instance"' in matched
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}


def test_every_metric_of_the_broker_is_on_it() -> None:
    """Or its absence is meant."""
    shown = {name for expr in expressions() for name, _ in promql.metrics(expr)}

    missing = {name for name in exposed() if name.startswith("token_broker_")} - shown

    assert missing == set()


def test_panels_do_not_overlap_and_leave_no_hole() -> None:
    """Every cell of the grid that a row of panels spans belongs to exactly one."""
    cells = [
        (grid["x"] + right, grid["y"] + down)
        for grid in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for right in range(grid["w"])
        for down in range(grid["h"])
    ]

    assert len(cells) == len(set(cells))
    assert set(cells) == {(x, y) for x in range(24) for y in range(max(y for _, y in cells) + 1)}


def test_everything_has_a_name_of_its_own() -> None:
    """Panels by their number and title, targets of a panel by their letter."""
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(set(numbers)) == len(numbers)
    assert len(set(TITLES)) == len(TITLES)
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_a_schema_that_nothing_breaks_would_show_nothing() -> None:
    """What Grafana exports with the identifiers of an instance is refused."""
    validator = jsonschema_rs.validator_for(SCHEMA)
    bound = json.loads(FILE.read_text().replace("${datasource}", "P1809F7CD0C75ACF3"))
    kept = DASHBOARD | {"id": 17}

    assert not validator.is_valid(bound)
    assert not validator.is_valid(kept)
