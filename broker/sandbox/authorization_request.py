"""
Authorization requests: by value, pushed (RFC 9126) or as signed objects (RFC 9101), read strictly.

Sans I/O. PKCE with S256 is not optional, redirect URIs are compared letter by letter apart from the port of a
loopback address (RFC 8252 section 7.3), and a parameter comes once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from broker.sandbox.clients import CLOCK_TOLERANCE, RegisteredClient
from broker.sandbox.jose import NotSignedError, unverified_header, verify
from broker.sandbox.options import Options

REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"

REQUEST_OBJECT_TYP = "oauth-authz-req+jwt"
"""RFC 9101 section 10.8; FAPI 2.0 Message Signing section 5.3.1 wants it."""

MAX_OBJECT_LIFETIME = 3_600
"""Seconds from ``nbf`` to ``exp`` of a request object (FAPI 2.0 Message Signing section 5.3.1)."""

RESPONSE_MODES = ("query", "form_post", "jwt", "query.jwt", "form_post.jwt")

REPEATABLE = frozenset({"resource", "audience"})

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
"""A SHA-256 as base64url: of a code verifier, or of a key."""
_JWT_CLAIMS = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})

Parameters = dict[str, Any]
"""By name; repeatable ones as a list, ``claims`` and ``authorization_details`` as the JSON they stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """How an answer gets back to a client: only known once its redirect URI is believed."""

    client_id: str
    redirect_uri: str
    response_mode: str
    state: str | None = field(repr=False)


