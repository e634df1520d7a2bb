"""Tests of ``broker/sandbox/control.py``: who may command, and what commands do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.sandbox.options import Options
from tests.unit.sandbox.talking import Heard, Talker, talking

pytestmark = pytest.mark.real_time


async def command(talker: Talker, method: str, path: str, body: Any = None, **headers: str) -> Heard:
    """Send a command with the control token, unless *headers* say otherwise."""
    sent = {"Authorization": f"Bearer {talker.sandbox.control_token}", **headers}
    url = f"{talker.sandbox.addresses.control}/sandbox/{path}"
    options = {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    return await talker.send(method, url, None, headers=sent, **options)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic YTpi", "Bearer é"])
async def test_nobody_commands_without_the_token(prepared: Path, tmp_path: Path, authorization: str):
    """401, and nothing happened."""
    async with talking(prepared, tmp_path) as talker:
        fault = {"where": "token", "kind": "html"}

        refused = await command(talker, "POST", "faults", fault, Authorization=authorization)

        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert talker.sandbox.faults.as_json() == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "evil.example:{port}"])
async def test_another_host_is_refused_whatever_token_it_has(prepared: Path, tmp_path: Path, host: str):
    """A web page that got its name resolved to loopback (DNS rebinding) sends its own."""
    async with talking(prepared, tmp_path) as talker:
        port = talker.sandbox.addresses.control.rpartition(":")[2]

        refused = await command(talker, "GET", "faults", Host=host.format(port=port))

        assert refused.status == 403


async def test_localhost_with_the_port_is_fine(prepared: Path, tmp_path: Path):
    """People type it."""
    async with talking(prepared, tmp_path) as talker:
        port = talker.sandbox.addresses.control.rpartition(":")[2]

        assert (await command(talker, "GET", "faults", Host=f"localhost:{port}")).status == 200


async def test_a_fault_is_put_up_listed_met_and_cleared(prepared: Path, tmp_path: Path):
    """The life of a fault, by command."""
    async with talking(prepared, tmp_path) as talker:
        put = await command(talker, "POST", "faults", {"where": "token", "kind": "status", "status": 500})
        failed = await talker.token()
        listed = await command(talker, "GET", "faults")
        cleared = await command(talker, "DELETE", "faults")
        good = await talker.token()

        assert (put.status, put.body["status"], put.body["times"]) == (201, 500, None)
        assert (failed.status, good.status) == (500, 200)
        assert [(fault["kind"], fault["met"]) for fault in listed.body["faults"]] == [("status", 1)]
        assert "wrong_cnf" in listed.body["kinds"]
        assert cleared.status == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "faults", {"where": "token", "kind": "nonsense"}),
        ("POST", "faults", b"{"),
        ("POST", "faults", b"\xff"),
        ("POST", "faults", b"[]"),
        ("PUT", "settings", b"null"),
        ("PUT", "settings", {"lifetime_seconds": 0}),
        ("PUT", "settings", {"lifetime_seconds": True}),
        ("PUT", "settings", {"lifetime_seconds": "60"}),
        ("PUT", "settings", {"down": "yes"}),
        ("PUT", "settings", {"lifetime": 60}),
        ("PUT", "settings", {"rotation": "sometimes"}),
        ("PUT", "settings", {"rotation": "never", "grace_seconds": -1}),
        ("PUT", "settings", {"require_par": 1}),
        ("PUT", "settings", {"id_token_alg": "RS256", "lifetime_seconds": 5}),
        ("POST", "keys", {"keep_published": "no"}),
        ("POST", "keys", b"[]"),
        ("PUT", "settings", {"dpop_nonces": "always"}),
    ],
)
async def test_nonsense_is_400_and_changes_nothing(prepared: Path, tmp_path: Path, method: str, path: str, body: Any):
    """With a description of what is wrong."""
    async with talking(prepared, tmp_path) as talker:
        refused = await command(talker, method, path, body)
        settings = await command(talker, "GET", "settings")

        assert refused.status == 400
        assert refused.body["error_description"]
        assert talker.sandbox.faults.as_json() == []
        assert settings.body == {"lifetime_seconds": 60, "down": False, **Options().as_json()}


async def test_an_unknown_route_is_404_in_json(prepared: Path, tmp_path: Path):
    """For those who have the token."""
    async with talking(prepared, tmp_path) as talker:
        assert (await command(talker, "GET", "nothing")).status == 404
        assert (await command(talker, "PATCH", "faults")).status == 405


async def test_the_record_is_shown_and_forgotten_on_command(prepared: Path, tmp_path: Path):
    """Counters and requests."""
    async with talking(prepared, tmp_path) as talker:
        await talker.token()
        shown = await command(talker, "GET", "requests")
        await command(talker, "DELETE", "requests")
        after = await command(talker, "GET", "requests")

        assert shown.body["counters"] == {"token": 1, "token.issued": 1}
        assert shown.body["requests"][0]["outcome"] == "issued"
        assert after.body == {"counters": {}, "requests": []}


async def test_the_lifetime_is_set_on_command(prepared: Path, tmp_path: Path):
    """For tokens issued from then on."""
    async with talking(prepared, tmp_path) as talker:
        changed = await command(talker, "PUT", "settings", {"lifetime_seconds": 5})
        issued = await talker.token()

        assert changed.body["lifetime_seconds"] == 5
        assert issued.body["expires_in"] == 5


async def test_options_are_set_and_kept_on_command(prepared: Path, tmp_path: Path):
    """Those that are not named stay as they were."""
    async with talking(prepared, tmp_path) as talker:
        await command(talker, "PUT", "settings", {"rotation": "grace", "grace_seconds": 5})
        changed = await command(talker, "PUT", "settings", {"require_par": True})
        metadata = await talker.metadata()

        assert (changed.body["rotation"], changed.body["grace_seconds"]) == ("grace", 5)
        assert metadata.body["require_pushed_authorization_requests"] is True


async def test_grants_are_listed_and_ended_on_command(prepared: Path, tmp_path: Path):
    """As if the person had taken the consent back; no token is in the list."""
    async with talking(prepared, tmp_path) as talker:
        granted = await talker.granted(user="bob")
        await command(talker, "DELETE", "grants")
        refused = await talker.token(grant_type="refresh_token", refresh_token=granted.body["refresh_token"])
        listed = await command(talker, "GET", "grants")

        assert (refused.status, refused.body["error"]) == (400, "invalid_grant")
        assert [(one["subject"], one["ended"]) for one in listed.body["grants"]] == [
            ("bob", "the person took the consent back")
        ]
        assert granted.body["refresh_token"] not in str(listed.body)


@pytest.mark.parametrize("keep", [True, False])
async def test_keys_are_rotated_on_command(prepared: Path, tmp_path: Path, keep: bool):
    """The old ones stay published, or are gone; the key of access tokens stays."""
    async with talking(prepared, tmp_path) as talker:
        before = {key["kid"] for key in await talker.jwks()}
        await command(talker, "POST", "keys", {"keep_published": keep})
        after = {key["kid"] for key in await talker.jwks()}

        assert len(after - before) == 2
        assert (before <= after) is keep
        assert len(before & after) == (3 if keep else 1)


async def test_the_server_goes_down_and_comes_back_on_command(prepared: Path, tmp_path: Path):
    """Connections are refused meanwhile; keys and ports are the same afterwards."""
    async with talking(prepared, tmp_path) as talker:
        await talker.token()
        await command(talker, "PUT", "settings", {"down": True})
        for attempt in (talker.token, talker.metadata):
            with pytest.raises(aiohttp.ClientConnectorError):
                await attempt()
        await command(talker, "PUT", "settings", {"down": False})

        assert (await talker.token()).status == 200
