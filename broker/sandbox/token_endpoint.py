"""
The token endpoint (RFC 6749 section 3.2): sender-constrained JWT access tokens, for a client or for a person.

Sans I/O: a request value comes in, an answer value goes out, and the caller says what time it is.
Tokens are RFC 9068 access tokens with the ``cnf`` of RFC 8705 section 3.1, RFC 9449 section 6.1, or both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.clients import (
    ClientRefusedError,
    RegisteredClient,
    SenderConstraint,
    UsedAssertions,
    authenticate,
)
from broker.sandbox.dpop import NO_POSSESSION, Possession, ProofReader, ProofRefusedError
from broker.sandbox.families import Approved, Families, Family, GrantRefusedError
from broker.sandbox.faults import GRANT_TYPES, Fault
from broker.sandbox.id_tokens import LIFETIME as ID_TOKEN_LIFETIME
from broker.sandbox.id_tokens import at_hash, make_id_token
from broker.sandbox.jose import JsonWebKey, sign
from broker.sandbox.keyring import Keyring
from broker.sandbox.options import Options
from broker.sandbox.twists import twist_claims

DEFAULT_LIFETIME = 60
"""Seconds that an access token lives: short, so that people see it being refreshed."""

FORM = "application/x-www-form-urlencoded"

REPEATABLE = frozenset({"resource", "audience"})
"""Parameters that may come more than once (RFC 8707 section 2); all others may not (RFC 6749 section 3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """
    A request to the token endpoint.

    *form* are the decoded parameters in order (None when the body was no form), *certificate_thumbprint*
    that of the connection's certificate, *authorization_header* says that there was one, *possession* is what
    came of DPoP.
    """

    form: tuple[tuple[str, str], ...] | None = field(repr=False)
    certificate_thumbprint: str | None
    authorization_header: bool = False
    possession: Possession = NO_POSSESSION

    def first(self, name: str) -> str | None:
        """Give the first value of the parameter *name*."""
        return next((value for key, value in self.form or () if key == name), None)

    @property
    def audience(self) -> tuple[str, ...]:
        """Give what the token shall be good for, as far as that is asked for."""
        return tuple(dict.fromkeys(value for name, value in self.form or () if name in REPEATABLE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A JSON answer; *outcome* is ``issued``, or the error code, for the journal, as is *grant*, a family's name."""

    status: int
    body: dict[str, Any] = field(repr=False)
    outcome: str
    grant: str | None = None


class RefusedError(Exception):
    """The request is refused; *answer* says so."""

    def __init__(self, error: str, description: str, *, status: int = 400, grant: str | None = None) -> None:
        super().__init__(error)
        body = {"error": error, "error_description": description}
        self.answer = Answer(status=status, body=body, outcome=error, grant=grant)


@dataclass(slots=True, kw_only=True)
class TokenEndpoint:
    """
    Issues tokens for *clients*, access tokens signed with *signing_key*, ID tokens by *keyring*.

    *lifetime* in seconds may be set at any time. *new_jti* makes the identifiers of access tokens.
    """

    issuer: str
    signing_key: JsonWebKey
    clients: dict[str, RegisteredClient]
    new_jti: Callable[[], str]
    families: Families
    keyring: Keyring
    options: Options
    proofs: ProofReader
    lifetime: int = DEFAULT_LIFETIME
    used: UsedAssertions = field(default_factory=UsedAssertions)

    def answer(self, request: TokenRequest, *, now: float, fault: Fault | None = None) -> Answer:
        """
        Answer *request*; *now* in Unix seconds.

        *fault* may change the claims of access token and ID token before they are signed, and how.
        """
        try:
            form = read_form(request)
            client = self.authenticate(form, now=now)
            return self._issue(request, form, client, now=now, fault=fault)
        except GrantRefusedError as refusal:
            return RefusedError(refusal.error, refusal.reason, grant=refusal.grant).answer
        except RefusedError as refusal:
            return refusal.answer

    def authenticate(self, form: Mapping[str, str], *, now: float) -> RegisteredClient:
        """Find out which client sent *form*, here or at another endpoint. Raises RefusedError."""
        try:
            return authenticate(form, self.clients, self.used, issuer=self.issuer, now=now)
        except ClientRefusedError as refusal:
            raise RefusedError("invalid_client", refusal.reason, status=401) from None

    def proven(self, request: TokenRequest, *, now: float) -> str | None:
        """Give the key that *request* proves to hold, None if it has no proof. Raises RefusedError."""
        if not request.possession.proofs:
            return None
        try:
            return self.proofs.read(request.possession, token=None, now=now)
        except ProofRefusedError as refusal:
            raise RefusedError(refusal.error, refusal.reason) from None

    def _issue(
        self,
        request: TokenRequest,
        form: Mapping[str, str],
        client: RegisteredClient,
        *,
        now: float,
        fault: Fault | None,
    ) -> Answer:
        grant_type = form.get("grant_type")
        if grant_type not in GRANT_TYPES:
            raise RefusedError("unsupported_grant_type", f"this server knows {', '.join(GRANT_TYPES)}")
        cnf = self._confirmation(request, client, now=now)
        if grant_type == "client_credentials":
            if client.public:
                raise RefusedError("unauthorized_client", "a public client has no credentials")
            scope = _granted_scope(form.get("scope"), client)
            claims = self._claims(cnf, client.client_id, client, scope, now=now)
            claims["aud"] = _audience(request, client.resources[:1], client.resources)
            body = self._body(claims, fault)
            return Answer(status=200, body=body, outcome="issued")
        return self._issue_for_person(request, form, client, cnf, now=now, fault=fault)

    def _confirmation(self, request: TokenRequest, client: RegisteredClient, *, now: float) -> dict[str, str]:
        """Give the ``cnf`` of the token to come, before anything is spent but a proof. Raises RefusedError."""
        jkt = self.proven(request, now=now)
        key = {} if jkt is None else {"jkt": jkt}
        if client.sender_constraint is SenderConstraint.DPOP:
            if jkt is None:
                raise RefusedError("invalid_grant", "DPoP proof JWT not provided")
            return key
        if request.certificate_thumbprint is None:
            # The code is that of oidc-provider, surprising as it is.
            raise RefusedError("invalid_grant", "mutual TLS client certificate not provided")
        return {"x5t#S256": request.certificate_thumbprint, **key}

    def _issue_for_person(
        self,
        request: TokenRequest,
        form: Mapping[str, str],
        client: RegisteredClient,
        cnf: Mapping[str, str],
        *,
        now: float,
        fault: Fault | None,
    ) -> Answer:
        """Redeem a code or use a refresh token. Raises GrantRefusedError and RefusedError."""
        redeems = form["grant_type"] == "authorization_code"
        family = (self._redeemed if redeems else self._refreshed)(request, form, client, cnf.get("jkt"), now)
        approved = family.approved
        scope = approved.scope if redeems or form.get("scope") is None else tuple(form["scope"].split(" "))
        claims = self._claims(cnf, approved.subject, client, scope, now=now)
        claims["aud"] = _audience(request, approved.audience, approved.audience)
        if approved.details:
            claims["authorization_details"] = list(approved.details)
        self.families.issued(family, claims["jti"])
        body = {**self._body(claims, fault), "refresh_token": family.refresh_token}
        if approved.details:
            body["authorization_details"] = claims["authorization_details"]
        if (left := family.seconds_left(now)) is not None:
            body["refresh_expires_in"] = left
        if "openid" in approved.scope:
            said = self._id_claims(approved, body["access_token"], with_nonce=redeems, now=now)
            token = make_id_token(self.keyring, self.options.id_token_alg, said, fault)
            body |= {} if token is None else {"id_token": token}
        return Answer(status=200, body=body, outcome="issued", grant=family.name)

    def _redeemed(
        self, _request: TokenRequest, form: Mapping[str, str], client: RegisteredClient, jkt: str | None, now: float
    ) -> Family:
        return self.families.redeem(
            form.get("code", ""),
            client_id=client.client_id,
            redirect_uri=form.get("redirect_uri", ""),
            verifier=form.get("code_verifier", ""),
            jkt=jkt,
            bound=client.public,
            now=now,
        )

    def _refreshed(
        self, request: TokenRequest, form: Mapping[str, str], client: RegisteredClient, jkt: str | None, now: float
    ) -> Family:
        return self.families.refresh(
            form.get("refresh_token", ""),
            client_id=client.client_id,
            scope=form.get("scope"),
            audience=request.audience,
            jkt=jkt,
            now=now,
        )

    def _claims(
        self,
        cnf: Mapping[str, str],
        subject: str,
        client: RegisteredClient,
        scope: tuple[str, ...],
        *,
        now: float,
    ) -> dict[str, Any]:
        """Give the claims of an access token, all but the audience."""
        return {
            "iss": self.issuer,
            "sub": subject,
            "client_id": client.client_id,
            "scope": " ".join(scope),
            "jti": self.new_jti(),
            "iat": int(now),
            "exp": int(now) + self.lifetime,
            "cnf": dict(cnf),
        }

    def _body(self, claims: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        token_type = "DPoP" if "jkt" in claims["cnf"] else "Bearer"
        twist = twist_claims(fault)
        if twist is not None:
            twist(claims)
        return {
            "access_token": sign(self.signing_key, "at+jwt", claims),
            "token_type": token_type,
            "expires_in": self.lifetime,
            "scope": claims["scope"],
        }

    def _id_claims(self, approved: Approved, access_token: str, *, with_nonce: bool, now: float) -> dict[str, Any]:
        """Give the claims of an ID token; that of a refresh has no nonce (OpenID Connect Core section 12.2)."""
        nonce = {"nonce": approved.nonce} if with_nonce and approved.nonce is not None else {}
        acr = {"acr": approved.acr} if approved.acr is not None else {}
        return {
            "iss": self.issuer,
            "sub": approved.subject,
            "aud": approved.client_id,
            "iat": int(now),
            "exp": int(now) + ID_TOKEN_LIFETIME,
            "auth_time": approved.auth_time,
            "at_hash": at_hash(access_token),
            **nonce,
            **acr,
        }


def read_form(request: TokenRequest) -> dict[str, str]:
    """Give the parameters by name; for repeatable ones the last. Raises RefusedError."""
    if request.form is None:
        raise RefusedError("invalid_request", f"the body is not {FORM}")
    names = [name for name, _ in request.form if name not in REPEATABLE]
    if len(names) != len(set(names)):
        raise RefusedError("invalid_request", "a parameter is repeated")
    form = dict(request.form)
    if request.authorization_header or "client_secret" in form:
        # RFC 6749 section 2.3: a client uses no more than one method.
        raise RefusedError("invalid_request", "two methods of client authentication")
    return form


def _granted_scope(asked: str | None, client: RegisteredClient) -> tuple[str, ...]:
    if asked is None:
        return client.scope[:1]
    scope = tuple(dict.fromkeys(asked.split(" ")))
    if not set(scope) <= set(client.scope):
        raise RefusedError("invalid_scope", "the client may not ask for this scope")
    return scope


def _audience(request: TokenRequest, unasked: tuple[str, ...], allowed: tuple[str, ...]) -> str | list[str]:
    """Give the audience asked for, else *unasked*; no more than *allowed*."""
    if not set(request.audience) <= set(allowed):
        raise RefusedError("invalid_target", "the client may not ask for this resource")
    audience = list(request.audience or unasked)
    return audience[0] if len(audience) == 1 else audience
