"""Tests of ``broker/sandbox/misbehaving.py``: each fault does what it says, over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import KINDS
from broker.sandbox.grant_faults import GRANT_KINDS
from broker.sandbox.jose import unverified_claims
from broker.sandbox.misbehaving import BEFORE, DELIVERIES, INSTEAD
from tests.unit.sandbox.talking import Heard, Talker, request_parameters, talking

pytestmark = pytest.mark.real_time

QUICK: dict[str, dict[str, Any]] = {
    "delay": {"delay_seconds": 0.01},
    "drip": {"seconds_per_byte": 0},
    "slow_head": {"seconds_per_byte": 0},
    "huge_body": {"bytes": 200_000},
    "gzip_bomb": {"bytes": 200_000},
}
"""Parameters that make a fault quick enough for a test."""

ORDINARY = sorted(set(KINDS) - set(GRANT_KINDS))
GROUPS = [
    *(
        (where, [kind for kind in ORDINARY if where in KINDS[kind].where and not KINDS[kind].handshake])
        for where in Where
    ),
    *((where, [kind]) for kind in ORDINARY if KINDS[kind].handshake for where in sorted(KINDS[kind].where)),
]
"""Places, and the kinds of fault to try there with one sandbox."""


async def ask(talker: Talker, where: str) -> Heard:
    """Make a good request of the sort that faults at *where* wait for."""
    if where == Where.TOKEN:
        return await talker.token()
    if where == Where.METADATA:
        return await talker.metadata()
    if where == Where.JWKS:
        return await talker.send("GET", f"{talker.sandbox.addresses.issuer}/jwks", None)
    if where == Where.PAR:
        return await talker.push()
    if where == Where.AUTHORIZE:
        return await talker.decide(talker.authorization_url(**request_parameters()))
    if where == Where.REVOCATION:
        return await talker.revoke("unknown")
    if where == Where.USERINFO:
        return await talker.userinfo((await talker.granted()).body["access_token"])
    issued = await talker.token()
    return await talker.hello(issued.body["access_token"])


async def struck(prepared: Path, tmp_path: Path, kind: str, where: str = "token", **parameters: Any) -> Heard:
    """Give the answer to a request that met a fault."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault(where, kind, **parameters)
        return await ask(talker, where)


@pytest.mark.parametrize(("where", "kinds"), GROUPS)
async def test_a_fault_strikes_so_often_and_then_all_is_well(
    prepared: Path, tmp_path: Path, where: Where, kinds: list[str]
):
    """
    Each kind of fault that exists at a place is met there once, recorded, and gone.

    aiohttp's client sends a GET again when its connection ends, so that only a POST is sure to fail.
    """
    async with talking(prepared, tmp_path) as talker:
        for kind in kinds:
            talker.sandbox.journal.clear()
            talker.sandbox.fault(where, kind, times=1, **QUICK.get(kind, {}))

            with contextlib.suppress(aiohttp.ClientError):
                await ask(talker, where)
            good = await ask(talker, where)

            assert talker.sandbox.faults.as_json() == [], kind
            assert good.status in {200, 201, 303}, kind
            met = [entry.fault for entry in talker.sandbox.journal.entries(where)]
            assert met[-1] is None
            assert [fault for fault in met if fault] == ([] if KINDS[kind].handshake else [kind])


def test_every_kind_is_carried_out_somewhere():
    """The catalogue promises nothing that no table does; twists and handshakes have tests of their own."""
    twisted = {
        *{"alter", "wrong_cnf", "no_cnf", "opaque", "wrong_token_type", "wider_scope", "bad_expires_in"},
        *{"wrong_issuer", "foreign_endpoint"},
    }
    handshakes = {name for name, kind in KINDS.items() if kind.handshake}

    assert {"delay", *BEFORE, *INSTEAD, *DELIVERIES, *twisted, *handshakes} == set(KINDS) - set(GRANT_KINDS)


async def test_a_status_comes_with_retry_after(prepared: Path, tmp_path: Path):
    """In seconds, as given."""
    heard = await struck(prepared, tmp_path, "status", status=429, retry_after=7)

    assert (heard.status, heard.headers["Retry-After"]) == (429, "7")


async def test_retry_after_may_be_nonsense(prepared: Path, tmp_path: Path):
    """Whatever an operator of a server may have typed."""
    heard = await struck(prepared, tmp_path, "status", retry_after="soon")

    assert (heard.status, heard.headers["Retry-After"]) == (503, "soon")


async def test_retry_after_may_be_a_date(prepared: Path, tmp_path: Path):
    """An HTTP date so many seconds after the sandbox's clock (RFC 9110 section 10.2.3)."""
    now = 1_790_000_000.0
    async with talking(prepared, tmp_path, wall=lambda: now) as talker:
        talker.sandbox.fault("token", "status", retry_after_date=90)

        heard = await talker.token()

        assert parsedate_to_datetime(heard.headers["Retry-After"]).timestamp() == now + 90
        assert heard.headers["Retry-After"].endswith(" GMT")


