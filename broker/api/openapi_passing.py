"""What the OpenAPI document says of calls of APIs: which answers are the broker's; all others are the API's."""

from __future__ import annotations

from typing import Any

from broker.api.answers import JSON
from broker.api.passing import BY_GRANT, BY_NAME, METHODS
from broker.api.problems import ErrorCode
from broker.api.proxy_status import NAME
from broker.api.shapes import ID, NAME_IN_PATH, SHAPES

OURS: dict[int, tuple[ErrorCode, ...]] = {
    400: (ErrorCode.INVALID_REQUEST, ErrorCode.GRANT_REQUIRED),
    401: (ErrorCode.INVALID_TOKEN,),
    403: (ErrorCode.ACCESS_DENIED,),
    404: (ErrorCode.NOT_FOUND,),
    408: (ErrorCode.INVALID_REQUEST,),
    409: (ErrorCode.CONSENT_REQUIRED,),
    429: (ErrorCode.SLOW_DOWN,),
    431: (ErrorCode.INVALID_REQUEST,),
    500: (ErrorCode.SERVER_ERROR,),
    501: (ErrorCode.INVALID_REQUEST,),
    502: (ErrorCode.UPSTREAM_ERROR, ErrorCode.AUTHORIZATION_SERVER_ERROR),
    503: (ErrorCode.TEMPORARILY_UNAVAILABLE,),
    504: (ErrorCode.UPSTREAM_TIMEOUT,),
}
"""The broker's own answers, by status; they have ``Proxy-Status``, which tells them from those of the API."""

ERROR = "PassingError"
"""The name of the response that all of them are."""

PATH: dict[str, Any] = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "The path below base_url, slashes included.",
    "schema": {"type": "string"},
}


def paths_of_calls() -> dict[str, dict[str, Any]]:
    """Give the path items."""
    upstream = {"name": "upstream", "in": "path", "required": True, "schema": NAME_IN_PATH}
    grant = {"name": "id", "in": "path", "required": True, "schema": ID}
    return {
        BY_NAME: _item("call", [upstream, PATH]),
        BY_GRANT: _item("call_with_grant", [grant, upstream, PATH]),
    }


def response_of_calls() -> dict[str, Any]:
    """Give the response that ``ERROR`` names."""
    shape = SHAPES["Error"]
    codes = sorted({str(code) for some in OURS.values() for code in some})
    schema = {**shape, "properties": {**shape["properties"], "error": {"type": "string", "enum": codes}}}
    status = {"description": "RFC 9209.", "required": True, "schema": {"type": "string"}}
    return {
        "description": "The broker's own answer, told from the API's by Proxy-Status.",
        "headers": {NAME: status, "Cache-Control": {"$ref": "#/components/headers/Cache-Control"}},
        "content": {JSON: {"schema": schema}},
    }


def _item(operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "default": {"description": "Whatever the API replies, or, with Proxy-Status, what the broker says."}
    }
    of_body = {"requestBody": {"required": False, "content": {"*/*": {}}}}
    return {
        method.lower(): {
            "operationId": f"{operation}_{method.lower()}",
            "summary": "An API is called with its token, and with what that is bound to.",
            "parameters": parameters,
            **(of_body if method in {"POST", "PUT", "PATCH", "DELETE"} else {}),
            "responses": responses,
        }
        for method in METHODS
    }
