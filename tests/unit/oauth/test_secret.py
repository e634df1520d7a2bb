"""secret: nothing comes out but through ``reveal``."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from broker.oauth.secret import (
    AccessToken,
    BasicCredentials,
    ClientAssertion,
    ClientSecret,
    HighEntropySecret,
    Passphrase,
    Secret,
)

VALUE = "canary-4711"
KINDS = [Secret, HighEntropySecret, AccessToken, ClientAssertion, ClientSecret, BasicCredentials, Passphrase]


@pytest.mark.parametrize("kind", KINDS)
def test_no_way_of_printing_shows_the_value(kind: type[Secret]) -> None:
    """repr, str, format with and without a specification, %-formatting, inside containers, as an error's argument."""
    secret = kind(VALUE)

    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>200}",
        format(secret, ">200"),
        "%s %r" % (secret, secret),  # noqa: UP031 - one of the ways under test
        repr([secret]),
        str({"a": secret}),
        repr(ValueError(secret)),
    ]

    assert not [text for text in shown if "canary" in text or "4711" in text]


@pytest.mark.parametrize("kind", KINDS)
def test_the_value_comes_out_by_name(kind: type[Secret]) -> None:
    """The one search that finds every use."""
    assert kind(VALUE).reveal() == VALUE


def test_only_secrets_of_high_entropy_show_a_digest() -> None:
    """The digest of a passphrase or client secret could be tried out; that of a random token tells nothing."""
    assert repr(Passphrase("password")) == "Passphrase(***)"
    assert repr(ClientSecret("password")) == "ClientSecret(***)"
    assert repr(BasicCredentials("Basic YTpi")) == "BasicCredentials(***)"
    assert repr(AccessToken("abc")) == "AccessToken(sha256:ba7816bf8f01)"
    assert repr(ClientAssertion("abc")) == "ClientAssertion(sha256:ba7816bf8f01)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_not_serialized_or_copied(kind: type[Secret]) -> None:
    """Each copy is one more to lose."""
    secret = kind(VALUE)

    for way in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as caught:
            way(secret)
        assert "canary" not in str(caught.value)


def test_secrets_are_equal_by_kind_and_value() -> None:
    """An access token is no client assertion, whatever it says, and no string."""
    assert AccessToken(VALUE) == AccessToken(VALUE)
    assert AccessToken(VALUE) != AccessToken("other")
    assert AccessToken(VALUE) != ClientAssertion(VALUE)
    assert AccessToken(VALUE) != VALUE
    assert AccessToken("caf\u00e9") == AccessToken("caf\u00e9")


def test_equal_secrets_have_equal_hashes() -> None:
    """They may be members of sets."""
    assert {AccessToken(VALUE), AccessToken(VALUE), ClientAssertion(VALUE)} == {
        AccessToken(VALUE),
        ClientAssertion(VALUE),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_has_no_attributes_to_be_listed(kind: type[Secret]) -> None:
    """``vars`` of a value in a debugger or a crash report finds nothing."""
    assert not hasattr(kind(VALUE), "__dict__")
