"""
Whether a server offers what the configuration asks of it, as far as its metadata says (DISC-07).

The metadata may restrict and never weaken: what it does not mention is asked for where that is safe, and what it
excludes is not tried. One list of needs serves requests, which stop at the first that is not met, and
``check --online``, which names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.oauth import pkce
from broker.oauth.client import (
    Client,
    ClientAuthMethod,
    Issuer,
    Profile,
    RequestObjectUse,
    ResponseMode,
    SenderConstraint,
)
from broker.oauth.jose import alg_names
from broker.oauth.metadata import AuthorizationServer, insufficient

Need = tuple[bool, str, str]
"""Whether it is met, the member of the metadata that says so, and what to look at where it is not."""

CLIENT_CREDENTIALS = "client_credentials"
AUTHORIZATION_CODE = "authorization_code"


def check_capabilities(
    server: AuthorizationServer, client: Client, issuer: Issuer, *, grant_type: str = CLIENT_CREDENTIALS
) -> None:
    """
    Refuse to ask for what the metadata says the server does not do (DISC-07).

    Raises RemoteError ``metadata_insufficient``; its hint names the member of the metadata and the key of
    the configuration. An absent ``token_endpoint_auth_methods_supported`` means ``client_secret_basic`` by
    RFC 8414 section 2, and is taken at its word; under the ``oauth2`` profile, where many servers leave it
    out, it says nothing. An absent ``grant_types_supported`` (by default ``authorization_code`` and
    ``implicit``), list of algorithms or ``tls_client_certificate_bound_access_tokens`` says nothing either:
    the server's refusal, and the binding check of the token, tell in time.
    """
    for met, member, advice in _needs(server, client, issuer, grant_type):
        if not met:
            raise insufficient(
                f"{member} in the metadata does not allow what the configuration asks for",
                f"[issuer.{issuer.name}]: {member} {advice}",
            )


def disagreements(
    server: AuthorizationServer,
    client: Client,
    issuer: Issuer,
    *,
    grant_types: Iterable[str] = (CLIENT_CREDENTIALS,),
    openid: bool = False,
    userinfo: bool = False,
) -> tuple[str, ...]:
    """
    Give all that ``check_capabilities`` would refuse one by one, each in a sentence for the operator.

    With *openid* and *userinfo* also what the redemption of a code would miss.
    """
    needs = [need for grant_type in grant_types for need in _needs(server, client, issuer, grant_type)]
    needs += person_needs(server, client) if openid else ()
    needs += [(server.userinfo_endpoint is not None, "userinfo_endpoint", "is absent")] if userinfo else ()
    return tuple(dict.fromkeys(f"{member} {advice}" for met, member, advice in needs if not met))


def remarks(
    server: AuthorizationServer, client: Client, *, grant_types: Iterable[str] = (CLIENT_CREDENTIALS,)
) -> tuple[str, ...]:
    """Say what of the metadata an operator should know, though nothing is refused for it."""
    binds = client.sender_constraint is SenderConstraint.CERTIFICATE
    asks = AUTHORIZATION_CODE in grant_types
    told = (
        (
            client.calls_alias_of("token_endpoint") and "token_endpoint" not in server.mtls_endpoint_aliases,
            "mtls_endpoint_aliases has no token_endpoint: the ordinary one is called, with the certificate",
        ),
        (
            binds and server.tls_client_certificate_bound_access_tokens is None,
            "tls_client_certificate_bound_access_tokens is absent: the first token will show whether it is bound",
        ),
        (
            client.proves and server.dpop_signing_alg_values_supported is None,
            "dpop_signing_alg_values_supported is absent: the first token will show whether the server does DPoP",
        ),
        (
            server.require_pushed_authorization_requests and not asks,
            "require_pushed_authorization_requests is true: no matter to client_credentials",
        ),
        (
            server.require_signed_request_object and not asks,
            "require_signed_request_object is true: no matter to client_credentials",
        ),
        (
            server.require_signed_request_object and asks,
            "require_signed_request_object is true: authorization requests are signed with the key in signing_keys",
        ),
        (
            asks and server.pushed_authorization_request_endpoint is None,
            "pushed_authorization_request_endpoint is absent: authorization requests go through the browser",
        ),
        (
            asks and server.revocation_endpoint is None,
            "revocation_endpoint is absent: a grant that is given up lives on at the server",
        ),
    )
    return tuple(text for applies, text in told if applies)


def asking_needs(server: AuthorizationServer, client: Client, issuer: Issuer) -> Iterator[Need]:
    """Give what has to hold where a person is asked."""
    yield from _request_needs(server, client, issuer)
    yield from _answer_needs(server, client, issuer)


def _request_needs(server: AuthorizationServer, client: Client, issuer: Issuer) -> Iterator[Need]:
    section, at_issuer = f"[client.{client.name}]", f"[issuer.{issuer.name}]"
    yield (
        server.authorization_endpoint is not None,
        "authorization_endpoint",
        "is absent: people cannot be sent there",
    )
    methods = server.code_challenge_methods_supported
    yield (
        methods is None or pkce.METHOD in methods,
        "code_challenge_methods_supported",
        f'lacks "{pkce.METHOD}", without which no code is safe',
    )
    pushes = server.pushed_authorization_request_endpoint is not None
    yield (
        pushes or not (issuer.profile is Profile.FAPI2 or server.require_pushed_authorization_requests),
        "pushed_authorization_request_endpoint",
        f'is absent, and profile = "{issuer.profile}" of {at_issuer} or the server itself needs it',
    )
    yield (
        pushes or issuer.profile is not Profile.FAPI1_ADVANCED or client.response_mode is ResponseMode.JWT,
        "pushed_authorization_request_endpoint",
        f'is absent, and then profile = "{issuer.profile}" of {at_issuer} wants response_mode = "jwt" in {section}',
    )
    signs = client.signing_alg is not None and client.request_object is not RequestObjectUse.NEVER
    yield (
        signs or not server.require_signed_request_object,
        "require_signed_request_object",
        f"is true, and {section} signs none: see its signing_keys and request_object",
    )


def _answer_needs(server: AuthorizationServer, client: Client, issuer: Issuer) -> Iterator[Need]:
    section, mode = f"[client.{client.name}]", client.response_mode
    modes = server.response_modes_supported
    yield (
        modes is None or mode is ResponseMode.QUERY or bool(_names_of(mode) & {*modes}),
        "response_modes_supported",
        f'lacks the response_mode of {section}, "{mode}"',
    )
    is_signed = mode is ResponseMode.JWT
    algs, alg = server.authorization_signing_alg_values_supported, client.authorization_signed_response_alg
    yield (
        not is_signed or algs is None or not alg_names(alg).isdisjoint(algs),
        "authorization_signing_alg_values_supported",
        f'lacks the authorization_signed_response_alg of {section}, "{alg}"',
    )
    yield (
        not is_signed or server.jwks_uri is not None,
        "jwks_uri",
        "is absent: no signed answer could be checked",
    )
    names_itself = server.authorization_response_iss_parameter_supported or issuer.profile is Profile.FAPI2
    others_answer = bool(issuer.dialect.answering_hosts)  # several issuers may have the same provider
    yield (
        is_signed or (names_itself and not others_answer) or not client.shares_redirect_uri,
        "authorization_response_iss_parameter_supported",
        f"is not true, and {section} shares a redirect URI with another issuer: nobody could say who answers",
    )


def person_needs(server: AuthorizationServer, client: Client) -> Iterator[Need]:
    """Give what has to hold where an ID token is asked for."""
    section, alg = f"[client.{client.name}]", client.id_token_signed_response_alg
    yield (server.jwks_uri is not None, "jwks_uri", "is absent: no ID token could be checked")
    algs = server.id_token_signing_alg_values_supported
    yield (
        algs is None or not alg_names(alg).isdisjoint(algs),
        "id_token_signing_alg_values_supported",
        f'lacks the id_token_signed_response_alg of {section}, "{alg}"',
    )


def _names_of(mode: ResponseMode) -> set[str]:
    return {"jwt", "query.jwt"} if mode is ResponseMode.JWT else {mode.value}


def _needs(server: AuthorizationServer, client: Client, issuer: Issuer, grant_type: str) -> Iterator[Need]:
    """Give what has to hold."""
    section = f"[client.{client.name}]"
    method = client.client_auth_method
    methods = server.token_endpoint_auth_methods_supported
    if methods is None:
        yield (
            issuer.profile is Profile.OAUTH2 or method is ClientAuthMethod.CLIENT_SECRET_BASIC,
            "token_endpoint_auth_methods_supported",
            f'is absent and so means "client_secret_basic", not "{method}"; profile = "oauth2" does without it',
        )
    else:
        yield (
            method in methods,
            "token_endpoint_auth_methods_supported",
            f'lacks the client_auth_method of {section}, "{method}"',
        )
    algs = server.token_endpoint_auth_signing_alg_values_supported
    alg = client.signing_alg
    yield (
        algs is None or alg is None or not alg_names(alg).isdisjoint(algs),
        "token_endpoint_auth_signing_alg_values_supported",
        f'lacks the alg of the signing_keys of {section}, "{alg}"',
    )
    yield (
        server.grant_types_supported is None or grant_type in server.grant_types_supported,
        "grant_types_supported",
        f'lacks the grant_type of a token of {section}, "{grant_type}"',
    )
    yield (
        client.sender_constraint is not SenderConstraint.CERTIFICATE
        or server.tls_client_certificate_bound_access_tokens is not False,
        "tls_client_certificate_bound_access_tokens",
        f'is false, but {section} sender_constraint is "{client.sender_constraint}"',
    )
    proof_algs, proof_alg = server.dpop_signing_alg_values_supported, client.dpop_alg
    yield (
        proof_algs is None or proof_alg is None or not alg_names(proof_alg).isdisjoint(proof_algs),
        "dpop_signing_alg_values_supported",
        f'lacks the alg of the DPoP key of {section}, "{proof_alg}"',
    )
    if grant_type == AUTHORIZATION_CODE:
        yield from asking_needs(server, client, issuer)
