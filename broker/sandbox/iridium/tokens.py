"""The tokens that Iridium has issued: whose they are, and how long they are good."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.iridium.registry import bcrypt_like
from broker.sandbox.iridium.switches import Switch, Switches
from broker.sandbox.iridium.wire import NO_STORE, Answer, json_answer

DEFAULT_LIFETIME = 3_600
"""Seconds of an access token's life, as on Iridium's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A refresh token; *expires_at* None: it never ends by itself."""

    value: str = field(repr=False)
    subject: str
    client_id: str
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """An access token, with the *refresh_token* that was issued with it."""

    value: str = field(repr=False)
    subject: str
    client_id: str
    expires_in: int
    expires_at: float
    refresh_token: str | None = field(repr=False)


class Tokens:
    """All of them. *lifetime* and *refresh_lifetime*, in seconds, are those of the ones that are issued next."""

    def __init__(self, switches: Switches, *, lifetime: int = DEFAULT_LIFETIME) -> None:
        self.lifetime = lifetime
        self.refresh_lifetime: int | None = None
        self._switches = switches
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self._values: set[str] = set()

    def issue(
        self, subject: str, client_id: str, *, now: float, refreshable: bool = True, keeping: RefreshToken | None = None
    ) -> AccessToken:
        """Issue a token of *subject*, with a refresh token if it is *refreshable*: the one that it is *keeping*."""
        refresh_token = keeping
        if refresh_token is None and refreshable:
            ends = None if self.refresh_lifetime is None else now + self.refresh_lifetime
            refresh_token = RefreshToken(value=self._new_value(), subject=subject, client_id=client_id, expires_at=ends)
            self._refresh[refresh_token.value] = refresh_token
        issued = AccessToken(
            value=self._new_value(),
            subject=subject,
            client_id=client_id,
            expires_in=self.lifetime,
            expires_at=now + self.lifetime,
            refresh_token=None if refresh_token is None else refresh_token.value,
        )
        self._access[issued.value] = issued
        return issued

    def good(self, access_token: str, *, now: float) -> AccessToken | None:
        """Give the access token if it is good."""
        found = self._access.get(access_token)
        return found if found is not None and now < found.expires_at else None

    def refreshable(self, refresh_token: str, *, now: float) -> RefreshToken | None:
        """Give the refresh token if it is good."""
        found = self._refresh.get(refresh_token)
        over = found is not None and found.expires_at is not None and found.expires_at <= now
        return None if over else found

    def end(self, issued: AccessToken) -> None:
        """End an access token and the refresh token that was issued with it."""
        self._access.pop(issued.value, None)
        self._refresh.pop(issued.refresh_token or "", None)

    def values(self) -> frozenset[str]:
        """Give the values of all tokens that were ever issued: for a test that looks where they came out."""
        return frozenset(self._values)

    def end_all(self) -> int:
        """End every token; give how many access tokens there were."""
        ended = len(self._access)
        self._access.clear()
        self._refresh.clear()
        return ended

    def as_json(self) -> list[dict[str, Any]]:
        """List the access tokens, without their values."""
        return [
            {"subject": one.subject, "client_id": one.client_id, "expires_at": one.expires_at}
            for one in self._access.values()
        ]

    def answer(self, issued: AccessToken) -> Answer:
        """Write *issued* as the body of a token answer (IRI-08)."""
        if self._switches.documented(Switch.TOKEN_BODY):
            lines = [
                f'  "access_token":"{issued.value}",',
                '  "token_type":"Bearer",',
                f'  "expires_in":{issued.expires_in},',
                *([] if issued.refresh_token is None else [f'  "refresh_token":"{issued.refresh_token}",']),
            ]
            body = "\n".join(["{", *lines, "}"]).encode()
            return Answer(status=200, outcome="issued", body=body, content_type="application/json", headers=NO_STORE)
        members = {
            "access_token": issued.value,
            "refresh_token": issued.refresh_token,
            "token_type": "Bearer",
            "expires_in": issued.expires_in,
        }
        return json_answer(200, {name: value for name, value in members.items() if value}, outcome="issued")

    def _new_value(self) -> str:
        value = secrets.token_urlsafe(32) if self._switches.documented(Switch.TOKEN_BODY) else bcrypt_like()
        self._values.add(value)
        return value
