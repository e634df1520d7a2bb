"""
The kinds of the Prometheus Operator that ``deploy/`` uses, as JSON Schemas of the fields that it uses.

Their own schemas are in no package. These are strict: a field that is not here is refused, so that a slip of the pen is
found; whoever uses another field adds it, from https://prometheus-operator.dev/docs/api-reference/api/.
"""

from __future__ import annotations

from typing import Any

DURATION = {"type": "string", "pattern": r"^(0|([0-9]+(ms|s|m|h|d|w|y))+)$"}

LABELS = {"type": "object", "additionalProperties": {"type": "string"}}

NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}


def _closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _kind(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _closed(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": kind},
        metadata=_closed(("name",), name=NAME, namespace=NAME, labels=LABELS, annotations=LABELS),
        spec=spec,
    )


_ENDPOINT = _closed(
    ("port",),
    port={"type": "string"},
    path={"type": "string", "pattern": "^/"},
    interval=DURATION,
    scrapeTimeout=DURATION,
    scheme={"enum": ["http", "https"]},
)

_RULE = _closed(
    ("expr",),
    alert={"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    record={"type": "string", "pattern": "^[a-zA-Z_:][a-zA-Z0-9_:]*$"},
    expr={"type": "string", "minLength": 1},
    keep_firing_for=DURATION,
    labels=LABELS,
    annotations=LABELS,
    **{"for": DURATION},
)
_RULE["oneOf"] = [{"required": ["alert"]}, {"required": ["record"]}]

_GROUP = _closed(
    ("name", "rules"),
    name={"type": "string", "minLength": 1},
    interval=DURATION,
    rules={"type": "array", "minItems": 1, "items": _RULE},
)

SCHEMAS = {
    "PodMonitor": _kind(
        "PodMonitor",
        _closed(
            ("selector", "podMetricsEndpoints"),
            selector=_closed((), matchLabels=LABELS),
            namespaceSelector=_closed((), any={"type": "boolean"}, matchNames={"type": "array", "items": NAME}),
            podMetricsEndpoints={"type": "array", "minItems": 1, "items": _ENDPOINT},
        ),
    ),
    "PrometheusRule": _kind(
        "PrometheusRule", _closed(("groups",), groups={"type": "array", "minItems": 1, "items": _GROUP})
    ),
}
