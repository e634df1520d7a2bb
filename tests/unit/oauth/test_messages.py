"""messages: values that may be looked at without harm."""

from __future__ import annotations

import pytest

from broker.oauth.messages import Credential, Draft, Request, Response
from broker.oauth.secret import BasicCredentials, ClientAssertion, ClientSecret


def test_the_body_of_a_response_is_not_printed() -> None:
    """It may hold tokens, and errors that repeat secrets."""
    response = Response(status=200, headers={"content-type": "application/json"}, body=b'{"access_token": "canary"}')

    assert "canary" not in repr(response)
    assert "200" in repr(response)


@pytest.mark.parametrize("credential", [ClientAssertion("canary"), ClientSecret("canary"), BasicCredentials("canary")])
def test_the_credential_of_a_request_is_not_printed(credential: Credential) -> None:
    """It is held apart from form and headers for that."""
    request = Request(
        method="POST",
        url="https://as.example/token",
        form=(("grant_type", "client_credentials"),),
        credential=credential,
    )

    assert "canary" not in repr(request)
    assert "client_credentials" in repr(request)


def test_requests_do_not_share_headers() -> None:
    """A default that two values share would carry one's headers to the other's server."""
    one, other = (Request(method="GET", url="https://as.example/") for _ in range(2))

    assert one.headers == {}
    assert one.headers is not other.headers


def test_drafts_of_one_request_are_equal() -> None:
    """A draft is a value: two of one configuration do not differ."""
    form = (("resource", "a"), ("resource", "b"))

    assert Draft(url="https://as.example/", form=form) == Draft(url="https://as.example/", form=form)
    assert Draft(url="https://as.example/", form=form) != Draft(url="https://as.example/", form=form[::-1])
