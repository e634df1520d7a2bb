"""
What a token that asks a person needs beside its own section, and keys that only such a token has.

As elsewhere, a key that would have no effect is refused: whoever wrote it believes that it has one.
"""

from __future__ import annotations

from typing import Any

from broker.config.names import place
from broker.config.problems import Findings
from broker.config.schema import ClientSection, GrantType, TokenSection
from broker.config.structure import Document
from broker.oauth.client import FAPI, Parameters, Profile, RequestObjectUse, ResponseMode
from broker.tokens.spec import Grants, Refresh

_OPENID = "openid"

_CONSENT_KEYS = (
    "grants",
    "authorization_details",
    "claims",
    "acr_values",
    "acr_required",
    "prompt",
    "max_age_seconds",
    "keepalive_seconds",
    "consent_lifetime_seconds",
    "on_grant_lost",
    "on_subject_change",
    "userinfo",
)
"""Keys of a token that mean something only where a person is asked."""

_PERSON_KEYS = (
    "response_mode",
    "request_object",
    "request_object_typ",
    "id_token_signed_response_alg",
    "authorization_signed_response_alg",
    "front_channel_params",
    "scope_on_token",
)
"""The same of a client."""

_ADD_STORE = 'add the section [store] with key = { file = "PATH" } (token-broker keygen store FILE)'


def check_consents(document: Document, findings: Findings) -> None:
    """Report what tokens and clients lack, or have too much, for asking people."""
    for name, token in document.tokens.items():
        if token.grant_type is GrantType.AUTHORIZATION_CODE:
            _check_surroundings(name, token, document, findings)
            _check_openid(name, token, findings)
            _check_keys_together(name, token, document.declared("token")[name], findings)
            _check_details(name, token, findings)
        else:
            for key in _written(document, "token", name, _CONSENT_KEYS):
                message = "has no effect: client_credentials asks nobody"
                hint = 'remove it, or write grant_type = "authorization_code"'
                findings.add(place("token", name, key), message, hint)
    for name, client in document.clients.items():
        _check_client(name, client, document, findings)


def asks_people(name: str, document: Document) -> bool:
    """Say whether a token of the client *name* asks a person."""
    return any(
        token.client == name and token.grant_type is GrantType.AUTHORIZATION_CODE for token in document.tokens.values()
    )


def signs_requests(name: str, client: ClientSection, document: Document) -> bool | None:
    """Say whether the client signs request objects; None: where the server demands it."""
    issuer = document.issuers.get(client.issuer)
    if not client.redirect_uris or client.request_object is RequestObjectUse.NEVER:
        return False
    if client.request_object is RequestObjectUse.ALWAYS:
        return True
    demands = issuer is not None and issuer.profile is Profile.FAPI1_ADVANCED
    return True if demands and asks_people(name, document) else None


def _written(document: Document, kind: str, name: str, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if key in document.declared(kind)[name]]


def _check_surroundings(name: str, token: TokenSection, document: Document, findings: Findings) -> None:
    at = place("token", name, "grant_type")
    if "store" not in document.raw:
        findings.add(
            at, '"authorization_code" needs a store: without one each restart would lose each grant', _ADD_STORE
        )
    client = document.clients.get(token.client)
    if client is not None and not client.redirect_uris:
        message = f'"authorization_code" needs redirect_uris, and client "{token.client}" has none'
        hint = f'add redirect_uris = ["http://127.0.0.1/callback"] to [client.{token.client}], as it is registered'
        findings.add(at, message, hint)


def _check_openid(name: str, token: TokenSection, findings: Findings) -> None:
    """Refuse what only an ID token can answer where none is asked for."""
    if _OPENID in token.scope:
        return
    for key in ("claims", "acr_required", "max_age_seconds", "userinfo"):
        value = getattr(token, key)
        if value is not None and value is not False:
            message = 'needs "openid" in scope: without it nobody says who the person is'
            findings.add(place("token", name, key), message, 'add "openid" to scope, or remove it')


def _check_keys_together(name: str, token: TokenSection, raw: Any, findings: Findings) -> None:
    if token.acr_required and not token.acr_values:
        message = "requires one of acr_values, and there are none"
        findings.add(place("token", name, "acr_required"), message, "add acr_values, or remove it")
    if "keepalive_seconds" in raw and token.refresh is Refresh.EAGER:
        message = 'has no effect: refresh = "eager" keeps every grant fresh'
        findings.add(place("token", name, "keepalive_seconds"), message, 'remove it, or write refresh = "on_demand"')
    if token.required and token.grants is Grants.MANY:
        message = 'contradicts grants = "many": there is no one token to be ready'
        findings.add(place("token", name, "required"), message, "remove it")


def _check_details(name: str, token: TokenSection, findings: Findings) -> None:
    for index, detail in enumerate(token.authorization_details):
        if not isinstance(detail.get("type"), str):
            message = "has no type, which each of them has (RFC 9396 section 2)"
            findings.add(place("token", name, "authorization_details", index), message, 'add type = "..."')


def _check_client(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    if not client.redirect_uris:
        for key in _written(document, "client", name, _PERSON_KEYS):
            message = "has no effect: without redirect_uris nobody is asked"
            findings.add(place("client", name, key), message, "remove it, or add redirect_uris")
        return
    if client.response_mode is not ResponseMode.JWT:
        for key in _written(document, "client", name, ("authorization_signed_response_alg",)):
            message = "has no effect: answers are not signed"
            findings.add(place("client", name, key), message, 'remove it, or write response_mode = "jwt"')
    if client.request_object is RequestObjectUse.NEVER:
        for key in _written(document, "client", name, ("request_object_typ",)):
            message = 'has no effect: request_object is "never"'
            findings.add(place("client", name, key), message, "remove one of the two")
    _check_profile(name, client, document, findings)


def _check_profile(name: str, client: ClientSection, document: Document, findings: Findings) -> None:
    issuer = document.issuers.get(client.issuer)
    if issuer is None or issuer.profile not in FAPI:
        return
    refused = f'is refused by profile = "{issuer.profile}" of issuer "{client.issuer}"'
    if issuer.profile is Profile.FAPI2:
        if client.front_channel_params is not Parameters.NONE:
            findings.add(place("client", name, "front_channel_params"), f'"scope" {refused}', "remove it")
        if client.scope_on_token:
            findings.add(place("client", name, "scope_on_token"), f"true {refused}", "remove it")
    elif client.request_object is RequestObjectUse.NEVER:
        message = f'"never" {refused}'
        findings.add(place("client", name, "request_object"), message, 'write "always", or remove it')
