"""Which of its two forms a token is answered in (RFC 9110 section 12.5.1): JSON, or the bare token."""

from __future__ import annotations

import re
from collections.abc import Iterable

QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

JSON_RANGES = ("application/json", "application/*")


def prefers_plain_text(accept: Iterable[str]) -> bool:
    """
    Say whether the values of ``Accept`` ask for text/plain by name, and for JSON less.

    JSON wins a tie: the default of a common client is ``application/json, text/plain, */*``.
    """
    weights: dict[str, float] = {}
    for element in ",".join(accept).split(","):
        media_range, *parameters = (part.strip().lower() for part in element.split(";"))
        weights[media_range] = max(weights.get(media_range, 0.0), _weight(parameters))
    plain = weights.get("text/plain", 0.0)
    return plain > max(weights.get(media_range, 0.0) for media_range in JSON_RANGES)


def _weight(parameters: Iterable[str]) -> float:
    """Give the quality value; one that is not well-formed counts as nothing."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value.strip()) if QVALUE.fullmatch(value.strip()) else 0.0
    return 1.0
