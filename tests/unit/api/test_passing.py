"""Which requests are passed on to an API, and which of those are none that could be."""

from __future__ import annotations

from typing import Any

import pytest

from broker.api import problems
from broker.api.guard import Incoming
from broker.api.passing import BY_BASE_URL, BY_GRANT, BY_NAME, Passage, check_passage, is_passed_on, passage_of
from broker.api.problems import Problem, ProblemError


def incoming(**changes: Any) -> Incoming:
    members: dict[str, Any] = {
        "method": "GET",
        "target": "/v1/egress/api/a",
        "version": (1, 1),
        "headers": (),
        "head_size": 10,
        "has_body": False,
        "content_length": None,
    }
    return Incoming(**{**members, **changes})


@pytest.mark.parametrize(
    ("path", "passage"),
    [
        ("/v1/egress/api/a/b", Passage(route=BY_NAME, upstream="api", path="/a/b", query="q")),
        ("/v1/egress/api/", Passage(route=BY_NAME, upstream="api", path="/", query="q")),
        ("/v1/egress/a%20b/x", Passage(route=BY_NAME, upstream="a%20b", path="/x", query="q")),
        ("/v1/grants/g/egress/api/a", Passage(route=BY_GRANT, grant="g", upstream="api", path="/a", query="q")),
    ],
)
def test_a_path_leads_to_an_api(path: str, passage: Passage):
    """By name, or by grant and name; the rest is the API's, as it stands."""
    assert is_passed_on(f"{path}?q", None)
    assert passage_of(path, "q", base=None) == passage


@pytest.mark.parametrize("path", ["/v1/egress/api", "/v1/egress/", "/v1/egress//a"])
def test_a_path_without_an_api_or_a_path_is_no_route(path: str):
    """It is not passed on to another place."""
    with pytest.raises(ProblemError) as raised:
        passage_of(path, "", base=None)

    assert raised.value.problem is problems.ROUTE_UNKNOWN


@pytest.mark.parametrize(
    "target", ["/v1/tokens", "/v1/egressed/api/a", "/v1/grants/g/token", "/", "/v1/grants/g/egress"]
)
def test_the_brokers_own_routes_are_not_passed_on(target: str):
    """But for a listener that stands for an API, where there are none."""
    assert not is_passed_on(target, None)
    assert is_passed_on(target, "api")
    assert passage_of(target, "", base="api") == Passage(route=BY_BASE_URL, upstream="api", path=target, query="")


@pytest.mark.parametrize(
    ("changes", "path", "query", "problem"),
    [
        ({"method": "TRACE"}, "/a", "", problems.NOT_PASSED_ON),
        ({"method": "CONNECT"}, "/a", "", problems.NOT_PASSED_ON),
        ({"method": "PROPFIND"}, "/a", "", problems.NOT_PASSED_ON),
        ({"headers": (("Upgrade", "websocket"),)}, "/a", "", problems.NOT_PASSED_ON),
        ({"headers": (("HTTP2-Settings", "x"),)}, "/a", "", problems.NOT_PASSED_ON),
        ({}, "/a", "access_token=x", problems.TOKEN_IN_QUERY),
        ({}, "/a", "b=c&access%5Ftoken=x", problems.TOKEN_IN_QUERY),
        ({}, "/a", "b=c;access_token", problems.TOKEN_IN_QUERY),
        ({}, "/a", "+access_token=x", problems.TOKEN_IN_QUERY),
        ({}, "/./a", "", problems.TARGET_REFUSED),
        ({}, "/a/.", "", problems.TARGET_REFUSED),
    ],
)
def test_what_is_no_plain_call_is_refused(changes: dict[str, Any], path: str, query: str, problem: Problem):
    """Before anybody is asked for a token."""
    with pytest.raises(ProblemError) as raised:
        check_passage(incoming(**changes), Passage(route=BY_NAME, upstream="api", path=path, query=query))

    assert raised.value.problem is problem


@pytest.mark.parametrize("query", ["", "a=access_token", "my_access_token=x", "access_tokens=1", "a=b&&c"])
def test_an_ordinary_call_is_one(query: str):
    """Whatever its query says about tokens."""
    check_passage(incoming(), Passage(route=BY_NAME, upstream="api", path="/a.b/..c", query=query))
