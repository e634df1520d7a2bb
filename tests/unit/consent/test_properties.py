"""What holds of callers' choices and callbacks, whatever they send."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from broker.consent.asking import Ask, AskError, narrowed, redirect_uri_of
from broker.consent.callback import parameters_of, read_callback
from broker.consent.pending import Pending
from broker.errors import LocalError
from broker.oauth.checks import CheckFailedError
from broker.oauth.client import ResponseMode
from broker.tokens.spec import Consent, TokenSpec
from tests.unit.consent.test_pending import PENDING
from tests.unit.consent.world import PEOPLE_CLIENT, REDIRECT_URI

SPEC = TokenSpec(name="person", client="app", scope=("openid", "accounts", "payments"))
DETAILS = [{"type": "a", "b": "{c}", "d": ["{c}", 1]}, {"type": "e"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "e", "{c}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "b", "d"]), inner),
    max_leaves=8,
)
URLS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTP://", "//", ""]),
    st.sampled_from(["app.example", "127.0.0.1", "127.0.0.1@evil.example", "evil.example", "[::1]", "127.0.0.1\\.x"]),
    st.sampled_from(["", ":", ":1", ":80", ":65536", ":x"]),
    st.sampled_from(["/callback", "/callback/", "/callback?a=b", "/callback#a", "", "/CALLBACK", "/call\tback"]),
    st.text(max_size=2),
)


@given(st.lists(st.sampled_from([*SPEC.scope, "admin", ""]), max_size=4))
def test_no_choice_of_scope_is_above_the_ceiling(scope: list[str]):
    """And who it is can always be told."""
    with suppress(AskError):
        asked = narrowed(SPEC, Consent(), Ask(token="person", owner="app", scope=tuple(scope)))
        assert set(asked.scope) <= set(SPEC.scope)
        assert "openid" in asked.scope


@given(st.lists(JSON, max_size=3))
def test_no_choice_of_details_is_above_the_ceiling(details: list[Any]):
    """Each is one of those that are configured, with nothing left to fill."""
    consent = Consent(authorization_details=json.dumps(DETAILS))
    with suppress(AskError):
        asked = narrowed(SPEC, consent, Ask(token="person", owner="app", authorization_details=details))
        assert 0 < len(asked.authorization_details) <= len(DETAILS)
        for detail in asked.authorization_details:
            assert detail == {"type": "e"} or (
                set(detail) == {"type", "b", "d"} and detail["d"] == [detail["b"], 1] and "{c}" not in detail.values()
            )


@given(URLS | st.text(max_size=40))
def test_a_redirect_uri_leads_to_where_a_registered_one_does(uri: str):
    """But for the port of a loopback address."""
    with suppress(AskError):
        given_one = urlsplit(redirect_uri_of(PEOPLE_CLIENT, uri))
        host, path = given_one.hostname, given_one.path
        assert uri == REDIRECT_URI or (given_one.scheme, host, path) == ("http", "127.0.0.1", "/callback")
        assert not given_one.username
        assert not given_one.query
        assert not given_one.fragment


@given(
    URLS | st.text(max_size=40),
    st.none() | st.dictionaries(st.text(max_size=3), JSON, max_size=3),
    st.sampled_from(ResponseMode),
)
def test_a_callback_is_read_or_refused(url: str, form: dict[str, Any] | None, mode: ResponseMode):
    """With one of two errors; whatever else came out would be a bug of ours."""
    with suppress(AskError, CheckFailedError):
        callback = read_callback(url, form)
        parameters = parameters_of(callback, redirect_uri=REDIRECT_URI, response_mode=mode)
        assert callback.address.hostname == "app.example"
        assert {type(text) for pair in parameters for text in pair} <= {str}


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_record_is_read_or_refused(serial: bytes):
    """Whatever is in the store."""
    with suppress(LocalError):
        Pending.from_bytes(serial)


@given(st.integers(0, len(PENDING.to_bytes()) - 1), st.integers(0, 255))
def test_a_record_with_another_byte_is_read_or_refused(at: int, byte: int):
    """The seal would find it first."""
    serial = bytearray(PENDING.to_bytes())
    serial[at] = byte
    with suppress(LocalError):
        Pending.from_bytes(bytes(serial))


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_written_down_is_read_back_whatever_people_write(label: str, hint: str):
    """Labels and hints are anybody's text, as far as it is text."""
    pending = replace(PENDING, label=label, asked=replace(PENDING.asked, login_hint=hint))

    assert Pending.from_bytes(pending.to_bytes()) == pending
