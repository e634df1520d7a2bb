"""The rules for single values."""

from __future__ import annotations

import datetime as dt
from typing import Any, get_args

import pytest

from broker.config import values
from broker.config.values import Refused, Rule, between, split_listen


def check(kind: Any, value: Any) -> None:
    """Apply the rules that stand in an annotated type."""
    for extra in get_args(kind)[1:]:
        if isinstance(extra, Rule):
            extra.check(value)


ACCEPTED = [
    (values.Name, "a.b-c_1"),
    (values.PathText, "/etc/token-broker/file.pem"),
    (values.PathText, "../büro/file"),
    (values.ScopeToken, "https://example.com/scope#x"),
    (values.ScopeToken, "!#[]~"),
    (values.ResourceUri, "https://api.example.com/"),
    (values.ResourceUri, "urn:example:api"),
    (values.ResourceUri, "https://[::1]:8443/x?y"),
    (values.Visible, "https://rp.example.com/a b"),
    (values.KeyId, ""),
    (values.KeyId, "signing key 1"),
    (values.FormValue, ""),
    (values.FormValue, "größer\n"),
    (values.ParameterName, "x-vendor.name_1"),
    (values.EndpointHost, "mtls.example.com"),
    (values.EndpointHost, "mtls.example.com:8443"),
    (values.EndpointHost, "localhost"),
    (values.EndpointHost, "127.0.0.1:1"),
    (values.EndpointHost, "[::1]"),
    (values.EndpointHost, "[2001:db8::1]:65535"),
    (values.EndpointHost, "xn--bcher-kva.example"),
    (values.Listen, "127.0.0.1:9464"),
    (values.Listen, "0.0.0.0:0"),
    (values.Listen, "[::]:9464"),
    (values.LoopbackAddress, "127.0.0.1:8181"),
    (values.LoopbackAddress, "127.1.2.3:1"),
    (values.LoopbackAddress, "[::1]:65535"),
    (values.LoopbackAddress, "[0:0:0:0:0:0:0:1]:8181"),
    (values.Mode, "0660"),
    (values.Mode, "600"),
    (values.Mode, "0666"),
    (values.Account, 0),
    (values.Account, 4_294_967_294),
    (values.Account, "_apt"),
    (values.Account, "EXAMPLE\\user.name"),
    (values.Account, "machine$"),
    (values.CredentialName, "transport.passphrase"),
    (values.ProxyUrl, "http://proxy.example.com:3128"),
    (values.ProxyUrl, "http://proxy:3128/"),
    (values.ProxyUrl, "http://10.0.0.1:8080"),
    (values.ProxyUrl, "http://[::1]:3128"),
    (values.AudienceWord, "issuer"),
    (values.AudienceWord, "target"),
    (values.RedirectUri, "https://app.example.com/callback"),
    (values.RedirectUri, "https://app.example.com:8443/callback?tenant=1"),
    (values.RedirectUri, "http://127.0.0.1/callback"),
    (values.RedirectUri, "http://[::1]:8080/callback"),
    (values.RequestObjectTyp, "JWT"),
    (values.RequestObjectTyp, ""),
    (values.JsonTable, {"a": [1, 2.5, "x", True, {"b": {}}]}),
]

