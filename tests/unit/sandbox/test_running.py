"""Tests of ``broker/sandbox/running.py``: starting, keeping, and what a test may do with a sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.sandbox.clients import RegisteredClient
from broker.sandbox.demo_clients import FOREIGN_RESOURCE
from broker.sandbox.faults import FaultRefusedError
from broker.sandbox.jose import SigningAlg, generate_private_key_pem, read_private, read_public
from broker.sandbox.layout import DirectoryRefusedError
from broker.sandbox.listeners import bind
from broker.sandbox.running import LISTENERS, Sandbox
from tests.unit.sandbox.talking import DEADLINE, Talker, running, talking

pytestmark = pytest.mark.real_time


async def test_a_new_sandbox_makes_a_new_authority(tmp_path: Path):
    """Unless it is told to keep the old one: then everything is the same, ports included."""
    states: list[Any] = []
    for keep in (False, True, False):
        async with Sandbox.start(tmp_path / "sandbox", keep=keep) as sandbox:
            signing = [key.kid for key in sandbox.material.signing_keys.values()]
            states.append((sandbox.material.authority.thumbprint(), sandbox.control_token, sandbox.addresses, signing))
    first, kept, anew = states

    assert kept == first
    assert anew[0] != first[0]
    assert anew[1] != first[1]
    assert not set(anew[3]) & set(first[3])


async def test_a_token_outlives_a_restart_that_keeps_the_keys(prepared: Path, tmp_path: Path):
    """The API accepts it afterwards."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]

    async with talking(prepared, tmp_path) as talker:
        assert (await talker.hello(token)).status == 200


async def test_keep_needs_something_to_keep(tmp_path: Path):
    """An empty directory is refused, with what to do."""
    with pytest.raises(DirectoryRefusedError, match="without --keep"):
        async with Sandbox.start(tmp_path / "sandbox", keep=True):
            pass


async def test_ports_may_be_chosen(prepared: Path, tmp_path: Path):
    """One of them, while the kernel chooses the others."""
    with bind() as free:
        port = free.getsockname()[1]

    async with running(prepared, tmp_path, ports={"issuer": port}) as sandbox:
        assert sandbox.addresses.issuer == f"https://localhost:{port}"
        assert len(set(json.loads((sandbox.directory / "sandbox.json").read_bytes())["ports"].values())) == 5


async def test_a_port_that_is_taken_leaves_nothing_open(prepared: Path, tmp_path: Path):
    """The other sockets are closed again: an unclosed one would fail this test by its warning."""
    with bind() as taken, pytest.raises(OSError, match="in use"):
        async with running(prepared, tmp_path, ports={"control": taken.getsockname()[1]}):
            pass

    async with running(prepared, tmp_path):
        pass


