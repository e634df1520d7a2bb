"""
The routes of the local API about consents and grants, for the commands: blocking, standard library only.

What opens or ends an authorization (its id, its binding, its URL) has no printable form here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from broker.cli.local_client import MALFORMED, TIMEOUT_MARGIN, Daemon, request_json
from broker.errors import LocalError

BEGIN_TIMEOUT = 30.0
"""Seconds: the daemon pushes the request to the authorization server before it answers."""

REDEEM_TIMEOUT = 120.0
"""Seconds: redeeming takes several requests to the server, some of them twice; it goes on without us in any case."""

PAGE = 100
"""Grants that are asked for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An open authorization; its URL has to be opened within *expires_in* seconds."""

    id: str = field(repr=False)
    binding: str = field(repr=False)
    authorization_url: str = field(repr=False)
    expires_in: float
    state_sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consented:
    """What came of an authorization: the grant, whose it is, and what it is good for."""

    grant: str
    subject: str | None
    subject_verified: bool
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGrant:
    """A grant as the daemon shows it; times in whole seconds from now, None where there is none."""

    id: str
    token: str
    owner: str
    state: str
    subject: str | None
    subject_verified: bool
    label: str | None
    scope: str
    created_at: int | None
    expires_in: int | None
    consent_expires_in: int | None
    retry_in: int | None
    reason: str | None
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for: consent to *token*; None means that the daemon decides."""

    token: str
    grant: str | None = None
    redirect_uri: str | None = None
    label: str | None = None


def begin(daemon: Daemon, wish: Wish) -> Begun:
    """Begin an authorization. Raises LocalError when the daemon cannot be reached, DaemonError when it says no."""
    members = (
        ("token", wish.token),
        ("grant", wish.grant),
        ("redirect_uri", wish.redirect_uri),
        ("label", wish.label),
    )
    body = {name: value for name, value in members if value is not None}
    answer = request_json(daemon, "/v1/authorizations", method="POST", body=body, timeout=BEGIN_TIMEOUT)
    try:
        begun = Begun(
            id=str(answer["id"]),
            binding=str(answer["binding"]),
            authorization_url=str(answer["authorization_url"]),
            expires_in=_seconds(answer),
            state_sha256=str(answer["state_sha256"]),
        )
    except MALFORMED:
        raise _unexpected() from None
    if not is_web_address(begun.authorization_url):
        raise _unexpected()
    return begun


def finish(daemon: Daemon, begun: Begun, *, callback_url: str, form: Mapping[str, Any] | None = None) -> Consented:
    """Hand over what came back with the person. Raises as ``begin``."""
    body: dict[str, Any] = {"binding": begun.binding, "callback_url": callback_url}
    if form is not None:
        body["form"] = form
    target = f"{_authorization(begun)}/callback"
    answer = request_json(daemon, target, method="POST", body=body, timeout=REDEEM_TIMEOUT)
    try:
        return Consented(
            grant=str(answer["grant"]),
            subject=_text(answer, "subject"),
            subject_verified=answer.get("subject_verified") is True,
            scope=_scope(answer),
        )
    except MALFORMED:
        raise _unexpected() from None


def seconds_left(daemon: Daemon, begun: Begun) -> float:
    """Ask how long an authorization stays open. Raises as ``begin``."""
    answer = request_json(daemon, _authorization(begun), timeout=TIMEOUT_MARGIN)
    try:
        return _seconds(answer)
    except MALFORMED:
        raise _unexpected() from None


def abandon(daemon: Daemon, begun: Begun) -> None:
    """Give an authorization up. Raises as ``begin``; also where it is finished, or being redeemed."""
    request_json(daemon, _authorization(begun), method="DELETE", timeout=TIMEOUT_MARGIN)


def grants_of(daemon: Daemon, *, token: str | None = None, subject: str | None = None) -> Iterator[ListedGrant]:
    """Give the grants that the caller may list, page by page. Raises as ``begin``."""
    filters = {name: value for name, value in (("token", token), ("subject", subject)) if value is not None}
    cursor: str | None = None
    while True:
        further = {} if cursor is None else {"cursor": cursor}
        query = urlencode({**filters, **further, "limit": PAGE})
        answer = request_json(daemon, f"/v1/grants?{query}", timeout=TIMEOUT_MARGIN)
        try:
            yield from [_grant(entry) for entry in answer["grants"]]
        except MALFORMED:
            raise _unexpected() from None
        cursor = _text(answer, "cursor")
        if cursor is None:
            return


def retry(daemon: Daemon, grant: str) -> None:
    """Have a grant tried again, whatever was found of it. Raises as ``begin``."""
    request_json(daemon, f"{_grant_path(grant)}/retry", method="POST", body={}, timeout=TIMEOUT_MARGIN)


def revoke(daemon: Daemon, grant: str) -> bool | None:
    """Give a grant up; True if the server revoked it, None while that is going on. Raises as ``begin``."""
    revoked = request_json(daemon, _grant_path(grant), method="DELETE", timeout=BEGIN_TIMEOUT).get("revoked")
    return revoked if isinstance(revoked, bool) else None


def reassign(daemon: Daemon, grant: str, owner: str) -> None:
    """Make a grant that of another workload. Raises as ``begin``."""
    body = {"owner": owner}
    request_json(daemon, f"{_grant_path(grant)}/reassign", method="POST", body=body, timeout=TIMEOUT_MARGIN)


def is_web_address(url: str) -> bool:
    """Say whether *url* can be sent to a browser: http or https, and nothing in it but printable ASCII."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and all("!" <= letter <= "~" for letter in url)


def _authorization(begun: Begun) -> str:
    return f"/v1/authorizations/{quote(begun.id, safe='')}"


def _grant_path(grant: str) -> str:
    return f"/v1/grants/{quote(grant, safe='')}"


def _grant(entry: Mapping[str, Any]) -> ListedGrant:
    return ListedGrant(
        id=str(entry["id"]),
        token=str(entry["token"]),
        owner=str(entry["owner"]),
        state=str(entry["state"]),
        subject=_text(entry, "subject"),
        subject_verified=entry.get("subject_verified") is True,
        label=_text(entry, "label"),
        scope=_scope(entry),
        created_at=_number(entry, "created_at"),
        expires_in=_number(entry, "expires_in"),
        consent_expires_in=_number(entry, "consent_expires_in"),
        retry_in=_number(entry, "retry_in"),
        reason=_text(entry, "reason"),
        hint=_text(entry, "hint"),
    )


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    return None if value is None else str(value)


def _number(entry: Mapping[str, Any], name: str) -> int | None:
    value = entry.get(name)
    return None if value is None else int(value)


def _seconds(answer: Mapping[str, Any]) -> float:
    seconds = float(answer["expires_in"])
    if not math.isfinite(seconds):
        raise ValueError
    return seconds


def _scope(entry: Mapping[str, Any]) -> str:
    return _text(entry, "scope") or ""


def _unexpected() -> LocalError:
    return LocalError("not_a_broker", "the daemon answers what this command does not understand; is it as old or new?")
