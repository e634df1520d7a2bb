from __future__ import annotations

import pytest

from broker.errors import RemoteError
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.messages import Request
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.oauth.userinfo import check_userinfo, userinfo_request
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_client, an_answer

SERVER = AuthorizationServer(
    issuer=ISSUER_URL, token_endpoint=f"{ISSUER_URL}/token", userinfo_endpoint=f"{ISSUER_URL}/me"
)


def test_the_endpoint_of_the_metadata_is_asked():
    """The access token is added by whoever sends it, with a proof where it is bound."""
    request = userinfo_request(SERVER, a_client())

    assert request == Request(method="GET", url=f"{ISSUER_URL}/me", headers={"accept": "application/json"})


def test_a_server_without_the_endpoint_is_told_apart():
    """It is a matter of the configuration, which asks for it."""
    server = AuthorizationServer(issuer=ISSUER_URL, token_endpoint=f"{ISSUER_URL}/token")

    with pytest.raises(RemoteError) as raised:
        userinfo_request(server, a_client())

    assert raised.value.code == Reason.METADATA_INSUFFICIENT


def test_it_is_about_the_person_of_the_id_token():
    """IDT-11."""
    check_userinfo(an_answer({"sub": "alice", "name": "x"}), subject="alice", wall_now=NOW)
    for body in ({"sub": "bob"}, {}, {"sub": None}, {"sub": ["alice"]}):
        with pytest.raises(CheckFailedError) as raised:
            check_userinfo(an_answer(body), subject="alice", wall_now=NOW)
        assert raised.value.check is Check.USERINFO_SUB


@pytest.mark.parametrize(("body", "status"), [(b"", 200), ({"error": "invalid_token"}, 401), (b"<html>", 200)])
def test_an_answer_that_is_none_is_told_as_such(body: bytes | object, status: int):
    """Nothing is concluded from it about the person."""
    with pytest.raises(RemoteError) as raised:
        check_userinfo(an_answer(body, status=status), subject="alice", wall_now=NOW)

    assert not isinstance(raised.value, CheckFailedError)
