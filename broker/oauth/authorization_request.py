"""
The authorization request: what is asked of a person, and by which way it gets to the server.

By PAR where the server has it (RFC 9126), so that the browser carries nothing but a reference; as a signed
object where the server or the profile demands it (RFC 9101). PKCE, ``state`` and, with ``openid``, ``nonce``
always. What callers may choose has been narrowed before it gets here (``broker.consent``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from broker.errors import LocalError
from broker.oauth import pkce
from broker.oauth.answers import invalid, json_object
from broker.oauth.capabilities import asking_needs, person_needs
from broker.oauth.client import Client, Issuer, Parameters, Profile, RequestObjectUse, ResponseMode
from broker.oauth.client_auth import authenticate
from broker.oauth.dialect import AuthorizationBy, Pairs
from broker.oauth.grants import RESERVED_PARAMETERS
from broker.oauth.messages import Draft, RequestObjectSpec, Response
from broker.oauth.metadata import AuthorizationServer, endpoint, insufficient
from broker.oauth.provider_redirect import redirect_draft
from broker.oauth.secret import CodeVerifier, RequestObject

RESERVED_REQUEST_PARAMETERS = RESERVED_PARAMETERS | {
    # what is checked in the answer, or is the caller's to say
    "claims", "acr_values", "prompt", "max_age", "login_hint",
    # claims of a request object; with sub it could be taken for a client assertion (RFC 9101 section 10.8)
    "sub", "exp", "nbf", "iat", "jti",
}  # fmt: skip
"""Parameters that configured extra ones may not set where a person is asked (rules.md R4)."""

LONGEST_REQUEST_URI_LIFE = 600.0
"""Seconds: FAPI 2.0 section 5.3.2.2 expects less; of longer ones no more is used."""

_REQUEST_URI = re.compile(r"[\x21-\x7e]{1,2048}")
"""A URI as far as it matters to us: it is copied into one (RFC 9126 section 2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What is asked of the person.

    *claims* is that of OpenID Connect Core section 5.5, *authorization_details* that of RFC 9396; *max_age* in
    seconds; *parameters* are further ones from the configuration.
    """

    scope: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    authorization_details: tuple[Mapping[str, Any], ...] = ()
    claims: Mapping[str, Any] | None = None
    acr_values: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    login_hint: str | None = field(default=None, repr=False)
    max_age: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def is_openid(self) -> bool:
        """Say whether an ID token is asked for."""
        return "openid" in self.scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """
    What ties one response to one request: random values, drawn for it alone.

    *dpop_jkt* is the thumbprint of the key that the code will be bound to (RFC 9449 section 10), if it will.
    """

    state: str = field(repr=False)
    nonce: str | None = field(repr=False)
    code_verifier: CodeVerifier
    redirect_uri: str
    dpop_jkt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The request is sent to the server (RFC 9126)."""

    draft: Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirected:
    """We send the request, and the browser goes where the answer leads (``provider_redirect``)."""

    draft: Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class ByValue:
    """The browser carries the request: *request_object*, once signed, or the *parameters* as they are."""

    parameters: tuple[tuple[str, str], ...] = field(repr=False)
    request_object: RequestObjectSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedRequest:
    """The reference to a pushed request: for one use, within *expires_in* seconds."""

    request_uri: str
    expires_in: float


def plan_authorization(
    server: AuthorizationServer, issuer: Issuer, client: Client, asked: Asked, transaction: Transaction
) -> Pushed | Redirected | ByValue:
    """
    Decide how the request gets to the server, and write it.

    Raises RemoteError ``metadata_insufficient`` when the server lacks what the request needs, and LocalError
    when the configuration contradicts itself or the server.
    """
    _check_server(server, issuer, client, asked)
    members = _members(issuer, client, asked, transaction)
    if issuer.dialect.authorization is AuthorizationBy.REDIRECT:
        return Redirected(draft=redirect_draft(server, issuer, _flat(members)))
    signed = _is_signed(server, issuer, client)
    spec = _request_object(issuer, client, members) if signed else None
    if server.pushed_authorization_request_endpoint is not None:
        return Pushed(draft=_pushed_draft(server, issuer, client, members, spec))
    return ByValue(parameters=_flat(members), request_object=spec)


def read_pushed_response(response: Response, *, wall_now: float) -> PushedRequest:
    """
    Read the answer of the PAR endpoint (RFC 9126 section 2.2): 201, or 200 of servers that know no better.

    ``expires_in`` should be an integer; a fraction is as good, as it is in a token response.
    """
    if response.status == 201:
        response = Response(status=200, headers=response.headers, body=response.body)
    members = json_object(response, wall_now=wall_now)
    request_uri, expires_in = members.get("request_uri"), members.get("expires_in")
    if not isinstance(request_uri, str) or not _REQUEST_URI.fullmatch(request_uri):
        raise invalid("the answer has no request_uri")
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or expires_in <= 0:
        raise invalid("expires_in of the request_uri is not a number of seconds")
    return PushedRequest(request_uri=request_uri, expires_in=min(float(expires_in), LONGEST_REQUEST_URI_LIFE))


def pushed_url(
    server: AuthorizationServer, client: Client, pushed: PushedRequest, asked: Asked, *, renamed: Pairs = ()
) -> str:
    """
    Give the URL for the browser: ``client_id``, ``request_uri`` and nothing else (PAR-03), unless configured.

    *renamed* as in ``Dialect``.
    """
    query = [("client_id", client.client_id), ("request_uri", pushed.request_uri)]
    if client.front_channel_params is Parameters.SCOPE:
        query += [("response_type", "code"), ("scope", " ".join(asked.scope))]
    return _with_query(server, query, renamed)


def authorization_url(
    server: AuthorizationServer,
    client: Client,
    plan: ByValue,
    request_object: RequestObject | None,
    *,
    renamed: Pairs = (),
) -> str:
    """
    Give the URL for the browser where nothing was pushed; beside a signed object it says little (RFC 9101).

    *renamed* as in ``Dialect``.
    """
    if request_object is None:
        return _with_query(server, plan.parameters, renamed)
    members = dict(plan.parameters)
    outside = [("client_id", client.client_id), ("response_type", "code")]
    # OpenID Connect Core section 6.1 wants scope outside, too; servers compare.
    outside += [("scope", members["scope"])] if "scope" in members else []
    return _with_query(server, [*outside, ("request", request_object.reveal())], renamed)


def _check_server(server: AuthorizationServer, issuer: Issuer, client: Client, asked: Asked) -> None:
    needs = (*asking_needs(server, client, issuer), *(person_needs(server, client) if asked.is_openid else ()))
    for met, member, advice in needs:
        if not met:
            raise insufficient(
                f"{member} in the metadata does not allow what the configuration asks for",
                f"[client.{client.name}] at [issuer.{issuer.name}]: {member} {advice}",
            )


def _is_signed(server: AuthorizationServer, issuer: Issuer, client: Client) -> bool:
    """Say whether the request is a signed object; the metadata can demand it and never talk us out of it."""
    demanded = server.require_signed_request_object or issuer.profile is Profile.FAPI1_ADVANCED
    match client.request_object:
        case RequestObjectUse.ALWAYS:
            wanted = True
        case RequestObjectUse.NEVER if demanded:
            raise LocalError(
                "request_object_required",
                "the server or the profile demands a signed request object",
                hint=f'[client.{client.name}]: request_object = "never" has to go',
            )
        case _:
            wanted = demanded
    if wanted and client.signing_alg is None:
        raise LocalError(
            "request_object_required",
            "a signed request object needs a signing key",
            hint=f"[client.{client.name}]: name one in signing_keys",
        )
    return wanted


def _members(issuer: Issuer, client: Client, asked: Asked, transaction: Transaction) -> dict[str, Any]:
    """Give the parameters; those with structure as such."""
    if any(name in RESERVED_REQUEST_PARAMETERS for name, _ in asked.parameters):
        raise LocalError("parameter_reserved", "an extra parameter has the name of one that the broker sets")
    mode = None if client.response_mode is ResponseMode.QUERY else client.response_mode.value
    wanted: dict[str, Any] = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": transaction.redirect_uri,
        "response_mode": mode,
        "scope": " ".join(asked.scope) or None,
        "state": transaction.state,
        "nonce": transaction.nonce,
        "code_challenge": pkce.code_challenge(transaction.code_verifier, issuer.dialect.pkce_transform),
        "code_challenge_method": pkce.METHOD,
        "dpop_jkt": transaction.dpop_jkt,
        "resource": list(asked.resource) or None,
        "audience": list(asked.audience) or None,
        "authorization_details": [dict(detail) for detail in asked.authorization_details] or None,
        "claims": None if asked.claims is None else dict(asked.claims),
        "acr_values": " ".join(asked.acr_values) or None,
        "prompt": " ".join(asked.prompt) or None,
        "login_hint": asked.login_hint,
        "max_age": asked.max_age,
    }
    return {name: value for name, value in (*wanted.items(), *asked.parameters) if value is not None}


