"""
How we prove who we are at an authorization server (RFC 7523, OpenID Connect Core section 9; CA-01 to CA-05).

Claims are made here and signed elsewhere. Each transmission needs a new assertion with a new ``jti``: servers
remember them, also those of requests that they refused.
"""

from __future__ import annotations

import math
from typing import Any, assert_never

from broker.errors import LocalError
from broker.oauth.client import AssertionAudience, Client, ClientAuthMethod, Issuer
from broker.oauth.messages import AssertionSpec
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.secret import ClientAssertion

ASSERTION_LIFETIME = 60
"""Seconds; long enough for a slow handshake and a clock that is off a little, short enough to be worth nothing."""

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""

FormPairs = tuple[tuple[str, str], ...]


def authenticate(
    client: Client, issuer: Issuer, server: AuthorizationServer, url: str
) -> tuple[FormPairs, AssertionSpec | None]:
    """
    Give the form fields that name the client to *url*, and the assertion to be signed, if it takes one.

    Raises LocalError ``issuer_mixed_up`` when *server* is not *issuer*: an assertion made for one server
    must not be handed to another (audience injection).
    """
    if server.issuer != issuer.issuer or client.issuer != issuer.name:
        raise LocalError("issuer_mixed_up", "the client, the issuer and the metadata do not belong together")
    match client.client_auth_method:
        case ClientAuthMethod.PRIVATE_KEY_JWT:
            # PAR endpoints demand client_id, and FAPI servers compare it with the assertion's subject.
            return (("client_id", client.client_id),), AssertionSpec(
                client_id=client.client_id, audience=_audience(issuer, url)
            )
        case unknown:
            assert_never(unknown)


def assertion_claims(spec: AssertionSpec, *, now: float, jti: str) -> dict[str, Any]:
    """
    Give the claims of one client assertion (RFC 7523 section 3); *now* in Unix seconds.

    No ``nbf``: a clock that runs fast would make it lie in the server's future.
    """
    issued_at = math.floor(now)
    return {
        "iss": spec.client_id,
        "sub": spec.client_id,
        "aud": spec.audience,
        "jti": jti,
        "iat": issued_at,
        "exp": issued_at + ASSERTION_LIFETIME,
    }


def assertion_form(assertion: ClientAssertion) -> FormPairs:
    """Give the form fields that carry *assertion*: the one place where it is revealed."""
    return (("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.reveal()))


def _audience(issuer: Issuer, url: str) -> str:
    match issuer.assertion_audience:
        case AssertionAudience.ISSUER:
            return issuer.issuer
        case AssertionAudience.TARGET:
            return url
        case unknown:
            assert_never(unknown)