async def test_a_delay_comes_before_the_answer(prepared: Path, tmp_path: Path):
    """The request is processed, late."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    heard = await struck(prepared, tmp_path, "delay", delay_seconds=0.1)

    assert heard.status == 200
    assert loop.time() - began >= 0.1


async def test_any_fault_may_be_delayed(prepared: Path, tmp_path: Path):
    """delay_seconds is a parameter of all kinds."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    heard = await struck(prepared, tmp_path, "status", delay_seconds=0.1)

    assert heard.status == 503
    assert loop.time() - began >= 0.1


async def test_an_oauth_error_is_well_formed(prepared: Path, tmp_path: Path):
    """RFC 6749 section 5.2, with the code that was asked for."""
    heard = await struck(prepared, tmp_path, "oauth_error", error="invalid_client", status=401)

    assert (heard.status, heard.body["error"]) == (401, "invalid_client")


async def test_html_is_a_page(prepared: Path, tmp_path: Path):
    """200 with text/html, as from a proxy's sign-in page."""
    heard = await struck(prepared, tmp_path, "html")

    assert heard.status == 200
    assert heard.headers["Content-Type"].startswith("text/html")
    assert b"<h1>" in heard.raw


async def test_an_empty_answer_is_empty(prepared: Path, tmp_path: Path):
    """200, JSON by its name, no body."""
    heard = await struck(prepared, tmp_path, "empty")

    assert (heard.status, heard.raw) == (200, b"")
    assert heard.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_to_the_origin_that_records(prepared: Path, tmp_path: Path, status: int):
    """A client that follows it with its form is caught."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "redirect", status=status)

        heard = await talker.token()

        assert heard.status == status
        assert heard.headers["Location"] == f"{talker.sandbox.addresses.elsewhere}/token"


async def test_a_client_that_follows_a_redirect_is_found_out(prepared: Path, tmp_path: Path):
    """307 repeats the POST, assertion and all; the other origin even hands out a token."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "redirect")
        url = f"{talker.sandbox.addresses.mtls}/token"

        heard = await talker.send("POST", url, "client", data={"client_assertion": "a"}, allow_redirects=True)

        assert heard.body["access_token"] == "from-elsewhere"
        (entry,) = talker.sandbox.journal.entries("elsewhere")
        assert (entry.method, entry.credentials) == ("POST", ("client_assertion",))


async def test_a_huge_body_has_the_size_that_was_asked_for(prepared: Path, tmp_path: Path):
    """It is one JSON object with one endless string, and no Content-Length warns of it."""
    heard = await struck(prepared, tmp_path, "huge_body", bytes=1_000_000)

    assert len(json.loads(heard.raw)["access_token"]) == 1_000_000
    assert "Content-Length" not in heard.headers


async def test_a_huge_body_ends_when_the_client_leaves(prepared: Path, tmp_path: Path):
    """Whoever stops reading costs the sandbox nothing more: the next request is answered at once."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "huge_body", times=1)
        url = f"{talker.sandbox.addresses.mtls}/token"

        async with talker.session.post(url, ssl=talker.context("client")) as answer:
            await answer.content.read(100_000)
            answer.close()
        again = await talker.token()

        assert again.status == 200


async def test_a_gzip_bomb_is_small_on_the_wire(prepared: Path, tmp_path: Path):
    """A thousand times smaller than what comes out, and sent to a client that asked for identity."""
    size = 5_000_000
    async with (
        talking(prepared, tmp_path) as talker,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        talker.sandbox.fault("token", "gzip_bomb", bytes=size)
        url, context = f"{talker.sandbox.addresses.mtls}/token", talker.context("client")

        async with session.post(url, ssl=context, headers={"Accept-Encoding": "identity"}) as answer:
            raw = await answer.read()

        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(raw) < size / 500
        assert len(zlib.decompress(raw, wbits=31)) > size


async def test_garbage_is_not_http(prepared: Path, tmp_path: Path):
    """The parser of any client gives up."""
    with pytest.raises(aiohttp.ClientResponseError):
        await struck(prepared, tmp_path, "garbage")


async def test_a_reset_is_a_reset(prepared: Path, tmp_path: Path):
    """ECONNRESET, and not the orderly end that a lost answer is; nothing was processed."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "reset")

        with pytest.raises(aiohttp.ClientOSError) as caught:
            await talker.token()

        assert isinstance(caught.value, ConnectionResetError) or caught.value.errno == 104
        assert talker.sandbox.journal.count("token.issued") == 0


