"""Tests of ``broker/sandbox/iridium/refusals.py``: IRI-09 in both settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.sandbox.iridium.refusals import RefusedError, Shape, documented_answer, observed_answer
from tests.unit.sandbox.iridium.talking import visiting
from tests.unit.sandbox.iridium.test_wire import asked


@pytest.mark.parametrize(
    ("shape", "status", "body"),
    [
        (Shape.BAD_REQUEST, 400, {"error": "a text", "error_description": ""}),
        (Shape.ILLEGAL_ARGUMENT, 400, {"code": "400 BAD_REQUEST", "message": "a text"}),
        (Shape.NOT_AUTHORIZED, 401, {"code": "401 UNAUTHORIZED", "message": "a text"}),
        (Shape.FILTER, 401, {"code": "401", "message": "NOT AUTHORIZED"}),
        (Shape.CLIENT_AUTHENTICATION, 401, {"error": "invalid_client", "error_description": ""}),
        (Shape.NOT_FOUND, 404, {"code": "404 NOT_FOUND", "message": "a text"}),
        (Shape.FORBIDDEN, 403, {"timestamp": 1, "status": 403, "error": "Forbidden", "path": "/"}),
        (Shape.NOT_ACCEPTABLE, 406, {"timestamp": 1, "status": 406, "error": "Not Acceptable", "path": "/"}),
        (Shape.FAILED, 500, {"timestamp": 1, "status": 500, "error": "Internal Server Error", "path": "/"}),
    ],
)
def test_observed_each_exception_has_a_body_of_its_own(shape: Shape, status: int, body: object):
    """And none of them a challenge."""
    answer = observed_answer(RefusedError(shape, "a text", "x"), asked(accept="application/json"))

    assert (answer.status, json.loads(answer.body)) == (status, body)
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("shape", [Shape.NOT_AUTHORIZED, Shape.FILTER])
@pytest.mark.parametrize("accept", [None, "*/*"])
def test_observed_a_401_without_json_in_accept_is_a_model_and_view(shape: Shape, accept: str | None):
    """Serialised, because nothing renders it."""
    answer = observed_answer(RefusedError(shape, "a text", "x"), asked(accept=accept))

    assert json.loads(answer.body)["model"] == {"statusCode": "401", "errorMessage": "a text"}


def test_observed_a_browser_gets_a_page():
    """With the text escaped."""
    answer = observed_answer(RefusedError(Shape.NOT_AUTHORIZED, "<b>", "x"), asked(accept="text/html"))

    assert answer.content_type == "text/html"
    assert b"&lt;b&gt;" in answer.body


@pytest.mark.parametrize(
    ("error", "status", "challenge"),
    [
        ("invalid_grant", 400, None),
        ("invalid_client", 401, "Basic"),
        ("invalid_token", 401, "Bearer"),
        ("not_found", 404, None),
    ],
)
def test_documented_it_is_an_error_of_the_standard(error: str, status: int, challenge: str | None):
    """Whichever exception it would have been."""
    answer = documented_answer(RefusedError(Shape.FAILED, "why", error))

    assert (answer.status, json.loads(answer.body)) == (status, {"error": error, "error_description": "why"})
    assert (answer.headers.get("WWW-Authenticate") or "").partition(" ")[0] == (challenge or "")


@pytest.mark.real_time
async def test_the_switch_decides(tmp_path: Path):
    """For the same request; a page goes to those who ask for one."""
    async with visiting(tmp_path) as visitor:
        observed = await visitor.redeem("guessed")
        page = await visitor.send("GET", "/identities", headers={"Accept": "text/html"})
        visitor.iridium.set_switch("IRI-09", "documented")
        documented = await visitor.redeem("guessed")

        assert observed.body["error"] == "invalid authorization code"
        assert (page.status, page.headers["Content-Type"]) == (401, "text/html")
        assert documented.body["error"] == "invalid_grant"
