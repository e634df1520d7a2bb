"""
Drafts of token requests, one function for each grant type.

A draft lacks what needs a clock, chance or a key. Order matters to nobody on the wire, but it is kept, so
that two drafts of one configuration are equal.
"""

from __future__ import annotations

from broker.errors import LocalError
from broker.oauth.client import Client, Issuer
from broker.oauth.client_auth import authenticate
from broker.oauth.dialect import Placement
from broker.oauth.messages import BasicSpec, BearerSpec, CredentialSpec, Draft
from broker.oauth.metadata import AuthorizationServer, DescribedName, EndpointName, endpoint
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, AuthorizationCode, CodeVerifier, RefreshToken

RESERVED_PARAMETERS = frozenset({
    # the request itself, and what has a key of its own in the configuration
    "grant_type", "scope", "resource", "audience", "authorization_details",
    # who we are
    "client_id", "client_secret", "client_assertion", "client_assertion_type", "iss", "aud",
    # other grants, whose values are secrets or one-time
    "code", "code_verifier", "refresh_token", "username", "password", "assertion", "device_code", "auth_req_id",
    "subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type",
    # the authorization request (rules.md R4)
    "redirect_uri", "response_type", "response_mode", "state", "nonce", "code_challenge", "code_challenge_method",
    "request", "request_uri", "dpop_jkt",
    # other endpoints
    "token", "token_type_hint", "access_token",
})  # fmt: skip
"""Form fields that configured extra parameters may not set."""


def client_credentials_draft(
    server: AuthorizationServer,
    issuer: Issuer,
    client: Client,
    *,
    scope: tuple[str, ...],
    resource: tuple[str, ...],
    audience: tuple[str, ...],
    parameters: tuple[tuple[str, str], ...],
) -> Draft:
    """
    Draft a client credentials request (RFC 6749 section 4.4.2).

    *resource* (RFC 8707) and *audience* repeat, once for each value. Raises LocalError
    ``parameter_reserved`` when *parameters* set what is ours to set.
    """
    if any(name in RESERVED_PARAMETERS for name, _ in parameters):
        raise LocalError("parameter_reserved", "an extra parameter has the name of one that the broker sets")
    url = endpoint(server, "token_endpoint", client)
    authentication, credential = authenticate(client, issuer, server, url)
    form = (
        ("grant_type", "client_credentials"),
        *((("scope", " ".join(scope)),) if scope else ()),
        *(("resource", value) for value in resource),
        *(("audience", value) for value in audience),
        *parameters,
        *authentication,
    )
    return Draft(url=url, form=form, credential=credential, proves=client.proves, in_query=_is_in_query(issuer))


def code_draft(
    server: AuthorizationServer,
    issuer: Issuer,
    client: Client,
    *,
    code: AuthorizationCode,
    code_verifier: CodeVerifier,
    redirect_uri: str,
    state: str,
    scope: tuple[str, ...],
    resource: tuple[str, ...],
) -> Draft:
    """
    Draft the exchange of a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5), which is sent once (AC-07).

    *scope* is sent only to servers that the configuration says want it, and *state* to those of a dialect.
    """
    url = endpoint(server, "token_endpoint", client)
    authentication, credential = authenticate(client, issuer, server, url)
    form = (
        ("grant_type", "authorization_code"),
        ("redirect_uri", redirect_uri),
        *((("state", state),) if issuer.dialect.state_on_token else ()),
        *_scope_where_wanted(client, scope),
        *(("resource", value) for value in resource),
        *issuer.dialect.token_parameters,
        *_named_beside(issuer, client, credential),
        *authentication,
    )
    return Draft(
        url=url,
        form=form,
        credential=credential,
        secret_fields=(("code", code), ("code_verifier", code_verifier)),
        proves=client.proves,
        in_query=_is_in_query(issuer),
    )


def refresh_draft(
    server: AuthorizationServer,
    issuer: Issuer,
    client: Client,
    *,
    refresh_token: RefreshToken,
    access_token: AccessToken | None,
    scope: tuple[str, ...],
    resource: tuple[str, ...],
) -> Draft:
    """
    Draft a refresh (RFC 6749 section 6). Without *scope* on the wire the server goes on with what was granted.

    *access_token* is one that is still good, if there is one; raises LocalError ``access_token_ended`` where the
    dialect needs it and there is none.
    """
    where: EndpointName | DescribedName = "token_endpoint" if server.refresh_endpoint is None else "refresh_endpoint"
    url = endpoint(server, where, client)
    authentication, credential = authenticate(client, issuer, server, url)
    if issuer.dialect.refreshes_with_access_token:
        if access_token is None:
            raise LocalError(
                Reason.ACCESS_TOKEN_ENDED, "a refresh needs an access token that is still good, and there is none"
            )
        authentication, credential = (("client_id", client.client_id),), BearerSpec(access_token=access_token)
    form = (
        ("grant_type", "refresh_token"),
        *_scope_where_wanted(client, scope),
        *(("resource", value) for value in resource),
        *issuer.dialect.token_parameters,
        *_named_beside(issuer, client, credential),
        *authentication,
    )
    return Draft(
        url=url,
        form=form,
        credential=credential,
        secret_fields=(("refresh_token", refresh_token),),
        proves=client.proves,
        in_query=_is_in_query(issuer),
    )


def _named_beside(issuer: Issuer, client: Client, credential: CredentialSpec | None) -> tuple[tuple[str, str], ...]:
    """Give ``client_id`` beside a header that names the client, where the dialect has it so."""
    beside = issuer.dialect.client_id_with_basic and isinstance(credential, BasicSpec)
    return (("client_id", client.client_id),) if beside else ()


def _is_in_query(issuer: Issuer) -> bool:
    return issuer.dialect.token_placement is Placement.QUERY


def _scope_where_wanted(client: Client, scope: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return (("scope", " ".join(scope)),) if client.scope_on_token and scope else ()
