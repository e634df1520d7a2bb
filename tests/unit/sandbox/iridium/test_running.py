"""Tests of ``broker/sandbox/iridium/running.py``: starting, keeping, and what a test may do with it."""

from __future__ import annotations

import json
import ssl
import tomllib
from pathlib import Path

import aiohttp
import pytest

from broker.sandbox.commands import CommandRefusedError
from broker.sandbox.iridium.running import LISTENERS, Iridium
from broker.sandbox.layout import DirectoryRefusedError
from broker.sandbox.listeners import bind
from tests.unit.sandbox.iridium.talking import visiting

pytestmark = pytest.mark.real_time


async def test_everything_listens_on_loopback(tmp_path: Path):
    """All ports of it, and nowhere else (rules.md R10)."""
    async with Iridium.start(tmp_path / "iridium") as iridium:
        ports = json.loads((iridium.directory / "sandbox.json").read_bytes())["ports"]
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        bound = {line.split()[1] for line in tables.splitlines() if " 0A " in line}

        assert set(ports) == set(LISTENERS)
        for port in ports.values():
            assert {address for address in bound if address.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


async def test_a_new_start_makes_everything_anew_unless_it_keeps(tmp_path: Path):
    """Authority, secrets and ports."""
    seen = []
    for keep in (False, True, False):
        async with Iridium.start(tmp_path / "iridium", keep=keep) as iridium:
            seen.append((iridium.ca_file.read_bytes(), iridium.control_token, iridium.addresses))

    assert seen[0] == seen[1]
    assert not {seen[0][0], seen[0][1]} & {seen[2][0], seen[2][1]}


async def test_keep_needs_something_to_keep(tmp_path: Path):
    """An empty directory is refused."""
    with pytest.raises(DirectoryRefusedError, match="without --keep"):
        async with Iridium.start(tmp_path / "iridium", keep=True):
            pass


async def test_ports_may_be_chosen(tmp_path: Path):
    """One of them; one that is taken leaves nothing open."""
    with bind() as free:
        port = free.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            async with Iridium.start(tmp_path / "iridium", ports={"control": port}):
                pass

    async with Iridium.start(tmp_path / "iridium", ports={"development": port}) as iridium:
        assert iridium.addresses.development == f"http://localhost:{port}"


async def test_nobody_trusts_it_who_does_not_know_its_authority(tmp_path: Path):
    """As with any other loopback server with a certificate of its own making."""
    async with Iridium.start(tmp_path / "iridium") as iridium, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{iridium.addresses.issuer}/api/me")
        context = ssl.create_default_context(cafile=iridium.ca_file)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for place in (iridium.addresses.issuer, iridium.addresses.github, iridium.addresses.google):
            async with session.get(place, ssl=context) as answer:
                assert answer.status == 404


async def test_the_redirect_uri_is_registered_written_and_followed(tmp_path: Path):
    """When it starts, and when a test changes it."""
    async with visiting(tmp_path, redirect_uri="http://127.0.0.1:4001/cb") as visitor:
        first = await visitor.code(state="first")
        visitor.iridium.set_redirect_uri("http://127.0.0.1:4002/cb")
        config = tomllib.loads(visitor.iridium.config_file.read_text())
        second = await visitor.code(state="second")

        assert first != second
        assert config["client"]["iridium"]["redirect_uris"] == ["http://127.0.0.1:4002/cb"]


async def test_what_makes_no_sense_is_refused(tmp_path: Path):
    """A test with a slip in it must not pass by accident."""
    with pytest.raises(CommandRefusedError):
        async with Iridium.start(tmp_path / "other", redirect_uri="nowhere"):
            pass
    async with Iridium.start(tmp_path / "iridium") as iridium:
        for attempt in (
            lambda: iridium.set_switch("IRI-8", "documented"),
            lambda: iridium.set_lifetimes(lifetime=5),
            lambda: iridium.set_application("nobody"),
            lambda: iridium.trouble("token", "nothing"),
        ):
            with pytest.raises(CommandRefusedError):
                attempt()


async def test_files_say_where_it_is(tmp_path: Path):
    """Two configurations, for https and for http; both only for their owner."""
    async with Iridium.start(tmp_path / "iridium") as iridium:
        described = json.loads((iridium.directory / "sandbox.json").read_bytes())
        issuers = [
            tomllib.loads(file.read_text())["issuer"]["iridium"]["issuer"]
            for file in (iridium.config_file, iridium.development_config_file)
        ]

        assert issuers == [described["issuer"], described["development"]]
        assert described["dialect"] == "iridium"
        assert iridium.config_file.stat().st_mode & 0o777 == 0o600


async def test_lifetimes_are_of_what_is_issued_from_then_on(tmp_path: Path):
    """As given at the start, or changed."""
    async with visiting(tmp_path, lifetime=9) as visitor:
        first = await visitor.for_itself()
        visitor.iridium.set_lifetimes(lifetime_seconds=3, code_lifetime_seconds=5)

        assert (first.body["expires_in"], (await visitor.for_itself()).body["expires_in"]) == (9, 3)
        assert visitor.iridium.settings()["code_lifetime_seconds"] == 5
