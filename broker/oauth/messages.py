"""
What goes to an authorization server and what comes back, as values.

A ``Draft`` is a request that lacks only what needs a clock, randomness or a key; ``tokens.exchange``
completes it to a ``Request``, once for every transmission. The transport turns a ``Request`` into bytes
and bytes into a ``Response``; it does not judge the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.oauth.client import ClientSecretEncoding
from broker.oauth.secret import AccessToken, BasicCredentials, ClientAssertion, ClientSecret, DpopProof, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSpec:
    """
    What a client assertion has to say (RFC 7523 section 3), but for ``jti``, ``iat`` and ``exp``.

    *audience* is the issuer, or the exact URL dialed (rules.md R5): one string, never an array.
    """

    client_id: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicSpec:
    """What an ``Authorization: Basic`` header has to say, but for the secret."""

    client_id: str
    encoding: ClientSecretEncoding


@dataclass(frozen=True, slots=True, kw_only=True)
class PostSpec:
    """The client secret is a field of the form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerSpec:
    """An access token stands for the client, at servers that have it so (``Dialect``)."""

    access_token: AccessToken


CredentialSpec = AssertionSpec | BasicSpec | PostSpec | BearerSpec
Credential = ClientAssertion | BasicCredentials | ClientSecret | AccessToken
"""What proves who we are: one or nothing, because servers refuse two (RFC 6749 section 2.3)."""

SecretFields = tuple[tuple[str, Secret], ...]
"""Fields of a form whose values are secrets; only the transport reveals them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestObjectSpec:
    """
    What a request object has to say (RFC 9101 section 4), but for ``jti``, ``iat``, ``nbf`` and ``exp``.

    *claims* hold objects and arrays as such, not as text in JSON (JAR-04). *typ* is the header of that name,
    None for servers that choke on it.
    """

    claims: Mapping[str, Any] = field(repr=False)
    typ: str | None = "oauth-authz-req+jwt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """
    A POST of a form to an endpoint; *form* keeps its order and may repeat a name (``resource``), None: there is none.

    *credential* says what is to be added before it is sent; None for a client that the connection alone, or
    nothing, identifies. *request_object* is signed anew for each transmission and sent as ``request``. *proves*:
    a DPoP proof goes with it (RFC 9449 section 5). *method* is another one, and *in_query* true, for dialects alone:
    the form is in the URL then.
    """

    url: str
    form: tuple[tuple[str, str], ...] | None
    credential: CredentialSpec | None = None
    secret_fields: SecretFields = ()
    request_object: RequestObjectSpec | None = None
    proves: bool = False
    method: str = "POST"
    in_query: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    A request that is ready to be sent, once.

    *form* is None for a GET; *in_query* puts it into the URL, and *renamed* holds our names and the server's, where
    those differ. *credential* is sent beside the form or as a header; it is held apart so that
    the rest of the value may be looked at in a debugger without harm. *proof* is a header; with it an access token
    is not a bearer token.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    form: tuple[tuple[str, str], ...] | None = None
    credential: Credential | None = None
    secret_fields: SecretFields = ()
    proof: DpopProof | None = None
    in_query: bool = False
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """
    An answer, whole: *body* is at most the cap of the transport and is never decoded by it.

    *headers* has lower-case names, the first value of each; of ``www-authenticate`` and ``dpop-nonce`` all of them,
    joined by commas. *body* has no printable form: it may hold
    tokens, and servers are known to echo secrets in errors.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
