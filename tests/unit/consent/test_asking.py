"""What a caller may choose: less than the configuration says, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.consent.asking import MAX_FILLING, MAX_HINT, MAX_LABEL, Ask, AskError, narrowed, redirect_uri_of
from broker.tokens.spec import Consent, TokenSpec
from tests.unit.consent.world import PEOPLE_CLIENT, REDIRECT_URI

SPEC = TokenSpec(
    name="person",
    client="app",
    scope=("openid", "accounts", "payments"),
    resource=("https://api.example",),
    audience=("api",),
    parameters=(("ui_locales", "de"),),
)
ASK = Ask(token="person", owner="app")
PAYMENT = {"type": "payment", "amount": "{amount}", "to": {"iban": "{iban}", "again": ["{iban}", 1, True, None]}}
FILLED = {"type": "payment", "amount": "1.00", "to": {"iban": "DE1", "again": ["DE1", 1, True, None]}}
READING = {"type": "reading", "actions": ["list", "read"]}
CONSENT = Consent(authorization_details=json.dumps([PAYMENT, READING]))


def asked(**changes: Any) -> Any:
    consent = changes.pop("consent", Consent())
    return narrowed(SPEC, consent, replace(ASK, **changes))


def refused(**changes: Any) -> AskError:
    with pytest.raises(AskError) as caught:
        asked(**changes)
    return caught.value


def test_without_a_choice_everything_is_asked_for():
    """As configured."""
    consent = Consent(
        claims='{"userinfo": {"name": null}}', acr_values=("high",), prompt=("consent",), max_age=60
    )  # fmt: skip

    everything = asked(consent=consent, login_hint="kaethe")

    assert everything.scope == SPEC.scope
    assert everything.resource == SPEC.resource
    assert everything.audience == SPEC.audience
    assert everything.parameters == SPEC.parameters
    assert everything.claims == {"userinfo": {"name": None}}
    assert (everything.acr_values, everything.prompt, everything.max_age) == (("high",), ("consent",), 60)
    assert everything.login_hint == "kaethe"
    assert everything.authorization_details == ()


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        (("accounts",), ("openid", "accounts")),
        (("payments", "accounts"), ("openid", "accounts", "payments")),
        (("accounts", "accounts"), ("openid", "accounts")),
        (("openid",), ("openid",)),
    ],
)
def test_a_part_of_the_scope_may_be_asked_for(given: tuple[str, ...], scope: tuple[str, ...]):
    """In the order of the configuration; who it is has to be said always."""
    assert asked(scope=given).scope == scope


@pytest.mark.parametrize("given", [(), ("admin",), ("accounts", "admin"), ("Accounts",), ("",)])
def test_any_other_scope_is_refused(given: tuple[str, ...]):
    """An empty one, too: it would mean whatever the server likes."""
    assert refused(scope=given).code == "scope"


@pytest.mark.parametrize("details", [[FILLED], [READING], [READING, FILLED]])
def test_a_part_of_the_details_may_be_asked_for(details: list[Any]):
    """Their placeholders filled."""
    assert list(asked(consent=CONSENT, authorization_details=details).authorization_details) == details


@pytest.mark.parametrize(
    "details",
    [
        [],
        ["reading"],
        [READING, READING],
        [PAYMENT],
        [FILLED | {"amount": 1}],
        [FILLED | {"amount": ""}],
        [FILLED | {"amount": "x" * (MAX_FILLING + 1)}],
        [FILLED | {"amount": "a\nb"}],
        [FILLED | {"more": "x"}],
        [FILLED | {"type": "transfer"}],
        [FILLED | {"to": {"iban": "DE2", "again": ["DE1", 1, True, None]}}],
        [FILLED | {"to": {"iban": "DE1", "again": ["DE1", True, True, None]}}],
        [FILLED | {"to": {"iban": "DE1", "again": ["DE1", 1.0, True, None]}}],
        [FILLED | {"to": {"iban": "DE1", "again": ["DE1", 1, 1, None]}}],
        [FILLED | {"to": {"iban": "DE1", "again": ["DE1"]}}],
        [FILLED | {"to": {"iban": "DE1"}}],
        [READING | {"actions": ["list", "read", "write"]}],
        [READING | {"actions": "list"}],
    ],
    ids=str,
)
def test_any_other_details_are_refused(details: list[Any]):
    """More of them, other members, other types: each has to be one that is configured."""
    error = refused(consent=CONSENT, authorization_details=details)

    assert error.code == "authorization_details"


def test_placeholders_that_nobody_fills_are_refused():
    """The server would get them as they are."""
    assert refused(consent=CONSENT).code == "authorization_details"
    assert asked(consent=Consent(authorization_details=json.dumps([READING]))).authorization_details == (READING,)


def test_details_of_a_token_that_has_none_are_refused():
    """There is nothing to choose from."""
    assert refused(authorization_details=[READING]).code == "authorization_details"


@pytest.mark.parametrize("name", ["login_hint", "label"])
@pytest.mark.parametrize("text", ["", "a\x00b", "a\nb", "\x85", "\ud800", "x" * 300])
def test_a_hint_or_label_that_is_no_plain_text_is_refused(name: str, text: str):
    """The one goes to the server, the other to who lists grants."""
    assert refused(**{name: text}).code == name


def test_hints_and_labels_have_room_for_names():
    """To the last character."""
    assert asked(login_hint="ä" * MAX_HINT, label="x" * MAX_LABEL).login_hint == "ä" * MAX_HINT


@pytest.mark.parametrize(
    "given",
    [
        REDIRECT_URI,
        "http://127.0.0.1/callback",
        "http://127.0.0.1:1/callback",
        "http://127.0.0.1:49152/callback",
        "http://[::1]:49152/here?a=b",
        "http://[::1]/here?a=b",
    ],
)
def test_a_registered_redirect_uri_may_be_named(given: str):
    """One on a loopback address with any port (RFC 8252 section 7.3)."""
    client = replace(PEOPLE_CLIENT, redirect_uris=(*PEOPLE_CLIENT.redirect_uris, "http://[::1]:8080/here?a=b"))

    assert redirect_uri_of(client, given) == given


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "https://app.example/callback/",
        "https://app.example:443/callback",
        "https://app.example:8443/callback",
        "https://APP.example/callback",
        "http://app.example/callback",
        "https://app.example.evil.example/callback",
        "https://127.0.0.1:8443/callback",
        "http://127.0.0.1:8080/other",
        "http://127.0.0.1:8080/callback?x=1",
        "http://127.0.0.1:8080/callback#x",
        "http://127.0.0.2:8080/callback",
        "http://localhost:8080/callback",
        "http://user@127.0.0.1:8080/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:99999/callback",
        "http://127.0.0.1:x/callback",
        "http://127.0.0.1:8080@evil.example/callback",
        "http://127.0.0.1\\@evil.example/callback",
        "http://127.0.0.1:80 80/callback",
        "http://127.0.0.1:\u0661/callback",
        "http://[::1/callback",
    ],
    ids=str,
)
def test_any_other_redirect_uri_is_refused(given: str | None):
    """And where there are several one has to be named."""
    with pytest.raises(AskError) as caught:
        redirect_uri_of(PEOPLE_CLIENT, given)

    assert caught.value.code == "redirect_uri"
    assert caught.value.hint == f"one of: {REDIRECT_URI}, http://127.0.0.1/callback"


def test_the_only_redirect_uri_need_not_be_named():
    """And a client without any cannot ask."""
    assert redirect_uri_of(replace(PEOPLE_CLIENT, redirect_uris=(REDIRECT_URI,)), None) == REDIRECT_URI
    with pytest.raises(AskError) as caught:
        redirect_uri_of(replace(PEOPLE_CLIENT, redirect_uris=()), REDIRECT_URI)
    assert caught.value.hint == "the client has no redirect_uris"
