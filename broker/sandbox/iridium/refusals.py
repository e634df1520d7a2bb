"""
Refusals, and the bodies that Iridium writes them with (IRI-09).

What was observed comes from Java exceptions, each of which has its own body; the names here say which.
"""

from __future__ import annotations

from enum import Enum
from html import escape
from typing import Any

from broker.sandbox.iridium.wire import HTML, JSON, NO_STORE, Answer, Asked, json_answer


class Shape(Enum):
    """The exception that Iridium would have thrown, with the status that comes of it."""

    BAD_REQUEST = (400, "invalid request")
    """Of its own; the text is in ``error``."""
    ILLEGAL_ARGUMENT = (400, "BAD_REQUEST")
    """Of Java; the text is in ``message``."""
    NOT_AUTHORIZED = (401, "UNAUTHORIZED")
    """Thrown by a controller."""
    FILTER = (401, "NOT AUTHORIZED")
    """Thrown by the filter that reads access tokens."""
    CLIENT_AUTHENTICATION = (401, "invalid_client")
    FORBIDDEN = (403, "Forbidden")
    """Spring Security's, for nobody in particular."""
    NOT_FOUND = (404, "NOT_FOUND")
    NOT_ACCEPTABLE = (406, "Not Acceptable")
    FAILED = (500, "Internal Server Error")
    """What nobody caught."""


class RefusedError(Exception):
    """
    A request that is refused.

    *text* is Iridium's own, None where the exception had none; *error* is what RFC 6749 or RFC 6750 calls it.
    """

    def __init__(self, shape: Shape, text: str | None, error: str) -> None:
        super().__init__(error)
        self.shape = shape
        self.text = text
        self.error = error


STATUSES = {"invalid_client": 401, "invalid_token": 401, "not_found": 404, "server_error": 500}
"""Statuses of errors in the documented form; every other is 400."""

CHALLENGES = {
    "invalid_client": 'Basic realm="iridium"',
    "invalid_token": 'Bearer realm="iridium", error="invalid_token"',
}


def documented_answer(refused: RefusedError) -> Answer:
    """Write *refused* as RFC 6749 section 5.2 has it."""
    body = {"error": refused.error, "error_description": refused.text or "the request is wrong"}
    challenge = CHALLENGES.get(refused.error)
    headers = {**NO_STORE, **({} if challenge is None else {"WWW-Authenticate": challenge})}
    return json_answer(STATUSES.get(refused.error, 400), body, outcome=refused.error, headers=headers)


def observed_answer(refused: RefusedError, asked: Asked) -> Answer:
    """Write *refused* as Iridium does, for what *asked* accepts."""
    shape, text = refused.shape, refused.text
    status, name = shape.value
    if shape in {Shape.NOT_AUTHORIZED, Shape.FILTER} and "json" not in (asked.accept or ""):
        return _model_and_view(refused, asked)
    bodies: dict[Shape, Any] = {
        Shape.BAD_REQUEST: {"error": text, "error_description": ""},
        Shape.CLIENT_AUTHENTICATION: {"error": name, "error_description": ""},
        Shape.FILTER: {"code": "401", "message": name},
    }
    if shape in {Shape.FORBIDDEN, Shape.NOT_ACCEPTABLE, Shape.FAILED}:
        body: Any = {"timestamp": int(asked.now), "status": status, "error": name, "path": asked.path}
    else:
        body = bodies.get(shape, {"code": f"{status} {name}", "message": text})
    return json_answer(status, body, outcome=refused.error)


def _model_and_view(refused: RefusedError, asked: Asked) -> Answer:
    """Write what becomes of a page that nothing renders: a browser gets one, everybody else its parts."""
    message = refused.text or "NOT AUTHORIZED"
    if HTML in (asked.accept or ""):
        page = f"<!DOCTYPE html><html><body><h1>401</h1><p>{escape(message)}</p></body></html>"
        return Answer(status=401, outcome=refused.error, body=page.encode(), content_type=HTML)
    model = {"statusCode": "401", "errorMessage": message}
    view = {"view": "error", "model": model, "modelMap": model, "viewName": "error", "reference": True, "empty": False}
    return json_answer(401, view, outcome=refused.error, content_type=JSON)
