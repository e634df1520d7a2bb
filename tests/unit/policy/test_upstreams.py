"""An allow list lets through what it names, compared as it stands, and nothing else."""

from __future__ import annotations

import pytest

from broker.policy.upstreams import NotARuleError, Upstream, read_rule


def upstream(*allow: str) -> Upstream:
    rules = tuple(read_rule(text) for text in allow)
    return Upstream(name="api", base_url="https://api.example/v1", token="t", allow=rules)


@pytest.mark.parametrize(
    ("rule", "method", "path", "allowed"),
    [
        ("GET /accounts", "GET", "/accounts", True),
        ("GET /accounts", "POST", "/accounts", False),
        ("GET /accounts", "get", "/accounts", False),
        ("GET /accounts", "GET", "/accounts/", False),
        ("GET /accounts", "GET", "/Accounts", False),
        ("GET /accounts", "GET", "accounts", False),
        ("GET /accounts/", "GET", "/accounts/", True),
        ("GET /accounts/*", "GET", "/accounts/1", True),
        ("GET /accounts/*", "GET", "/accounts/", False),
        ("GET /accounts/*", "GET", "/accounts/1/balances", False),
        ("GET /accounts/*/balances", "GET", "/accounts/1/balances", True),
        ("GET /accounts/**", "GET", "/accounts/1/balances", True),
        ("GET /accounts/**", "GET", "/accounts/", True),
        ("GET /accounts/**", "GET", "/accounts", False),
        ("GET /accounts/**", "GET", "/accountsx/1", False),
        ("GET /**", "GET", "/", True),
        ("GET /", "GET", "/", True),
        ("GET /", "GET", "/a", False),
        ("* /accounts", "DELETE", "/accounts", True),
        ("* /accounts", "TRACE", "/accounts", False),
        ("* /**", "CONNECT", "/accounts", False),
        ("GET /a%20b", "GET", "/a%20b", None),
    ],
)
def test_a_rule_lets_through_what_it_names(rule: str, method: str, path: str, allowed: bool | None):
    """A star is one segment that is not empty; two at the end are all that follow."""
    if allowed is None:
        with pytest.raises(NotARuleError):
            read_rule(rule)
        return
    found = upstream(rule).rule_for(method, path)

    assert (found is not None) == allowed
    assert found is None or found.template == rule.partition(" ")[2]


@pytest.mark.parametrize(
    "text",
    [
        *("", "GET", "GET accounts", "/accounts", "get /accounts", "GET  /accounts", "GET /a/**/b", "GET /a?b"),
        *("GET /a b", "GET /../x", "GET /./x", "TRACE /x", "CONNECT /x", "G*T /x", "GET /a*b", "GET /é", "GET /a;b"),
        "GET /a#b",
    ],
)
def test_what_is_no_rule_is_refused(text: str):
    """It could let through something else than was meant."""
    with pytest.raises(NotARuleError):
        read_rule(text)


def test_a_call_goes_below_the_base_url():
    """Exactly as path and query came."""
    api = upstream("GET /**")

    assert api.url_of("/a//%C3%A9", "") == "https://api.example/v1/a//%C3%A9"
    assert api.url_of("/a", "b=c&d") == "https://api.example/v1/a?b=c&d"
    assert api.authority == "api.example"
