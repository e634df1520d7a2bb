"""Tests of ``broker/sandbox/client_keys.py``: keys that are read, and keys that are fetched over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.sandbox.client_keys import (
    MAX_SET,
    ClientKeys,
    KeysRefusedError,
    check_address,
    read_key,
    read_key_set,
)
from broker.sandbox.clients import RegisteredClient
from broker.sandbox.jose import JsonWebKey, SigningAlg, generate_private_key_pem, read_private, sign
from broker.sandbox.journal import Journal

pytestmark = pytest.mark.real_time


def new_key(alg: SigningAlg = SigningAlg.ES256) -> JsonWebKey:
    return read_private(alg, generate_private_key_pem(alg))


OLD, NEW, OTHER = new_key(), new_key(SigningAlg.EDDSA), new_key()
CLIENT = RegisteredClient(client_id="app", keys=(OLD,), scope=("a",), resources=("https://api",))


@asynccontextmanager
async def published(body: Any, *, status: int = 200) -> AsyncIterator[str]:
    """Publish a JWK Set, and give its address."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())

    application = web.Application()
    application.router.add_get("/jwks", answer)
    async with TestServer(application) as server:
        yield str(server.make_url("/jwks"))


def keys_of(client: RegisteredClient) -> tuple[ClientKeys, Journal]:
    journal = Journal()
    return ClientKeys(clients={"app": client}, journal=journal, wall=lambda: 1.0), journal


def kids(keys: ClientKeys) -> set[str]:
    return {key.kid for key in keys.clients["app"].keys}


async def test_a_key_that_is_not_known_is_fetched_once():
    """However many requests need it; what is known by then is not asked for."""
    token = sign(NEW, "JWT", {"iss": "app"})
    async with published({"keys": [OLD.public_jwk(), NEW.public_jwk()]}) as uri:
        keys, journal = keys_of(replace(CLIENT, jwks_uri=uri))

        await keys.freshen(sign(OLD, "JWT", {"iss": "app"}))
        assert journal.count("client_jwks") == 0
        await asyncio.gather(*(keys.freshen(token) for _ in range(5)))

    assert kids(keys) == {OLD.kid, NEW.kid}
    assert [(entry.endpoint, entry.outcome, entry.client) for entry in journal.entries()] == [
        ("client_jwks", "ok", "app")
    ]


