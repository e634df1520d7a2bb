"""
Who we are at an authorization server, and what we expect of it: values from the configuration.

Names are those of the specifications: client metadata of RFC 7591 section 2 and RFC 8705 section 9.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.oauth.dialect import STANDARD, Dialect


class ClientAuthMethod(StrEnum):
    """``token_endpoint_auth_method`` (RFC 7591 section 2, RFC 8705 section 2)."""

    PRIVATE_KEY_JWT = "private_key_jwt"
    """An assertion, signed with our key (RFC 7523 section 2.2)."""
    TLS_CLIENT_AUTH = "tls_client_auth"
    """The transport certificate, by its subject and a CA that the server trusts."""
    SELF_SIGNED_TLS_CLIENT_AUTH = "self_signed_tls_client_auth"
    """The transport certificate itself, which the server has registered."""
    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 (the name of a method)
    """A shared secret in the ``Authorization`` header (RFC 6749 section 2.3.1)."""
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 (the name of a method)
    """The same in the form, where a proxy's log is more likely to have it."""
    NONE = "none"
    """Nothing: a public client (RFC 6749 section 2.1)."""


SECRET_METHODS = frozenset({ClientAuthMethod.CLIENT_SECRET_BASIC, ClientAuthMethod.CLIENT_SECRET_POST})
"""Those that hand the server a secret, with each request anew."""

CERTIFICATE_METHODS = frozenset({ClientAuthMethod.TLS_CLIENT_AUTH, ClientAuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH})
"""Those that are nothing but mutual TLS."""


class ClientSecretEncoding(StrEnum):
    """How ``client_secret_basic`` writes client id and secret into its header."""

    FORM = "form"
    """Form-encoded first, as RFC 6749 section 2.3.1 demands."""
    RAW = "raw"
    """As they are (RFC 7617), for servers that do not decode."""


class SenderConstraint(StrEnum):
    """What ties an access token to its sender."""

    CERTIFICATE = "certificate"
    """The transport certificate (RFC 8705 section 3)."""
    DPOP = "dpop"
    """A key of its own, which signs a proof for each request (RFC 9449)."""
    NONE = "none"
    """Nothing: a bearer token (RFC 6750)."""


class Profile(StrEnum):
    """Which rules an issuer is held to; a profile only ever refuses more."""

    FAPI2 = "fapi2"
    FAPI1_ADVANCED = "fapi1_advanced"
    OIDC = "oidc"
    OAUTH2 = "oauth2"


FAPI = frozenset({Profile.FAPI2, Profile.FAPI1_ADVANCED})
"""The profiles of the OpenID Foundation's FAPI working group."""


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


class RefreshRotation(StrEnum):
    """What an issuer does with refresh tokens that were used (rules.md R2.5)."""

    OBSERVE = "observe"
    """Learned for each grant, and taken for strict until something is known."""
    NEVER = "never"
    GRACE = "grace"
    STRICT = "strict"


class RequestObjectUse(StrEnum):
    """When an authorization request is a signed object (RFC 9101)."""

    AUTO = "auto"
    """Where the server demands it or the profile does."""
    ALWAYS = "always"
    NEVER = "never"


class ResponseMode(StrEnum):
    """``response_mode`` of an authorization request; the first one is not sent, because it is the default."""

    QUERY = "query"
    FORM_POST = "form_post"
    JWT = "jwt"
    """JARM: signed by the server."""


class AliasedEndpoint(StrEnum):
    """An endpoint that a client calls itself, and whose twin for mutual TLS may be elsewhere (RFC 8705 section 5)."""

    TOKEN = "token_endpoint"  # noqa: S105 - the name of an endpoint
    PUSHED_AUTHORIZATION_REQUEST = "pushed_authorization_request_endpoint"
    REVOCATION = "revocation_endpoint"
    USERINFO = "userinfo_endpoint"


class Parameters(StrEnum):
    """What the browser's URL says beside ``client_id`` and ``request_uri``, for servers that want it again."""

    NONE = "none"
    """Nothing more (RFC 9126 section 4, PAR-03)."""
    SCOPE = "scope"
    """``response_type`` and ``scope``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """
    An authorization server as the configuration trusts it.

    *issuer* is compared exactly; *endpoint_hosts* are further hosts (``host`` or ``host:port``) that its
    metadata may name beside its own; *sandbox* admits a server that says it is a sandbox;
    *allow_insecure_loopback* admits ``http`` on a loopback address; *max_concurrent_requests* at a time and
    *max_requests_per_second* (in any second) are sent to its token endpoint. *dialect*: how it departs from the
    standard.
    """

    name: str
    issuer: str
    profile: Profile = Profile.FAPI2
    discovery: Discovery = Discovery.AUTO
    endpoint_hosts: frozenset[str] = frozenset()
    assertion_audience: AssertionAudience = AssertionAudience.ISSUER
    sandbox: bool = False
    allow_insecure_loopback: bool = False
    refresh_rotation: RefreshRotation = RefreshRotation.OBSERVE
    max_concurrent_requests: int = 8
    max_requests_per_second: int = 20
    dialect: Dialect = STANDARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """
    A client as it is registered at an issuer.

    *issuer* is the name of the ``[issuer.NAME]`` section; *presents_certificate* says that mutual TLS is
    used, so that the server's ``mtls_endpoint_aliases`` apply (RFC 8705 section 5): all of them, or those that
    *mtls_endpoint_aliases* names; *signing_alg* is the algorithm of its client assertions and request objects,
    *dpop_alg* that of its proofs where tokens are bound by DPoP, *client_secret_encoding* matters to
    ``client_secret_basic`` alone.

    The rest is about people: *redirect_uris* are registered ones, *id_token_signed_response_alg* (and the same
    for JARM, *authorization_signed_response_alg*) is pinned, *front_channel_params* and *scope_on_token* are for
    servers that want in the browser's URL, or at the token endpoint, what they were told before.
    *shares_redirect_uri*: people come back to the same place from another issuer, too (rules.md R5).
    """

    name: str
    issuer: str
    client_id: str
    client_auth_method: ClientAuthMethod
    sender_constraint: SenderConstraint
    presents_certificate: bool
    mtls_endpoint_aliases: frozenset[AliasedEndpoint] | None = None
    signing_alg: str | None = None
    dpop_alg: str | None = None
    client_secret_encoding: ClientSecretEncoding = ClientSecretEncoding.FORM
    redirect_uris: tuple[str, ...] = ()
    request_object: RequestObjectUse = RequestObjectUse.AUTO
    request_object_typ: str | None = "oauth-authz-req+jwt"
    response_mode: ResponseMode = ResponseMode.QUERY
    id_token_signed_response_alg: str = "PS256"  # noqa: S105 - an algorithm
    authorization_signed_response_alg: str = "PS256"
    front_channel_params: Parameters = Parameters.NONE
    scope_on_token: bool = False
    shares_redirect_uri: bool = False

    def calls_alias_of(self, endpoint: str) -> bool:
        """Whether it calls the twin of *endpoint* for mutual TLS, where there is one."""
        return self.presents_certificate and (
            self.mtls_endpoint_aliases is None or endpoint in self.mtls_endpoint_aliases
        )

    @property
    def proves(self) -> bool:
        """Whether its tokens are bound to a key by DPoP, so that requests for them carry a proof."""
        return self.sender_constraint is SenderConstraint.DPOP
