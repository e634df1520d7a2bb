"""Tests of ``broker/sandbox/iridium/wire.py``: parameters as Spring reads them, headers, and answers."""

from __future__ import annotations

from broker.sandbox.iridium.wire import Asked, decoded_basic, json_answer, raw_basic, read_pairs, with_parameters
from tests.unit.sandbox.iridium.talking import basic


def asked(**members: object) -> Asked:
    return Asked(**{"method": "POST", "path": "/", "now": 1.0, **members})  # type: ignore[arg-type]


def test_parameters_come_from_the_query_and_from_the_form():
    """The query goes first, and of several with one name the first."""
    request = asked(query=(("a", "1"), ("a", "2")), form=(("a", "3"), ("b", "4"), ("c", "  ")))

    assert [request.first(name) for name in "abcd"] == ["1", "4", "", ""]


def test_a_bearer_may_have_any_characters():
    """BCrypt hashes have some that a token must not have."""
    assert asked(authorization="Bearer $2a$10$./x").bearer == "$2a$10$./x"
    assert asked(authorization="Basic eDp5").bearer == ""
    assert asked(authorization="Basic eDp5").basic == "eDp5"
    assert asked().bearer == asked().basic == ""


def test_basic_credentials_are_decoded_twice_by_the_standard():
    """Once they are raw, once they are form-decoded."""
    credentials = basic("a%20b", "s+%3A").removeprefix("Basic ")

    assert raw_basic(credentials) == "a%20b:s+%3A"
    assert decoded_basic(credentials) == ("a b", "s :")
    assert raw_basic("no base64!") == ""
    assert decoded_basic("no base64!") is None


def test_a_form_that_is_none_has_no_parameters_worth_the_name():
    """Whatever bytes there are."""
    assert read_pairs(b"a=1&b=&c=%C3%A9&a=2") == (("a", "1"), ("b", ""), ("c", "é"), ("a", "2"))
    assert read_pairs(b"\xff\xfe") == (("��", ""),)


def test_parameters_are_added_encoded_or_as_they_are():
    """To a query that is there already, too."""
    pairs = [("a", "x y"), ("b", "/")]

    assert with_parameters("https://h/p", pairs, encoded=True) == "https://h/p?a=x+y&b=%2F"
    assert with_parameters("https://h/p?q=1", pairs, encoded=False) == "https://h/p?q=1&a=x y&b=/"


def test_a_request_and_an_answer_have_no_secret_in_their_printed_form():
    """Tests print them when they fail."""
    request = asked(query=(("code", "hush"),), form=(("state", "hush"),), authorization="Bearer hush")

    assert "hush" not in repr(request)
    assert "hush" not in repr(json_answer(200, {"access_token": "hush"}, outcome="issued"))