REFUSED = [
    (values.RedirectUri, "app.example.com/callback", "absolute https URI"),
    (values.RedirectUri, "com.example.app:/callback", "absolute https URI"),
    (values.RedirectUri, "https://app.example.com/callback#part", "absolute https URI"),
    (values.RedirectUri, "https://user:pw@app.example.com/", "absolute https URI"),
    (values.RedirectUri, "http://localhost:8080/callback", "name localhost"),
    (values.RedirectUri, "http://app.example.com/callback", "not on a loopback address"),
    (values.RequestObjectTyp, "jwt", "is none of"),
    (values.JsonTable, {"a": {"b": float("inf")}}, "number that JSON does not have"),
    (values.JsonTable, {"a": [dt.date(2026, 1, 1)]}, "date or time"),
    (values.Name, "Upper", "is not a name"),
    (values.PathText, "", "must be a path"),
    (values.PathText, "a\0b", "must be a path"),
    (values.PathText, "a\nb", "must be a path"),
    (values.PathText, "~/key.pem", "nobody expands"),
    (values.PathText, "$HOME/key.pem", "nobody expands"),
    (values.ScopeToken, "read write", "holds a space"),
    (values.ScopeToken, "", "is not a scope"),
    (values.ScopeToken, 'a"b', "is not a scope"),
    (values.ScopeToken, "a\\b", "is not a scope"),
    (values.ScopeToken, "größer", "is not a scope"),
    (values.ResourceUri, "api.example.com", "absolute URI"),
    (values.ResourceUri, "/path", "absolute URI"),
    (values.ResourceUri, "https://api.example.com/#part", "fragment"),
    (values.ResourceUri, "https:///path", "with a host"),
    (values.ResourceUri, "https://[::1/path", "with a host"),
    (values.ResourceUri, "https://a b/", "absolute URI"),
    (values.Visible, "", "printable ASCII"),
    (values.Visible, "a\tb", "printable ASCII"),
    (values.Visible, "größer", "printable ASCII"),
    (values.KeyId, "a\n", "printable ASCII"),
    (values.FormValue, "a\0", "NUL"),
    (values.ParameterName, "", "is not a parameter name"),
    (values.ParameterName, "a b", "is not a parameter name"),
    (values.EndpointHost, "https://mtls.example.com", "without scheme and path"),
    (values.EndpointHost, "mtls.example.com/token", "without scheme and path"),
    (values.EndpointHost, "MTLS.example.com", "lower case"),
    (values.EndpointHost, "", "must be a host"),
    (values.EndpointHost, "a..b", "must be a host"),
    (values.EndpointHost, "-a.example", "must be a host"),
    (values.EndpointHost, "user@example.com", "must be a host"),
    (values.EndpointHost, "example.com:", "must be a host"),
    (values.EndpointHost, "example.com:0", "must be a host"),
    (values.EndpointHost, "example.com:65536", "must be a host"),
    (values.EndpointHost, "example.com:8443x", "must be a host"),
    (values.EndpointHost, "*.example.com", "must be a host"),
    (values.EndpointHost, "::1", "must be a host"),
    (values.EndpointHost, "[::1", "must be a host"),
    (values.EndpointHost, "[::x]", "must be a host"),
    (values.EndpointHost, "[127.0.0.1]", "must be a host"),
    (values.EndpointHost, "169.254.169.254", "never dialed"),
    (values.Listen, "9464", "IP address and a port"),
    (values.Listen, "localhost:9464", "IP address and a port"),
    (values.Listen, "127.0.0.1", "IP address and a port"),
    (values.Listen, "::1:9464", "IP address and a port"),
    (values.Listen, "[127.0.0.1]:9464", "IP address and a port"),
    (values.Listen, "127.0.0.1:70000", "has a port"),
    (values.Listen, "127.0.0.1:x", "has a port"),
    (values.LoopbackAddress, "0.0.0.0:8181", "cross a network in the clear"),
    (values.LoopbackAddress, "[::]:8181", "cross a network in the clear"),
    (values.LoopbackAddress, "10.0.0.1:8181", "cross a network in the clear"),
    (values.LoopbackAddress, "[::ffff:127.0.0.1]:8181", "cross a network in the clear"),
    (values.LoopbackAddress, "127.0.0.1:0", "port 0"),
    (values.LoopbackAddress, "localhost:8181", "IP address and a port"),
    (values.LoopbackAddress, "8181", "IP address and a port"),
    (values.LoopbackAddress, "127.0.0.1:65536", "has a port"),
    (values.Mode, "rw-rw----", "octal"),
    (values.Mode, "0o660", "octal"),
    (values.Mode, "04660", "octal"),
    (values.Mode, "0880", "octal"),
    (values.Mode, "0770", "execution"),
    (values.Mode, "0060", "daemon itself"),
    (values.Account, -1, "must be from 0"),
    (values.Account, 2**32 - 1, "must be from 0"),
    (values.Account, "1000", "number in quotation marks"),
    (values.Account, "", "is not the name"),
    (values.Account, "-x", "is not the name"),
    (values.Account, "a:b", "is not the name"),
    (values.CredentialName, "../key", "is not the name of a credential"),
    (values.CredentialName, "a..b", "is not the name of a credential"),
    (values.CredentialName, "a/b", "is not the name of a credential"),
    (values.CredentialName, "", "is not the name of a credential"),
    (values.ProxyUrl, "", "must be the URL of an http proxy"),
    (values.ProxyUrl, "proxy.example.com:3128", "must be the URL of an http proxy"),
    (values.ProxyUrl, "socks5://proxy.example.com:1080", "must be the URL of an http proxy"),
    (values.ProxyUrl, "http://proxy.example.com:0", "must be the URL of an http proxy"),
    (values.ProxyUrl, "http://2852039166:3128", "must be the URL of an http proxy"),
    (values.ProxyUrl, "http://proxy.example.com:3128/proxy.pac", "without a path"),
    (values.ProxyUrl, "http://proxy.example.com:3128?a=b", "without a path"),
    (values.ProxyUrl, "http://user:canary-4711@proxy.example.com:3128", "holds a user or a password"),
    (values.ProxyUrl, "http://user@proxy.example.com:3128", "holds a user or a password"),
    (values.ProxyUrl, "https://proxy.example.com:3128", "https proxy, which is not supported"),
    (values.ProxyUrl, "http://169.254.169.254:3128", "never dialed"),
    (values.ProxyUrl, "http://[::ffff:169.254.169.254]:3128", "never dialed"),
    (values.AudienceWord, "https://auth.example.com/token", "must be"),
]


