from __future__ import annotations

from dataclasses import replace

import pytest

from broker.errors import RemoteError
from broker.oauth.dialect import IRIDIUM
from broker.oauth.messages import AssertionSpec, BearerSpec, Draft
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.revocation import read_revocation_response, revocation_draft
from broker.oauth.secret import AccessToken, RefreshToken
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_client, an_answer, an_issuer

SERVER = AuthorizationServer(
    issuer=ISSUER_URL,
    token_endpoint=f"{ISSUER_URL}/token",
    revocation_endpoint=f"{ISSUER_URL}/revoke",
    mtls_endpoint_aliases={"revocation_endpoint": "https://mtls.as.example/revoke"},
)
SERVER_WITH_LOGOUT = replace(SERVER, logout_endpoint=f"{ISSUER_URL}/applications/{{client_id}}/tokens")
BEARER = an_issuer(dialect=IRIDIUM)


def test_a_refresh_token_is_given_up_where_it_came_from():
    """RFC 7009 section 2.1, at the alias, authenticated; the token is shown by nothing."""
    draft = revocation_draft(SERVER, an_issuer(), a_client(), RefreshToken("canary"))

    assert draft == Draft(
        url="https://mtls.as.example/revoke",
        form=(("token_type_hint", "refresh_token"), ("client_id", "app-1")),
        credential=AssertionSpec(client_id="app-1", audience=ISSUER_URL),
        secret_fields=(("token", RefreshToken("canary")),),
    )
    assert "canary" not in repr(draft)


def test_an_access_token_is_called_one():
    """So that the server need not guess."""
    draft = revocation_draft(SERVER, an_issuer(), a_client(), AccessToken("at"))

    assert draft is not None
    assert draft.form is not None
    assert draft.form[0] == ("token_type_hint", "access_token")


def test_a_server_without_the_endpoint_is_not_asked():
    """There is nothing to do there, which is not a failure."""
    server = replace(SERVER, revocation_endpoint=None, mtls_endpoint_aliases={})

    assert revocation_draft(server, an_issuer(), a_client(), RefreshToken("rt")) is None


@pytest.mark.parametrize("body", [b"", b"ok", {"a": 1}])
def test_200_means_that_it_is_gone(body: bytes | object):
    """Whatever the body, and also for a token that the server does not know (RFC 7009 section 2.2)."""
    assert read_revocation_response(an_answer(body), an_issuer(), wall_now=NOW) == "revoked"


def test_a_kind_that_cannot_be_revoked_is_no_failure():
    """RFC 7009 section 2.2.1; servers say it of JWT access tokens."""
    answer = an_answer({"error": "unsupported_token_type"}, status=400)

    assert read_revocation_response(answer, an_issuer(), wall_now=NOW) == "not_revocable"


@pytest.mark.parametrize(
    ("status", "error"), [(400, "invalid_client"), (401, "invalid_client"), (503, None), (302, None)]
)
def test_anything_else_leaves_it_to_be_tried_again(status: int, error: str | None):
    """It is not known to be revoked."""
    with pytest.raises(RemoteError):
        read_revocation_response(an_answer({"error": error}, status=status), an_issuer(), wall_now=NOW)


# --- the logout of a dialect ---


def test_a_logout_takes_the_access_token_and_the_clients_id_in_the_path():
    """IRI-14: no form, no authentication of the client, and the token is shown by nothing."""
    draft = revocation_draft(SERVER_WITH_LOGOUT, BEARER, a_client(), AccessToken("canary"))

    assert draft == Draft(
        method="DELETE",
        url=f"{ISSUER_URL}/applications/app-1/tokens",
        form=None,
        credential=BearerSpec(access_token=AccessToken("canary")),
    )
    assert "canary" not in repr(draft)


def test_the_method_of_a_logout_is_the_dialects():
    """Some servers have a POST."""
    issuer = an_issuer(dialect=replace(IRIDIUM, logout_method="POST"))

    draft = revocation_draft(SERVER_WITH_LOGOUT, issuer, a_client(), AccessToken("at"))

    assert draft is not None
    assert (draft.method, draft.form) == ("POST", None)


@pytest.mark.parametrize(
    ("client_id", "segment"),
    [
        ("a/../b", "a%2F..%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("{client_id}", "%7Bclient_id%7D"),
        ("ü %", "%C3%BC%20%25"),
        ("a@evil.example", "a%40evil.example"),
    ],
)
def test_a_client_id_stays_one_segment_of_the_path(client_id: str, segment: str):
    """Whatever is in it: it is not ours to choose."""
    draft = revocation_draft(SERVER_WITH_LOGOUT, BEARER, a_client(client_id=client_id), AccessToken("at"))

    assert draft is not None
    assert draft.url == f"{ISSUER_URL}/applications/{segment}/tokens"


def test_a_logout_takes_no_refresh_token():
    """There is nothing to be done with one alone."""
    assert revocation_draft(SERVER_WITH_LOGOUT, BEARER, a_client(), RefreshToken("rt")) is None


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_logout_is_done_when_the_server_says_so(status: int):
    """With or without a body."""
    assert read_revocation_response(an_answer(b"", status=status), BEARER, wall_now=NOW) == "revoked"
    assert read_revocation_response(an_answer(b"ok", status=status), BEARER, wall_now=NOW) == "revoked"


def test_a_token_that_is_not_taken_any_more_logs_nobody_out():
    """401: nothing more can be done with it."""
    answer = an_answer({"code": "401", "message": "NOT AUTHORIZED"}, status=401)

    assert read_revocation_response(answer, BEARER, wall_now=NOW) == "not_revocable"


@pytest.mark.parametrize("status", [201, 302, 400, 403, 404, 429, 500, 503])
def test_any_other_answer_leaves_a_logout_to_be_tried_again(status: int):
    """It is not known to be done."""
    with pytest.raises(RemoteError):
        read_revocation_response(an_answer({"error": "canary"}, status=status), BEARER, wall_now=NOW)


def test_without_the_dialect_204_and_401_are_no_success():
    """RFC 7009 has 200 alone."""
    for status in (204, 401):
        with pytest.raises(RemoteError):
            read_revocation_response(an_answer(b"", status=status), an_issuer(), wall_now=NOW)
