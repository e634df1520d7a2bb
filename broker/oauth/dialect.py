"""
Dialects: how an authorization server departs from the standard, as data.

The flow is the standard's, and asks a dialect where a server may differ: no code anywhere asks which server it
is. ``STANDARD`` is none at all; a configuration names one of ``NAMED``, or writes a table of the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from urllib.parse import quote

Pairs = tuple[tuple[str, str], ...]
"""A table, frozen: dialects are compared and hashed."""

CLIENT_ID = "{client_id}"
"""Stands in ``logout_endpoint`` for the client's id."""


def with_client_id(url: str, client_id: str) -> str:
    """Give *url* with the client's id where it belongs, as one segment of a path (RFC 3986 section 3.3)."""
    return url.replace(CLIENT_ID, quote(client_id, safe=""))


class AuthorizationBy(StrEnum):
    """Who calls the authorization endpoint."""

    BROWSER = "browser"
    """The person's browser (RFC 6749 section 4.1.1), or it opens what was pushed (RFC 9126)."""
    REDIRECT = "redirect"
    """We do, with a POST; its redirect is read, not followed, and the browser goes there."""


class Placement(StrEnum):
    """Where the parameters of a POST stand."""

    FORM = "form"
    """In the body (RFC 6749 section 4.1.3)."""
    QUERY = "query"
    """In the URL, which servers and proxies write into their logs."""


class PkceTransform(StrEnum):
    """How a ``code_challenge`` is made of its verifier."""

    S256 = "S256"
    """RFC 7636 section 4.2."""
    S256_HEX = "S256-hex"
    """Of the hexadecimal digits of the hash, where the standard takes its bytes."""


class RefreshAuthentication(StrEnum):
    """What a refresh is authenticated by."""

    CLIENT = "client"
    """The client, as in every other request (RFC 6749 section 6)."""
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a way
    """The access token that is still good: after its end nothing brings another one but a person."""
    NONE = "none"
    """Refreshes are refused to such clients: none is tried, and refresh tokens are kept and not used."""


class Logout(StrEnum):
    """How a grant is given up at the server."""

    REVOCATION_ENDPOINT = "revocation_endpoint"
    """RFC 7009, with the refresh token."""
    BEARER = "bearer"
    """A request to ``logout_endpoint`` with the access token, as long as that is good."""


class SubjectFrom(StrEnum):
    """Where the person's identifier comes from."""

    ID_TOKEN = "id_token"  # noqa: S105 - the name of a place
    """OpenID Connect; without ``openid`` in the scope nobody is identified."""
    USERINFO = "userinfo"
    """The answer of ``userinfo_endpoint`` to a new access token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    The departures of a server; each default is the standard's way.

    *endpoints* are paths below the issuer or whole URLs, by name: where there are any, no metadata is fetched.
    *endpoint_host_prefixes*: a host whose name is one of these and the issuer's host is trusted for endpoints.

    *authorization* and its *authorization_placement*; *provider_hosts* (``host`` or ``host:port``) are where a
    redirect may lead. *provider_callback*, a path below the issuer or a URL, is where people come back to from there,
    with a ``state`` of the server's own: None where that is our redirect URI, with ours. *pkce_transform* is what the
    server checks a verifier with.

    *token_placement*, *state_on_token*, *client_id_with_basic* (beside an ``Authorization: Basic``) and
    *token_parameters* (further fields of code and refresh requests) are about the token endpoint;
    *renamed_parameters* holds in every request: our name, and the server's.

    *refresh_rotation* is the default of the issuer's (None: as its profile has it). *logout_endpoint* is one of
    *endpoints* and may hold ``{client_id}``. *subject_member* is a path of names with dots between them.

    *error_members* of an error answer say what went wrong, the first that is there; *error_codes* are beginnings of
    such texts, and the OAuth error each stands for.
    """

    endpoints: Pairs = ()
    endpoint_host_prefixes: tuple[str, ...] = ()
    authorization: AuthorizationBy = AuthorizationBy.BROWSER
    authorization_placement: Placement = Placement.FORM
    provider_hosts: tuple[str, ...] = ()
    provider_callback: str | None = None
    pkce_transform: PkceTransform = PkceTransform.S256
    token_placement: Placement = Placement.FORM
    leaks_secrets_in_url: bool = False
    state_on_token: bool = False
    client_id_with_basic: bool = False
    renamed_parameters: Pairs = ()
    token_parameters: Pairs = ()
    refresh_authentication: RefreshAuthentication = RefreshAuthentication.CLIENT
    refresh_rotation: str | None = None
    logout: Logout = Logout.REVOCATION_ENDPOINT
    logout_method: str = "DELETE"
    subject_from: SubjectFrom = SubjectFrom.ID_TOKEN
    userinfo_accept: str = "application/json"
    subject_member: str = "sub"
    error_members: tuple[str, ...] = ("error",)
    error_codes: Pairs = ()

    def departures(self) -> tuple[str, ...]:
        """Give the names of the fields in which it departs from the standard's flow, and so from FAPI."""
        return tuple(
            field.name
            for field in fields(self)
            if field.name not in _HARMLESS and getattr(self, field.name) != getattr(STANDARD, field.name)
        )

    @property
    def answering_hosts(self) -> tuple[str, ...]:
        """The hosts that may answer a browser in the server's place; whatever a base lists, none if it answers."""
        return self.provider_hosts if self.authorization is AuthorizationBy.REDIRECT else ()

    @property
    def identifies(self) -> bool:
        """Whether the person is looked up with each new access token."""
        return self.subject_from is SubjectFrom.USERINFO

    @property
    def refreshes_with_access_token(self) -> bool:
        """Whether a refresh takes an access token that is still good."""
        return self.refresh_authentication is RefreshAuthentication.ACCESS_TOKEN


