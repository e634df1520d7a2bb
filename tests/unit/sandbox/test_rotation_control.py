"""Tests of ``broker/sandbox/rotation_control.py``: keys and certificates change while the sandbox is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.sandbox.demo_clients import CLIENT_ID, DPOP_CLIENT_ID, PUBLIC_CLIENT_ID
from broker.sandbox.jose import SigningAlg, generate_private_key_pem, read_private
from tests.unit.sandbox.talking import Heard, Prover, Talker, client_context, talking
from tests.unit.sandbox.test_control import command

pytestmark = pytest.mark.real_time


def new_key() -> Any:
    return read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))


async def step(talker: Talker, name: str, **more: Any) -> Heard:
    return await command(talker, "POST", "authority", {"step": name, **more})


async def test_clients_are_listed_without_keys_of_theirs(prepared: Path, tmp_path: Path):
    """Names of keys, and no key."""
    async with talking(prepared, tmp_path) as talker:
        listed = {one["client_id"]: one for one in (await command(talker, "GET", "clients")).body["clients"]}

        assert set(listed) == {CLIENT_ID, DPOP_CLIENT_ID, PUBLIC_CLIENT_ID}
        assert [listed[name]["sender_constraint"] for name in sorted(listed)] == ["certificate", "dpop", "dpop"]
        assert set(listed[CLIENT_ID]["keys"][0]) == {"kid", "alg"}


async def test_a_second_signing_key_is_good_beside_the_first(prepared: Path, tmp_path: Path):
    """As soon as it is added."""
    async with talking(prepared, tmp_path) as talker:
        first, second = talker.sandbox.material.signing_keys[SigningAlg.ES256], new_key()
        statuses = []
        for key, jwk in ((second, None), (second, second.public_jwk()), (first, None)):
            if jwk is not None:
                assert (await command(talker, "POST", f"clients/{CLIENT_ID}/keys", jwk)).status == 201
            talker.sandbox.material.signing_keys[SigningAlg.ES256] = key
            statuses.append((await talker.token()).status)

        assert statuses == [401, 200, 200]


async def test_a_set_of_keys_takes_the_place_of_another(prepared: Path, tmp_path: Path):
    """Those before are good no more."""
    async with talking(prepared, tmp_path) as talker:
        key = new_key()
        changed = await command(talker, "PUT", f"clients/{CLIENT_ID}", {"jwks": {"keys": [key.public_jwk()]}})
        by_old = await talker.token()
        talker.sandbox.material.signing_keys[SigningAlg.ES256] = key
        by_new = await talker.token()

        assert (changed.status, [one["kid"] for one in changed.body["keys"]]) == (200, [key.kid])
        assert (by_old.status, by_new.status) == (401, 200)


async def test_keys_may_be_fetched_from_the_client(prepared: Path, tmp_path: Path):
    """When one is needed that is not known; requests to push are looked at the same way."""
    key = new_key()
    keys = [key.public_jwk()]

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"keys": keys})

    application = web.Application()
    application.router.add_get("/jwks", answer)
    async with talking(prepared, tmp_path) as talker, TestServer(application) as server:
        uri = str(server.make_url("/jwks"))
        changed = await command(talker, "PUT", f"clients/{CLIENT_ID}", {"jwks_uri": uri})
        talker.sandbox.material.signing_keys[SigningAlg.ES256] = key
        first, pushed = await talker.token(), await talker.push()
        second = new_key()
        keys.append(second.public_jwk())
        talker.sandbox.material.signing_keys[SigningAlg.ES256] = second
        rotated = await talker.token()

        assert (changed.body["jwks_uri"], changed.body["keys"]) == (uri, [])
        assert (first.status, pushed.status, rotated.status) == (200, 201, 200)
        assert talker.sandbox.journal.count("client_jwks.ok") == 2


async def test_a_client_may_be_made_by_command(prepared: Path, tmp_path: Path):
    """With the rights and keys of the first, and what was said of it."""
    async with talking(prepared, tmp_path) as talker:
        made = await command(talker, "PUT", "clients/third", {"sender_constraint": "dpop"})
        about = {"iss": "third", "sub": "third"}
        issued = await talker.token(claims=about, certificate=None, prover=Prover())

        assert (made.status, made.body["public"]) == (201, False)
        assert (issued.status, issued.body["token_type"]) == (200, "DPoP")


async def test_another_certificate_of_the_same_subject_is_issued(prepared: Path, tmp_path: Path):
    """Both are good at the same time, each with the tokens that are bound to it."""
    async with talking(prepared, tmp_path) as talker:
        issued = await command(talker, "POST", "certificates", {"name": "second", "lifetime_seconds": 3_600})
        first, second = await talker.token(), await talker.token(certificate="second")
        hello = await talker.hello(second.body["access_token"], certificate="second")
        crossed = await talker.hello(first.body["access_token"], certificate="second")

        assert (issued.status, issued.body["name"]) == (201, "second")
        assert hello.body["certificate"] == issued.body["thumbprint"]
        assert crossed.status == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "clients/a%20b", {}),
        ("PUT", "clients/a", b"[]"),
        ("PUT", "clients/a", {"scope": "x"}),
        ("PUT", "clients/a", {"sender_constraint": "none"}),
        ("PUT", "clients/a", {"sender_constraint": ["dpop"]}),
        ("PUT", "clients/a", {"public": 1}),
        ("PUT", "clients/a", {"jwks": []}),
        ("PUT", "clients/a", {"jwks": {"keys": [{}]}}),
        ("PUT", "clients/a", {"jwks_uri": "https://example.com/"}),
        ("PUT", "clients/a", {"jwks_socket": 1}),
        ("POST", "clients/nobody/keys", {}),
        ("POST", f"clients/{CLIENT_ID}/keys", {"kty": "EC"}),
        ("POST", "certificates", {}),
        ("POST", "certificates", {"name": "ca"}),
        ("POST", "certificates", {"name": 1}),
        ("POST", "certificates", {"name": "a", "colour": "red"}),
        ("POST", "certificates", {"name": "a", "common_name": ""}),
        ("POST", "certificates", {"name": "a", "common_name": "a" * 41}),
        ("POST", "certificates", {"name": "a", "lifetime_seconds": 0}),
        ("POST", "certificates", {"name": "a", "lifetime_seconds": True}),
        ("POST", "certificates", {"name": "a", "csr": 1}),
        ("POST", "certificates", {"name": "a", "csr": "nonsense"}),
        ("POST", "authority", {}),
        ("POST", "authority", {"step": "jump"}),
        ("POST", "authority", {"step": ["switch"]}),
        ("POST", "authority", {"step": "switch", "cut": "yes"}),
    ],
)
async def test_nonsense_is_400_and_changes_nothing(prepared: Path, tmp_path: Path, method: str, path: str, body: Any):
    """With a description of what is wrong."""
    async with talking(prepared, tmp_path) as talker:
        before = await command(talker, "GET", "clients")
        files = {entry.name for entry in talker.sandbox.directory.iterdir()}

        refused = await command(talker, method, path, body)

        assert (refused.status, refused.body["error"]) == (400, "refused")
        assert refused.body["error_description"]
        assert (await command(talker, "GET", "clients")).body == before.body
        assert {entry.name for entry in talker.sandbox.directory.iterdir()} == files
        assert talker.sandbox.authorities.generation == 0


async def shaken(talker: Talker, trust: Path, certificate: str) -> Any:
    """Ask for a token on a connection of its own, trusting what *trust* holds; give the status or what went wrong."""
    context = client_context(talker.sandbox.directory, certificate, trust=trust)
    async with aiohttp.ClientSession() as session:
        own = Talker(talker.sandbox, session, {certificate: context})
        try:
            return (await own.token(certificate=certificate)).status
        except aiohttp.ClientConnectorCertificateError:
            return "not trusted"
        except aiohttp.ClientOSError:
            return "refused"


async def test_the_server_moves_to_another_authority(prepared: Path, tmp_path: Path):
    """Who trusts the old file, the file of both and the new file, and whose certificates are believed, by step."""
    async with talking(prepared, tmp_path) as talker:
        directory = talker.sandbox.directory
        old, both, new = (tmp_path / name for name in ("old.pem", "both.pem", "new.pem"))
        old.write_bytes((directory / "ca.pem").read_bytes())

        await step(talker, "announce")
        both.write_bytes((directory / "ca.pem").read_bytes())
        announced = [await shaken(talker, trust, "client") for trust in (old, both)]
        await step(talker, "switch")
        await command(talker, "POST", "certificates", {"name": "second"})
        switched = [await shaken(talker, trust, "client") for trust in (old, both)]
        await step(talker, "withdraw")
        new.write_bytes((directory / "ca.pem").read_bytes())
        withdrawn = [await shaken(talker, new, name) for name in ("client", "second")]
        await step(talker, "distrust")
        distrusted = [await shaken(talker, new, name) for name in ("client", "second")]

        assert announced == [200, 200]
        assert switched == ["not trusted", 200]
        assert withdrawn == [200, 200]
        assert distrusted == ["refused", 200]


@pytest.mark.parametrize("cut", [False, True])
async def test_open_connections_go_on_unless_they_are_cut(prepared: Path, tmp_path: Path, cut: bool):
    """A connection that was made before the switch trusts a server that it would not trust now."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]
        await talker.hello(token)
        context = talker.context("client")

        await step(talker, "switch", cut=cut)

        assert talker.context("client") is context
        if cut:
            with pytest.raises(aiohttp.ClientError):
                await talker.token()
        else:
            assert (await talker.token()).status == 200
            assert (await talker.hello(token)).status == 200


async def test_a_bad_certificate_is_of_the_current_authority(prepared: Path, tmp_path: Path):
    """Expired, and nothing else: a fault after the switch is the fault that it says."""
    async with talking(prepared, tmp_path) as talker:
        await step(talker, "switch")
        talker.contexts.clear()
        talker.sandbox.fault("token", "bad_certificate", variant="expired", times=1)

        with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
            await talker.token()

        assert "expired" in str(caught.value.certificate_error)
        assert (await talker.token()).status == 200
