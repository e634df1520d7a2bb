"""
One authorization that a person gave: what is known of it, and how it is written down.

Values and their serial form, nothing else. The serial form is opaque to the store, which seals it
(rules.md R3); it holds refresh tokens, so it must go nowhere but there. A record that this version does not
understand is an error and never a grant with holes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from broker.errors import LocalError
from broker.oauth.secret import AccessToken, RefreshToken
from broker.oauth.strict_json import NotStrictJsonError, loads
from broker.tokens.record import count, flag, number, optional_number, optional_text, text, texts
from broker.tokens.spec import IssuedToken

FORMAT = 1
"""The version of the serial form; another one is refused, so that a downgrade spoils nothing."""


class Rotation(StrEnum):
    """What a grant's server was seen to do with refresh tokens (rules.md R2.5)."""

    UNKNOWN = "unknown"
    KEEPS = "keeps"
    """A refresh brought the same refresh token again, or none: the one we have goes on working."""
    ROTATES = "rotates"
    """A refresh brought another one."""


class Phase(StrEnum):
    """Where a grant stands, as far as it has to survive a crash."""

    UNVERIFIED = "unverified"
    """Just redeemed: a check is still to be passed. Never usable (rules.md R4)."""
    SETTLED = "settled"
    """Nothing is open."""
    OPEN = "open"
    """A refresh request may have been sent whose answer is not known."""
    QUARANTINED = "quarantined"
    """The last answer failed a check; its refresh token was kept."""
    ENDED = "ended"
    """A definite word ended it; the refresh token is kept all the same (rules.md R2.8)."""
    REVOKING = "revoking"
    """Its owner gave it up: to be revoked at the server, never to be served again."""


class EndReason(StrEnum):
    """Why a grant needs a person again: values of ``reason`` beside ``consent_required``."""

    LOST_ANSWER = "lost_answer"
    """A refresh was processed whose answer was lost, and the server takes the old refresh token no more."""
    INVALID_GRANT = "invalid_grant"
    """The server said so, and said it again when it was asked anew."""
    NO_REFRESH_TOKEN = "no_refresh_token"  # noqa: S105 - the name of a reason
    """The access token ended, and the server gave nothing to get another one with."""
    ACCESS_TOKEN_ENDED = "access_token_ended"  # noqa: S105 - the name of a reason
    """The access token ended, and the server refreshes only with one that is still good (``Dialect``)."""
    SUBJECT_CHANGED = "subject_changed"
    """A refresh brought a token that is not the person's, and the person's own has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAccess:
    """
    The access token of a grant as it survives a restart (rules.md R2.11); times are Unix seconds.

    The other members are those of ``spec.IssuedToken``.
    """

    access_token: AccessToken
    token_type: str
    scope: tuple[str, ...]
    obtained_at: float
    expires_at: float
    binding: str
    certificate_thumbprint: str | None = None
    certificate_not_after: float | None = None
    jkt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    A grant; all times are Unix seconds.

    *token* is the name of the ``[token.NAME]`` section, *owner* the workload that asked for it. *subject* is
    the ``sub`` of a checked ID token, or what is said without one (*subject_verified* false), or None;
    *auth_time* when that person logged in. *scope* is what was granted last, of *asked_scope*, which no refresh
    may exceed.
    *issuer* and *client_id* are those it was given to: with others it is of no use. *refresh_token* is the
    newest one; *previous_refresh_token* is kept until that one has worked once (R2.4). *thumbprint*, *key_id* and
    *jkt* are those of the certificate, the signing key and the DPoP key that last succeeded (``handover``), and
    *generation* counts how often they changed. *authorization* is the id of the consent that it came of last.
    *reason* says more about the phase. *since* is when the phase began. *idle_lifetime* in seconds is how long a
    refresh token lives unused, where the server says so.
    """

    id: str
    token: str
    owner: str
    issuer: str
    client_id: str
    created_at: float
    scope: tuple[str, ...] = ()
    asked_scope: tuple[str, ...] = ()
    authorization_details: tuple[Mapping[str, Any], ...] = ()
    subject: str | None = None
    subject_verified: bool = False
    auth_time: float | None = None
    label: str | None = None
    consent_expires_at: float | None = None
    idle_lifetime: float | None = None
    refresh_token: RefreshToken | None = None
    previous_refresh_token: RefreshToken | None = None
    rotation: Rotation = Rotation.UNKNOWN
    access: SealedAccess | None = None
    phase: Phase = Phase.SETTLED
    reason: str | None = None
    since: float = 0.0
    thumbprint: str | None = None
    key_id: str | None = None
    jkt: str | None = None
    generation: int = 0
    authorization: str | None = None

    def to_bytes(self) -> bytes:
        """Give the serial form: secrets in the clear, for the store to seal."""
        return _ENCODER.encode(_plain(self)).encode()

    @classmethod
    def from_bytes(cls, serial: bytes) -> Grant:
        """Read the serial form. Raises LocalError ``grant_unreadable``."""
        try:
            members = loads(serial)
            if members.pop("v") != FORMAT:
                raise LocalError("grant_unreadable", "a stored grant is of another version", hint=_HINT)
            return _grant(members)
        except (NotStrictJsonError, KeyError, TypeError, ValueError, AttributeError):
            # Whatever it was may hold a secret, so nothing of the cause is kept.
            raise LocalError("grant_unreadable", "a stored grant cannot be understood", hint=_HINT) from None

    def with_refresh_token(self, new: RefreshToken | None) -> Grant:
        """
        Take in the refresh token of an answer to a refresh, None if it had none.

        The one that was just used is the previous one now; the one before that is of no use any more,
        because its successor has worked (R2.4).
        """
        if new is None or new == self.refresh_token:
            return replace(self, previous_refresh_token=None, rotation=Rotation.KEEPS)
        return replace(self, refresh_token=new, previous_refresh_token=self.refresh_token, rotation=Rotation.ROTATES)


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
"""``json.dumps`` would make one for each grant that is written."""