@pytest.mark.parametrize(("kind", "value"), ACCEPTED)
def test_a_good_value_is_accepted(kind: Any, value: Any) -> None:
    """The edges of each rule, from inside."""
    check(kind, value)


@pytest.mark.parametrize(("kind", "value", "message"), REFUSED)
def test_a_bad_value_is_refused(kind: Any, value: Any, message: str) -> None:
    """The edges of each rule, from outside."""
    with pytest.raises(Refused) as caught:
        check(kind, value)

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("kind", "value", "message"), [row for row in REFUSED if isinstance(row[1], str) and len(row[1]) > 5]
)
def test_no_rule_repeats_the_value(kind: Any, value: str, message: str) -> None:
    """What is in the wrong place may be a secret."""
    with pytest.raises(Refused) as caught:
        check(kind, value)

    assert value not in caught.value.message  # a hint is a constant, with examples of its own


@pytest.mark.parametrize(("value", "good"), [(0, False), (1, True), (10, True), (11, False)])
def test_a_range_includes_its_ends(value: int, good: bool) -> None:
    """From 1 to 10 means 1 and 10 too."""
    rule = between(1, 10)

    if good:
        rule.check(value)
    else:
        with pytest.raises(Refused, match="must be from 1 to 10"):
            rule.check(value)


def test_a_fixed_audience_is_refused_with_the_reason() -> None:
    """An assertion for everybody could be replayed at another server (rules.md R5)."""
    with pytest.raises(Refused) as caught:
        check(values.AudienceWord, "https://auth.example.com/token")

    assert caught.value.hint is not None
    assert "fixed audience" in caught.value.hint


def test_a_misspelled_audience_word_is_taken_for_one() -> None:
    """Nobody who writes isuer wants a fixed audience."""
    with pytest.raises(Refused) as caught:
        check(values.AudienceWord, "isuer")

    assert caught.value.hint == 'did you mean "issuer"?'


@pytest.mark.parametrize(("value", "expected"), [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:80", ("::1", 80))])
def test_an_address_loses_its_brackets(value: str, expected: tuple[str, int]) -> None:
    """What opens the socket wants a plain address."""
    split = split_listen(value)

    assert split == expected
