"""
The description of the API in the form of OpenAPI 3.1, made of the table of routes that answers requests.

Nothing about a route is written here: what it takes and answers stands in its row, and what every route has
(the errors that do not depend on it, the headers of all answers) stands here once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker import __version__
from broker.api.answers import JSON, Answer
from broker.api.bodies import MEDIA_TYPE, BodyRules
from broker.api.conditions import LIST_PATTERN
from broker.api.openapi_passing import ERROR, paths_of_calls, response_of_calls
from broker.api.problems import ErrorCode
from broker.api.shapes import ID, NAME_IN_PATH, SHAPES
from broker.api.table import PLACEHOLDER, Reply, Route

VERSION = "3.1.0"
"""Of OpenAPI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """What a status means as an error: its *codes*, and the header that comes with it beside those of all answers."""

    codes: tuple[str, ...]
    meaning: str
    header: str | None = None


RETRY_AFTER = "Retry-After"

CHALLENGE = "WWW-Authenticate"

ERRORS: Mapping[int, ErrorAnswer] = {
    400: ErrorAnswer(
        codes=(ErrorCode.INVALID_REQUEST, ErrorCode.GRANT_REQUIRED),
        meaning="The request is malformed, or refused as it is.",
    ),
    401: ErrorAnswer(
        codes=(ErrorCode.INVALID_TOKEN,), meaning="The listener wants its secret (TCP only).", header=CHALLENGE
    ),
    403: ErrorAnswer(
        codes=(ErrorCode.ACCESS_DENIED,), meaning="The policy does not give this to the caller, or it does not exist."
    ),
    404: ErrorAnswer(codes=(ErrorCode.NOT_FOUND,), meaning="There is nothing of the name that the caller may know of."),
    408: ErrorAnswer(codes=(ErrorCode.INVALID_REQUEST,), meaning="The request did not arrive in time."),
    409: ErrorAnswer(
        codes=(ErrorCode.CONSENT_REQUIRED, ErrorCode.SUBJECT_MISMATCH),
        meaning="A person has to consent, or another person did.",
    ),
    410: ErrorAnswer(codes=(ErrorCode.INVALID_REQUEST,), meaning="The authorization is finished."),
    413: ErrorAnswer(codes=(ErrorCode.INVALID_REQUEST,), meaning="The body is too large."),
    415: ErrorAnswer(codes=(ErrorCode.INVALID_REQUEST,), meaning="The body does not say to be JSON, or is encoded."),
    429: ErrorAnswer(
        codes=(ErrorCode.SLOW_DOWN,), meaning="The caller asks for too much at a time.", header=RETRY_AFTER
    ),
    431: ErrorAnswer(codes=(ErrorCode.INVALID_REQUEST,), meaning="Request line and headers are too large."),
    500: ErrorAnswer(codes=(ErrorCode.SERVER_ERROR,), meaning="A bug; the hint names its line in the log."),
    502: ErrorAnswer(
        codes=(ErrorCode.AUTHORIZATION_SERVER_ERROR,),
        meaning="The authorization server refuses the client.",
        header=RETRY_AFTER,
    ),
    503: ErrorAnswer(
        codes=(ErrorCode.TEMPORARILY_UNAVAILABLE,), meaning="There is no valid token now.", header=RETRY_AFTER
    ),
}
"""405 is missing because it is not an answer of an operation, but what a path says of methods that it has not."""

OF_ALL = (400, 408, 413, 429, 431, 500)
"""Errors that say nothing about the route."""

OF_SECRETS = (401,)

OF_BODIES = (415,)

SECRET = "listenerSecret"  # noqa: S105 - the name of a way to authenticate, not a secret

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Cache-Control": {
        "description": "No answer may be stored.",
        "required": True,
        "schema": {"type": "string", "enum": ["no-store"]},
    },
    "ETag": {
        "description": "Another one for each token that was fetched.",
        "required": True,
        "schema": {"type": "string", "pattern": '^W/"[!#-~]+"$'},
    },
    RETRY_AFTER: {
        "description": "Whole seconds after which asking again makes sense.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    CHALLENGE: {"description": "RFC 6750 section 3.", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "The path of what was made.", "required": True, "schema": {"type": "string"}},
}

TYPES: Mapping[type, str] = {str: "string", int: "integer", bool: "boolean", dict: "object", list: "array"}


