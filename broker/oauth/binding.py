"""
Is the access token bound to the certificate that asked for it? (RFC 8705 section 3, MT-01.)

The one deliberate look into an access token. Nothing else is ever read from it, least of all its expiry.
A ``cnf`` beside the access token, in the token response, means nothing: RFC 8705 defines it for the token
and for introspection only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from broker.errors import RemoteError
from broker.oauth.answers import invalid
from broker.oauth.client import SenderConstraint
from broker.oauth.jose import resembles_jwt, unverified_claims
from broker.oauth.reasons import Reason

Binding = Literal["certificate", "unverified", "none"]
"""``certificate``: seen in the token. ``unverified``: asked for, and the token is opaque. ``none``: not bound."""


def check_binding(
    access_token: str, *, sender_constraint: SenderConstraint, certificate_thumbprint: str | None
) -> Binding:
    """
    Say how *access_token* is bound, given the ``x5t#S256`` of the certificate of that very connection.

    Raises RemoteError ``wrong_binding`` for a token that nobody with our certificate can use, also where no
    binding was asked for, and ``downgraded`` for one that is not bound although it had to be.
    """
    asked = sender_constraint is SenderConstraint.CERTIFICATE
    claims = unverified_claims(access_token)
    if claims is None:
        if asked and certificate_thumbprint is None:
            raise _downgraded("no client certificate was presented, so the token cannot be bound to one")
        if asked and resembles_jwt(access_token):
            # A resource server that is less strict than we are may read another binding in it.
            raise invalid("the access token is a JWT, but not a strict one, so its binding cannot be read")
        return "unverified" if asked else "none"
    bound, thumbprint = _confirmation(claims)
    if bound:
        if certificate_thumbprint is None or thumbprint != certificate_thumbprint:
            raise _wrong_binding()
        return "certificate"
    if asked:
        raise _downgraded("a certificate-bound token was asked for, and the token is bound to no certificate")
    return "none"


def _confirmation(claims: Mapping[str, Any]) -> tuple[bool, object]:
    """Give whether ``cnf`` names a certificate, and what it says of it, of whatever type."""
    cnf = claims.get("cnf")
    if not isinstance(cnf, dict) or "x5t#S256" not in cnf:
        return False, None
    return True, cnf["x5t#S256"]


def _downgraded(message: str) -> RemoteError:
    return invalid(
        message,
        reason=Reason.DOWNGRADED,
        hint="register the client with tls_client_certificate_bound_access_tokens, and see that its [client.NAME]"
        ' section names a certificate; or choose sender_constraint = "none" where the profile allows it',
    )


def _wrong_binding() -> RemoteError:
    return invalid(
        "the token is bound to another certificate than the one presented",
        reason=Reason.WRONG_BINDING,
        hint="something between us and the server presents its own certificate (a proxy that ends TLS?),"
        " or the server mixes up its clients",
    )
