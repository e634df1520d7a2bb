"""
What a client's authentication needs, what is of no use to it, and what its issuer's profile refuses.

A key that would have no effect is refused like one that is missing: whoever wrote it believes that it has one.
"""

from __future__ import annotations

from broker.config.consent_combinations import signs_requests
from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import ClientSection, GrantType, SigningAlg
from broker.config.structure import Document
from broker.oauth.client import (
    CERTIFICATE_METHODS,
    SECRET_METHODS,
    ClientAuthMethod,
    ClientSecretEncoding,
    Profile,
    SenderConstraint,
)

_REFUSED_ALGS = {
    Profile.FAPI2: frozenset({SigningAlg.RS256}),  # FAPI 2.0 Security Profile section 5.4.1
    Profile.FAPI1_ADVANCED: frozenset({SigningAlg.RS256, SigningAlg.EDDSA}),  # FAPI 1.0 part 2 section 8.6
}
"""By the profiles that refuse anything at all."""

MAX_SIGNING_KEYS = 3
"""The one that signs, the one that will, and the one that did: each more is one more that could be stolen."""

_REFUSED_METHODS = SECRET_METHODS | {ClientAuthMethod.NONE}
"""FAPI 2.0 Security Profile section 5.3.3.1 and FAPI 1.0 part 2 section 5.2.2: mutual TLS or ``private_key_jwt``."""


def check_client(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    """Report what does not go together in ``[client.NAME]``, and with its issuer, keys and tokens."""
    _check_signing_keys(name, client, document, findings)
    _check_secret(name, client, findings)
    _check_encoding(name, client, document, findings)
    _check_certificate(name, client, findings)
    _check_profile(name, client, document, findings)
    _check_grants(name, client, document, findings)


def _check_signing_keys(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    at, method = place("client", name, "signing_keys"), client.client_auth_method
    signs = signs_requests(name, client, document)
    if len(client.signing_keys) > MAX_SIGNING_KEYS:
        message = f"names more than {MAX_SIGNING_KEYS} keys"
        findings.add(at, message, "name the one that signs, the next one, and the one before")
    elif len(set(client.signing_keys)) < len(client.signing_keys):
        findings.add(at, "names a key twice", "name each key once, the one that signs first")
    elif method is ClientAuthMethod.PRIVATE_KEY_JWT:
        if not client.signing_keys:
            hint = 'add signing_keys = ["NAME"] and a section [key.NAME]'
            findings.add(at, "is missing: private_key_jwt signs with a key", hint)
    elif signs and not client.signing_keys:
        hint = 'add signing_keys = ["NAME"] and a section [key.NAME]'
        findings.add(at, "is missing: the authorization request is a signed object", hint)
    elif signs is False and client.signing_keys:
        hint = 'remove it, or write client_auth_method = "private_key_jwt"'
        findings.add(at, f"has no effect: {method} signs nothing", hint)


def _check_secret(name: str, client: ClientSection, findings: Findings) -> None:
    at, method = place("client", name, "client_secret"), client.client_auth_method
    if method in SECRET_METHODS and client.client_secret is None:
        hint = 'add client_secret = { file = "PATH" }; nobody else may read that file'
        findings.add(at, f"is missing: {method} sends one", hint)
    elif method not in SECRET_METHODS and client.client_secret is not None:
        hint = 'remove it, or write client_auth_method = "client_secret_basic"'
        findings.add(at, f"has no effect: {method} sends none", hint)


def _check_encoding(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    if client.client_auth_method is not ClientAuthMethod.CLIENT_SECRET_BASIC:
        if "client_secret_encoding" in document.declared("client")[name]:
            message = f"has no effect: {client.client_auth_method} does not encode"
            findings.add(place("client", name, "client_secret_encoding"), message, "remove it")
    elif client.client_secret_encoding is ClientSecretEncoding.RAW and ":" in client.client_id:
        message = (
            'holds a colon, which client_secret_encoding = "raw" does not keep apart from the one before the secret'
        )
        hint = 'write client_secret_encoding = "form", or client_auth_method = "client_secret_post"'
        findings.add(place("client", name, "client_id"), message, hint)


def _check_certificate(name: str, client: ClientSection, findings: Findings) -> None:
    if client.certificate is not None:
        return
    if client.mtls_endpoint_aliases is not None:
        message = "has no effect: without a certificate no alias is called"
        findings.add(place("client", name, "mtls_endpoint_aliases"), message, "remove it, or add certificate")
    at, method = place("client", name, "certificate"), client.client_auth_method
    if method in CERTIFICATE_METHODS:
        hint = 'add certificate = "NAME" and a section [certificate.NAME]'
        findings.add(at, f"is missing: {method} is done with one", hint)
    elif client.sender_constraint is SenderConstraint.CERTIFICATE:
        findings.add(
            at,
            'is missing: sender_constraint = "certificate", the default, binds tokens to one',
            'add certificate = "NAME" and a section [certificate.NAME], or sender_constraint = "none"',
        )


def _check_profile(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    issuer = document.issuers.get(client.issuer)
    if issuer is None or issuer.profile not in _REFUSED_ALGS:
        return
    refused = f'is refused by profile = "{issuer.profile}" of issuer "{client.issuer}"'
    if client.client_auth_method in _REFUSED_METHODS:
        findings.add(
            place("client", name, "client_auth_method"),
            f'"{client.client_auth_method}" {refused}',
            'write "private_key_jwt" or "tls_client_auth"; only oidc and oauth2 admit secrets and public clients',
        )
    if client.sender_constraint is SenderConstraint.NONE:
        findings.add(
            place("client", name, "sender_constraint"),
            f'"none" {refused}',
            'write sender_constraint = "certificate"; only oidc and oauth2 admit bearer tokens',
        )
    _check_algs(name, client, _REFUSED_ALGS[issuer.profile], refused, findings)
    for index, key_name in enumerate(client.signing_keys):
        key = document.keys.get(key_name)
        if key is not None and key.alg in _REFUSED_ALGS[issuer.profile]:
            findings.add(
                place("client", name, "signing_keys", index),
                f'key "{key_name}" has alg {key.alg}, which {refused}',
                "use PS256 or ES256, and register it with the server",
            )


def _check_algs(
    name: str, client: ClientSection, algs: frozenset[SigningAlg], refused: str, findings: Findings
) -> None:
    """Refuse algorithms of the server that its profile does not allow either."""
    for key in ("id_token_signed_response_alg", "authorization_signed_response_alg"):
        alg: SigningAlg | None = getattr(client, key)
        if alg is not None and alg in algs:
            findings.add(
                place("client", name, key), f'"{alg}" {refused}', "have PS256 or ES256 registered, and write that"
            )


def _check_grants(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    """Public clients get no token for themselves (RFC 6749 section 4.4): anybody could say that he is one."""
    if client.client_auth_method is not ClientAuthMethod.NONE:
        return
    for token_name, token in document.tokens.items():
        if token.client == name and token.grant_type is GrantType.CLIENT_CREDENTIALS:
            findings.add(
                place("token", token_name, "grant_type"),
                f'"client_credentials" is not for client "{name}", whose client_auth_method is "none"',
                "have the client registered with a secret, a key or a certificate (RFC 6749 section 4.4)",
            )
