"""endpoint_urls: one reading of a URL, and where it must not lead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.oauth.endpoint_urls import (
    EndpointUrl,
    NotAnEndpointUrlError,
    is_loopback,
    is_never_dialed,
    parse_url,
)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("https://as.example", EndpointUrl(scheme="https", host="as.example", port=443, query="")),
        ("HTTPS://AS.Example:8443/Token", EndpointUrl(scheme="https", host="as.example", port=8443, query="")),
        ("http://localhost:80/", EndpointUrl(scheme="http", host="localhost", port=80, query="")),
        ("https://as.example/t?a=b/c?d", EndpointUrl(scheme="https", host="as.example", port=443, query="?a=b/c?d")),
        ("https://[::1]:9/x", EndpointUrl(scheme="https", host="[::1]", port=9, query="")),
        ("https://192.0.2.1/x", EndpointUrl(scheme="https", host="192.0.2.1", port=443, query="")),
        ("https://as.example/a%20b/..c/.d/x;y=1", EndpointUrl(scheme="https", host="as.example", port=443, query="")),
        ("https://as.example:1/", EndpointUrl(scheme="https", host="as.example", port=1, query="")),
        ("https://as.example:65535/", EndpointUrl(scheme="https", host="as.example", port=65_535, query="")),
        ("https://7.example/", EndpointUrl(scheme="https", host="7.example", port=443, query="")),
    ],
)
def test_a_plain_url_is_taken_apart(text: str, parsed: EndpointUrl) -> None:
    """Scheme and host in lower case, the default port filled in."""
    assert parse_url(text) == parsed


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("https://as.example:443/", "as.example"),
        ("https://as.example:80/", "as.example:80"),
        ("http://localhost:80/", "localhost"),
        ("https://[::1]:8443/", "[::1]:8443"),
    ],
)
def test_the_authority_leaves_out_the_default_port(text: str, authority: str) -> None:
    """As an operator would write it."""
    assert parse_url(text).authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "",
        "as.example",
        "//as.example/",
        "https:as.example",
        "https:///token",
        "https://",
        "ftp://as.example/",
        "javascript://as.example/",
        "https://user@as.example/",
        "https://user:password@as.example/",
        "https://as.example@evil.example/",
        "https://as.example\\@evil.example/",
        "https://as.example\\.evil.example/",
        "https://as.example/#fragment",
        "https://as.example/#",
        "https://as.example/a b",
        "https://as.example/\t",
        "https://as.example/\n",
        "https://as.example\n/",
        " https://as.example/",
        "https://as.example/caf\u00e9",
        "https://caf\u00e9.example/",
        "http\u017f://as.example/",
        "https://as.example:/",
        "https://as.example:0/",
        "https://as.example:65536/",
        "https://as.example:443443/",
        "https://as.example:-1/",
        "https://as.example:8443x/",
        "https://as..example/",
        "https://.as.example/",
        "https://as.example./",
        "https://as_example/",
        "https://%61s.example/",
        "https://2852039166/",
        "https://0xa9fea9fe/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://169.254.43518/",
        "https://0251.0376.0251.0376/",
        "https://as.example.0x7f/",
        "https://256.1.1.1/",
        "https://[::1/",
        "https://[:::1]/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://as.example/a/../b",
        "https://as.example/a/./b",
        "https://as.example/..",
        "https://as.example/%2e%2E/b",
        "https://as.example/.%2e",
        "https://" + "a" * 254 + "/",
    ],
)
def test_a_url_with_two_readings_is_refused(text: str) -> None:
    """Where two parsers would find two hosts, or one of them would find a way out, there is no URL."""
    with pytest.raises(NotAnEndpointUrlError) as caught:
        parse_url(text)

    assert str(caught.value) == "not a plain absolute URL"


@settings(derandomize=True, max_examples=100, deadline=None, database=None)
@given(st.text(max_size=30) | st.text(":/.@[]?#%\\12af", max_size=30).map("https://".__add__))
def test_no_text_brings_another_error(text: str) -> None:
    """A URL in metadata is a peer's text."""
    try:
        parsed = parse_url(text)
    except NotAnEndpointUrlError:
        return

    assert parsed.host in text.lower()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "::1"])
def test_loopback_is_this_machine(host: str) -> None:
    """With brackets and without."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["as.example", "localhost.example", "0.0.0.0", "10.0.0.1", "[::2]", "127.example"])
def test_nothing_else_is_loopback(host: str) -> None:
    """A name that begins like one is not one."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "[fe80::1]",
        "febf::1",
        "[fd00:ec2::254]",
        "fd00:ec2::23",
        "fd20:ce::254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::ffff:100.100.100.200",
        "fe80::1%eth0",
    ],
)
def test_metadata_addresses_are_never_dialed(host: str) -> None:
    """However they are dressed up."""
    assert is_never_dialed(host)


@pytest.mark.parametrize(
    "host",
    [
        "as.example",
        "localhost",
        "127.0.0.1",
        "10.0.0.1",
        "169.253.255.255",
        "100.100.100.201",
        "[::1]",
        "2001:db8::1",
        "",
    ],
)
def test_other_addresses_may_be_dialed(host: str) -> None:
    """Private ones too: an operator may have written them."""
    assert not is_never_dialed(host)
