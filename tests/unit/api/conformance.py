"""
Holds answers to the OpenAPI document, more strictly than the document itself: no member that it does not name.

Callers are told to ignore what they do not know, so the document leaves objects open; the broker may not use
that to say what is not described.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema_rs

from broker.api.openapi import document_of
from broker.api.ops import OPS_ROUTES
from broker.api.routes import API_ROUTES
from broker.api.table import Route, fill


def closed(schema: Any) -> Any:
    """Give *schema* with all its objects closed."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return inner | {"additionalProperties": False} if inner.get("type") == "object" and "properties" in inner else inner


@cache
def api_document() -> dict[str, Any]:
    return document_of(API_ROUTES, "", with_secret=True, with_calls=True)


@cache
def ops_document() -> dict[str, Any]:
    return document_of(OPS_ROUTES, "", with_secret=False)


def followed(document: Mapping[str, Any], value: Any) -> Any:
    """Follow a reference."""
    while "$ref" in value:
        found: Any = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


def check_body(document: Mapping[str, Any], schema: Any, body: bytes) -> None:
    whole = {**closed(schema), "components": closed(document["components"])}
    instance = json.loads(body) if schema != {"type": "string"} else body.decode()
    jsonschema_rs.validator_for(whole).validate(instance)


def check_answer(
    document: Mapping[str, Any], template: str, method: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Fail unless the operation may give this answer; names of *headers* are in lower case."""
    responses = document["paths"][template][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {template}: {status} is not documented"
    response = followed(document, responses[str(status)])
    for name, header in response["headers"].items():
        schema = followed(document, header)["schema"]
        given: Any = headers[name.lower()]
        jsonschema_rs.validator_for(schema).validate(int(given) if schema["type"] == "integer" else given)
    content = response.get("content", {})
    if not content:
        assert body == b""
        assert "content-type" not in headers
        return
    check_body(document, content[headers["content-type"]]["schema"], body)


def check_exchange(
    request: bytes, status: int, headers: Mapping[str, str], body: bytes, routes: Sequence[Route[Any]] = API_ROUTES
) -> None:
    """Fail unless the document of *routes* has this answer to this request, however malformed that is."""
    document = api_document() if routes is API_ROUTES else ops_document()
    method, target = [*request.split(b" ", 2), b"", b""][:2]
    path = target.decode("latin-1").partition("?")[0]
    at = {route.method: route.template for route in routes if fill(route.template, path) is not None}
    if method.decode("latin-1") in at:
        check_answer(document, at[method.decode()], method.decode(), status, headers, body)
        return
    assert status >= 400
    if method != b"HEAD":  # which is answered without the body that it is told the length of
        check_body(document, document["components"]["schemas"]["Error"], body)
    assert status != 405 or sorted(headers["allow"].split(", ")) == sorted(at)
