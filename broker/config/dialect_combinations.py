"""
What contradicts itself in a dialect, and what an issuer, its clients and its tokens may not have beside one.

As elsewhere, a key that would have no effect is refused: whoever wrote it believes that it has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.config.dialect_section import DialectSection, dialect_of
from broker.config.names import place, shown, suggestion
from broker.config.problems import Findings
from broker.config.schema import ClientSection, GrantType, IssuerSection, TokenSection
from broker.config.structure import Document
from broker.config.translate import plain_issuer
from broker.errors import LocalError
from broker.oauth.answers import SERVER_ERRORS
from broker.oauth.client import FAPI, Issuer, Profile, RequestObjectUse, ResponseMode, SenderConstraint
from broker.oauth.dialect import STANDARD, AuthorizationBy, Dialect, Logout, Placement
from broker.oauth.grants import RESERVED_PARAMETERS
from broker.oauth.static_metadata import ENDPOINT_NAMES, endpoint_url
from broker.tokens.spec import Refresh

Problem = tuple[str, str, str]
"""A key of the dialect, what is wrong with it, and what to do."""


def check_dialects(document: Document, findings: Findings) -> None:
    """Report what does not go together in dialects, and with what is used with them."""
    for name, issuer in document.issuers.items():
        dialect = dialect_of(issuer.dialect)
        if isinstance(issuer.dialect, DialectSection):
            _check_table(name, issuer, issuer.dialect, findings)
            _check_names(name, issuer.dialect, findings)
        _check_issuer(name, issuer, dialect, document, findings)
    for name, client in document.clients.items():
        if client.issuer in document.issuers:
            _check_client(name, client, dialect_of(document.issuers[client.issuer].dialect), findings)
    for name, token in document.tokens.items():
        _check_token(name, token, document, findings)


def _check_table(name: str, issuer: IssuerSection, section: DialectSection, findings: Findings) -> None:
    """Report what contradicts: of two keys the one that was written, which need not be the one that is missing."""
    for key, message, hint in (*_missing(dialect_of(section)), *_ineffective(section)):
        findings.add(place("issuer", name, "dialect", key), message, hint)
    for endpoint, text in (section.endpoints or {}).items():
        at = place("issuer", name, "dialect", "endpoints", endpoint)
        if endpoint in ENDPOINT_NAMES:
            _check_url(at, endpoint, text, plain_issuer(name, issuer), findings)
        else:
            findings.add(at, "there is no such endpoint", suggestion(endpoint, ENDPOINT_NAMES))
    if section.provider_callback is not None:
        at = place("issuer", name, "dialect", "provider_callback")
        _check_url(at, "provider_callback", section.provider_callback, plain_issuer(name, issuer), findings)


def _check_url(at: str, name: str, text: str, issuer: Issuer, findings: Findings) -> None:
    try:
        endpoint_url(issuer, name, text)
    except LocalError as error:
        findings.add(at, error.message, error.hint)


def _missing(dialect: Dialect) -> Iterator[Problem]:
    """Give the keys that others need."""
    endpoints = dict(dialect.endpoints)
    if endpoints and "token_endpoint" not in endpoints:
        yield "endpoints", "lack token_endpoint: with endpoints here no metadata is fetched", "add it"
    if dialect.authorization is AuthorizationBy.REDIRECT and not dialect.provider_hosts:
        yield (
            "provider_hosts",
            'is missing: with authorization = "redirect" any host could pose as the login',
            ('add it, for example provider_hosts = ["github.com"]'),
        )
    if dialect.authorization is AuthorizationBy.REDIRECT and endpoints and "authorization_endpoint" not in endpoints:
        hint = 'add it, or write authorization = "browser"'
        yield "authorization", '"redirect" needs authorization_endpoint in endpoints', hint
    if dialect.logout is Logout.BEARER and "logout_endpoint" not in endpoints:
        yield "logout", '"bearer" needs logout_endpoint in endpoints', 'add it, or write logout = "revocation_endpoint"'
    if dialect.identifies and endpoints and "userinfo_endpoint" not in endpoints:
        hint = 'add it, or write subject_from = "id_token"'
        yield "subject_from", '"userinfo" needs userinfo_endpoint in endpoints', hint
    if dialect.token_placement is Placement.QUERY and not dialect.leaks_secrets_in_url:
        yield (
            "token_placement",
            '"query" writes codes and refresh tokens into URLs, which servers and proxies log',
            ('write "form"; or leaks_secrets_in_url = true, if the server takes nothing else'),
        )


def _ineffective(section: DialectSection) -> Iterator[Problem]:
    """Give the keys that were written and have no effect."""
    dialect, without = dialect_of(section), "remove one of the two"
    endpoints = dict(dialect.endpoints)
    for condition, keys, why in (
        (
            dialect.authorization is AuthorizationBy.BROWSER,
            ("authorization_placement", "provider_hosts", "provider_callback"),
            'authorization is "browser"',
        ),
        (dialect.token_placement is Placement.FORM, ("leaks_secrets_in_url",), 'token_placement is "form"'),
        (dialect.logout is not Logout.BEARER, ("logout_method",), 'logout is not "bearer"'),
        (not dialect.identifies, ("userinfo_accept", "subject_member"), 'subject_from is not "userinfo"'),
        (bool(endpoints), ("endpoint_host_prefixes",), "with endpoints no metadata is fetched"),
    ):
        for key in keys if condition else ():
            if getattr(section, key):  # what is false or empty takes a base's back
                yield key, f"has no effect: {why}", without
    if section.endpoints and "logout_endpoint" in section.endpoints and dialect.logout is not Logout.BEARER:
        yield "endpoints", 'have a logout_endpoint, which has no effect: logout is not "bearer"', without


def _check_names(name: str, section: DialectSection, findings: Findings) -> None:
    """Report names that nothing has."""
    renamed = section.renamed_parameters or {}
    for ours in renamed:
        if ours not in RESERVED_PARAMETERS:
            at = place("issuer", name, "dialect", "renamed_parameters", ours)
            findings.add(at, "is no parameter that the broker sends", suggestion(ours, RESERVED_PARAMETERS))
    theirs = [*renamed.values(), *(section.token_parameters or {})]
    for ours, name_there in renamed.items():
        if theirs.count(name_there) > 1:
            at = place("issuer", name, "dialect", "renamed_parameters", ours)
            findings.add(at, "gives two parameters one name", "give each a name of its own")
    for parameter in section.token_parameters or {}:
        if parameter in RESERVED_PARAMETERS:
            at = place("issuer", name, "dialect", "token_parameters", parameter)
            findings.add(at, "is set by the broker alone", "remove it, or rename it with renamed_parameters")
    for text, code in (section.error_codes or {}).items():
        if code not in SERVER_ERRORS:
            at = place("issuer", name, "dialect", "error_codes", text)
            findings.add(at, f"{shown(code)} is no OAuth error", suggestion(code, SERVER_ERRORS))


def _check_issuer(name: str, issuer: IssuerSection, dialect: Dialect, document: Document, findings: Findings) -> None:
    departures = dialect.departures()
    if departures and issuer.profile in FAPI:
        findings.add(
            place("issuer", name, "dialect"),
            f'departs from profile = "{issuer.profile}" ({", ".join(departures)})',
            'write profile = "oauth2", or have the server do as the profile demands',
        )
    if dialect.endpoints and issuer.profile is Profile.OIDC:
        findings.add(
            place("issuer", name, "dialect"),
            'has endpoints and no metadata, with which profile = "oidc" compares its clients',
            'write profile = "oauth2"',
        )
    if dialect.endpoints:
        for key in ("discovery", "endpoint_hosts"):
            if key in document.declared("issuer")[name]:
                message = "has no effect: the dialect says where the endpoints are"
                findings.add(place("issuer", name, key), message, "remove it")


def _check_client(name: str, client: ClientSection, dialect: Dialect, findings: Findings) -> None:
    if client.sender_constraint is SenderConstraint.DPOP:
        for key, used in (
            ("refresh_authentication", dialect.refreshes_with_access_token),
            ("logout", dialect.logout is Logout.BEARER),
        ):
            if used:
                message = f'"dpop" does not go with {key} of the dialect, which shows an access token as a bearer token'
                findings.add(place("client", name, "sender_constraint"), message, 'write "none"')
    if dialect.authorization is not AuthorizationBy.REDIRECT or not client.redirect_uris:
        return
    because = 'the dialect has authorization = "redirect": another server answers'
    if client.response_mode is not ResponseMode.QUERY:
        message = f'is "{client.response_mode}", but {because}'
        findings.add(place("client", name, "response_mode"), message, 'remove it, or write "query"')
    if client.request_object is RequestObjectUse.ALWAYS:
        message = f'is "always", but {because} to parameters alone'
        findings.add(place("client", name, "request_object"), message, "remove it")


def _check_token(name: str, token: TokenSection, document: Document, findings: Findings) -> None:
    client = document.clients.get(token.client)
    issuer = None if client is None else document.issuers.get(client.issuer)
    if issuer is None or token.grant_type is not GrantType.AUTHORIZATION_CODE:
        return
    dialect = dialect_of(issuer.dialect)
    if dialect.refreshes_with_access_token and token.refresh is Refresh.ON_DEMAND:
        message = '"on_demand" would lose grants: the dialect refreshes only with an access token that is still good'
        findings.add(place("token", name, "refresh"), message, 'write "eager", or remove it')
    if "on_subject_change" in document.declared("token")[name] and not dialect.identifies:
        message = "has no effect: the dialect looks nobody up"
        findings.add(place("token", name, "on_subject_change"), message, "remove it")
    if "openid" in token.scope and dialect.endpoints and "jwks_uri" not in dict(dialect.endpoints):
        message = "has openid, but the dialect has no jwks_uri: no ID token could be checked"
        findings.add(place("token", name, "scope"), message, "remove openid, or add jwks_uri to endpoints")
    elif "openid" in token.scope and dialect.identifies and dialect.subject_member != STANDARD.subject_member:
        # The grant would have the one, and be compared with the other after each refresh.
        message = (
            "has openid, so that an ID token names the person, and the dialect has another subject_member than sub"
        )
        findings.add(place("token", name, "scope"), message, 'remove openid, or write subject_from = "id_token"')