async def test_a_lost_answer_was_processed(prepared: Path, tmp_path: Path):
    """The server issued a token, nobody got it, and the assertion is spent."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "lost_answer", times=1)
        claims = {"jti": "spent"}

        with pytest.raises(aiohttp.ServerDisconnectedError):
            await talker.token(claims=claims)
        again = await talker.token(claims=claims)

        assert talker.sandbox.journal.count("token.issued") == 1
        assert again.body["error"] == "invalid_client"


async def test_a_lost_answer_may_be_a_reset(prepared: Path, tmp_path: Path):
    """Processed, unlike the fault of that name."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "lost_answer", reset=True)

        with pytest.raises(aiohttp.ClientOSError):
            await talker.token()

        assert talker.sandbox.journal.count("token.issued") == 1


async def test_a_lost_answer_may_be_a_proxys(prepared: Path, tmp_path: Path):
    """504 and no body, though the server did its work."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "lost_answer", status=504)

        heard = await talker.token()

        assert (heard.status, heard.raw) == (504, b"")
        assert talker.sandbox.journal.count("token.issued") == 1


async def test_half_of_the_json_is_all_there_is(prepared: Path, tmp_path: Path):
    """Content-Length agrees with the half, so that only parsing finds out."""
    heard = await struck(prepared, tmp_path, "half_json")

    assert heard.status == 200
    assert heard.headers["Content-Type"].startswith("application/json")
    assert heard.raw.startswith(b"{")
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(heard.raw)


async def test_an_answer_that_is_cut_is_shorter_than_it_says(prepared: Path, tmp_path: Path):
    """The connection ends before Content-Length is reached."""
    with pytest.raises(aiohttp.ClientPayloadError):
        await struck(prepared, tmp_path, "cut")


async def test_a_dripping_answer_takes_its_time(prepared: Path, tmp_path: Path):
    """The status comes at once, the body byte by byte."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "drip", seconds_per_byte=0.05)
        url = f"{talker.sandbox.addresses.mtls}/token"

        async with talker.session.post(url, data={"a": "b"}, ssl=talker.context("client")) as answer:
            first = await answer.content.readany()
            second = await answer.content.readany()

        assert (first, second) == (b"{", b'"')


async def test_a_wrong_content_type_leaves_the_body_alone(prepared: Path, tmp_path: Path):
    """Good JSON that calls itself text."""
    heard = await struck(prepared, tmp_path, "content_type", value="text/plain")

    assert heard.headers["Content-Type"].startswith("text/plain")
    assert json.loads(heard.raw)["token_type"] == "Bearer"


async def test_duplicate_members_are_all_there(prepared: Path, tmp_path: Path):
    """A lenient parser takes it; a strict one must not."""
    heard = await struck(prepared, tmp_path, "duplicate_member")

    assert heard.raw.count(b'"access_token"') == 2
    assert json.loads(heard.raw)["token_type"] == "Bearer"


async def test_twists_reach_the_signed_token(prepared: Path, tmp_path: Path):
    """The token is well signed and bound to the wrong certificate, so that the API refuses it."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "wrong_cnf", times=1)

        issued = await talker.token()
        refused = await talker.hello(issued.body["access_token"])

        assert "x5t#S256" in unverified_claims(issued.body["access_token"])["cnf"]
        assert refused.status == 401


@pytest.mark.parametrize(
    ("variant", "words"),
    [("self_signed", "self-signed"), ("wrong_name", "not valid for"), ("expired", "expired")],
)
async def test_a_bad_server_certificate_is_bad_in_the_way_it_says(
    prepared: Path, tmp_path: Path, variant: str, words: str
):
    """A verifying client refuses each, for its own reason."""
    with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
        await struck(prepared, tmp_path, "bad_certificate", where="metadata", variant=variant)

    assert words in str(caught.value.certificate_error)


async def test_a_bad_certificate_strikes_although_a_connection_was_open(prepared: Path, tmp_path: Path):
    """Open connections are closed, so that the next request needs a handshake."""
    async with talking(prepared, tmp_path) as talker:
        await talker.token()
        talker.sandbox.fault("token", "bad_certificate")
        await asyncio.sleep(0.01)  # for the end of the connection to arrive

        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await talker.token()


async def test_a_refused_client_certificate_looks_as_with_real_servers(prepared: Path, tmp_path: Path):
    """With TLS 1.3 the handshake succeeds for the client, and the reset comes at the first read."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("token", "refuse_certificate")

        for _ in range(20):
            with pytest.raises(aiohttp.ClientOSError) as caught:
                await talker.token()

            assert not isinstance(caught.value, aiohttp.ClientConnectorError)
            assert caught.value.errno == 104
        assert talker.sandbox.journal.count("token") == 0