async def test_keys_are_fetched_through_a_unix_socket(tmp_path: Path):
    """As a broker publishes them."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [NEW.public_jwk()]})

    application = web.Application()
    application.router.add_get("/v1/jwks/demo", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(tmp_path / "api.sock")).start()
        client = replace(CLIENT, jwks_uri="http://localhost/v1/jwks/demo", jwks_socket=str(tmp_path / "api.sock"))
        keys, _ = keys_of(client)

        await keys.freshen(sign(NEW, "JWT", {"iss": "app"}))
    finally:
        await runner.cleanup()

    assert kids(keys) == {NEW.kid}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"keys": [NEW.public_jwk()]}, 500),
        (b"<html>", 200),
        ({"keys": "none"}, 200),
        ({"keys": [{"kty": "EC"}]}, 200),
        (b" " * (MAX_SET + 1), 200),
    ],
)
async def test_what_cannot_be_read_changes_nothing(body: Any, status: int):
    """The old keys stay, and the journal says that it failed."""
    async with published(body, status=status) as uri:
        keys, journal = keys_of(replace(CLIENT, jwks_uri=uri))

        await keys.freshen(sign(NEW, "JWT", {"iss": "app"}))

    assert kids(keys) == {OLD.kid}
    assert journal.count("client_jwks.failed") == 1


async def changed_during_a_fetch(**changes: Any) -> tuple[RegisteredClient, RegisteredClient]:
    """Change a client while its keys are fetched; give it as it was changed, and as it is after the fetch."""
    held, asked = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        asked.set()
        await held.wait()
        return web.json_response({"keys": [NEW.public_jwk()]})

    application = web.Application()
    application.router.add_get("/jwks", answer)
    async with TestServer(application) as server:
        keys, _ = keys_of(replace(CLIENT, jwks_uri=str(server.make_url("/jwks"))))
        fetching = asyncio.create_task(keys.freshen(sign(NEW, "JWT", {"iss": "app"})))
        await asked.wait()
        changed = keys.clients["app"] = replace(keys.clients["app"], **changes)
        held.set()
        await fetching
    return changed, keys.clients["app"]


@pytest.mark.parametrize(
    "changes", [{"keys": (OTHER,)}, {"jwks_uri": "http://127.0.0.1:9/"}, {"jwks_socket": "/elsewhere"}]
)
async def test_what_was_registered_meanwhile_is_not_overwritten(changes: dict[str, Any]):
    """An answer that was asked for before a command is older than the command."""
    changed, after = await changed_during_a_fetch(**changes)

    assert after == changed


async def test_another_change_of_a_client_survives_a_fetch():
    """The keys are all that a fetch brings."""
    changed, after = await changed_during_a_fetch(public=True)

    assert after == replace(changed, keys=after.keys)
    assert [key.kid for key in after.keys] == [NEW.kid]


async def test_nobody_there_changes_nothing():
    """A broker that is not up yet."""
    async with published({}) as uri:
        pass
    keys, journal = keys_of(replace(CLIENT, jwks_uri=uri))

    await keys.freshen(sign(NEW, "JWT", {"iss": "app"}))

    assert kids(keys) == {OLD.kid}
    assert journal.count("client_jwks.failed") == 1


@pytest.mark.parametrize(
    "token", [None, "", "a.b.c", sign(NEW, "JWT", {"iss": "other"}), sign(NEW, "JWT", {"iss": 1}), sign(NEW, "JWT", {})]
)
async def test_nothing_is_fetched_for_who_is_not_known(token: str | None):
    """Nor for what cannot be read."""
    keys, journal = keys_of(replace(CLIENT, jwks_uri="http://127.0.0.1:9/"))

    await keys.freshen(token)

    assert journal.entries() == ()


async def test_nothing_is_fetched_for_a_client_whose_keys_are_registered():
    """It has no address."""
    keys, journal = keys_of(CLIENT)

    await keys.freshen(sign(NEW, "JWT", {"iss": "app"}))

    assert journal.entries() == ()


def test_a_key_keeps_the_name_that_it_is_published_by():
    """Which need not be its thumbprint."""
    key = read_key({**OLD.public_jwk(), "kid": "mine"})

    assert (key.kid, key.alg) == ("mine", SigningAlg.ES256)


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        [],
        {},
        {**OLD.public_jwk(), "kid": 1},
        {**OLD.public_jwk(), "alg": "RS256"},
        {**OLD.public_jwk(), "alg": None},
        {**OLD.public_jwk(), "alg": "EdDSA"},
        {**OLD.key.as_dict(private=True), "alg": "ES256", "kid": "a"},
    ],
)
def test_a_key_that_is_none_is_refused(jwk: Any):
    """No kid, no alg, another alg, a private half."""
    with pytest.raises(KeysRefusedError):
        read_key(jwk)


def test_keys_for_encryption_are_left_out_of_a_set():
    """A client may publish some."""
    encrypting = {"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "e", "n": "AQAB", "e": "AQAB"}

    assert [key.kid for key in read_key_set({"keys": [encrypting, OLD.public_jwk()]})] == [OLD.kid]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/a", "http://localhost/a", "http://[::1]:9/"])
def test_addresses_of_this_machine_are_called(uri: str):
    """By any of its names."""
    assert check_address(uri) == uri


@pytest.mark.parametrize(
    "uri", [None, 1, "", "/a", "https://localhost/", "http://example.com/", "http://[::1", "file:///etc"]
)
def test_no_other_address_is_called(uri: Any):
    """The sandbox speaks to nobody outside."""
    with pytest.raises(KeysRefusedError):
        check_address(uri)
