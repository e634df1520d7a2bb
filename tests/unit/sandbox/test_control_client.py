"""Tests of ``broker/sandbox/control_client.py``: a process outside commands a sandbox."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.sandbox.control_client import CommandFailedError, ControlClient
from broker.sandbox.jose import SigningAlg, generate_private_key_pem, read_private
from tests.unit.sandbox.talking import running, talking

pytestmark = pytest.mark.real_time


async def test_it_finds_the_sandbox_by_its_directory(prepared: Path, tmp_path: Path):
    """And knows where everything is."""
    async with running(prepared, tmp_path) as sandbox:
        control = ControlClient.from_directory(sandbox.directory)

        assert await asyncio.to_thread(control.answers)
        assert control.addresses["issuer"] == sandbox.addresses.issuer
        assert sandbox.control_token not in repr(control)


async def test_it_can_do_all_that_the_control_listener_can(prepared: Path, tmp_path: Path):
    """Faults, the record, settings."""
    async with talking(prepared, tmp_path) as talker:
        control = ControlClient.from_directory(talker.sandbox.directory)

        await asyncio.to_thread(control.fault, "token", "status", status=502, times=1)
        await asyncio.to_thread(control.set, lifetime_seconds=7)
        statuses = [(await talker.token()).status, (await talker.token()).status]
        outcomes = [request["outcome"] for request in await asyncio.to_thread(control.requests, "token")]
        counted = await asyncio.to_thread(control.count, "token.issued")
        await asyncio.to_thread(control.fault, "token", "html")
        await asyncio.to_thread(control.clear_faults)
        await asyncio.to_thread(control.clear_requests)

        assert statuses == [502, 200]
        assert outcomes == ["fault", "issued"]
        assert counted == 1
        assert talker.sandbox.lifetime == 7
        assert (await talker.token()).status == 200
        assert await asyncio.to_thread(control.count, "token") == 1


async def test_it_sees_and_ends_grants_and_rotates_keys(prepared: Path, tmp_path: Path):
    """What people do at the server without the client, and what operators do."""
    async with talking(prepared, tmp_path) as talker:
        control = ControlClient.from_directory(talker.sandbox.directory)
        await asyncio.to_thread(control.set, rotation="never", request_lifetime_seconds=30)
        granted = await talker.granted(user="bob")
        kids = {key["kid"] for key in await talker.jwks()}

        listed = await asyncio.to_thread(control.grants)
        ended = await asyncio.to_thread(control.end_grants)
        await asyncio.to_thread(control.rotate_keys, keep_published=False)

        assert (await talker.push()).body["expires_in"] == 30
        assert [(one["grant"], one["subject"], one["ended"]) for one in listed] == [("grant-1", "bob", None)]
        assert ended == 1
        assert (await talker.refresh(granted.body["refresh_token"])).body["error"] == "invalid_grant"
        assert len(kids & {key["kid"] for key in await talker.jwks()}) == 1


async def test_it_changes_keys_and_certificates(prepared: Path, tmp_path: Path):
    """Of clients, and of the server."""
    async with talking(prepared, tmp_path) as talker:
        control = ControlClient.from_directory(talker.sandbox.directory)
        key = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))

        made = await asyncio.to_thread(control.register_client, "second", sender_constraint="dpop")
        await asyncio.to_thread(control.add_client_key, "second", key.public_jwk())
        issued = await asyncio.to_thread(control.issue_certificate, "second")
        changed = await asyncio.to_thread(control.change_authority, "announce")
        known = await asyncio.to_thread(control.clients)

        assert made["sender_constraint"] == "dpop"
        assert key.kid in [one["kid"] for one in known["second"]["keys"]]
        assert Path(issued["cert_file"]).read_text() == issued["certificate"]
        assert changed == {"generation": 1, "announced": True}


async def test_a_refused_command_says_why(prepared: Path, tmp_path: Path):
    """In the sandbox's words."""
    async with running(prepared, tmp_path) as sandbox:
        control = ControlClient.from_directory(sandbox.directory)

        with pytest.raises(CommandFailedError, match="kind: must be one of"):
            await asyncio.to_thread(control.fault, "token", "nonsense")


async def test_a_sandbox_that_has_ended_does_not_answer(prepared: Path, tmp_path: Path):
    """Which is no crash of whoever asks."""
    async with running(prepared, tmp_path) as sandbox:
        control = ControlClient.from_directory(sandbox.directory)

    assert not control.answers()
    with pytest.raises(CommandFailedError, match="does not answer"):
        control.count("token")


def test_a_directory_without_a_sandbox_says_so(tmp_path: Path):
    """Before anything is sent anywhere."""
    with pytest.raises(CommandFailedError, match="no sandbox"):
        ControlClient.from_directory(tmp_path)
