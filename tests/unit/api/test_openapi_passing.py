"""Calls of APIs are described: each method, and which answers are the broker's own."""

from __future__ import annotations

from typing import Any

from broker.api import problems
from broker.api.openapi_passing import ERROR, OURS, paths_of_calls, response_of_calls
from broker.api.passing import BY_GRANT, BY_NAME, METHODS
from broker.api.problems import ErrorCode
from broker.api.proxy_status import NAME
from tests.unit.api.conformance import api_document


def test_every_method_is_described_for_both_ways():
    """With the parameters of its path; those that may have a body say so."""
    for template, names in ((BY_NAME, ["upstream", "path"]), (BY_GRANT, ["id", "upstream", "path"])):
        operations: dict[str, Any] = paths_of_calls()[template]
        assert set(operations) == {method.lower() for method in METHODS}
        assert [one["name"] for one in operations["get"]["parameters"]] == names
        assert "requestBody" in operations["post"]
        assert "requestBody" not in operations["get"]


def test_the_brokers_own_answers_have_a_mark():
    """Required, so that programs can rely on it; the codes are all that it may have."""
    response = response_of_calls()

    assert response["headers"][NAME]["required"] is True
    schema = response["content"]["application/json"]["schema"]
    assert set(schema["properties"]["error"]["enum"]) == {str(code) for codes in OURS.values() for code in codes}
    assert ERROR in api_document()["components"]["responses"]


def test_what_is_refused_before_a_call_is_among_them():
    """By status and code."""
    for problem in (problems.NOT_PASSED_ON, problems.TOKEN_IN_QUERY, problems.TARGET_REFUSED, problems.DRAINING):
        assert ErrorCode(problem.error) in OURS[problem.status]