async def test_everything_listens_on_loopback(prepared: Path, tmp_path: Path):
    """All ports of it, and nowhere else (rules.md R10)."""
    async with running(prepared, tmp_path) as sandbox:
        ports = json.loads((sandbox.directory / "sandbox.json").read_bytes())["ports"]
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        bound = {line.split()[1] for line in tables.splitlines() if " 0A " in line}

        assert set(ports) == set(LISTENERS)
        for port in ports.values():
            assert {address for address in bound if address.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


async def test_a_strict_sandbox_refuses_by_a_tls_alert(prepared: Path, tmp_path: Path):
    """No HTTP answer for a client without a certificate, as with MTLS_STRICT of a real server."""
    async with talking(prepared, tmp_path, strict=True) as talker:
        with pytest.raises(aiohttp.ClientError):
            await talker.token(certificate=None)
        issued = await talker.token()

        assert issued.status == 200
        assert talker.sandbox.journal.count("token") == 1


async def test_a_lifetime_may_be_given(prepared: Path, tmp_path: Path):
    """And changed by a test."""
    async with talking(prepared, tmp_path, lifetime=9) as talker:
        first = await talker.token()
        talker.sandbox.set_lifetime(3)
        second = await talker.token()

        assert [answer.body["expires_in"] for answer in (first, second)] == [9, 3]


async def test_an_expired_token_is_refused_by_the_api(prepared: Path, tmp_path: Path):
    """By the sandbox's clock."""
    now = [time.clock_gettime(time.CLOCK_REALTIME)]
    async with talking(prepared, tmp_path, wall=lambda: now[0]) as talker:
        token = (await talker.token()).body["access_token"]
        now[0] += 60

        refused = await talker.hello(token)

        assert refused.status == 401
        assert "expired" in refused.body["error_description"]


async def test_a_token_for_another_resource_is_refused_by_the_api(prepared: Path, tmp_path: Path):
    """The demo client may ask for one, to see what happens."""
    async with talking(prepared, tmp_path) as talker:
        issued = await talker.token(resource=FOREIGN_RESOURCE)

        refused = await talker.hello(issued.body["access_token"])

        assert refused.status == 401
        assert "another resource" in refused.body["error_description"]


async def test_a_token_without_the_scope_is_refused_by_the_api(prepared: Path, tmp_path: Path):
    """403, as it would not help to try again."""
    async with talking(prepared, tmp_path) as talker:
        issued = await talker.token(scope="hello:write")

        assert (await talker.hello(issued.body["access_token"])).status == 403


async def test_a_renewed_certificate_gets_tokens_of_its_own(prepared: Path, tmp_path: Path):
    """The old token goes with the old certificate, as rotation has to reckon with."""
    async with talking(prepared, tmp_path) as talker:
        old = (await talker.token()).body["access_token"]
        renewed = await asyncio.to_thread(talker.sandbox.issue_client, "client", lifetime=timedelta(hours=1))
        talker.contexts.clear()
        new = (await talker.token()).body["access_token"]

        assert (await talker.hello(old)).status == 401
        assert (await talker.hello(new)).body["certificate"] == renewed.thumbprint()


async def test_another_client_may_be_registered(prepared: Path, tmp_path: Path):
    """With keys and scope of its own."""
    async with talking(prepared, tmp_path) as talker:
        key = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
        client = RegisteredClient(
            client_id="second",
            keys=(read_public(key.public_jwk()),),
            scope=("special",),
            resources=(talker.sandbox.addresses.resource,),
        )
        talker.sandbox.register_client(client)
        talker.sandbox.material.signing_keys[SigningAlg.ES256] = key

        issued = await talker.token(claims={"iss": "second", "sub": "second"}, scope="special")

        assert (issued.status, issued.body["scope"]) == (200, "special")
        assert talker.sandbox.journal.entries("token")[0].client == "second"


async def test_a_fault_that_makes_no_sense_is_refused_at_once(prepared: Path, tmp_path: Path):
    """A test with a slip in it must not pass by accident."""
    async with running(prepared, tmp_path) as sandbox:
        with pytest.raises(FaultRefusedError):
            sandbox.fault("token", "statsu")


async def test_the_server_goes_down_and_comes_back(prepared: Path, tmp_path: Path):
    """In a test that holds the sandbox itself."""
    async with running(prepared, tmp_path) as sandbox, aiohttp.ClientSession(timeout=DEADLINE) as session:
        talker = Talker(sandbox, session)
        await sandbox.set_down(True)
        with pytest.raises(aiohttp.ClientConnectorError):
            await talker.metadata()
        await sandbox.set_down(False)

        assert (await talker.metadata()).status == 200


async def test_it_ends_while_requests_are_open(prepared: Path, tmp_path: Path):
    """A dripping or delayed answer does not keep it."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=DEADLINE) as session:
        async with running(prepared, tmp_path) as sandbox:
            sandbox.fault("token", "delay", delay_seconds=600)
            waiting = loop.create_task(Talker(sandbox, session).token())
            await asyncio.sleep(0.1)
            began = loop.time()
        ended = loop.time()

        with pytest.raises(aiohttp.ClientError):
            await waiting
        assert ended - began < 5
