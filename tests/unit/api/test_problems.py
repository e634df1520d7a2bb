"""The closed set of errors."""

from __future__ import annotations

from broker.api import problems
from broker.api.problems import Problem

ALL = [value for value in vars(problems).values() if isinstance(value, Problem)]


def test_every_problem_of_a_full_house_says_when_to_come_back():
    """429 and 503 carry Retry-After, in whole seconds."""
    waiting = [problem for problem in ALL if problem.status in (429, 503)]

    assert waiting
    assert all(int(dict(problem.headers)["Retry-After"]) >= 1 for problem in waiting)


def test_after_a_request_that_was_not_understood_the_connection_ends():
    """What follows on it may be the rest of that request (RFC 9112 section 11.2)."""
    assert problems.MALFORMED.close
    assert problems.HEADERS_TOO_LARGE.close
    assert problems.BODY_NOT_ALLOWED.close
    assert problems.BODY_TOO_LARGE.close


def test_methods_are_listed_in_allow():
    """As RFC 9110 section 15.5.6 asks for."""
    assert problems.method_not_allowed(("GET", "POST")).headers == (("Allow", "GET, POST"),)


def test_a_denial_says_the_same_whatever_its_reason():
    """The reason is for the audit log."""
    foreign = problems.access_denied("not_granted", "this caller may get: a")
    unknown = problems.access_denied("unknown_token", "this caller may get: a")

    assert (foreign.status, foreign.error, foreign.description, foreign.hint) == (
        unknown.status,
        unknown.error,
        unknown.description,
        unknown.hint,
    )
