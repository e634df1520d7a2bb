"""The document says what the routes do: every route, every status, every member, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import schemathesis

from broker.api.bodies import BodyRules
from broker.api.openapi import ERRORS, description_of, document_of
from broker.api.openapi_passing import OURS
from broker.api.ops import OPS_ROUTES
from broker.api.ops import describe as describe_ops
from broker.api.passing import BY_GRANT, BY_NAME, METHODS
from broker.api.problems import ErrorCode
from broker.api.routes import API_ROUTES, describe
from broker.api.shapes import SHAPES
from broker.api.table import Call, Reply, Route
from broker.policy.peer import Peer
from tests.unit.api.conformance import api_document, check_answer, ops_document
from tests.unit.api.test_docs import PROBLEMS

TABLES = pytest.mark.parametrize(
    ("routes", "document"), [(API_ROUTES, api_document()), (OPS_ROUTES, ops_document())], ids=["api", "ops"]
)

ANYBODY = Call(peer=Peer(listener="app"))


@TABLES
def test_every_route_is_in_the_document_and_every_operation_is_a_route(
    routes: Sequence[Route[Any]], document: dict[str, Any]
):
    """By path and method."""
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    calls = {(method, path) for method in METHODS for path in (BY_NAME, BY_GRANT)} if routes is API_ROUTES else set()

    assert operations == {(route.method, route.template) for route in routes} | calls


@TABLES
def test_every_route_says_what_it_answers(routes: Sequence[Route[Any]], document: dict[str, Any]):
    """With shapes that there are; each operation has a name of its own."""
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]

    assert all(route.replies for route in routes)
    assert {reply.shape for route in routes for reply in route.replies} - {None} <= set(SHAPES)
    calls = 2 * len(METHODS) if routes is API_ROUTES else 0
    assert len(set(names)) == len(names) == len(routes) + calls


@TABLES
def test_the_document_is_one_of_openapi(routes: Sequence[Route[Any]], document: dict[str, Any]):
    """As the schema of OpenAPI 3.1 has it."""
    schemathesis.openapi.from_dict(document).validate()


def test_parameters_are_those_of_the_route_with_their_ranges():
    """Query, path and header."""
    parameters = api_document()["paths"]["/v1/tokens/{name}"]["get"]["parameters"]

    found = {(one["in"], one["name"]): (one["required"], one["schema"]) for one in parameters}
    assert set(found) == {
        ("path", "name"),
        ("query", "min_valid"),
        ("query", "wait"),
        ("header", "If-None-Match"),
    }
    assert found["query", "wait"] == (False, {"type": "integer", "minimum": 0, "maximum": 60})
    assert found["path", "name"][0] is True


async def nothing(_world: object, _call: Call) -> Any:
    raise NotImplementedError


def test_a_body_is_described_by_the_members_that_are_read():
    """With no other; and a media type that is refused is an answer of its own."""
    route: Route[Any] = Route(
        method="POST",
        template="/x",
        handler=nothing,
        summary="",
        body=BodyRules(members={"rejected": str, "count": int}, patterns={"rejected": "^a$"}),
        replies=(Reply(meaning="", shape="Live"),),
    )

    operation = document_of([route], "", with_secret=False)["paths"]["/x"]["post"]

    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "type": "object",
        "properties": {"rejected": {"type": "string", "pattern": "^a$"}, "count": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert "415" in operation["responses"]
    assert "401" not in operation["responses"]


def test_what_is_required_of_a_body_and_what_an_id_is_made_of_is_in_the_document():
    """So are texts of a query, and where a new thing is."""
    paths = api_document()["paths"]

    body = paths["/v1/authorizations"]["post"]["requestBody"]
    assert body["required"] is True
    schema = body["content"]["application/json"]["schema"]
    assert schema["required"] == ["token"]
    assert schema["properties"]["authorization_details"]["items"]["type"] == "object"
    either = paths["/v1/dpop"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert either == [{"required": ["token"]}, {"required": ["grant"]}]
    assert paths["/v1/authorizations/{id}"]["get"]["parameters"][0]["schema"]["pattern"] == "^[A-Za-z0-9_-]{1,64}$"
    assert "Location" in paths["/v1/authorizations"]["post"]["responses"]["201"]["headers"]
    texts = {one["name"]: one["schema"] for one in paths["/v1/grants"]["get"]["parameters"] if one["in"] == "query"}
    assert texts["token"] == {"type": "string", "pattern": "^([a-z0-9][a-z0-9._-]{0,62})$"}
    assert texts["limit"] == {"type": "integer", "minimum": 1, "maximum": 200}


def test_every_error_of_the_api_is_in_the_document():
    """Status by status with its code; 405 belongs to no operation, because it is about a method that is none."""
    given = {(problem.status, problem.error.value) for problem in PROBLEMS}

    documented = {(status, str(code)) for status, error in ERRORS.items() for code in error.codes}
    documented |= {(status, str(code)) for status, codes in OURS.items() for code in codes}
    assert given - documented == {(405, ErrorCode.INVALID_REQUEST.value)}
    assert documented <= given


async def test_each_listener_gives_its_own_document():
    """Without knowing who asks: it is the same for everybody."""
    api, ops = await describe(None, ANYBODY), await describe_ops(None, ANYBODY)

    assert set(json.loads(api.body)["paths"]) == {route.template for route in API_ROUTES} | {BY_NAME, BY_GRANT}
    assert set(json.loads(ops.body)["paths"]) == {route.template for route in OPS_ROUTES}


def test_the_secret_of_a_listener_is_asked_for_where_there_can_be_one():
    """A Unix socket and the ops listener need none."""
    assert api_document()["security"] == [{}, {"listenerSecret": []}]
    assert "401" in api_document()["paths"]["/livez"]["get"]["responses"]
    assert ops_document()["security"] == [{}]


def test_an_answer_that_is_not_in_the_document_is_noticed():
    """Else what holds answers to the document held nothing."""
    good = {"cache-control": "no-store", "content-type": "application/json"}
    check_answer(api_document(), "/livez", "GET", 200, good, b'{"status":"ok"}')

    with pytest.raises(AssertionError, match="418 is not documented"):
        check_answer(api_document(), "/livez", "GET", 418, good, b"{}")
    with pytest.raises(KeyError, match="cache-control"):
        check_answer(api_document(), "/livez", "GET", 200, {}, b'{"status":"ok"}')
    with pytest.raises(ValueError, match="Additional properties"):
        check_answer(api_document(), "/livez", "GET", 200, good, b'{"status":"ok","more":1}')
    with pytest.raises(KeyError, match="text/html"):
        check_answer(api_document(), "/livez", "GET", 200, good | {"content-type": "text/html"}, b"")


def test_the_document_is_small():
    """It is one answer, and is made once."""
    assert len(description_of(API_ROUTES, "x", with_secret=True).body) < 49_152
