"""Reads what is needed of PromQL: which metrics and labels an expression uses. promtool says whether it is valid."""

from __future__ import annotations

import re
from collections.abc import Iterator

METRIC = re.compile(r"\b(token_broker_[a-z_]+|process_[a-z_]+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")

TARGET = {"job", "instance"}
"""Labels that Prometheus gives every series of a target."""

PART = re.compile(r"(?<=_seconds)_(?:bucket|count|sum)$")
"""What a histogram is written as."""


def metrics(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give each metric of *expression* by the name it is declared under, with the labels that are matched."""
    for written, matchers in METRIC.findall(expression):
        yield PART.sub("", written), dict(MATCHER.findall(matchers))


def groupings(expression: str) -> set[str]:
    """Give the labels that *expression* groups or joins by."""
    return {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",") if label.strip()}