_HINT = "it was left as it is; see the reference of the store for what can be done"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantStatus:
    """
    How a grant stands, without any secret; *state* as callers see it.

    *expires_in* and *consent_expires_in* are whole seconds or None; *reason* is an EndReason, or that of the
    last failure while it matters.
    """

    id: str
    token: str
    owner: str
    state: str
    subject: str | None = None
    subject_verified: bool = False
    label: str | None = None
    scope: tuple[str, ...] = field(default=())
    created_at: float = 0.0
    expires_in: int | None = None
    consent_expires_in: int | None = None
    reason: str | None = None
    hint: str | None = None
    retry_in: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some grants, and where the next ones begin, None after the last."""

    grants: tuple[GrantStatus, ...]
    cursor: str | None


def sealed_access_token(grant: Grant) -> AccessToken | None:
    """
    Give the access token that *grant* was last written down with, whether it has ended or not.

    It is for servers that want it to refresh or to log out: they know best whether it is good, and clocks may be wrong.
    """
    return None if grant.access is None else grant.access.access_token


def with_access(grant: Grant, token: IssuedToken, *, wall: float, boot: float) -> Grant:
    """Give *grant* with *token* as it is to survive a restart (R2.11)."""
    return replace(
        grant,
        access=SealedAccess(
            access_token=token.access_token,
            token_type=token.token_type,
            scope=token.scope,
            obtained_at=wall - (boot - token.obtained_at),
            expires_at=token.expires_at_by(boot=boot, wall=wall),
            binding=token.binding,
            certificate_thumbprint=token.certificate_thumbprint,
            certificate_not_after=token.certificate_not_after,
            jkt=token.jkt,
        ),
    )


def _plain(grant: Grant) -> dict[str, Any]:
    access = grant.access
    return {
        "v": FORMAT,
        "id": grant.id,
        "token": grant.token,
        "owner": grant.owner,
        "issuer": grant.issuer,
        "client_id": grant.client_id,
        "created_at": grant.created_at,
        "scope": list(grant.scope),
        "asked_scope": list(grant.asked_scope),
        "authorization_details": [dict(detail) for detail in grant.authorization_details],
        "subject": grant.subject,
        "subject_verified": grant.subject_verified,
        "auth_time": grant.auth_time,
        "label": grant.label,
        "consent_expires_at": grant.consent_expires_at,
        "idle_lifetime": grant.idle_lifetime,
        "refresh_token": None if grant.refresh_token is None else grant.refresh_token.reveal(),
        "previous_refresh_token": (
            None if grant.previous_refresh_token is None else grant.previous_refresh_token.reveal()
        ),
        "rotation": grant.rotation.value,
        "access": None if access is None else _plain_access(access),
        "phase": grant.phase.value,
        "reason": grant.reason,
        "since": grant.since,
        "thumbprint": grant.thumbprint,
        "key_id": grant.key_id,
        "jkt": grant.jkt,
        "generation": grant.generation,
        "authorization": grant.authorization,
    }


def _plain_access(access: SealedAccess) -> dict[str, Any]:
    return {
        "access_token": access.access_token.reveal(),
        "token_type": access.token_type,
        "scope": list(access.scope),
        "obtained_at": access.obtained_at,
        "expires_at": access.expires_at,
        "binding": access.binding,
        "certificate_thumbprint": access.certificate_thumbprint,
        "certificate_not_after": access.certificate_not_after,
        "jkt": access.jkt,
    }


def _grant(members: dict[str, Any]) -> Grant:
    access = members.pop("access")
    return Grant(
        id=text(members.pop("id")),
        token=text(members.pop("token")),
        owner=text(members.pop("owner")),
        issuer=text(members.pop("issuer")),
        client_id=text(members.pop("client_id")),
        created_at=number(members.pop("created_at")),
        scope=texts(members.pop("scope")),
        asked_scope=texts(members.pop("asked_scope")),
        authorization_details=tuple(dict(detail) for detail in members.pop("authorization_details")),
        subject=optional_text(members.pop("subject")),
        subject_verified=flag(members.pop("subject_verified")),
        auth_time=optional_number(members.pop("auth_time")),
        label=optional_text(members.pop("label")),
        consent_expires_at=optional_number(members.pop("consent_expires_at")),
        idle_lifetime=optional_number(members.pop("idle_lifetime")),
        refresh_token=_refresh_token(members.pop("refresh_token")),
        previous_refresh_token=_refresh_token(members.pop("previous_refresh_token")),
        rotation=Rotation(members.pop("rotation")),
        access=None if access is None else _access(access),
        phase=Phase(members.pop("phase")),
        reason=optional_text(members.pop("reason")),
        since=number(members.pop("since")),
        thumbprint=optional_text(members.pop("thumbprint")),
        key_id=optional_text(members.pop("key_id")),
        jkt=optional_text(members.pop("jkt", None)),  # of no meaning to versions that knew no DPoP
        generation=count(members.pop("generation")),
        authorization=optional_text(members.pop("authorization", None)),  # earlier records have none
    )


def _access(members: dict[str, Any]) -> SealedAccess:
    return SealedAccess(
        access_token=AccessToken(text(members["access_token"])),
        token_type=text(members["token_type"]),
        scope=texts(members["scope"]),
        obtained_at=number(members["obtained_at"]),
        expires_at=number(members["expires_at"]),
        binding=text(members["binding"]),
        certificate_thumbprint=optional_text(members["certificate_thumbprint"]),
        certificate_not_after=optional_number(members["certificate_not_after"]),
        jkt=optional_text(members.get("jkt")),
    )


def _refresh_token(value: object) -> RefreshToken | None:
    return None if value is None else RefreshToken(text(value))
