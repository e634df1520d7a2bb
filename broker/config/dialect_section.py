"""
``[issuer.NAME.dialect]`` as the operator writes it, and the ``Dialect`` that it comes to.

As in ``schema``, a key that is not a field is refused, and the text below a field says what the key means. A key
that is not written is as the ``base`` has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

import attrs

from broker.config.values import EndpointHost, FormValue, HostPrefix, MemberPath, ParameterName, Visible
from broker.oauth.client import RefreshRotation
from broker.oauth.dialect import (
    NAMED,
    AuthorizationBy,
    Dialect,
    Logout,
    PkceTransform,
    Placement,
    RefreshAuthentication,
    SubjectFrom,
)


class Base(StrEnum):
    """The dialects that have names."""

    STANDARD = "standard"
    """None at all: OAuth 2 and OpenID Connect as they are written."""
    RAIDIAM = "raidiam"
    """Raidiam Connect."""
    IRIDIUM = "iridium"
    """Iridium."""


class LogoutMethod(StrEnum):
    """The methods with which servers log out."""

    DELETE = "DELETE"
    POST = "POST"


@attrs.frozen(kw_only=True)
class DialectSection:
    """``[issuer.NAME.dialect]``: how a server departs from the standard. A name in its place is a ``base`` alone."""

    base: Base = Base.STANDARD
    """The dialect that the other keys change."""
    endpoints: Mapping[ParameterName, Visible] | None = None
    """Where things are, beside those of the base: paths below the issuer, or URLs. No metadata is fetched then."""
    endpoint_host_prefixes: tuple[HostPrefix, ...] | None = None
    """Before the issuer's host they give further hosts on which its metadata may place endpoints."""
    authorization: AuthorizationBy | None = None
    """Who calls the authorization endpoint: the ``browser``, or we, and the browser goes where we are sent."""
    authorization_placement: Placement | None = None
    """Where the parameters of that call stand."""
    provider_hosts: tuple[EndpointHost, ...] | None = None
    """Hosts that the redirect may lead to."""
    provider_callback: Visible | None = None
    """Where people come back to from there: without it to our redirect URI; or to the server first, path or URL."""
    pkce_transform: PkceTransform | None = None
    """How a code challenge is made: as RFC 7636 has it, or of the hexadecimal digits of the hash."""
    token_placement: Placement | None = None
    """Where the parameters of token requests stand; ``query`` needs ``leaks_secrets_in_url``."""
    leaks_secrets_in_url: bool | None = None
    """True accepts that codes, verifiers and refresh tokens stand in URLs, and in the logs of servers and proxies."""
    state_on_token: bool | None = None
    """Sends ``state`` again with the code."""
    client_id_with_basic: bool | None = None
    """Sends ``client_id`` beside an ``Authorization: Basic`` header."""
    renamed_parameters: Mapping[ParameterName, ParameterName] | None = None
    """Names of parameters, and what the server calls them."""
    token_parameters: Mapping[ParameterName, FormValue] | None = None
    """Further fields of code and refresh requests."""
    refresh_authentication: RefreshAuthentication | None = None
    """What a refresh is authenticated by: the client, or an access token that is still good."""
    refresh_rotation: RefreshRotation | None = None
    """What the server does with used refresh tokens, where the issuer's own key of that name does not say."""
    logout: Logout | None = None
    """How a grant is given up: at the revocation endpoint, or with its access token at ``logout_endpoint``."""
    logout_method: LogoutMethod | None = None
    """The method of that."""
    subject_from: SubjectFrom | None = None
    """Where the person's identifier comes from: the ID token, or ``userinfo_endpoint`` with each new access token."""
    userinfo_accept: Visible | None = None
    """The media type that the userinfo endpoint is asked for."""
    subject_member: MemberPath | None = None
    """Where the identifier is in its answer: names with dots between them."""
    error_members: tuple[MemberPath, ...] | None = None
    """Where an error answer may say what went wrong, in the order in which it is looked at: names with dots."""
    error_codes: Mapping[Visible, ParameterName] | None = None
    """How such a text begins, and the OAuth error that it stands for."""


def dialect_of(section: DialectSection | Base) -> Dialect:
    """Translate ``dialect``, a name or a table."""
    if isinstance(section, Base):
        return NAMED[section]
    written = {
        field.name: value
        for field in attrs.fields(DialectSection)
        if field.name != "base" and (value := getattr(section, field.name)) is not None
    }
    base = NAMED[section.base]
    if section.endpoints is not None:
        written["endpoints"] = dict(base.endpoints) | dict(section.endpoints)
    return replace(base, **{name: _frozen(value) for name, value in written.items()})


def _frozen(value: Any) -> Any:
    """Give a value of ``Dialect``: tables are pairs there, and what is an enumeration only here is text."""
    if isinstance(value, Mapping):
        return tuple((str(name), str(one)) for name, one in value.items())
    return value.value if isinstance(value, RefreshRotation | LogoutMethod) else value
