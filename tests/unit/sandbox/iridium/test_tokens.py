"""Tests of ``broker/sandbox/iridium/tokens.py``: lives of tokens, and IRI-08 in both settings."""

from __future__ import annotations

import json

import pytest

from broker.sandbox.iridium.switches import Switches
from broker.sandbox.iridium.tokens import Tokens
from tests.unit.sandbox.iridium.talking import BCRYPT


def shelf(*documented: str, lifetime: int = 60) -> Tokens:
    switches = Switches()
    for name in documented:
        switches.set(name, "documented")
    return Tokens(switches, lifetime=lifetime)


def test_observed_a_good_answer_is_json_with_tokens_like_bcrypt():
    """IRI-08: nothing says that it is not to be stored."""
    tokens = shelf()
    answer = tokens.answer(tokens.issue("s", "c", now=0))
    body = json.loads(answer.body)

    assert (body.pop("token_type"), body.pop("expires_in")) == ("Bearer", 60)
    assert set(body) == {"access_token", "refresh_token"}
    assert all(BCRYPT.fullmatch(value) for value in body.values())
    assert answer.headers == {}


def test_documented_a_good_answer_is_the_pages_own():
    """IRI-08: no JSON, for its last comma."""
    tokens = shelf("IRI-08")
    issued = tokens.issue("s", "c", now=0)
    answer = tokens.answer(issued)

    assert answer.body.decode() == (
        f'{{\n  "access_token":"{issued.value}",\n  "token_type":"Bearer",\n  "expires_in":60,\n'
        f'  "refresh_token":"{issued.refresh_token}",\n}}'
    )
    assert answer.headers == {"Cache-Control": "no-store"}
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


@pytest.mark.parametrize("documented", [(), ("IRI-08",)])
def test_an_answer_without_a_refresh_token_does_not_name_one(documented: tuple[str, ...]):
    """Rather than have it empty."""
    tokens = shelf(*documented)

    assert b"refresh_token" not in tokens.answer(tokens.issue("s", "c", now=0, refreshable=False)).body


def test_an_access_token_is_good_until_it_expires():
    """And with another lifetime from the next one on."""
    tokens = shelf()
    first = tokens.issue("s", "c", now=100)
    tokens.lifetime = 5
    second = tokens.issue("s", "c", now=100)

    assert tokens.good(first.value, now=159.9) == first
    assert tokens.good(first.value, now=160) is None
    assert tokens.good(second.value, now=105) is None
    assert tokens.good("guessed", now=0) is None


def test_a_refresh_token_lives_for_ever_unless_it_is_told_otherwise():
    """From the next one on."""
    tokens = shelf()
    first = tokens.issue("s", "c", now=0)
    tokens.refresh_lifetime = 10
    second = tokens.issue("s", "c", now=0)

    assert tokens.refreshable(first.refresh_token or "", now=1e9) is not None
    assert tokens.refreshable(second.refresh_token or "", now=9.9) is not None
    assert tokens.refreshable(second.refresh_token or "", now=10) is None


def test_an_ended_token_takes_its_refresh_token_with_it():
    """And no other."""
    tokens = shelf()
    first, second = tokens.issue("s", "c", now=0), tokens.issue("s", "c", now=0)
    tokens.end(first)

    assert tokens.good(first.value, now=1) is None
    assert tokens.refreshable(first.refresh_token or "", now=1) is None
    assert tokens.good(second.value, now=1) == second


def test_all_are_listed_without_values_and_ended():
    """As the control listener does."""
    tokens = shelf()
    issued = tokens.issue("s", "c", now=0)
    listed = tokens.as_json()

    assert listed == [{"subject": "s", "client_id": "c", "expires_at": 60}]
    assert issued.value not in repr(issued)
    assert (tokens.end_all(), tokens.end_all(), tokens.as_json()) == (1, 0, [])


def test_a_test_learns_every_value_that_was_issued_also_of_tokens_that_are_over():
    """It looks for them where they must not come out."""
    tokens = shelf()
    first, second = tokens.issue("s", "c", now=0), tokens.issue("s", "c", now=0, refreshable=False)
    tokens.end_all()

    assert tokens.values() == {first.value, first.refresh_token, second.value}
