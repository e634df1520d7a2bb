from __future__ import annotations

import pytest

from broker.oauth.end_session import end_session_url
from broker.oauth.metadata import AuthorizationServer
from tests.unit.oauth.builders import ISSUER_URL, a_client


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, None),
        (f"{ISSUER_URL}/end", f"{ISSUER_URL}/end?client_id=app-1"),
        (f"{ISSUER_URL}/end?a=1", f"{ISSUER_URL}/end?a=1&client_id=app-1"),
    ],
)
def test_a_person_is_sent_to_where_the_session_ends(endpoint: str | None, url: str | None):
    """With no token and no hint at who it is: the server asks."""
    server = AuthorizationServer(issuer=ISSUER_URL, token_endpoint=f"{ISSUER_URL}/token", end_session_endpoint=endpoint)

    assert end_session_url(server, a_client()) == url
