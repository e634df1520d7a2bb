"""grants: what a token request says."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import LocalError
from broker.oauth.client import AssertionAudience, Client, Issuer
from broker.oauth.grants import RESERVED_PARAMETERS, client_credentials_draft
from broker.oauth.messages import AssertionSpec, Draft
from broker.oauth.metadata import AuthorizationServer
from tests.unit.oauth.builders import ISSUER_URL, a_client, an_issuer

SERVER = AuthorizationServer(
    issuer=ISSUER_URL,
    token_endpoint=f"{ISSUER_URL}/token",
    mtls_endpoint_aliases={"token_endpoint": "https://as.example:8443/token"},
)


def draft(client: Client | None = None, issuer: Issuer | None = None, **asked: Any) -> Draft:
    ordinary: dict[str, Any] = {"scope": (), "resource": (), "audience": (), "parameters": ()}
    return client_credentials_draft(SERVER, issuer or an_issuer(), client or a_client(), **{**ordinary, **asked})


def test_the_least_request_has_grant_type_and_client() -> None:
    """RFC 6749 section 4.4.2: an empty scope is not sent, because it is not the same as none."""
    assert draft() == Draft(
        url="https://as.example:8443/token",
        form=(("grant_type", "client_credentials"), ("client_id", "app-1")),
        credential=AssertionSpec(client_id="app-1", audience=ISSUER_URL),
    )


def test_everything_asked_for_is_in_the_form_once() -> None:
    """One scope with spaces; a resource and an audience for each value; the rest as configured, in order."""
    form = draft(
        scope=("accounts", "payments"),
        resource=("https://api.example/a", "https://api.example/b"),
        audience=("one", "two"),
        parameters=(("tenant", "7"), ("tenant", "8"), ("flag", "")),
    ).form

    assert form == (
        ("grant_type", "client_credentials"),
        ("scope", "accounts payments"),
        ("resource", "https://api.example/a"),
        ("resource", "https://api.example/b"),
        ("audience", "one"),
        ("audience", "two"),
        ("tenant", "7"),
        ("tenant", "8"),
        ("flag", ""),
        ("client_id", "app-1"),
    )


def test_a_client_without_a_certificate_dials_the_ordinary_endpoint() -> None:
    """And where the audience is the target, it is that one."""
    made = draft(a_client(presents_certificate=False), an_issuer(assertion_audience=AssertionAudience.TARGET))

    assert made.url == f"{ISSUER_URL}/token"
    assert made.credential == AssertionSpec(client_id="app-1", audience=f"{ISSUER_URL}/token")


@pytest.mark.parametrize("name", sorted(RESERVED_PARAMETERS))
def test_an_extra_parameter_cannot_set_what_is_ours(name: str) -> None:
    """The configuration refuses it at start; a draft refuses it again."""
    with pytest.raises(LocalError) as caught:
        draft(parameters=(("fine", "1"), (name, "canary")))

    assert caught.value.code == "parameter_reserved"
    assert "canary" not in str(caught.value)


def test_every_field_that_a_draft_sets_is_reserved() -> None:
    """A field that could be set twice would leave the choice to the server."""
    form = draft(scope=("a",), resource=("b",), audience=("c",)).form

    assert {name for name, _ in form} <= RESERVED_PARAMETERS
    assert {"client_assertion", "client_assertion_type", "client_secret"} <= RESERVED_PARAMETERS
