"""
Is the access token bound to what we prove ourselves with? To the certificate that asked for it (RFC 8705 section 3,
MT-01), or to the key of our DPoP proofs (RFC 9449 section 6, DP-06).

The one deliberate look into an access token. Nothing else is ever read from it, least of all its expiry.
A ``cnf`` beside the access token, in the token response, means nothing: RFC 8705 defines it for the token
and for introspection only.
"""

from __future__ import annotations

from typing import Any, Literal

from broker.errors import RemoteError
from broker.oauth.answers import invalid
from broker.oauth.client import SenderConstraint
from broker.oauth.jose import resembles_jwt, unverified_claims
from broker.oauth.reasons import Reason

Binding = Literal["certificate", "dpop", "unverified", "none"]
"""
``certificate``, ``dpop``: seen in the token. ``unverified``: asked for, and the token is opaque. ``none``: not bound.
"""

_CERTIFICATE = "x5t#S256"
_KEY = "jkt"
"""The members of ``cnf`` (RFC 8705 section 3.1, RFC 9449 section 6.1)."""


def check_binding(
    access_token: str,
    *,
    sender_constraint: SenderConstraint,
    certificate_thumbprint: str | None,
    jkt: str | None = None,
) -> Binding:
    """
    Say how *access_token* is bound.

    *certificate_thumbprint* is the ``x5t#S256`` of the certificate of that very connection, *jkt* the thumbprint of
    the key that signed the proof of that very request.

    Raises RemoteError ``wrong_binding`` for a token that nobody with our certificate or key can use, also where no
    binding was asked for, and ``downgraded`` for one that is not bound although it had to be.
    """
    by_certificate = sender_constraint is SenderConstraint.CERTIFICATE
    by_key = sender_constraint is SenderConstraint.DPOP
    claims = unverified_claims(access_token)
    if claims is None:
        if by_certificate and certificate_thumbprint is None:
            raise _not_bound("no client certificate was presented, so the token cannot be bound to one")
        if (by_certificate or by_key) and resembles_jwt(access_token):
            # A resource server that is less strict than we are may read another binding in it.
            raise invalid("the access token is a JWT, but not a strict one, so its binding cannot be read")
        return "unverified" if by_certificate or by_key else "none"
    confirmation = claims.get("cnf")
    cnf: dict[str, Any] = confirmation if isinstance(confirmation, dict) else {}
    if _CERTIFICATE in cnf and (certificate_thumbprint is None or cnf[_CERTIFICATE] != certificate_thumbprint):
        raise _wrong_certificate()
    if by_key:
        return _bound_to_key(cnf, jkt)
    if _CERTIFICATE in cnf:
        return "certificate"
    if by_certificate:
        raise _not_bound("a certificate-bound token was asked for, and the token is bound to no certificate")
    return "none"


def _bound_to_key(cnf: dict[str, Any], jkt: str | None) -> Binding:
    """See that the token is bound to the key of *jkt*. Raises RemoteError."""
    if _KEY not in cnf:
        raise invalid(
            "a DPoP-bound token was asked for, and the token is bound to no key",
            reason=Reason.DOWNGRADED,
            hint="register the client with dpop_bound_access_tokens, and see that the server and the API of the token"
            " support DPoP (RFC 9449)",
        )
    if jkt is None or cnf[_KEY] != jkt:
        raise invalid(
            "the token is bound to another key than that of our proof",
            reason=Reason.WRONG_BINDING,
            hint="the server mixes up its clients, or something between us and the server makes proofs of its own",
        )
    return "dpop"


def _not_bound(message: str) -> RemoteError:
    return invalid(
        message,
        reason=Reason.DOWNGRADED,
        hint="register the client with tls_client_certificate_bound_access_tokens, and see that its [client.NAME]"
        ' section names a certificate; or choose sender_constraint = "none" where the profile allows it',
    )


def _wrong_certificate() -> RemoteError:
    return invalid(
        "the token is bound to another certificate than the one presented",
        reason=Reason.WRONG_BINDING,
        hint="something between us and the server presents its own certificate (a proxy that ends TLS?),"
        " or the server mixes up its clients",
    )
