"""
Authorization server metadata (RFC 8414, OpenID Connect Discovery 1.0), read with suspicion (rules.md R5).

The configuration says whom we trust; the metadata only fills in where things are and may restrict what the
configuration asks for, never weaken it. Whatever is refused here is refused as a whole: a document with one
bad endpoint gives no endpoint at all.

Hosts: an endpoint may be on the issuer's host *at any port*, because the twins for mutual TLS usually differ
from the ordinary endpoints in nothing else, and who owns a host owns its ports. Every other host must be
listed in ``endpoint_hosts``, as ``host`` (any port) or ``host:port``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, assert_never

from broker.errors import LocalError, Outcome, RemoteError
from broker.oauth.answers import invalid, json_object
from broker.oauth.client import Client, Discovery, Issuer
from broker.oauth.dialect import with_client_id
from broker.oauth.endpoint_urls import (
    EndpointUrl,
    NotAnEndpointUrlError,
    is_listed,
    is_loopback,
    is_never_dialed,
    parse_url,
)
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason

EndpointName = Literal[
    "token_endpoint",
    "jwks_uri",
    "authorization_endpoint",
    "pushed_authorization_request_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "introspection_endpoint",
    "end_session_endpoint",
]
"""The members of the metadata that we may ever dial or send a browser to."""

DescribedName = Literal["refresh_endpoint", "logout_endpoint"]
"""Endpoints that no metadata have: a dialect names them (``static_metadata``)."""

_ENDPOINTS: tuple[EndpointName, ...] = (
    "token_endpoint",
    "jwks_uri",
    "authorization_endpoint",
    "pushed_authorization_request_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "introspection_endpoint",
    "end_session_endpoint",
)
_DESCRIBED: tuple[DescribedName, ...] = ("refresh_endpoint", "logout_endpoint")

_NEVER_ALIASED = frozenset({"jwks_uri", "authorization_endpoint", "end_session_endpoint"})
"""RFC 8705 section 5 speaks of endpoints that clients authenticate to; a browser has no client certificate."""

_DOTS_OF_A_HOST = 2
"""In the name of a host within a domain. Of domains that have two themselves (``example.co.uk``) we know nothing."""

_MAX_HINTED_HOSTS = 8
"""A document that names more foreign hosts than this is not one to be copied into a configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """
    The accepted metadata of one issuer; the fields are those of RFC 8414 section 2.

    None means that the member is absent, which for lists is not the same as empty. *mtls_endpoint_aliases*
    (RFC 8705 section 5) holds only endpoints that we use. *sandbox*: the server says that it is one.
    *refresh_endpoint* and *logout_endpoint* are of dialects alone; the latter may have ``{client_id}`` in it.
    """

    issuer: str
    token_endpoint: str
    mtls_endpoint_aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    jwks_uri: str | None = None
    authorization_endpoint: str | None = None
    pushed_authorization_request_endpoint: str | None = None
    revocation_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    introspection_endpoint: str | None = None
    end_session_endpoint: str | None = None
    refresh_endpoint: str | None = None
    logout_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_signing_alg_values_supported: tuple[str, ...] | None = None
    grant_types_supported: tuple[str, ...] | None = None
    tls_client_certificate_bound_access_tokens: bool | None = None
    require_pushed_authorization_requests: bool = False
    require_signed_request_object: bool = False
    authorization_response_iss_parameter_supported: bool = False
    code_challenge_methods_supported: tuple[str, ...] | None = None
    response_modes_supported: tuple[str, ...] | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] | None = None
    authorization_signing_alg_values_supported: tuple[str, ...] | None = None
    dpop_signing_alg_values_supported: tuple[str, ...] | None = None
    sandbox: bool = False


def check_issuer(url: str, *, allow_insecure_loopback: bool) -> None:
    """
    Refuse an issuer identifier that RFC 8414 section 2 does not allow, or that we never dial.

    Raises LocalError ``issuer_invalid``; the message does not repeat *url*, which may hold a password.
    """
    try:
        parsed = parse_url(url)
    except NotAnEndpointUrlError:
        raise LocalError(
            "issuer_invalid",
            "the issuer is not a plain absolute URL (no user name, fragment or dot segments)",
            hint='write it exactly as the server\'s metadata does, like "https://auth.example.com"',
        ) from None
    if parsed.query:
        raise LocalError("issuer_invalid", "the issuer has a query", hint="leave out everything from the question mark")
    if is_never_dialed(parsed.host):
        raise LocalError("issuer_invalid", "the issuer is at a link-local or cloud metadata address, never dialed")
    if not _is_secure(parsed, allow_insecure_loopback=allow_insecure_loopback):
        raise LocalError(
            "issuer_invalid",
            "the issuer is not https",
            hint="http is only for a loopback address, with allow_insecure_loopback = true"
            if is_loopback(parsed.host)
            else "write https://, as the server's metadata does",
        )


