"""What goes back to a caller."""

from __future__ import annotations

import json

from broker.api.answers import Answer, json_answer, last_words, problem_answer
from broker.api.problems import MALFORMED, TOO_MANY_CONNECTIONS, unexpected
from tests.unit.api.world import parse


def test_no_answer_may_be_stored_or_tells_versions():
    """Any answer may hold a token; and what we run is nobody's business."""
    headers = json_answer({}).all_headers()

    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "token-broker"


def test_a_problem_has_one_shape():
    """With what is known only."""
    answer = problem_answer(MALFORMED)

    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {"error": "invalid_request", "error_description": MALFORMED.description}


def test_a_problem_brings_its_headers_and_its_hint():
    """Retry-After, Allow and the like."""
    answer = problem_answer(TOO_MANY_CONNECTIONS)

    assert answer.all_headers()["Retry-After"] == "1"
    assert json.loads(answer.body)["hint"] == TOO_MANY_CONNECTIONS.hint
    assert answer.outcome == "slow_down"


def test_an_incident_is_in_the_answer():
    """So that the caller can say which line of the log is meant."""
    assert "abc123" in json.loads(problem_answer(unexpected("abc123")).body)["hint"]


def test_a_token_does_not_show_when_an_answer_is_printed():
    """Neither in a debugger nor in a traceback."""
    assert "canary" not in repr(Answer(body=b"canary"))


def test_last_words_are_a_whole_answer():
    """They are written past the HTTP library, and have to be as good."""
    received = parse(last_words(problem_answer(MALFORMED)))

    assert received.status == 400
    assert received.headers["connection"] == "close"
    assert received.json()["error"] == "invalid_request"
    assert received.rest == b""
