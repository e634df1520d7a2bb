"""
Is the access token bound to what we prove ourselves with? To the certificate that asked for it (RFC 8705 section 3,
MT-01), or to the key of our DPoP proofs (RFC 9449 section 6, DP-06).

The one deliberate look into an access token. Nothing else is ever read from it, least of all its expiry.
A ``cnf`` beside the access token, in the token response, means nothing: RFC 8705 defines it for the token
and for introspection only.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """
    What an access token is bound to, as far as can be said.

    *certificate_thumbprint* and *jkt* are None where it is bound to nothing of the kind. A token with *binding*
    ``dpop`` may be bound to a certificate as well. For one that is ``unverified`` they are what was asked for.
    """

    binding: Binding
    certificate_thumbprint: str | None = None
    jkt: str | None = None


_CERTIFICATE = "x5t#S256"
_KEY = "jkt"
"""The members of ``cnf`` (RFC 8705 section 3.1, RFC 9449 section 6.1)."""


def check_binding(
    access_token: str,
    *,
    sender_constraint: SenderConstraint,
    certificate_thumbprint: str | None,
    jkt: str | None = None,
) -> Bound:
    """
    Say what *access_token* is bound to.

    *certificate_thumbprint* is the ``x5t#S256`` of the certificate of that very connection, *jkt* the thumbprint of
    the key that signed the proof of that very request.

    Raises RemoteError ``wrong_binding`` for a token that nobody with our certificate or key can use, also where no
    binding was asked for, and ``downgraded`` for one that is not bound although it had to be.
    """
    claims = unverified_claims(access_token)
    if claims is None:
        return _unverified(access_token, sender_constraint, certificate_thumbprint, jkt)
    confirmation = claims.get("cnf")
    cnf: dict[str, Any] = confirmation if isinstance(confirmation, dict) else {}
    by_key = sender_constraint is SenderConstraint.DPOP
    if _CERTIFICATE in cnf and (certificate_thumbprint is None or cnf[_CERTIFICATE] != certificate_thumbprint):
        raise _wrong_certificate()
    if _KEY in cnf and not (by_key and jkt is not None and cnf[_KEY] == jkt):
        raise _wrong_key(by_key=by_key)
    seen = certificate_thumbprint if _CERTIFICATE in cnf else None
    if by_key:
        if _KEY not in cnf:
            raise _not_bound_to_key()
        return Bound(binding="dpop", certificate_thumbprint=seen, jkt=jkt)
    if seen is None and sender_constraint is SenderConstraint.CERTIFICATE:
        raise _not_bound("a certificate-bound token was asked for, and the token is bound to no certificate")
    return Bound(binding="none" if seen is None else "certificate", certificate_thumbprint=seen)


def _unverified(
    access_token: str, sender_constraint: SenderConstraint, certificate_thumbprint: str | None, jkt: str | None
) -> Bound:
    """Say what a token that cannot be read has to be bound to. Raises RemoteError."""
    if sender_constraint is SenderConstraint.NONE:
        return Bound(binding="none")
    by_key = sender_constraint is SenderConstraint.DPOP
    if not by_key and certificate_thumbprint is None:
        raise _not_bound("no client certificate was presented, so the token cannot be bound to one")
    if resembles_jwt(access_token):
        # A resource server that is less strict than we are may read another binding in it.
        raise invalid("the access token is a JWT, but not a strict one, so its binding cannot be read")
    if by_key:
        return Bound(binding="unverified", jkt=jkt)
    return Bound(binding="unverified", certificate_thumbprint=certificate_thumbprint)


def _not_bound_to_key() -> RemoteError:
    return invalid(
        "a DPoP-bound token was asked for, and the token is bound to no key",
        reason=Reason.DOWNGRADED,
        hint="register the client with dpop_bound_access_tokens, and see that the server and the API of the token"
        " support DPoP (RFC 9449)",
    )


def _wrong_key(*, by_key: bool) -> RemoteError:
    """Give the error of a token that wants proofs of a key that is not ours; *by_key*: we do make proofs."""
    if by_key:
        return invalid(
            "the token is bound to another key than that of our proof",
            reason=Reason.WRONG_BINDING,
            hint="the server mixes up its clients, or something between us and the server makes proofs of its own",
        )
    return invalid(
        "the token is bound to a DPoP key, and the client has none",
        reason=Reason.WRONG_BINDING,
        hint='write sender_constraint = "dpop" in the [client.NAME] section if the client is registered with'
        " dpop_bound_access_tokens; if not, the server mixes up its clients, or something between makes proofs",
    )


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
