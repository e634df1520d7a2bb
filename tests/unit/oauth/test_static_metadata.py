"""static_metadata: a server that its dialect describes."""

from __future__ import annotations

import pytest

from broker.errors import LocalError
from broker.oauth.dialect import IRIDIUM, Dialect
from broker.oauth.metadata import AuthorizationServer, endpoints_of
from broker.oauth.static_metadata import ENDPOINT_NAMES, described_server, endpoint_url
from tests.unit.oauth.builders import an_issuer

LOOPBACK = an_issuer(issuer="http://127.0.0.1:8381", allow_insecure_loopback=True)


def test_without_endpoints_a_server_has_metadata() -> None:
    """Then it is asked."""
    assert described_server(an_issuer()) is None


def test_iridium_is_described_by_its_dialect() -> None:
    """Paths are below the issuer; what it does not have is absent, and what it says of itself is nothing."""
    assert described_server(an_issuer(dialect=IRIDIUM)) == AuthorizationServer(
        issuer="https://as.example",
        authorization_endpoint="https://as.example/oauth/external/authorize",
        token_endpoint="https://as.example/oauth/token",
        refresh_endpoint="https://as.example/oauth/token/refresh",
        logout_endpoint="https://as.example/applications/{client_id}/tokens",
        userinfo_endpoint="https://as.example/identities",
    )


def test_each_endpoint_that_there_is_can_be_described() -> None:
    """Each name is a member of a server, and known as one of its endpoints: no program calls it."""
    urls = {name: f"https://as.example/{name}" for name in ENDPOINT_NAMES}

    server = described_server(an_issuer(dialect=Dialect(endpoints=tuple(urls.items()))))

    assert server is not None
    assert {name: getattr(server, name) for name in ENDPOINT_NAMES} == urls
    assert endpoints_of(server, "app-1") == frozenset(urls.values())


@pytest.mark.parametrize(
    ("issuer", "text", "url"),
    [
        ("https://as.example", "/oauth/token", "https://as.example/oauth/token"),
        ("https://as.example/", "/oauth/token", "https://as.example/oauth/token"),
        ("https://as.example/tenant", "/token?v=1", "https://as.example/tenant/token?v=1"),
        ("https://as.example:8443", "/token", "https://as.example:8443/token"),
        ("https://as.example", "https://other.example:9443/t", "https://other.example:9443/t"),
        ("https://as.example", "//evil.example/t", "https://as.example//evil.example/t"),
    ],
)
def test_a_path_is_below_the_issuer_and_a_url_is_anywhere(issuer: str, text: str, url: str) -> None:
    """An operator wrote it: no list of hosts is asked. What begins with a slash cannot lead to another host."""
    assert endpoint_url(an_issuer(issuer=issuer), "token_endpoint", text) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("oauth/token", "neither a path below the issuer nor a plain absolute URL"),
        ("@evil.example/t", "neither a path"),
        ("ftp://as.example/t", "neither a path"),
        ("https://u:p@as.example/t", "neither a path"),
        ("https://as.example/t#f", "neither a path"),
        ("/t#f", "neither a path"),
        ("/a/../b", "neither a path"),
        ("/a b", "neither a path"),
        ("/{client_id}/token", "neither a path"),
        ("", "neither a path"),
        ("http://as.example/t", "is not https"),
        ("http://127.0.0.1/t", "is not https"),
        ("https://169.254.169.254/t", "link-local or cloud metadata address"),
        ("https://[fe80::1]/t", "link-local or cloud metadata address"),
    ],
)
def test_what_is_not_dialed_is_refused(text: str, message: str) -> None:
    """The text is not repeated: a password may be in it."""
    with pytest.raises(LocalError, match=message) as raised:
        described_server(an_issuer(dialect=Dialect(endpoints=(("token_endpoint", text),))))

    assert raised.value.code == "endpoint_invalid"
    assert raised.value.message.startswith("token_endpoint ")
    assert text not in raised.value.message or not text


def test_http_is_for_a_loopback_address_with_the_switch() -> None:
    """As for the issuer; a metadata address is refused with it, too."""
    assert endpoint_url(LOOPBACK, "token_endpoint", "/t") == "http://127.0.0.1:8381/t"
    assert endpoint_url(LOOPBACK, "token_endpoint", "http://localhost:1/t") == "http://localhost:1/t"
    for text in ("http://as.example/t", "http://169.254.169.254/t"):
        with pytest.raises(LocalError):
            endpoint_url(LOOPBACK, "token_endpoint", text)


@pytest.mark.parametrize("name", [name for name in ENDPOINT_NAMES if name != "logout_endpoint"])
def test_the_clients_id_stands_in_the_path_of_a_logout_alone(name: str) -> None:
    """Elsewhere nobody fills it in, and the braces would go out."""
    assert endpoint_url(an_issuer(), "logout_endpoint", "/a/{client_id}/t") == "https://as.example/a/{client_id}/t"
    with pytest.raises(LocalError):
        endpoint_url(an_issuer(), name, "/a/{client_id}/t")


def test_the_clients_id_is_not_in_the_host_of_a_logout() -> None:
    """Whoever registers a client may choose it: it does not say whom a token is sent to."""
    with pytest.raises(LocalError):
        endpoint_url(an_issuer(), "logout_endpoint", "https://{client_id}.example.com/t")
