"""
The answer of the token endpoint (RFC 6749 sections 5.1 and 5.2; TE-01 to TE-06, MT-01).

Only an answer that passes every check becomes a ``TokenResponse``; everything else is a RemoteError with the
outcome of rules.md R1. A ``refresh_token`` is read before and apart from everything else, because it has to
be safe whatever else is wrong (R2.2), and only where a person gave a grant: client credentials have none to
give (RFC 6749 section 4.4.3), and what is not read is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.oauth.answers import invalid, json_object
from broker.oauth.binding import Binding, check_binding
from broker.oauth.client import Client, SenderConstraint
from broker.oauth.dpop import TOKEN_TYPE
from broker.oauth.jose import MAX_TOKEN
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, IdToken, RefreshToken
from broker.oauth.strict_json import NotStrictJsonError, loads

LONGEST_LIFETIME = 10 * 366 * 86_400.0
"""Seconds, ten years; who says more has mixed up a length with an instant, or seconds with milliseconds."""

_VISIBLE = re.compile(r"[\x21-\x7e]+")
"""VSCHAR without space (RFC 6749 appendix A.12). Not token68: ``$2a$10$`` occurs."""
_SCOPE = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")
"""RFC 6749 section 3.3, spaces anywhere."""
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """
    A token response that passed every check.

    *token_type* in its registered spelling; *expires_in* in seconds from the start of the request, None if
    the server did not say; *scope* as granted, None if the server did not say, which means as asked.
    *certificate_thumbprint* (``x5t#S256``) is that of the certificate that the token is bound to, as far as
    *binding* knows, and *jkt* that of the DPoP key: None where the token is bound to nothing of the kind, and both
    where it is bound to both.
    *authorization_details* are as they came, for ``granted_details``.
    *id_token* is unverified, and *refresh_expires_in*, in seconds, is what
    some servers say of the refresh token or the consent behind it.
    """

    access_token: AccessToken
    token_type: str
    expires_in: float | None
    scope: tuple[str, ...] | None
    binding: Binding
    certificate_thumbprint: str | None
    jkt: str | None = None
    id_token: IdToken | None = None
    refresh_expires_in: float | None = None
    authorization_details: Any = None


def refresh_token_of(response: Response) -> RefreshToken | None:
    """
    Give the refresh token of an answer: from any 200 with a JSON object that has one (rules.md R2.2).

    Nothing else about the answer has to be right; the Content-Type does not matter either.
    """
    value = _member_of(response, "refresh_token")
    return None if value is None else RefreshToken(value)


def access_token_of(response: Response) -> AccessToken | None:
    """Give the access token of an answer that fails a check: to revoke it, and for nothing else."""
    value = _member_of(response, "access_token")
    return None if value is None else AccessToken(value)


def _member_of(response: Response, name: str) -> str | None:
    """Give a string of a 200 with a JSON object, whatever else is in it."""
    if response.status != 200:
        return None
    try:
        members = loads(response.body)
    except NotStrictJsonError:
        return None
    value = members.get(name) if isinstance(members, dict) else None
    return value if isinstance(value, str) and value else None


def read_token_response(
    response: Response,
    *,
    client: Client,
    asked_scope: tuple[str, ...],
    certificate_thumbprint: str | None,
    wall_now: float,
    jkt: str | None = None,
) -> TokenResponse:
    """
    Accept the answer to a token request, or raise RemoteError.

    *certificate_thumbprint* is that of the very connection that carried the request, *jkt* that of the key that
    signed its proof; *wall_now* (Unix seconds) serves only to understand a ``Retry-After`` that is a date.
    """
    members = json_object(response, wall_now=wall_now)
    access_token = _access_token(members)
    token_type = _token_type(members, client.sender_constraint)
    expires_in = _expires_in(members)
    scope = _scope(members, asked_scope)
    bound = check_binding(
        access_token,
        sender_constraint=client.sender_constraint,
        certificate_thumbprint=certificate_thumbprint,
        jkt=jkt,
    )
    return TokenResponse(
        access_token=AccessToken(access_token),
        token_type=token_type,
        expires_in=expires_in,
        scope=scope,
        binding=bound.binding,
        certificate_thumbprint=bound.certificate_thumbprint,
        jkt=bound.jkt,
        id_token=_id_token(members),
        refresh_expires_in=_refresh_expires_in(members),
        authorization_details=members.get("authorization_details"),
    )


def granted_details(answer: TokenResponse, asked: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """
    Give the authorization details that were granted (RFC 9396 section 7); those *asked* for if nothing is said.

    A server may grant less, and may fill in more about what was asked for (section 7.1), but nothing of another
    type. Raises RemoteError.
    """
    granted = answer.authorization_details
    if granted is None:
        return tuple(asked)
    if not isinstance(granted, list) or not all(isinstance(one, dict) for one in granted):
        raise invalid("the authorization_details of the answer are not a list of objects")
    if not {str(one.get("type")) for one in granted} <= {str(one.get("type")) for one in asked}:
        raise invalid(
            "authorization details of another type were granted than asked for",
            reason=Reason.WIDER_SCOPE,
            hint="name everything that the server grants in the token's authorization_details",
        )
    return tuple(granted)


def _access_token(members: dict[str, Any]) -> str:
    value = members.get("access_token")
    if not isinstance(value, str) or not value:
        raise invalid("the answer has no access_token")
    if len(value) > MAX_TOKEN or not _VISIBLE.fullmatch(value):
        raise invalid("the access_token is too long, or holds characters that no header can carry")
    return value


def _token_type(members: dict[str, Any], sender_constraint: SenderConstraint) -> str:
    value = members.get("token_type")
    if not isinstance(value, str):
        raise invalid("the answer has no token_type")
    wanted = TOKEN_TYPE if sender_constraint is SenderConstraint.DPOP else "Bearer"
    if value.lower() != wanted.lower():
        raise invalid(
            "the token is of another type than was asked for",
            reason=Reason.DOWNGRADED,
            hint=f'token_type has to be {wanted} for sender_constraint = "{sender_constraint}"',
        )
    return wanted


def _expires_in(members: dict[str, Any]) -> float | None:
    """Give the lifetime; some servers write the number as a string, which is harmless and accepted (TE-02)."""
    if "expires_in" not in members:
        return None
    value = members["expires_in"]
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_LIFETIME:
        raise invalid("expires_in is not a sensible number of seconds")
    return float(value)


def _id_token(members: dict[str, Any]) -> IdToken | None:
    value = members.get("id_token")
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not _VISIBLE.fullmatch(value):
        raise invalid("the id_token is no token")
    return IdToken(value)


def _refresh_expires_in(members: dict[str, Any]) -> float | None:
    """Give what two families of servers say; it is no standard, so what makes no sense is as if it were absent."""
    for name in ("refresh_token_expires_in", "refresh_expires_in"):
        value = members.get(name)
        if not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= LONGEST_LIFETIME:
            return float(value)
    return None


def _scope(members: dict[str, Any], asked: tuple[str, ...]) -> tuple[str, ...] | None:
    if "scope" not in members:
        return None
    value = members["scope"]
    if not isinstance(value, str) or not _SCOPE.fullmatch(value):
        raise invalid("the scope of the answer is not a list of scope tokens")
    granted = tuple(dict.fromkeys(value.split()))
    if asked and not set(granted) <= set(" ".join(asked).split()):
        raise invalid(
            "more scope was granted than asked for",
            reason=Reason.WIDER_SCOPE,
            hint="name every scope that the server grants in the token's scope, or have its registration narrowed",
        )
    return granted
