"""
One authorization that was asked for and is not finished, or just was: its value, and how it is written down.

The serial form holds the code verifier, so it must go nowhere but to the store, which seals it. A record that
this version does not understand is an error and never an authorization with holes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from broker.errors import LocalError
from broker.oauth.authorization_request import Asked, Transaction
from broker.oauth.client import ResponseMode
from broker.oauth.secret import CodeVerifier, HighEntropySecret
from broker.oauth.strict_json import NotStrictJsonError, loads
from broker.tokens.record import flag, number, optional_text, text, texts

FORMAT = 1
"""The version of the serial form; another one is refused."""

KIND = "pending/"
"""Pending authorizations have names of their own in the store."""


@final
class Binding(HighEntropySecret):
    """What ties a callback to whoever started: kept by the application in the session of that person."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The person has not come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeeming:
    """A callback was accepted; the code may have been sent, and is never sent again (AC-07)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """It ended in a grant."""

    grant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It ended without: *reason* is the code of an error, *check* the name of the check if it was one."""

    reason: str
    check: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """Whoever started it gave it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Nobody came back in time."""


Phase = Waiting | Redeeming | Granted | Failed | Abandoned | Expired

_PLAIN_PHASES: Mapping[str, Phase] = {
    "waiting": Waiting(),
    "redeeming": Redeeming(),
    "abandoned": Abandoned(),
    "expired": Expired(),
}

INTERRUPTED = "interrupted"
"""The reason of an authorization that a crash ended: its code may have been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """
    An authorization; times in Unix seconds.

    *digest* is the SHA-256 of the binding, which is not kept. *owner* is the workload that started it,
    *renews* the grant that it is to renew. *issuer* and *client_id* are those it was sent to, *iss_required*
    and *response_mode* say what the response has to be like.
    """

    id: str
    digest: str
    owner: str
    token: str
    renews: str | None
    issuer: str
    client_id: str
    label: str | None = field(repr=False)
    asked: Asked
    transaction: Transaction
    response_mode: ResponseMode
    iss_required: bool
    created_at: float
    expires_at: float
    phase: Phase

    @property
    def is_open(self) -> bool:
        """Whether it is not finished."""
        return isinstance(self.phase, Waiting | Redeeming)

    def is_bound_to(self, binding: str) -> bool:
        """Compare *binding*, in constant time."""
        return hmac.compare_digest(digest_of(binding), self.digest)

    def to_bytes(self) -> bytes:
        """Give the serial form, for the store to seal."""
        return json.dumps(_plain(self), separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, serial: bytes) -> Pending:
        """Read the serial form. Raises LocalError ``pending_unreadable``."""
        try:
            members = loads(serial)
            if members["v"] != FORMAT:
                raise LocalError("pending_unreadable", "a stored authorization is of another version")
            return _pending(members)
        except (NotStrictJsonError, KeyError, TypeError, ValueError, AttributeError):
            # Whatever it was may hold a secret, so nothing of the cause is kept.
            raise LocalError("pending_unreadable", "a stored authorization cannot be understood") from None


def digest_of(binding: str) -> str:
    """Give what is kept of a binding: enough to know it again, and of no use to whoever reads it."""
    return hashlib.sha256(binding.encode("utf-8", "surrogatepass")).hexdigest()


def state_of(phase: Phase) -> str:
    """Give the name of a phase, as callers see it."""
    return type(phase).__name__.lower()


def _plain(pending: Pending) -> dict[str, Any]:
    return {
        "v": FORMAT,
        "id": pending.id,
        "digest": pending.digest,
        "owner": pending.owner,
        "token": pending.token,
        "renews": pending.renews,
        "issuer": pending.issuer,
        "client_id": pending.client_id,
        "label": pending.label,
        "asked": _plain_asked(pending.asked),
        "state": pending.transaction.state,
        "nonce": pending.transaction.nonce,
        "code_verifier": pending.transaction.code_verifier.reveal(),
        "redirect_uri": pending.transaction.redirect_uri,
        "dpop_jkt": pending.transaction.dpop_jkt,
        "response_mode": pending.response_mode.value,
        "iss_required": pending.iss_required,
        "created_at": pending.created_at,
        "expires_at": pending.expires_at,
        "phase": _plain_phase(pending.phase),
    }


def _plain_asked(asked: Asked) -> dict[str, Any]:
    return {
        "scope": list(asked.scope),
        "resource": list(asked.resource),
        "audience": list(asked.audience),
        "authorization_details": [dict(detail) for detail in asked.authorization_details],
        "claims": None if asked.claims is None else dict(asked.claims),
        "acr_values": list(asked.acr_values),
        "prompt": list(asked.prompt),
        "login_hint": asked.login_hint,
        "max_age": asked.max_age,
        "parameters": [list(pair) for pair in asked.parameters],
    }


def _plain_phase(phase: Phase) -> dict[str, str | None]:
    match phase:
        case Granted(grant=grant):
            return {"name": "granted", "grant": grant}
        case Failed(reason=reason, check=check):
            return {"name": "failed", "reason": reason, "check": check}
        case _:
            return {"name": state_of(phase)}


def _pending(members: dict[str, Any]) -> Pending:
    nonce = members["nonce"]
    return Pending(
        id=text(members["id"]),
        digest=text(members["digest"]),
        owner=text(members["owner"]),
        token=text(members["token"]),
        renews=optional_text(members["renews"]),
        issuer=text(members["issuer"]),
        client_id=text(members["client_id"]),
        label=optional_text(members["label"]),
        asked=_asked(members["asked"]),
        transaction=Transaction(
            state=text(members["state"]),
            nonce=optional_text(nonce),
            code_verifier=CodeVerifier(text(members["code_verifier"])),
            redirect_uri=text(members["redirect_uri"]),
            dpop_jkt=optional_text(members.get("dpop_jkt")),  # of no meaning to versions that knew no DPoP
        ),
        response_mode=ResponseMode(members["response_mode"]),
        iss_required=flag(members["iss_required"]),
        created_at=number(members["created_at"]),
        expires_at=number(members["expires_at"]),
        phase=_phase(members["phase"]),
    )


def _asked(members: dict[str, Any]) -> Asked:
    claims, max_age = members["claims"], members["max_age"]
    return Asked(
        scope=texts(members["scope"]),
        resource=texts(members["resource"]),
        audience=texts(members["audience"]),
        authorization_details=tuple(dict(detail) for detail in members["authorization_details"]),
        claims=None if claims is None else dict(claims),
        acr_values=texts(members["acr_values"]),
        prompt=texts(members["prompt"]),
        login_hint=optional_text(members["login_hint"]),
        max_age=None if max_age is None else int(number(max_age)),
        parameters=tuple((text(name), text(value)) for name, value in members["parameters"]),
    )


def _phase(members: dict[str, Any]) -> Phase:
    match text(members["name"]):
        case "granted":
            return Granted(grant=text(members["grant"]))
        case "failed":
            return Failed(reason=text(members["reason"]), check=optional_text(members["check"]))
        case name:
            return _PLAIN_PHASES[name]
