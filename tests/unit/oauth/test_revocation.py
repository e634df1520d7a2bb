from __future__ import annotations

from dataclasses import replace

import pytest

from broker.errors import RemoteError
from broker.oauth.messages import AssertionSpec, Draft
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
    assert draft.form[0] == ("token_type_hint", "access_token")


def test_a_server_without_the_endpoint_is_not_asked():
    """There is nothing to do there, which is not a failure."""
    server = replace(SERVER, revocation_endpoint=None, mtls_endpoint_aliases={})

    assert revocation_draft(server, an_issuer(), a_client(), RefreshToken("rt")) is None


@pytest.mark.parametrize("body", [b"", b"ok", {"a": 1}])
def test_200_means_that_it_is_gone(body: bytes | object):
    """Whatever the body, and also for a token that the server does not know (RFC 7009 section 2.2)."""
    assert read_revocation_response(an_answer(body), wall_now=NOW) == "revoked"


def test_a_kind_that_cannot_be_revoked_is_no_failure():
    """RFC 7009 section 2.2.1; servers say it of JWT access tokens."""
    answer = an_answer({"error": "unsupported_token_type"}, status=400)

    assert read_revocation_response(answer, wall_now=NOW) == "not_revocable"


@pytest.mark.parametrize(
    ("status", "error"), [(400, "invalid_client"), (401, "invalid_client"), (503, None), (302, None)]
)
def test_anything_else_leaves_it_to_be_tried_again(status: int, error: str | None):
    """It is not known to be revoked."""
    with pytest.raises(RemoteError):
        read_revocation_response(an_answer({"error": error}, status=status), wall_now=NOW)
