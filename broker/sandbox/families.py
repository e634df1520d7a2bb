"""
What people have granted: authorization codes, and the families of tokens that grow from them.

RFC 6749 sections 4.1.2 and 6, RFC 7636 section 4.6, RFC 9700 section 4.14. Sans I/O; the caller says what time
it is and makes the random values. A family is a grant: everything that one consent led to.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.options import Options, Rotation

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
"""RFC 7636 section 4.1."""


class GrantRefusedError(Exception):
    """
    A code or refresh token is not good, or not good for this.

    *reason* is a constant, *grant* the name of the family if it is known, *error* the code.
    """

    def __init__(self, reason: str, *, grant: str | None = None, error: str = "invalid_grant") -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.grant = grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """
    What a person allowed; *auth_time* in Unix seconds, *details* as in RFC 9396.

    *dpop_jkt* is the key that the code is good for (RFC 9449 section 10).
    """

    client_id: str
    subject: str
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    redirect_uri: str
    code_challenge: str
    nonce: str | None
    auth_time: int
    acr: str | None = None
    details: tuple[dict[str, Any], ...] = ()
    dpop_jkt: str | None = None


@dataclass(slots=True, kw_only=True)
class Family:
    """
    One grant: *name* goes into the journal, *refresh_token* is the current one, *replaced* says when others were.

    *ended* says why it is over, *expires_at* (Unix seconds) when it will be. *jkt* is the key that its refresh
    tokens are bound to, None: to none.
    """

    name: str
    approved: Approved
    refresh_token: str = field(repr=False)
    expires_at: float | None = None
    replaced: dict[str, float] = field(default_factory=dict, repr=False)
    ended: str | None = None
    jkt: str | None = None

    def seconds_left(self, now: float) -> int | None:
        """Give the seconds until it expires; None if it never does."""
        return None if self.expires_at is None else max(0, int(self.expires_at - now))


@dataclass(slots=True)
class _Code:
    approved: Approved
    expires_at: float
    family: Family | None = None


@dataclass(slots=True, kw_only=True)
class Families:
    """All grants; *new_value* makes codes and refresh tokens."""

    options: Options
    new_value: Callable[[], str]
    _codes: dict[str, _Code] = field(default_factory=dict, repr=False)
    _families: list[Family] = field(default_factory=list)
    _by_refresh_token: dict[str, Family] = field(default_factory=dict, repr=False)
    _by_access_token: dict[str, Family] = field(default_factory=dict, repr=False)

    def issue_code(self, approved: Approved, *, now: float) -> str:
        """Make the code for what was *approved*."""
        code = self.new_value()
        self._codes[code] = _Code(approved, now + self.options.code_lifetime_seconds)
        return code

    def redeem(
        self,
        code: str,
        *,
        client_id: str,
        redirect_uri: str,
        verifier: str,
        jkt: str | None = None,
        bound: bool = False,
        now: float,
    ) -> Family:
        """
        Start the family of *code*: once; a second time ends it (RFC 6749 section 4.1.2).

        *jkt* is the key that the client proved to hold; where *bound*, the refresh tokens are bound to it.
        Raises GrantRefusedError. Whatever is wrong with the request, the code is spent.
        """
        found = self._codes.get(code)
        if found is None:
            raise GrantRefusedError("there is no such code")
        if found.family is not None:
            found.family.ended = "the code was used twice"
            raise GrantRefusedError("the code was used before", grant=found.family.name)
        approved = found.approved
        if approved.client_id != client_id:
            raise GrantRefusedError("the code is another client's")
        del self._codes[code]
        if found.expires_at <= now:
            raise GrantRefusedError("the code has expired")
        if approved.redirect_uri != redirect_uri:
            raise GrantRefusedError("redirect_uri is not that of the authorization request")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(challenge(verifier), approved.code_challenge):
            raise GrantRefusedError("code_verifier does not match the code_challenge")
        if approved.dpop_jkt not in {None, jkt}:
            raise GrantRefusedError("the DPoP key is not the one that the code is bound to")
        lifetime = self.options.refresh_lifetime_seconds
        family = Family(
            name=f"grant-{len(self._families) + 1}",
            approved=approved,
            refresh_token=self.new_value(),
            expires_at=None if lifetime is None else now + lifetime,
            jkt=jkt if bound else None,
        )
        self._families.append(family)
        self._by_refresh_token[family.refresh_token] = family
        self._codes[code] = _Code(approved, found.expires_at, family)
        return family

    def refresh(
        self,
        token: str,
        *,
        client_id: str,
        scope: str | None,
        audience: Collection[str] = (),
        jkt: str | None = None,
        now: float,
    ) -> Family:
        """
        Use a refresh token for all or some of its *scope* and *audience*, and rotate it as the options say.

        *jkt* is the key that the client proved to hold.
        Raises GrantRefusedError; a token that was replaced ends its family where the rotation is strict.
        """
        family = self._by_refresh_token.get(token)
        if family is None or family.approved.client_id != client_id:
            raise GrantRefusedError("there is no such refresh token")
        if family.ended is not None:
            raise GrantRefusedError(family.ended, grant=family.name)
        if family.expires_at is not None and family.expires_at <= now:
            raise GrantRefusedError("the grant has expired", grant=family.name)
        if family.jkt not in {None, jkt}:
            raise GrantRefusedError("the DPoP key is not the one that the refresh token is bound to", grant=family.name)
        if token != family.refresh_token:
            self._reused(family, token, now)
        if scope is not None and not set(scope.split(" ")) <= set(family.approved.scope):
            raise GrantRefusedError(
                "the scope is wider than what was granted", grant=family.name, error="invalid_scope"
            )
        if not set(audience) <= set(family.approved.audience):
            raise GrantRefusedError("the resource is none that was granted", grant=family.name, error="invalid_target")
        if self.options.rotation is not Rotation.NEVER:
            family.replaced[family.refresh_token] = now
            family.refresh_token = self.new_value()
            self._by_refresh_token[family.refresh_token] = family
        return family

    def issued(self, family: Family, jti: str) -> None:
        """Remember that the access token with *jti* is of *family*."""
        self._by_access_token[jti] = family

    def find(self, jti: str) -> Family | None:
        """Give the family that an access token is of, None if it is of none."""
        return self._by_access_token.get(jti)

    def is_over(self, jti: str) -> bool:
        """Say whether the grant of an access token has ended; tokens of no grant have none that could."""
        family = self.find(jti)
        return family is not None and family.ended is not None

    def revoke(self, token: str, *, jti: str | None, client_id: str) -> Family | None:
        """End the family of a refresh token, or of the access token with *jti* (RFC 7009); None if there is none."""
        family = self._by_refresh_token.get(token) or (self.find(jti) if jti is not None else None)
        if family is None or family.approved.client_id != client_id:
            return None
        family.ended = family.ended or "the grant was revoked"
        return family

    def end(self, name: str | None = None) -> int:
        """End the family called *name*, or all, as a person does who takes a consent back; give how many lived."""
        living = [one for one in self._families if one.ended is None and name in {None, one.name}]
        for family in living:
            family.ended = "the person took the consent back"
        return len(living)

    def as_json(self) -> list[dict[str, Any]]:
        """List the families, without values."""
        return [
            {
                "grant": one.name,
                "client": one.approved.client_id,
                "subject": one.approved.subject,
                "scope": " ".join(one.approved.scope),
                "rotations": len(one.replaced),
                "ended": one.ended,
            }
            for one in self._families
        ]

    def _reused(self, family: Family, token: str, now: float) -> None:
        """Let a token pass that was replaced, or end the family."""
        match self.options.rotation:
            case Rotation.STRICT:
                family.ended = "a refresh token was used twice"
                raise GrantRefusedError(family.ended, grant=family.name)
            case Rotation.GRACE if family.replaced[token] + self.options.grace_seconds <= now:
                raise GrantRefusedError("the refresh token was replaced", grant=family.name)
            case _:
                return


def challenge(verifier: str) -> str:
    """Give the S256 challenge (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