def discovery_urls(issuer: Issuer) -> tuple[str, ...]:
    """
    Give the URLs of the metadata in the order to be tried; the second one only if the first answers 404.

    OpenID Connect Discovery 1.0 section 4 appends to the issuer, RFC 8414 section 3.1 inserts between host
    and path; both drop a terminating slash first.
    """
    origin, slash, path = issuer.issuer.removesuffix("/").partition("://")[2].partition("/")
    scheme = issuer.issuer.partition("://")[0]
    appended = f"{scheme}://{origin}{slash}{path}/.well-known/openid-configuration"
    inserted = f"{scheme}://{origin}/.well-known/oauth-authorization-server{slash}{path}"
    match issuer.discovery:
        case Discovery.OIDC:
            return (appended,)
        case Discovery.OAUTH2:
            return (inserted,)
        case Discovery.AUTO:
            return (appended, inserted)
        case unknown:
            assert_never(unknown)


def read_metadata(response: Response, issuer: Issuer, *, wall_now: float | None = None) -> AuthorizationServer:
    """
    Accept the metadata of *issuer*, or raise RemoteError.

    *wall_now* (Unix seconds) serves only to understand a ``Retry-After`` that is a date.
    """
    document = json_object(response, wall_now=wall_now)
    _check_identity(document, issuer)
    urls = {name: _url_member(document, name) for name in _ENDPOINTS if name in document}
    aliases = _aliases(document)
    _check_endpoints((*urls.items(), *((f"mtls_endpoint_aliases.{k}", v) for k, v in aliases.items())), issuer)
    token_endpoint = urls.pop("token_endpoint", None)
    if token_endpoint is None:
        raise invalid("the metadata has no token_endpoint", reason=Reason.METADATA_INSUFFICIENT)
    return AuthorizationServer(
        issuer=issuer.issuer,
        token_endpoint=token_endpoint,
        mtls_endpoint_aliases=MappingProxyType(aliases),
        jwks_uri=urls.get("jwks_uri"),
        authorization_endpoint=urls.get("authorization_endpoint"),
        pushed_authorization_request_endpoint=urls.get("pushed_authorization_request_endpoint"),
        revocation_endpoint=urls.get("revocation_endpoint"),
        userinfo_endpoint=urls.get("userinfo_endpoint"),
        introspection_endpoint=urls.get("introspection_endpoint"),
        end_session_endpoint=urls.get("end_session_endpoint"),
        token_endpoint_auth_methods_supported=_strings(document, "token_endpoint_auth_methods_supported"),
        token_endpoint_auth_signing_alg_values_supported=_strings(
            document, "token_endpoint_auth_signing_alg_values_supported"
        ),
        grant_types_supported=_strings(document, "grant_types_supported"),
        tls_client_certificate_bound_access_tokens=_flag(document, "tls_client_certificate_bound_access_tokens"),
        # These ask for more, or serve to tell an operator: what is wrong here is no reason to do without tokens.
        require_pushed_authorization_requests=document.get("require_pushed_authorization_requests") is True,
        require_signed_request_object=document.get("require_signed_request_object") is True,
        authorization_response_iss_parameter_supported=(
            document.get("authorization_response_iss_parameter_supported") is True
        ),
        code_challenge_methods_supported=_strings(document, "code_challenge_methods_supported"),
        response_modes_supported=_strings(document, "response_modes_supported"),
        id_token_signing_alg_values_supported=_strings(document, "id_token_signing_alg_values_supported"),
        authorization_signing_alg_values_supported=_strings(document, "authorization_signing_alg_values_supported"),
        dpop_signing_alg_values_supported=_strings(document, "dpop_signing_alg_values_supported"),
        sandbox=_is_sandbox(document),
    )


def endpoint(server: AuthorizationServer, name: EndpointName | DescribedName, client: Client | None) -> str:
    """
    Give the URL to dial: with a certificate the alias, where there is one (RFC 8705 section 5, DISC-06).

    *client* is None for what others call. One that does without an alias presents its certificate all the same.
    Raises RemoteError ``metadata_insufficient`` when the server has no such endpoint.
    """
    if (
        client is not None
        and client.calls_alias_of(name)
        and name not in _NEVER_ALIASED
        and name in server.mtls_endpoint_aliases
    ):
        return server.mtls_endpoint_aliases[name]
    url: str | None = getattr(server, name)
    if url is None:
        raise insufficient(f"the metadata has no {name}", None)
    return url


def endpoints_of(server: AuthorizationServer, client_id: str) -> frozenset[str]:
    """Give the URLs of all its endpoints that a client may call, aliases among them, as far as we know of them."""
    found = (getattr(server, name) for name in (*_ENDPOINTS, *_DESCRIBED))
    urls = (*found, *server.mtls_endpoint_aliases.values())
    return frozenset(with_client_id(url, client_id) for url in urls if url is not None)


