"""
The userinfo endpoint (OpenID Connect Core section 5.3), for one purpose: to learn whose an access token is.

Beside an ID token it has to confirm the person; a dialect may have nothing but it.
"""

from __future__ import annotations

from typing import Any

from broker.oauth.answers import json_object
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.client import Client, Issuer
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer, endpoint
from broker.oauth.reasons import Reason

LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core section 2)."""


def userinfo_request(server: AuthorizationServer, issuer: Issuer, client: Client) -> Request:
    """
    Make the request, but for the access token.

    Raises RemoteError ``metadata_insufficient`` when the server has no such endpoint.
    """
    url = endpoint(server, "userinfo_endpoint", client)
    return Request(method="GET", url=url, headers={"accept": issuer.dialect.userinfo_accept})


def check_userinfo(response: Response, *, subject: str, wall_now: float) -> None:
    """
    Compare ``sub`` with that of the ID token (IDT-11); nothing else of the answer is used.

    Raises RemoteError for an answer that is none, CheckFailedError for one about somebody else.
    """
    if json_object(response, wall_now=wall_now).get("sub") != subject:
        raise CheckFailedError(
            Reason.USERINFO_INVALID, Check.USERINFO_SUB, message="the userinfo is not about the person of the ID token"
        )


def subject_of(response: Response, issuer: Issuer, *, wall_now: float) -> str:
    """
    Give the identifier of whom the answer is about, at the place that the dialect of *issuer* names.

    A number is taken for its digits: some servers count people. Raises RemoteError for an answer that is none,
    CheckFailedError for one about nobody.
    """
    found: Any = json_object(response, wall_now=wall_now)
    for name in issuer.dialect.subject_member.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not 0 < len(found) <= LONGEST_SUBJECT:
        raise CheckFailedError(
            Reason.USERINFO_INVALID,
            Check.USERINFO_SUB,
            message="the userinfo names nobody",
            hint=f"[issuer.{issuer.name}.dialect]: subject_member says where it does",
        )
    return found
