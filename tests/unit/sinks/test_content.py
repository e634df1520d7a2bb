"""The bytes of a token file."""

from __future__ import annotations

import json

import pytest

from broker.sinks.content import MAX_BYTES, content_of, is_content
from broker.sinks.spec import Format
from tests.unit.api.world import serving


def test_text_is_the_token_and_nothing_else() -> None:
    """No newline that a program would have to take off."""
    assert content_of(serving(), Format.TEXT) == b"the-access-token"


def test_json_has_the_members_of_the_local_api_that_stay_true() -> None:
    """Without ``expires_in`` and ``stale``, which would be wrong a moment later."""
    assert json.loads(content_of(serving(), Format.JSON)) == {
        "access_token": "the-access-token",
        "token_type": "Bearer",
        "expires_at": 1_790_000_300,
        "scope": "accounts payments",
        "issuer": "https://as.example",
        "cnf": {"x5t#S256": "a-thumbprint"},
    }


def test_a_bearer_token_confirms_nothing() -> None:
    """As in the local API."""
    assert "cnf" not in json.loads(content_of(serving(binding="none"), Format.JSON))


@pytest.mark.parametrize("form", list(Format))
def test_what_is_written_is_known_again(form: Format) -> None:
    """Else the broker would refuse to replace its own file."""
    assert is_content(content_of(serving(), form))


def test_an_empty_file_may_be_replaced() -> None:
    """Somebody made it to set its owner."""
    assert is_content(b"")


@pytest.mark.parametrize("found", [b"a line\n", b"two\nlines", b"\x7fELF", "\u00e9".encode(), b"x" * (MAX_BYTES + 1)])
def test_what_somebody_wrote_is_not_taken_for_a_token(found: bytes) -> None:
    """A path that was written by mistake costs nothing."""
    assert not is_content(found)