def insufficient(message: str, hint: str | None) -> RemoteError:
    """Make the error for metadata that lack something."""
    return RemoteError(Reason.METADATA_INSUFFICIENT, message, outcome=Outcome.NOT_SENT, hint=hint)


def _check_identity(document: dict[str, Any], issuer: Issuer) -> None:
    """Compare the issuer before anything else is looked at (RFC 8414 section 3.3)."""
    stated = document.get("issuer")
    if not isinstance(stated, str):
        raise invalid("the metadata names no issuer")
    if stated != issuer.issuer:
        same = stated.rstrip("/") == issuer.issuer.rstrip("/")
        how = "and differs by a slash at the end" if same else "any last slash included"
        raise invalid(
            "the metadata is that of another issuer",
            reason=Reason.ISSUER_MISMATCH,
            hint=f"[issuer.{issuer.name}] issuer has to equal the metadata's to the letter, {how}",
        )
    if _is_sandbox(document) and not issuer.sandbox:
        raise invalid(
            "the server says that it is a sandbox",
            reason=Reason.SANDBOX_REFUSED,
            hint=f"set sandbox = true in [issuer.{issuer.name}] if that is what you want; its tokens prove nothing",
        )


def _is_sandbox(document: dict[str, Any]) -> bool:
    """Take any value but false for a yes: a sandbox must not pass for the real thing by a slip of type."""
    return document.get("token_broker_sandbox", False) is not False


def _url_member(document: dict[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise invalid(f"{name} in the metadata is not a string")
    return value


def _aliases(document: dict[str, Any]) -> dict[str, str]:
    aliases = document.get("mtls_endpoint_aliases", {})
    if not isinstance(aliases, dict):
        raise invalid("mtls_endpoint_aliases in the metadata is not an object")
    return {name: _url_member(aliases, name) for name in _ENDPOINTS if name in aliases and name not in _NEVER_ALIASED}


def _check_endpoints(urls: tuple[tuple[str, str], ...], issuer: Issuer) -> None:
    """Refuse the document if one URL is not to be dialed; foreign hosts are named all at once."""
    home = parse_url(issuer.issuer).host
    listed = {host.lower() for host in issuer.endpoint_hosts}
    listed |= {f"{prefix}{home}" for prefix in issuer.dialect.endpoint_host_prefixes if _stays_at_home(prefix, home)}
    foreign: dict[str, str] = {}
    for name, text in urls:
        parsed = _checked_url(name, text, issuer)
        if parsed.host != home and not is_listed(parsed, listed):
            foreign.setdefault(parsed.authority, name)
    if foreign:
        raise invalid(
            f"{next(iter(foreign.values()))} in the metadata is on a host that is not trusted",
            reason=Reason.ENDPOINT_REFUSED,
            hint=_hosts_hint(issuer, set(foreign)),
        )


def _stays_at_home(prefix: str, home: str) -> bool:
    """
    Say whether a host with *prefix* belongs to whoever has the domain of *home*.

    Before a bare domain (``example.com``) a hyphen makes another domain, which anybody may have registered.
    """
    return prefix.endswith(".") or home.count(".") >= _DOTS_OF_A_HOST


def _checked_url(name: str, text: str, issuer: Issuer) -> EndpointUrl:
    try:
        parsed = parse_url(text)
    except NotAnEndpointUrlError:
        raise invalid(f"{name} in the metadata is not a plain absolute URL", reason=Reason.ENDPOINT_REFUSED) from None
    if is_never_dialed(parsed.host):
        raise invalid(
            f"{name} in the metadata is a link-local or cloud metadata address", reason=Reason.ADDRESS_REFUSED
        )
    if not _is_secure(parsed, allow_insecure_loopback=issuer.allow_insecure_loopback):
        raise invalid(f"{name} in the metadata is not https", reason=Reason.ENDPOINT_REFUSED)
    return parsed


def _is_secure(parsed: EndpointUrl, *, allow_insecure_loopback: bool) -> bool:
    return parsed.scheme == "https" or (allow_insecure_loopback and is_loopback(parsed.host))


def _hosts_hint(issuer: Issuer, foreign: set[str]) -> str | None:
    """
    Give the line to add, complete with the hosts that are listed already.

    The new hosts are a peer's bytes: they have passed a grammar of letters, digits, dots, hyphens and a port,
    or an IPv6 literal.
    """
    if len(foreign) > _MAX_HINTED_HOSTS:
        return None
    hosts = ", ".join(f'"{host}"' for host in sorted(issuer.endpoint_hosts | foreign))
    return f"if the authorization server owns it, set in [issuer.{issuer.name}]: endpoint_hosts = [{hosts}]"


def _strings(document: dict[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in document:
        return None
    values = document[name]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(f"{name} in the metadata is not a list of strings")
    return tuple(values)


def _flag(document: dict[str, Any], name: str) -> bool | None:
    value = document.get(name)
    if name in document and not isinstance(value, bool):
        raise invalid(f"{name} in the metadata is neither true nor false")
    return value