def description_of(routes: Sequence[Route[Any]], title: str, *, with_secret: bool, with_calls: bool = False) -> Answer:
    """Write the document of *routes*."""
    document = document_of(routes, title, with_secret=with_secret, with_calls=with_calls)
    return Answer(body=json.dumps(document, separators=(",", ":")).encode())


def document_of(
    routes: Sequence[Route[Any]], title: str, *, with_secret: bool, with_calls: bool = False
) -> dict[str, Any]:
    """Describe *routes*; *with_secret*: a listener may want its secret; *with_calls*: it calls APIs, too."""
    paths: dict[str, dict[str, Any]] = {}
    of_all = OF_ALL + OF_SECRETS if with_secret else OF_ALL
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, of_all)
    calls = {ERROR: response_of_calls()} if with_calls else {}
    if with_calls:
        paths |= paths_of_calls()
    secret = {"type": "http", "scheme": "bearer", "description": "The content of the secret_file of a TCP listener."}
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "http://localhost"}],
        "security": [{}, {SECRET: []}] if with_secret else [{}],
        "paths": paths,
        "components": {
            "schemas": dict(SHAPES),
            "headers": dict(HEADERS),
            "responses": {str(status): _error(status) for status in ERRORS} | calls,
            "securitySchemes": {SECRET: secret} if with_secret else {},
        },
    }


def _operation(route: Route[Any], of_all: Sequence[int]) -> dict[str, Any]:
    answers = {str(reply.status): _reply(reply) for reply in route.replies}
    of_body = OF_BODIES if route.body is not None else ()
    for status in (*of_all, *of_body, *route.errors):
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{status}"})
    operation = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": _parameters(route),
        "requestBody": None if route.body is None else _body(route.body),
        "responses": dict(sorted(answers.items())),
    }
    return {name: value for name, value in operation.items() if value}


def _parameters(route: Route[Any]) -> list[dict[str, Any]]:
    placeholder = PLACEHOLDER.search(route.template)
    name = "" if placeholder is None else placeholder.group().strip("{}")
    path = [_parameter("path", name, ID if name == "id" else NAME_IN_PATH, required=True)] if name else []
    query = [
        _parameter("query", name, {"type": "integer", "minimum": values.start, "maximum": values.stop - 1})
        for name, values in route.parameters.items()
    ]
    query += [
        _parameter("query", name, {"type": "string", "pattern": f"^({pattern})$"})
        for name, pattern in route.texts.items()
    ]
    header = (
        [_parameter("header", "If-None-Match", {"type": "string", "pattern": LIST_PATTERN})]
        if route.conditional
        else []
    )
    return path + query + header


def _parameter(place: str, name: str, schema: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _body(rules: BodyRules) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: _member(name, kind, rules) for name, kind in rules.members.items()},
        "additionalProperties": False,
        **({"required": list(rules.required)} if rules.required else {}),
        **({"oneOf": [{"required": [name]} for name in rules.either]} if rules.either else {}),
    }
    return {"required": bool(rules.required), "content": {MEDIA_TYPE: {"schema": schema}}}


def _member(name: str, kind: type, rules: BodyRules) -> dict[str, Any]:
    pattern = {"pattern": rules.patterns[name]} if name in rules.patterns else {}
    return {"type": TYPES[kind], **pattern, **rules.inside.get(name, {})}


def _reply(reply: Reply) -> dict[str, Any]:
    headers = ["Cache-Control", *(["ETag"] if reply.etag else []), *(["Location"] if reply.location else [])]
    headers += [RETRY_AFTER] if reply.status == 503 else []
    content = (
        {} if reply.shape is None else {kind: {"schema": _schema(kind, reply.shape)} for kind in reply.media_types}
    )
    return _response(reply.meaning, headers, content)


def _schema(media_type: str, shape: str) -> dict[str, Any]:
    return {"type": "string"} if media_type.startswith("text/") else {"$ref": f"#/components/schemas/{shape}"}


def _error(status: int) -> dict[str, Any]:
    error = ERRORS[status]
    shape = SHAPES["Error"]
    code = {"type": "string", "enum": [str(code) for code in error.codes]}
    schema = {**shape, "properties": {**shape["properties"], "error": code}}
    headers = ["Cache-Control", *([error.header] if error.header else [])]
    return _response(error.meaning, headers, {JSON: {"schema": schema}})


def _response(meaning: str, headers: Sequence[str], content: Mapping[str, Any]) -> dict[str, Any]:
    refs = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return {"description": meaning, "headers": refs, **({"content": content} if content else {})}