class RequestRefusedError(Exception):
    """
    The request is refused with the code *error*.

    *reason* is a constant for people; *back* is where the client may hear of it, None when only the person can.
    """

    def __init__(self, error: str, reason: str, *, back: Back | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.reason = reason
        self.back = back


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A request that was checked."""

    client: RegisteredClient
    back: Back
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    code_challenge: str
    nonce: str | None = field(repr=False)
    details: tuple[dict[str, Any], ...] = ()
    login_hint: str | None = None
    acr_values: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    dpop_jkt: str | None = None


@dataclass(slots=True)
class _Waiting:
    client_id: str
    parameters: Parameters
    expires_at: float
    used: bool = False


@dataclass(slots=True, kw_only=True)
class RequestReader:
    """Reads requests for *clients* of *issuer* and keeps the pushed ones; *new_value* makes their references."""

    issuer: str
    clients: Mapping[str, RegisteredClient]
    options: Options
    new_value: Callable[[], str]
    _pushed: dict[str, _Waiting] = field(default_factory=dict, repr=False)

    def push(
        self, pairs: Iterable[tuple[str, str]], client: RegisteredClient, *, jkt: str | None = None, now: float
    ) -> str:
        """
        Keep the request of an authenticated *client*, and give its ``request_uri``.

        *jkt* is the key that the client proved to hold: the code will be bound to it (RFC 9449 section 10.1).
        Raises RequestRefusedError.
        """
        given = _once(pairs)
        if "request_uri" in given:
            raise RequestRefusedError("invalid_request", "request_uri may not be pushed")
        parameters = self._opened(given, client, now=now)
        if jkt is not None and parameters.setdefault("dpop_jkt", jkt) != jkt:
            raise RequestRefusedError("invalid_request", "dpop_jkt is not the key of the proof")
        self.check(parameters, client)
        request_uri = f"{REQUEST_URI_PREFIX}{self.new_value()}"
        expires_at = now + self.options.request_lifetime_seconds
        self._pushed[request_uri] = _Waiting(client.client_id, parameters, expires_at)
        return request_uri

    def read(self, pairs: Iterable[tuple[str, str]], *, now: float) -> AuthorizationRequest:
        """Read the query that a browser brought; *now* in Unix seconds. Raises RequestRefusedError."""
        given = _once(pairs)
        client = self.clients.get(given.get("client_id", ""))
        if client is None:
            raise RequestRefusedError("invalid_request", "there is no such client")
        if "request_uri" in given:
            return self.check(self._looked_up(given, client, now=now), client)
        if self.options.require_par:
            raise RequestRefusedError("invalid_request", "requests have to be pushed")
        return self.check(self._opened(given, client, now=now), client)

    def spend(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let the pushed request that *pairs* refer to be used no more."""
        waiting = self._pushed.get(dict(pairs).get("request_uri", ""))
        if waiting is not None:
            waiting.used = True

    def check(self, parameters: Parameters, client: RegisteredClient) -> AuthorizationRequest:
        """Check what is asked for. Raises RequestRefusedError, with the way back once that is known."""
        back = _way_back(parameters, client)
        if parameters.get("response_type") != "code":
            raise RequestRefusedError("unsupported_response_type", "response_type is not code", back=back)
        if parameters.get("code_challenge_method") != "S256":
            raise RequestRefusedError("invalid_request", "code_challenge_method is not S256", back=back)
        if not _CHALLENGE.fullmatch(str(parameters.get("code_challenge"))):
            raise RequestRefusedError("invalid_request", "code_challenge is missing or malformed", back=back)
        dpop_jkt = parameters.get("dpop_jkt")
        if dpop_jkt is not None and not _CHALLENGE.fullmatch(str(dpop_jkt)):
            raise RequestRefusedError("invalid_request", "dpop_jkt is malformed", back=back)
        scope = tuple(dict.fromkeys(str(parameters.get("scope", "")).split()))
        if not set(scope) <= {*client.scope, *client.person_scope}:
            raise RequestRefusedError("invalid_scope", "the client may not ask for this scope", back=back)
        audience = tuple(dict.fromkeys(one for name in sorted(REPEATABLE) for one in parameters.get(name, ())))
        if not set(audience) <= set(client.resources):
            raise RequestRefusedError("invalid_target", "the client may not ask for this resource", back=back)
        return AuthorizationRequest(
            client=client,
            back=back,
            scope=scope,
            audience=audience or client.resources[:1],
            code_challenge=parameters["code_challenge"],
            nonce=parameters.get("nonce"),
            details=_details(parameters.get("authorization_details"), back),
            login_hint=parameters.get("login_hint"),
            acr_values=tuple(str(parameters.get("acr_values", "")).split()),
            prompt=tuple(str(parameters.get("prompt", "")).split()),
            dpop_jkt=dpop_jkt,
        )

    def _looked_up(self, given: Mapping[str, Any], client: RegisteredClient, *, now: float) -> Parameters:
        extras = set(given) - {"client_id", "request_uri"}
        if extras and not self.options.front_channel_extras:
            raise RequestRefusedError("invalid_request", "a pushed request needs client_id and request_uri only")
        waiting = self._pushed.get(given["request_uri"])
        if waiting is None or waiting.client_id != client.client_id:
            raise RequestRefusedError("invalid_request_uri", "there is no such pushed request")
        if waiting.used:
            raise RequestRefusedError("invalid_request_uri", "the pushed request was used before")
        if waiting.expires_at <= now:
            raise RequestRefusedError("invalid_request_uri", "the pushed request has expired")
        return waiting.parameters

    def _opened(self, given: Mapping[str, Any], client: RegisteredClient, *, now: float) -> Parameters:
        """Give the parameters, out of the request object if there is one."""
        if "request" in given:
            return _from_object(given, client, issuer=self.issuer, now=now)
        if self.options.require_request_object:
            raise RequestRefusedError("invalid_request", "a signed request object is required")
        return {name: _json_of(value) if name in _STRUCTURED else value for name, value in given.items()}


_STRUCTURED = frozenset({"claims", "authorization_details"})


def _once(pairs: Iterable[tuple[str, str]]) -> Parameters:
    given: Parameters = {}
    for name, value in pairs:
        if name in REPEATABLE:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise RequestRefusedError("invalid_request", "a parameter is repeated")
        else:
            given[name] = value
    return given


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise RequestRefusedError("invalid_request", "a parameter is not the JSON that it should be") from None


def _from_object(given: Mapping[str, Any], client: RegisteredClient, *, issuer: str, now: float) -> Parameters:
    """Open the request object: what stands beside it is not used (RFC 9101 section 6.3)."""
    header, claims = _verified_object(given["request"], client)
    if header.get("typ") != REQUEST_OBJECT_TYP:
        raise _bad_object("typ of the request object is not oauth-authz-req+jwt")
    if claims.get("iss") != client.client_id or claims.get("client_id") != client.client_id:
        raise _bad_object("iss or client_id of the request object is not the client")
    if claims.get("aud") != issuer:
        raise _bad_object("aud of the request object is not exactly the issuer, as a string")
    if given.get("client_id") not in {None, client.client_id}:
        raise _bad_object("client_id is not that of the request object")
    if {"request", "request_uri", "sub"} & set(claims):
        raise _bad_object("the request object has request, request_uri or sub")
    if None in claims.values():
        raise _bad_object("a claim of the request object is null")
    expires_at, not_before = _number(claims, "exp"), _number(claims, "nbf")
    if expires_at + CLOCK_TOLERANCE <= now or not_before > now + CLOCK_TOLERANCE:
        raise _bad_object("the request object has expired or is not valid yet")
    if not 0 < expires_at - not_before <= MAX_OBJECT_LIFETIME:
        raise _bad_object("the request object lives too long")
    return {
        name: [value] if name in REPEATABLE and isinstance(value, str) else value
        for name, value in claims.items()
        if name not in _JWT_CLAIMS
    }


def _verified_object(token: str, client: RegisteredClient) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        header = unverified_header(token)
        keys = [key for key in client.keys if key.kid == header.get("kid") and key.alg == header.get("alg")]
        if not keys:
            raise _bad_object("kid or alg of the request object is not registered")
        return verify(keys[0], token)
    except NotSignedError:
        raise _bad_object("the request object is not signed by the client") from None


def _bad_object(reason: str) -> RequestRefusedError:
    return RequestRefusedError("invalid_request_object", reason)


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _bad_object("exp or nbf of the request object is missing or not a number")
    return value


def _way_back(parameters: Parameters, client: RegisteredClient) -> Back:
    redirect_uri, mode = parameters.get("redirect_uri"), parameters.get("response_mode", "query")
    if not isinstance(redirect_uri, str) or not any(_is_at(redirect_uri, one) for one in client.redirect_uris):
        raise RequestRefusedError("invalid_request", "redirect_uri is missing or not registered")
    state = parameters.get("state")
    if mode not in RESPONSE_MODES or not isinstance(state, str | None):
        back = Back(client_id=client.client_id, redirect_uri=redirect_uri, response_mode="query", state=None)
        raise RequestRefusedError("invalid_request", "response_mode or state is none that is known", back=back)
    return Back(client_id=client.client_id, redirect_uri=redirect_uri, response_mode=mode, state=state)


def _is_at(given: str, registered: str) -> bool:
    """Compare redirect URIs: letter by letter, but for the port of a registered loopback address."""
    if given == registered:
        return True
    try:
        ours, theirs = urlsplit(registered), urlsplit(given)
        port = theirs.port
    except ValueError:
        return False
    if ours.scheme != "http" or ours.hostname not in _LOOPBACK or port is None:
        return False
    host = f"[{ours.hostname}]" if ":" in ours.hostname else ours.hostname
    return given == ours._replace(netloc=f"{host}:{port}").geturl()


def _details(value: Any, back: Back) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, dict) and "type" in one for one in value):
        raise RequestRefusedError("invalid_authorization_details", "not an array of objects with a type", back=back)
    return tuple(value)
