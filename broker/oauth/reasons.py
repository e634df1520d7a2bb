"""
Why a request to an authorization server brought no token: the closed set.

These are labels of ``token_broker_refresh_total`` and fields of logs and audit records, so a new one is a
change of an interface and is documented in ``docs/reference/reasons.md``.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A stable code; the docstring of each says what an operator would have seen."""

    # The connection: nobody answered.
    DNS_FAILED = "dns_failed"
    """The host's name has no address, or the name server did not answer in time."""
    ADDRESS_REFUSED = "address_refused"
    """The name leads to a link-local or cloud metadata address, which are never dialed."""
    CONNECT_FAILED = "connect_failed"
    """Nobody listens there, or the network is down."""
    PROXY_UNREACHABLE = "proxy_unreachable"
    """There is no connection to the proxy: nobody listens there, or its name has no address."""
    PROXY_CREDENTIALS_REFUSED = "proxy_credentials_refused"
    """The proxy wants credentials, or other ones: 407."""
    PROXY_REFUSED = "proxy_refused"
    """The proxy lets nobody, or not us, through to the server: another 4xx."""
    PROXY_FAILED = "proxy_failed"
    """The proxy does not reach the server or find its name: a 5xx, a lost connection, or something else than HTTP."""
    PROXY_TIMED_OUT = "proxy_timed_out"
    """There was no tunnel in time: the proxy, or the server behind it, does not answer."""
    SERVER_CERTIFICATE_REFUSED = "server_certificate_refused"
    """The server's certificate is not from a trusted CA, not for this name, or expired."""
    TLS_FAILED = "tls_failed"
    """The TLS handshake failed otherwise (no common version or cipher suite ...)."""
    CERTIFICATE_SUSPECTED = "certificate_suspected"
    """A TLS alert, or a reset at the first read of a fresh mutual TLS connection: our certificate may be refused."""
    CERTIFICATE_EXPIRED = "certificate_expired"
    """As ``certificate_suspected``, and our certificate is past its ``not_after``."""
    TIMED_OUT = "timed_out"
    """The total deadline passed, or what was answered had ended by then (a ``request_uri``)."""
    CONNECTION_LOST = "connection_lost"
    """The connection ended before the answer was whole."""
    PROTOCOL_VIOLATED = "protocol_violated"
    """The answer is not HTTP."""

    # The answer: it is not one that we accept.
    REDIRECTED = "redirected"
    """A 3xx: redirects are not followed."""
    TOO_LARGE = "too_large"
    """The body is above the cap."""
    ENCODED = "encoded"
    """The body has a Content-Encoding, though identity was asked for."""
    NOT_JSON = "not_json"
    """The Content-Type is not JSON (a login page, a proxy's error page)."""
    MALFORMED = "malformed"
    """The body is not strict JSON: cut off, duplicate members, too deep, not an object, empty."""
    INVALID_RESPONSE = "invalid_response"
    """JSON, but a member is missing or of the wrong type."""
    SERVER_FAILED = "server_failed"
    """A 5xx."""
    RATE_LIMITED = "rate_limited"
    """429, or 503 with Retry-After."""
    SERVER_REFUSED = "server_refused"
    """An OAuth error (RFC 6749 section 5.2)."""
    UNEXPECTED_STATUS = "unexpected_status"
    """Any other status."""
    DOWNGRADED = "downgraded"
    """A token bound to our certificate or key was asked for, and it is not bound, or of another type."""
    WRONG_BINDING = "wrong_binding"
    """The token is bound to another certificate or key than ours."""
    WIDER_SCOPE = "wider_scope"
    """More scope was granted than asked for."""

    # The metadata.
    ISSUER_MISMATCH = "issuer_mismatch"
    """The metadata names another issuer than the configuration."""
    ENDPOINT_REFUSED = "endpoint_refused"
    """An endpoint is not https, or on a host that ``endpoint_hosts`` does not list."""
    METADATA_INSUFFICIENT = "metadata_insufficient"
    """The server does not offer what the configuration needs (no token endpoint, another authentication method ...)."""
    SANDBOX_REFUSED = "sandbox_refused"
    """The server is a sandbox, and the configuration does not say ``sandbox = true``."""

    # A person's consent.
    AUTHORIZATION_RESPONSE_INVALID = "authorization_response_invalid"
    """What came back with the person's browser failed a check; the event names the check."""
    AUTHORIZATION_REFUSED = "authorization_refused"
    """The server, or the person there, said no."""
    ID_TOKEN_INVALID = "id_token_invalid"  # noqa: S105 - the name of a reason
    """The ID token failed a check; the event names the check."""
    USERINFO_INVALID = "userinfo_invalid"
    """The answer of the userinfo endpoint is about somebody else, or about nobody."""
    KEYS_UNAVAILABLE = "keys_unavailable"
    """The server's public keys cannot be had, so that what it signed cannot be checked."""

    # Ourselves.
    SIGNING_FAILED = "signing_failed"
    """The signing key could not sign."""
    DPOP_KEY_UNKNOWN = "dpop_key_unknown"
    """The DPoP key that a token or a code is bound to is not there any more."""
    DPOP_KEY_UNREADABLE = "dpop_key_unreadable"
    """The store has a DPoP key that this version cannot read, so that nobody is asked for what would be bound to it."""
    CLIENT_SUSPENDED = "client_suspended"
    """Requests of this client are held back after repeated suspicions against its certificate."""
    CLIENT_SUSPECT = "client_suspect"
    """Grants of this client are held back: too many were refused at once, or the client was."""
    STORE_UNAVAILABLE = "store_unavailable"
    """The store cannot be written, so that no refresh token is spent."""
    STORE_ROLLED_BACK = "store_rolled_back"
    """The store is an older copy of itself, so that its refresh tokens may have been used."""
    UNEXPECTED = "unexpected"
    """A bug; an ``unexpected_failure`` event has the details."""
