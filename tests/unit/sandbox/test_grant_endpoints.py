"""Tests of ``broker/sandbox/grant_endpoints.py``: pushing, userinfo and revocation, over real TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.sandbox.talking import talking

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_assertion": "x"}, 401, "invalid_client"),
        ({"redirect_uri": "https://evil.example/"}, 400, "invalid_request"),
        ({"code_challenge_method": "plain"}, 400, "invalid_request"),
        ({"request_uri": "urn:x"}, 400, "invalid_request"),
        ({"request": "x"}, 400, "invalid_request_object"),
        ({"scope": "admin"}, 400, "invalid_scope"),
    ],
)
async def test_a_wrong_request_cannot_be_pushed(
    prepared: Path, tmp_path: Path, form: dict[str, Any], status: int, error: str
):
    """RFC 9126 section 2.3: told at once, not in the browser."""
    async with talking(prepared, tmp_path) as talker:
        refused = await talker.push(**form)

        assert (refused.status, refused.body["error"]) == (status, error)


async def test_a_grant_without_openid_has_no_id_token(prepared: Path, tmp_path: Path):
    """And no userinfo."""
    async with talking(prepared, tmp_path) as talker:
        granted = (await talker.granted(scope="hello:read", nonce=None)).body

        assert "id_token" not in granted
        assert (await talker.userinfo(granted["access_token"])).status == 403


@pytest.mark.parametrize("name", ["refresh_token", "access_token"])
async def test_revocation_ends_the_grant(prepared: Path, tmp_path: Path, name: str):
    """RFC 7009: by either token; the second time changes nothing and is 200 as well."""
    async with talking(prepared, tmp_path) as talker:
        granted = (await talker.granted()).body

        answers = [await talker.revoke(granted[name], token_type_hint=name) for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert (await talker.refresh(granted["refresh_token"])).body["error"] == "invalid_grant"
        assert (await talker.hello(granted["access_token"])).status == 401
        (first, *_) = talker.sandbox.journal.entries("revocation")
        assert (first.outcome, first.grant) == ("revoked", "grant-1")


async def test_revocation_wants_a_client_and_a_token(prepared: Path, tmp_path: Path):
    """Nobody else ends grants."""
    async with talking(prepared, tmp_path) as talker:
        granted = (await talker.granted()).body
        stranger = await talker.revoke(granted["refresh_token"], client_assertion="x")
        nothing = await talker.revoke("", token=None)

        assert (stranger.status, stranger.body["error"]) == (401, "invalid_client")
        assert (nothing.status, nothing.body["error"]) == (400, "invalid_request")
        assert (await talker.refresh(granted["refresh_token"])).status == 200


async def test_userinfo_wants_the_certificate_of_the_token(prepared: Path, tmp_path: Path):
    """RFC 8705 section 3; a token of the client alone has no person."""
    async with talking(prepared, tmp_path) as talker:
        granted = (await talker.granted()).body
        alone = (await talker.token()).body

        refused = await talker.userinfo(granted["access_token"], certificate="other")

        assert (refused.status, refused.body["error"]) == (401, "invalid_token")
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        assert (await talker.userinfo(alone["access_token"])).status == 403
