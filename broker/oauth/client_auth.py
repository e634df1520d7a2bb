"""
How we prove who we are at an authorization server (OpenID Connect Core section 9; CA-01 to CA-09).

One method for each client, never two at once (RFC 6749 section 2.3). Claims are made here and signed
elsewhere. Each transmission needs a new assertion with a new ``jti``: servers remember them, also those of
requests that they refused. Secrets are put in last, and only what this module gives the transport reveals them.
"""

from __future__ import annotations

import base64
import math
from typing import Any, assert_never
from urllib.parse import quote_plus

from broker.errors import LocalError
from broker.oauth.client import AssertionAudience, Client, ClientAuthMethod, ClientSecretEncoding, Issuer
from broker.oauth.dpop import PROOF_HEADER, presented
from broker.oauth.messages import AssertionSpec, BasicSpec, Credential, CredentialSpec, PostSpec
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.secret import AccessToken, BasicCredentials, ClientAssertion, ClientSecret, DpopProof

ASSERTION_LIFETIME = 60
"""Seconds; long enough for a slow handshake and a clock that is off a little, short enough to be worth nothing."""

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""

FormPairs = tuple[tuple[str, str], ...]


def authenticate(
    client: Client, issuer: Issuer, server: AuthorizationServer, url: str
) -> tuple[FormPairs, CredentialSpec | None]:
    """
    Give the form fields that name the client to *url*, and the credential that is still to be made.

    Raises LocalError ``issuer_mixed_up`` when *server* is not *issuer*: an assertion made for one server
    must not be handed to another (audience injection).
    """
    if server.issuer != issuer.issuer or client.issuer != issuer.name:
        raise LocalError("issuer_mixed_up", "the client, the issuer and the metadata do not belong together")
    named: FormPairs = (("client_id", client.client_id),)
    match client.client_auth_method:
        case ClientAuthMethod.PRIVATE_KEY_JWT:
            # PAR endpoints demand client_id, and FAPI servers compare it with the assertion's subject.
            return named, AssertionSpec(client_id=client.client_id, audience=_audience(issuer, url))
        case ClientAuthMethod.TLS_CLIENT_AUTH | ClientAuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
            # RFC 8705 section 2: nothing else says which of the certificate's clients this is.
            return named, None
        case ClientAuthMethod.CLIENT_SECRET_BASIC:
            # Some servers count a client_id in the form as a second method beside the header.
            return (), BasicSpec(client_id=client.client_id, encoding=client.client_secret_encoding)
        case ClientAuthMethod.CLIENT_SECRET_POST:
            return named, PostSpec()
        case ClientAuthMethod.NONE:
            return named, None  # RFC 6749 section 3.2.1
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


def basic_credentials(spec: BasicSpec, secret: ClientSecret) -> BasicCredentials:
    """
    Make the value of the ``Authorization`` header of ``client_secret_basic``.

    Id and secret are form-encoded, each by itself (RFC 6749 section 2.3.1), so that a colon in one is not
    taken for the one between them; *raw* leaves that out.
    """
    match spec.encoding:
        case ClientSecretEncoding.FORM:
            pair = f"{quote_plus(spec.client_id)}:{quote_plus(secret.reveal())}"
        case ClientSecretEncoding.RAW:
            pair = f"{spec.client_id}:{secret.reveal()}"
        case unknown:
            assert_never(unknown)
    return BasicCredentials("Basic " + base64.b64encode(pair.encode()).decode("ascii"))


def credential_form(credential: Credential | None) -> FormPairs:
    """Give the form fields that carry *credential*, revealed; none for one that goes into a header."""
    match credential:
        case ClientAssertion():
            return (("client_assertion_type", ASSERTION_TYPE), ("client_assertion", credential.reveal()))
        case ClientSecret():
            return (("client_secret", credential.reveal()),)
        case BasicCredentials() | AccessToken() | None:
            return ()
        case unknown:
            assert_never(unknown)


def credential_headers(credential: Credential | None, proof: DpopProof | None = None) -> dict[str, str]:
    """Give the headers that carry *credential* and *proof*, revealed; none for one that goes into the form."""
    if proof is not None and isinstance(credential, AccessToken):
        return presented(credential, proof)
    if proof is not None:
        return credential_headers(credential) | {PROOF_HEADER: proof.reveal()}
    match credential:
        case BasicCredentials():
            return {"authorization": credential.reveal()}
        case AccessToken():
            return {"authorization": f"Bearer {credential.reveal()}"}
        case ClientAssertion() | ClientSecret() | None:
            return {}
        case unknown:
            assert_never(unknown)


def _audience(issuer: Issuer, url: str) -> str:
    match issuer.assertion_audience:
        case AssertionAudience.ISSUER:
            return issuer.issuer
        case AssertionAudience.TARGET:
            return url
        case unknown:
            assert_never(unknown)
