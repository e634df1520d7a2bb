"""How a path finds its route."""

from __future__ import annotations

import pytest

from broker.api.answers import Answer
from broker.api.problems import ErrorCode, ProblemError
from broker.api.table import Call, Route, fill, route_for, routes_at


async def handler(_world: None, _call: Call) -> Answer:
    return Answer(body=b"")


def row(method: str, template: str) -> Route[None]:
    return Route(method=method, template=template, handler=handler, summary="")


TABLE = (row("GET", "/v1/tokens"), row("GET", "/v1/tokens/{name}"), row("POST", "/v1/tokens/{name}/refresh"))


@pytest.mark.parametrize(
    ("template", "path", "name"),
    [
        ("/v1/tokens", "/v1/tokens", ""),
        ("/v1/tokens/{name}", "/v1/tokens/directory", "directory"),
        ("/v1/tokens/{name}", "/v1/tokens/%64irectory", "%64irectory"),
        ("/v1/tokens/{name}/refresh", "/v1/tokens/a/refresh", "a"),
        ("/v1/jwks/{client}", "/v1/jwks/app", "app"),
        ("/v1/jwks/{client}", "/v1/jwks/{client}", "{client}"),
        ("/v1/jwks/{client}", "/v1/jwks/", None),
        ("/v1/tokens", "/v1/tokens/", None),
        ("/v1/tokens", "/V1/tokens", None),
        ("/v1/tokens/{name}", "/v1/tokens/", None),
        ("/v1/tokens/{name}", "/v1/tokens", None),
        ("/v1/tokens/{name}", "/v1/tokens/a/", None),
        ("/v1/tokens/{name}", "/v1/tokens/a/b", None),
        ("/v1/tokens/{name}", "/v2/tokens/a", None),
        ("/v1/tokens/{name}/refresh", "/v1/tokens//refresh", None),
        ("/v1/tokens/{name}/refresh", "/v1/tokens/refresh", None),
        ("/v1/tokens/{name}/refresh", "/v1/tokens/a/b/refresh", None),
    ],
)
def test_a_template_is_filled_by_one_raw_segment(template: str, path: str, name: str | None):
    """Exactly, byte by byte, without decoding."""
    assert fill(template, path) == name


def test_a_path_of_no_route_is_not_found():
    """In one shape with every other 404."""
    with pytest.raises(ProblemError) as refused:
        routes_at(TABLE, "/v1/token")

    assert refused.value.problem.status == 404
    assert refused.value.problem.error is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "get", "TRACE", ""])
def test_another_method_is_told_which_there_are(method: str):
    """HEAD is not implied by GET."""
    with pytest.raises(ProblemError) as refused:
        route_for(routes_at(TABLE, "/v1/tokens/a"), method)

    assert refused.value.problem.status == 405
    assert refused.value.problem.headers == (("Allow", "GET"),)


def test_a_route_is_found_by_path_and_method():
    """With what fills its template."""
    route, name = route_for(routes_at(TABLE, "/v1/tokens/a/refresh"), "POST")

    assert (route.template, name) == ("/v1/tokens/{name}/refresh", "a")
