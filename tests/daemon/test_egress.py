"""Calls of an API through the broker: with the token that its caller never sees, and the certificate it is bound to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.daemon.egress_place import EgressPlace, UnixConnection, egress_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EgressPlace]:
    with egress_place(tmp_path_factory.mktemp("egress")) as at:
        yield at


@pytest.fixture
def at(place: EgressPlace) -> EgressPlace:
    place.sandbox.control.clear_faults()
    place.sandbox.control.clear_requests()
    return place


def test_a_program_calls_an_api_that_wants_a_bound_token(at: EgressPlace):
    """It holds neither token nor key."""
    reply = at.ask("GET", "/hello")

    assert reply.status == 200, reply.body
    assert reply.json()["client_id"]
    assert [one["matched"] for one in at.reached()] == [True]


def test_a_body_goes_there_and_comes_back(at: EgressPlace):
    """With its length, and in chunks."""
    whole = at.ask("POST", "/echo", b"x" * 10_000)
    chunked = at.ask("POST", "/echo", iter([b"1\r\na\r\n", b"0\r\n\r\n"]), {"Transfer-Encoding": "chunked"})

    assert (whole.status, whole.body) == (200, b"x" * 10_000)
    assert (chunked.status, chunked.body) == (200, b"a")


def test_a_large_reply_comes_whole(at: EgressPlace):
    """As it comes, with its length and without one."""
    size = 3_000_000
    expected = hashlib.sha256(bytes(i % 251 for i in range(size))).hexdigest()

    for target in (f"/bytes/{size}", f"/bytes/{size}?chunked=1"):
        reply = at.ask("GET", target)
        assert (reply.status, len(reply.body)) == (200, size)
        assert hashlib.sha256(reply.body).hexdigest() == expected


def test_a_connection_serves_many_calls(at: EgressPlace):
    """Also behind calls with a body, and behind large replies."""
    connection = UnixConnection(at.broker.socket)
    connection.connect()
    sock = connection.sock
    for _ in range(3):
        assert connection.ask("GET", "/v1/egress/api/hello").status == 200
        assert connection.ask("POST", "/v1/egress/api/echo", b"abc").body == b"abc"
        assert len(connection.ask("GET", "/v1/egress/api/bytes/200000").body) == 200_000
        assert connection.ask("GET", "/v1/tokens").status == 200
        assert connection.sock is sock
    connection.close()


def test_a_listener_can_stand_for_the_api(at: EgressPlace):
    """For programs that want a base URL; it has no other route."""
    connection = UnixConnection(at.base)

    assert connection.ask("GET", "/hello").status == 200
    refused = connection.ask("GET", "/v1/tokens")
    connection.close()

    assert refused.status == 403
    assert refused.values("Proxy-Status") == ["token-broker; error=http_request_denied"]


def test_what_speaks_for_somebody_else_does_not_reach_the_api(at: EgressPlace):
    """Credentials, what proxies add, and what servers believe about certificates; all the rest does, as it came."""
    dropped = {
        "Authorization": "Bearer of-the-caller",
        "DPoP": "x",
        "Cookie": "a=b",
        "Forwarded": "for=1.2.3.4",
        "Via": "1.1 x",
        "X-Forwarded-For": "1.2.3.4",
        "X_Forwarded_Host": "evil.example",
        "Client-Cert": ":x:",
        "Client-Cert-Chain": ":x:",
        "X-Amzn-Mtls-Client-Cert": "x",
        "X-SSL-Client-DN": "x",
        "X-HTTP-Method-Override": "DELETE",
        "X-Original-URL": "/admin",
        "X-Rewrite-URL": "/admin",
        "X-Token-Broker-Anything": "x",
        "Proxy-Authorization": "x",
        "Keep-Alive": "x",
        "TE": "trailers",
        "Connection": "close, X-Named, Authorization",
        "X-Named": "x",
    }
    kept = {
        "Accept": "text/csv",
        "X-Custom": "1",
        "Idempotency-Key": "k",
        "traceparent": "00-a-b-01",
        "User-Agent": "me",
    }

    seen = at.ask("GET", "/request", headers={**dropped, **kept}).json()

    names = [name.lower() for name, _ in seen["headers"]]
    assert sorted(names) == sorted(
        ["host", "authorization", "x-fapi-interaction-id", *(name.lower() for name in kept), "accept-encoding"]
    )
    values = {name.lower(): value for name, value in seen["headers"]}
    assert {name: values[name.lower()] for name in kept} == kept
    assert values["authorization"] == "Bearer"


def test_what_an_api_says_to_the_broker_does_not_reach_the_caller(at: EgressPlace):
    """Cookies, nonces, challenges for proxies, fields of one hop, and trailers."""
    reply = at.ask("GET", "/leaks")

    told = reply.json()
    assert told["dropped"]
    assert told["kept"]
    names = {name.lower() for name, _ in reply.fields}
    assert not {name.lower() for name in told["dropped"]} & (names - {"transfer-encoding", "connection"})
    assert {name.lower() for name in told["kept"]} <= names
    assert "leaked" not in str(reply.fields)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("DELETE", "/hello"),
        ("GET", "/hello/more"),
        ("GET", "/bytes"),
        ("GET", "/bytes/"),
        ("GET", "/"),
    ],
)
def test_what_the_allow_list_does_not_name_makes_no_connection(at: EgressPlace, method: str, path: str):
    """403, recorded, and the API hears nothing."""
    reply = at.ask(method, path)

    assert (reply.status, reply.json()["error"]) == (403, "access_denied")
    assert at.reached() == []
    refused = at.broker.records("request_refused")[-1]
    assert (refused["reason"], refused["route"], refused["token"]) == (
        "call_not_allowed",
        "/v1/egress/{upstream}/{path}",
        "demo",
    )


def test_an_upstream_that_is_not_the_callers_is_like_one_that_is_not_there(at: EgressPlace):
    """And the hint names those that are."""
    connection = UnixConnection(at.broker.socket)
    reply = connection.ask("GET", "/v1/egress/another/hello")
    connection.close()

    assert reply.status == 403
    assert reply.json()["hint"] == "this caller may call: api"


def test_each_call_is_one_record_and_counts(at: EgressPlace):
    """With the pattern that allowed it, and never with its path or query."""
    before = len(at.broker.records("egress_called"))
    at.ask("POST", "/request/secret-path?secret=query", b"12345")
    at.ask("GET", "/bytes/200000")

    first, second = at.broker.records("egress_called")[before:]
    assert (first["method"], first["pattern"], first["status"], first["sent"], first["outcome"]) == (
        "POST",
        "/request/**",
        200,
        5,
        "ok",
    )
    assert (second["received"], second["upstream"], second["token"], second["workload"]) == (
        200_000,
        "api",
        "demo",
        "demo",
    )
    assert second["fingerprint"]
    assert 0 <= second["waited"] <= second["duration"]
    assert "secret" not in at.broker.audit.read_text().replace("client_secret", "")
    metrics = at.broker.ops("/metrics").body.decode()
    assert 'token_broker_egress_total{outcome="ok",upstream="api"}' in metrics


def test_a_large_reply_is_recorded_before_the_last_of_it(at: EgressPlace):
    """Whoever has all of it finds the record; with a length there is nothing after the body that could wait for it."""
    before = len(at.broker.records("egress_called"))
    late = []
    for number in range(1, 31):
        assert len(at.ask("GET", "/bytes/200000").body) == 200_000
        recorded = len(at.broker.records("egress_called")) - before
        late += [number] if recorded != number else []

    assert late == []


def test_a_token_that_is_refused_is_replaced_once(at: EgressPlace):
    """The call is made again with another token where all of its body is still there; else the refusal is the reply."""
    at.sandbox.control.fault("resource", "invalid_token", times=1)

    first = at.ask("POST", "/echo", b"abc")
    at.sandbox.control.fault("resource", "invalid_token", times=1)
    again = at.ask("POST", "/echo", b"abc")

    assert (first.status, again.status) in {(200, 401), (401, 401)}  # a token of this second is not replaced yet
    assert again.values("WWW-Authenticate")


@pytest.mark.parametrize(
    ("kind", "parameters", "status", "code", "error"),
    [
        ("bad_certificate", {"variant": "self_signed"}, 502, "upstream_error", "tls_certificate_error"),
        ("bad_certificate", {"variant": "expired"}, 502, "upstream_error", "tls_certificate_error"),
        ("bad_certificate", {"variant": "wrong_name"}, 502, "upstream_error", "tls_certificate_error"),
        ("refuse_certificate", {}, 502, "upstream_error", "tls_alert_received"),
    ],
)
def test_an_api_that_cannot_be_reached_is_a_bad_gateway(
    at: EgressPlace, kind: str, parameters: dict[str, str], status: int, code: str, error: str
):
    """The answer says that it is the broker's, and the connection of the caller goes on."""
    at.sandbox.control.fault("resource", kind, **parameters)
    connection = UnixConnection(at.broker.socket)
    reply = connection.ask("GET", "/v1/egress/api/hello")
    at.sandbox.control.clear_faults()
    after = connection.ask("GET", "/v1/egress/api/hello")
    connection.close()

    assert (reply.status, reply.json()["error"]) == (status, code), reply.body
    assert reply.values("Proxy-Status") == [f"token-broker; error={error}"]
    assert after.status == 200
    assert at.broker.records("egress_called")[-2]["status"] is None
