"""What a caller sends for itself passes, what speaks for somebody else does not (rules.md R6)."""

from __future__ import annotations

import pytest

from broker.egress.fields import of_reply, of_request, values_of, without_our_status

DROPPED = [
    *("Authorization", "AUTHORIZATION", "DPoP", "Cookie", "Forwarded", "Via", "Host", "Content-Length", "Expect"),
    *("Proxy-Authorization", "Proxy-Connection", "Proxy-Anything", "X-Forwarded-For", "X-Forwarded-Anything"),
    *("Client-Cert", "Client-Cert-Chain", "client_cert", "X-Client-Cert", "X-Amzn-Mtls-Clientcert-Client-Cert-Leaf"),
    *("X-SSL-Client-Verify", "X_SSL_CLIENT", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Original-URL"),
    *("X-Rewrite-URL", "X_Rewrite_Url", "X-Token-Broker-Grant", "Connection", "Keep-Alive", "TE", "Trailer"),
    *("Transfer-Encoding", "Upgrade", "HTTP2-Settings", "X-Forwarded", "X-Real-IP", "X-Method-Override"),
    *("X-Amzn-Mtls-Clientcert", "X-ARR-ClientCert", "SSL-Client-Cert", "SSL-Client-Verify", "X-Original-Method"),
]

KEPT = [
    *("Accept", "Accept-Encoding", "Content-Type", "If-None-Match", "traceparent", "tracestate", "User-Agent"),
    *("x-fapi-interaction-id", "Idempotency-Key", "X-Custom", "Origin-Of-Something", "X-Cert", "Range", "Prefer"),
]


@pytest.mark.parametrize("name", DROPPED)
def test_what_speaks_for_somebody_else_is_dropped(name: str):
    """Whatever its case, and with an underscore for a hyphen."""
    variants = {name, name.lower(), name.upper(), name.replace("-", "_")}

    assert of_request(tuple((variant, "x") for variant in variants)) == ()


@pytest.mark.parametrize("name", KEPT)
def test_what_a_caller_says_for_itself_passes(name: str):
    """In its own spelling, in its order and as often as it came."""
    fields = ((name, "1"), (name, "2"))

    assert of_request(fields) == fields
    assert of_reply(fields) == fields


def test_what_connection_names_is_of_one_hop():
    """In several fields, several words and any spelling."""
    fields = (("Connection", "close, X-One"), ("x-one", "1"), ("X_Two", "2"), ("connection", "x-two"), ("X-Three", "3"))

    assert of_request(fields) == (("X-Three", "3"),)
    assert of_reply(fields) == (("X-Three", "3"),)


@pytest.mark.parametrize(
    "name",
    [
        *("Set-Cookie", "set-cookie2", "DPoP-Nonce", "Authorization", "Proxy-Authenticate"),
        *("Proxy-Authentication-Info", "Transfer-Encoding", "Trailer", "Content-Length", "Keep-Alive", "Upgrade"),
    ],
)
def test_what_an_api_says_to_the_broker_is_dropped(name: str):
    """Cookies would make two callers one, nonces are the broker's."""
    assert of_reply(((name, "x"), (name.lower(), "y"))) == ()


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("token-broker; error=x", ""),
        ("edge; received-status=500, token-broker; error=x", "edge; received-status=500"),
        ('"Token-Broker"; error=x, edge', "edge"),
        ("edge", "edge"),
    ],
)
def test_an_api_does_not_speak_for_the_broker(value: str, left: str):
    """A Proxy-Status member of our name is ours alone (RFC 9209)."""
    assert without_our_status(value) == left
    assert of_reply((("Proxy-Status", value),)) == ((("Proxy-Status", left),) if left else ())


def test_all_values_of_a_field_are_found():
    """Whatever its case."""
    assert values_of((("A", "1"), ("b", "2"), ("a", "3")), "a") == ("1", "3")