_HARMLESS = frozenset({"endpoint_host_prefixes", "refresh_rotation", "error_members", "error_codes"})
"""What says only where things are, or how to read a refusal: no request is another one for it."""

STANDARD = Dialect()

RAIDIAM = Dialect(endpoint_host_prefixes=("matls-",))
"""
Raidiam Connect: FAPI 2.0 as it is written.

Its endpoints for mutual TLS are on a host of their own, whose name is that of the issuer with a prefix.
"""

IRIDIUM = Dialect(
    endpoints=(
        ("authorization_endpoint", "/oauth/external/authorize"),
        ("token_endpoint", "/oauth/token"),
        ("refresh_endpoint", "/oauth/token/refresh"),
        ("logout_endpoint", "/applications/{client_id}/tokens"),
        ("userinfo_endpoint", "/identities"),
    ),
    authorization=AuthorizationBy.REDIRECT,
    provider_hosts=("github.com", "accounts.google.com"),
    # Its page does not mention it, but its source finds the external flow by it (IRI-04).
    state_on_token=True,
    client_id_with_basic=True,
    refresh_authentication=RefreshAuthentication.ACCESS_TOKEN,
    # A refresh token that was used goes on working (IRI-13).
    refresh_rotation="never",
    logout=Logout.BEARER,
    subject_from=SubjectFrom.USERINFO,
    userinfo_accept="application/vnd.iridium.id.identity-response.1+json",
    subject_member="data.id",
    error_members=("error", "message", "code"),
    error_codes=(
        ("invalid authorization code", "invalid_grant"),
        ("invalid refresh token", "invalid_grant"),
        ("invalid_grant", "invalid_grant"),
        ("invalid request", "invalid_request"),
        ("application secret not found", "invalid_client"),
        ("basic auth token blank", "invalid_client"),
        ("Only confidential clients are allowed", "unauthorized_client"),
        ("NOT AUTHORIZED", "invalid_token"),
    ),
)
"""
Iridium: authorization codes of other providers behind a redirect, and a refresh and a logout of its own.

Its documentation and its behavior differ (IRI-01 to IRI-15); this gets along with both, but for the path of the
logout and the spelling of one parameter, which a table can have otherwise.
"""

NAMED: Mapping[str, Dialect] = {"standard": STANDARD, "raidiam": RAIDIAM, "iridium": IRIDIUM}
"""The dialects that a configuration can name."""
