"""What an application passes on when a person comes back."""

from __future__ import annotations

from typing import Any

import pytest

from broker.consent.asking import AskError
from broker.consent.callback import MAX_PARAMETERS, parameters_of, read_callback
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.client import ResponseMode

URI = "https://app.example/callback"


def pairs(url: str, form: Any = None, *, redirect_uri: str = URI, mode: ResponseMode = ResponseMode.QUERY) -> Any:
    return parameters_of(read_callback(url, form), redirect_uri=redirect_uri, response_mode=mode)


def failed(*arguments: Any, **options: Any) -> Check:
    with pytest.raises(CheckFailedError) as caught:
        pairs(*arguments, **options)
    return caught.value.check


def test_the_parameters_of_the_query_are_given_decoded_in_their_order():
    """Repeated ones are all there: others find out."""
    found = pairs(f"{URI}?code=a%20b&state=x%2By+z&code=c&empty=")

    assert found == (("code", "a b"), ("state", "x+y z"), ("code", "c"), ("empty", ""))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("code=a&", (("code", "a"),)),
        ("&code=a&&state=b", (("code", "a"), ("state", "b"))),
        ("code=a&x", (("code", "a"), ("x", ""))),
        ("code", (("code", ""),)),
        ("", ()),
    ],
)
def test_an_empty_pair_is_nothing_and_a_bare_name_has_no_value(query: str, found: Any):
    """As in every form (RFC 6749 section 4.1.2): what a server or a proxy appends costs nobody the consent."""
    assert pairs(f"{URI}?{query}") == found


def test_a_form_is_given_where_it_was_asked_for():
    """Fields that came twice are an array."""
    found = pairs(URI, {"code": "a", "state": ["b", "c"]}, mode=ResponseMode.FORM_POST)

    assert found == (("code", "a"), ("state", "b"), ("state", "c"))


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example/callback/",
        "https://app.example/",
        "https://app.example:8443/callback",
        "http://app.example/callback",
        "https://app.example.evil.example/callback",
        "https://user@app.example/callback",
        "https://app.example/Callback",
        "https://app.example/callback;x",
    ],
)
def test_another_address_is_a_failed_check(url: str):
    """Scheme, host, port and path (rules.md R4)."""
    assert failed(f"{url}?code=a&state=b") is Check.REDIRECT_URI


@pytest.mark.parametrize(
    ("url", "redirect_uri"),
    [
        ("https://app.example:443/callback?a=b", URI),
        ("https://APP.example/callback?a=b", URI),
        ("http://127.0.0.1:8080?a=b", "http://127.0.0.1:8080/"),
        ("https://app.example/callback?a=b#", URI),
    ],
)
def test_the_same_address_may_be_written_in_another_way(url: str, redirect_uri: str):
    """As frameworks put it together."""
    assert pairs(url, redirect_uri=redirect_uri) == (("a", "b"),)


def test_the_parameters_of_the_redirect_uri_are_left_out_once_each():
    """They are the application's; a second one is the server's, or an attacker's."""
    uri = f"{URI}?tenant=1&x="

    assert pairs(f"{uri}&code=a", redirect_uri=uri) == (("code", "a"),)
    assert pairs(f"{uri}&code=a&tenant=1", redirect_uri=uri) == (("code", "a"), ("tenant", "1"))
    assert failed(f"{URI}?code=a", redirect_uri=uri) is Check.REDIRECT_URI
    assert failed(f"{URI}?tenant=2&x=&code=a", redirect_uri=uri) is Check.REDIRECT_URI


def test_a_response_that_came_in_another_way_is_a_failed_check():
    """A form where a query was asked for, a query where a form was, and neither."""
    assert failed(URI, {"code": "a"}) is Check.RESPONSE_MODE
    assert failed(URI, {"code": "a"}, mode=ResponseMode.JWT) is Check.RESPONSE_MODE
    assert failed(f"{URI}?code=a", mode=ResponseMode.FORM_POST) is Check.RESPONSE_MODE
    assert failed(f"{URI}?code=a", {"code": "a"}, mode=ResponseMode.FORM_POST) is Check.RESPONSE_MODE


@pytest.mark.parametrize(
    "url",
    [
        "",
        "callback?code=a",
        "/callback?code=a",
        "https:///callback",
        "https://app.example:x/callback",
        "https://[::1/callback",
        f"{URI}?code=%ff",
        f"{URI}?c\u00f6de=a",
        f"{URI}?code=a\n",
        f"{URI}?{'&'.join(['a=b'] * (MAX_PARAMETERS + 1))}",
    ],
)
def test_what_no_browser_was_sent_to_is_malformed(url: str):
    """And says nothing about the authorization."""
    with pytest.raises(AskError) as caught:
        read_callback(url, None)

    assert caught.value.code == "callback_url"


@pytest.mark.parametrize(
    "form", [{"code": 1}, {"code": None}, {"code": []}, {"code": ["a", 1]}, {"code": {"a": "b"}}, {"c": ["a"] * 51}]
)
def test_what_is_no_form_is_malformed(form: dict[str, Any]):
    """Strings, and arrays of strings."""
    with pytest.raises(AskError) as caught:
        read_callback(URI, form)

    assert caught.value.code == "form"


def test_nothing_of_a_callback_is_printed():
    """It holds the code."""
    callback = read_callback(f"{URI}?code=s3cret", {"code": "s3cret"})

    assert "s3cret" not in repr(callback)
