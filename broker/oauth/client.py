"""
Who we are at an authorization server, and what we expect of it: values from the configuration.

Names are those of the specifications: client metadata of RFC 7591 section 2 and RFC 8705 section 9.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ClientAuthMethod(StrEnum):
    """``token_endpoint_auth_method`` (RFC 7591 section 2, RFC 8705 section 2)."""

    PRIVATE_KEY_JWT = "private_key_jwt"


class SenderConstraint(StrEnum):
    """What ties an access token to its sender."""

    CERTIFICATE = "certificate"
    """The transport certificate (RFC 8705 section 3)."""
    NONE = "none"
    """Nothing: a bearer token (RFC 6750)."""


class Profile(StrEnum):
    """Which rules an issuer is held to; a profile only ever refuses more."""

    FAPI2 = "fapi2"
    FAPI1_ADVANCED = "fapi1_advanced"
    OIDC = "oidc"
    OAUTH2 = "oauth2"


class Discovery(StrEnum):
    """Where an issuer's metadata is found (DISC-02)."""

    AUTO = "auto"
    """``openid-configuration``, and on 404 only ``oauth-authorization-server``."""
    OIDC = "oidc"
    """OpenID Connect Discovery 1.0 section 4: appended to the issuer."""
    OAUTH2 = "oauth2"
    """RFC 8414 section 3: inserted between host and path."""


class AssertionAudience(StrEnum):
    """The ``aud`` of client assertions: one string, never an array (rules.md R5)."""

    ISSUER = "issuer"
    TARGET = "target"
    """The exact URL that is dialed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """
    An authorization server as the configuration trusts it.

    *issuer* is compared exactly; *endpoint_hosts* are further hosts (``host`` or ``host:port``) that its
    metadata may name beside its own; *sandbox* admits a server that says it is a sandbox;
    *allow_insecure_loopback* admits ``http`` on a loopback address.
    """

    name: str
    issuer: str
    profile: Profile = Profile.FAPI2
    discovery: Discovery = Discovery.AUTO
    endpoint_hosts: frozenset[str] = frozenset()
    assertion_audience: AssertionAudience = AssertionAudience.ISSUER
    sandbox: bool = False
    allow_insecure_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """
    A client as it is registered at an issuer.

    *issuer* is the name of the ``[issuer.NAME]`` section; *presents_certificate* says that mutual TLS is
    used, so that ``mtls_endpoint_aliases`` apply (RFC 8705 section 5); *signing_alg* is the algorithm of
    its client assertions.
    """

    name: str
    issuer: str
    client_id: str
    client_auth_method: ClientAuthMethod
    sender_constraint: SenderConstraint
    presents_certificate: bool
    signing_alg: str | None = None
