"""Bodies of requests, read strictly."""

from __future__ import annotations

import pytest

from broker.api.bodies import BodyRules, check_media_type, complete, read_body
from broker.api.guard import Incoming
from broker.api.problems import ProblemError, RefusalReason

RULES = BodyRules(members={"name": str, "count": int})


def incoming(*headers: tuple[str, str]) -> Incoming:
    return Incoming(
        method="POST",
        target="/",
        version=(1, 1),
        headers=headers,
        head_size=80,
        has_body=True,
        content_length=2,
    )


@pytest.mark.parametrize(
    ("body", "members"),
    [(b"{}", {}), (b'{"name":"x"}', {"name": "x"}), (b' {"count": 3, "name": ""}\n', {"count": 3, "name": ""})],
)
def test_the_members_of_the_route_are_read(body: bytes, members: dict[str, object]):
    """None of them has to be there."""
    assert read_body(body, RULES) == members


@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"null",
        b"[]",
        b'"name"',
        b"{",
        b'{"name":"x"} {}',
        b'{"name":"x","name":"y"}',
        b'{"name":"x","extra":1}',
        b'{"Name":"x"}',
        b'{"name":null}',
        b'{"name":1}',
        b'{"count":true}',
        b'{"count":1.0}',
        b'{"count":NaN}',
        b'{"count":Infinity}',
        b'{"name":"\xff"}',
        b'\xef\xbb\xbf{"name":"x"}',
        b'{"name":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"name":"\\ud800"}',
    ],
)
def test_whatever_else_it_is_is_refused(body: bytes):
    """With the members that there are, and none of the bytes that came."""
    with pytest.raises(ProblemError) as refused:
        read_body(body, RULES)

    problem = refused.value.problem
    assert (problem.status, problem.reason) == (400, RefusalReason.BODY_REFUSED)
    assert problem.hint == "a JSON object, each member once: name (a string), count (a whole number)"


def test_a_route_without_members_takes_an_empty_object():
    """And says so."""
    assert read_body(b"{}", BodyRules()) == {}
    with pytest.raises(ProblemError) as refused:
        read_body(b'{"a":1}', BodyRules())
    assert refused.value.problem.hint == "a JSON object without members"


@pytest.mark.parametrize(
    "value",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_says_that_it_is_json(value: str):
    """In the one encoding that JSON has."""
    check_media_type(incoming(("Content-Type", value)))
    check_media_type(incoming(("content-type", value), ("Content-Encoding", "identity")))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Content-Type", ""),),
        (("Content-Type", "text/plain"),),
        (("Content-Type", "application/x-www-form-urlencoded"),),
        (("Content-Type", "application/json; charset=latin-1"),),
        (("Content-Type", "application/json-seq"),),
        (("Content-Type", "application/json, text/plain"),),
        (("Content-Type", "application/json"), ("Content-Type", "application/json")),
        (("Content-Type", "application/json"), ("Content-Encoding", "gzip")),
    ],
)
def test_another_media_type_is_415(headers: tuple[tuple[str, str], ...]):
    """What a form of a web page could send is not read at all."""
    with pytest.raises(ProblemError) as refused:
        check_media_type(incoming(*headers))

    assert refused.value.problem.status == 415
    assert refused.value.problem.reason is RefusalReason.MEDIA_TYPE_REFUSED


NEEDED = BodyRules(members={"name": str, "count": int}, required=("name",))


@pytest.mark.parametrize("body", [b"{}", b'{"count":1}'])
def test_what_is_required_has_to_be_there(body: bytes):
    """And the answer says what that is."""
    with pytest.raises(ProblemError) as refused:
        read_body(body, NEEDED)

    assert (
        refused.value.problem.hint
        == "a JSON object, each member once: name (a string, required), count (a whole number)"
    )


@pytest.mark.parametrize("body", [b"{}", b'{"count":1}', b'{"count":1,"name":"x","other":"y"}'])
def test_of_some_members_exactly_one_has_to_be_there(body: bytes):
    """Neither is nothing to go by, and both may be two things."""
    rules = BodyRules(members={"name": str, "other": str, "count": int}, either=("name", "other"))

    assert read_body(b'{"count":1,"other":"y"}', rules) == {"count": 1, "other": "y"}
    with pytest.raises(ProblemError) as refused:
        read_body(body, rules)

    assert refused.value.problem.reason == RefusalReason.BODY_REFUSED
    assert "one of name and other" in str(refused.value.problem.hint)


def test_a_body_that_is_required_has_to_be_there():
    """No body has no members."""
    assert complete({}, RULES) == {}
    with pytest.raises(ProblemError) as refused:
        complete({}, NEEDED)
    assert refused.value.problem.reason is RefusalReason.BODY_REFUSED