def _request_object(issuer: Issuer, client: Client, members: Mapping[str, Any]) -> RequestObjectSpec:
    """Give the claims (JAR-01, JAR-03, JAR-04): numbers as numbers, objects as objects, one resource as a string."""
    claims = {
        name: value[0] if name in {"resource", "audience"} and len(value) == 1 else value
        for name, value in members.items()
    }
    return RequestObjectSpec(
        claims={"iss": client.client_id, "aud": issuer.issuer, **claims}, typ=client.request_object_typ
    )


def _pushed_draft(
    server: AuthorizationServer,
    issuer: Issuer,
    client: Client,
    members: Mapping[str, Any],
    spec: RequestObjectSpec | None,
) -> Draft:
    """Draft the PAR request, with the client authentication of the token endpoint (RFC 9126 section 2)."""
    url = endpoint(server, "pushed_authorization_request_endpoint", client)
    authentication, credential = authenticate(client, issuer, server, url)
    # Even where the credential names the client, servers miss the parameter client_id (RFC 9126 section 2.1).
    named = (("client_id", client.client_id),)
    form = named if spec is not None else _flat(members)
    rest = tuple(pair for pair in authentication if pair not in form)
    return Draft(url=url, form=(*form, *rest), credential=credential, request_object=spec, proves=client.proves)


def _flat(members: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Give *members* as form fields: what repeats repeats, what has structure is JSON."""
    pairs: list[tuple[str, str]] = []
    for name, value in members.items():
        if name in {"resource", "audience"}:
            pairs += [(name, item) for item in value]
        elif isinstance(value, str):
            pairs.append((name, value))
        else:
            pairs.append((name, json.dumps(value, separators=(",", ":"), ensure_ascii=False)))
    return tuple(pairs)


def _with_query(server: AuthorizationServer, pairs: Iterable[tuple[str, str]], renamed: Pairs) -> str:
    """Append to the endpoint, which may have a query of its own (RFC 6749 section 3.1)."""
    theirs = dict(renamed)
    query = urlencode([(theirs.get(name, name), value) for name, value in pairs])
    url = endpoint(server, "authorization_endpoint", None)
    return f"{url}{'&' if '?' in url else '?'}{query}"
