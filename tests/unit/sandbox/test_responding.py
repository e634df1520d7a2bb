"""Tests of ``broker/sandbox/responding.py``: how requests are read; faults and records are tested over real TLS."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from broker.sandbox.client_keys import ClientKeys
from broker.sandbox.clients import Assertion
from broker.sandbox.faults import FaultBoard, read_fault
from broker.sandbox.journal import Journal
from broker.sandbox.responding import Responding, Seen, new_application, read_form, thumbprint
from tests.unit.sandbox.test_metadata import ADDRESSES


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", ()),
        (b"a=1&b=&a=2", (("a", "1"), ("b", ""), ("a", "2"))),
        (b"scope=a+b&x=%26", (("scope", "a b"), ("x", "&"))),
        (b"\xff", None),
        (b"a=1&" * 1_001, None),
    ],
)
def test_a_form_is_read_in_order_with_what_is_empty(body: bytes, form: tuple[tuple[str, str], ...] | None):
    """And is none when it is not text, or has too many fields."""
    assert read_form(body) == form


@pytest.mark.real_time
async def test_a_record_says_what_is_known_of_a_request():
    """The client is the assertion's, unless somebody knows better; without TLS there is no certificate."""
    journal = Journal()
    responding = Responding(
        addresses=ADDRESSES,
        faults=FaultBoard(lambda: 0.0),
        journal=journal,
        wall=lambda: 12.5,
        client_keys=ClientKeys(clients={}, journal=journal, wall=lambda: 12.5),
    )
    assertion = Assertion(client_id="app", jti="1", alg="ES256")
    asked = Seen(endpoint="token", assertion=assertion, grant_type="refresh_token")
    fault = read_fault({"kind": "html", "where": "token"})

    async def handle(request: web.Request) -> web.Response:
        assert thumbprint(request) is None
        responding.record(request, asked, outcome="fault", fault=fault)
        responding.record(request, Seen(endpoint="authorize"), outcome="login", client="other", reason="r", grant="g")
        return web.Response()

    application = new_application()
    application.router.add_post("/token", handle)
    async with TestClient(TestServer(application)) as client:
        assert (await client.post("/token")).status == 200
        assert await (await client.get("/token")).json() == {"error": "invalid_request"}

    first, second = journal.entries()
    assert (first.time, first.endpoint, first.method, first.outcome) == (12.5, "token", "POST", "fault")
    assert (first.client, first.jti, first.alg, first.grant_type) == ("app", "1", "ES256", "refresh_token")
    assert (first.fault, first.certificate) == ("html", None)
    assert (second.client, second.reason, second.grant, second.fault) == ("other", "r", "g", None)
