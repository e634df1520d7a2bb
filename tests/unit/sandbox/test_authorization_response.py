"""Tests of ``broker/sandbox/authorization_response.py``: good answers, and one thing wrong with each bad one."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from broker.sandbox.authorization_request import Back
from broker.sandbox.authorization_response import WRONG_STATE, Responder, Returned
from broker.sandbox.faults import read_fault
from broker.sandbox.grant_faults import GRANT_KINDS
from broker.sandbox.jose import (
    JsonWebKey,
    NotSignedError,
    SigningAlg,
    generate_private_key_pem,
    read_private,
    unverified_header,
    verify,
)
from broker.sandbox.keyring import Keyring
from broker.sandbox.options import Options

NOW = 1_000.5
ISSUER = "https://as"
GOOD = {"code": "c", "state": "s", "iss": ISSUER}


def new_key() -> JsonWebKey:
    return read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))


KEY, ACCESS_KEY = new_key(), new_key()


def answer(kind: str | None = None, *, mode: str = "query", iss: bool = True, **parameters: Any) -> Returned:
    fault = None if kind is None else read_fault({"where": "authorize", "kind": kind, **parameters})
    responder = Responder(
        issuer=ISSUER,
        options=Options(id_token_alg="ES256", iss_parameter=iss),
        keyring=Keyring(access_token_key=ACCESS_KEY, keys={SigningAlg.ES256: KEY}),
    )
    back = Back(client_id="app", redirect_uri="https://app/cb", response_mode=mode, state="s")
    return responder.respond(back, {"code": "c"}, fault, now=NOW)


def signed(kind: str | None = None, **parameters: Any) -> str:
    ((name, value),) = answer(kind, mode="jwt", **parameters).pairs
    assert name == "response"
    return value


def test_the_answer_is_in_the_query_of_the_redirect_uri():
    """With iss (RFC 9207), unless the server is one that sends none."""
    returned = answer()

    assert returned.location.startswith("https://app/cb?")
    assert dict(parse_qsl(urlsplit(returned.location).query)) == GOOD
    assert not returned.posted
    assert dict(answer(iss=False).pairs) == {"code": "c", "state": "s"}


def test_a_form_carries_the_same():
    """OAuth 2.0 Form Post Response Mode."""
    returned = answer(mode="form_post")

    assert returned.posted
    assert dict(returned.pairs) == GOOD


@pytest.mark.parametrize("mode", ["jwt", "query.jwt", "form_post.jwt"])
def test_a_signed_answer_has_everything_inside(mode: str):
    """JARM section 2.1."""
    returned = answer(mode=mode)

    ((name, value),) = returned.pairs
    assert name == "response"
    assert verify(KEY, value)[1] == {**GOOD, "aud": "app", "exp": 1_120}
    assert returned.posted is mode.startswith("form")


@pytest.mark.parametrize(
    ("kind", "parameters", "changed"),
    [
        ("wrong_iss", {}, {"iss": "https://asINVALID"}),
        ("wrong_iss", {"value": "https://evil"}, {"iss": "https://evil"}),
        ("no_iss", {}, {"iss": None}),
        ("wrong_state", {}, {"state": WRONG_STATE}),
        ("no_state", {}, {"state": None}),
        ("alter", {"set": {"access_token": "t"}, "remove": ["code"]}, {"access_token": "t", "code": None}),
    ],
)
def test_parameters_are_changed_as_named(kind: str, parameters: dict[str, Any], changed: dict[str, Any]):
    """And no other is; signed answers likewise, with a good signature."""
    plain = dict(answer(kind, **parameters).pairs)
    claims = verify(KEY, signed(kind, **parameters))[1]

    assert {name: plain.get(name) for name in {*GOOD, *plain} if plain.get(name) != GOOD.get(name)} == changed
    good = {**GOOD, "aud": "app", "exp": 1_120}
    assert {name: claims.get(name) for name in {*good, *claims} if claims.get(name) != good.get(name)} == changed


@pytest.mark.parametrize("name", ["code", "state", "iss"])
def test_a_parameter_comes_twice(name: str):
    """Each one may."""
    names = [key for key, _ in answer("repeated_parameter", name=name).pairs]

    assert sorted(names) == sorted([*GOOD, name])


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("jarm_wrong_aud", {"aud": "another-client"}),
        ("jarm_no_aud", {"aud": None}),
        ("jarm_expired", {"exp": -2_480}),
        ("jarm_no_exp", {"exp": None}),
    ],
)
def test_a_signed_answer_is_wrong_as_named(kind: str, changed: dict[str, Any]):
    """Well signed, so that nothing but the claim can be refused."""
    claims = verify(KEY, signed(kind))[1]

    good = {**GOOD, "aud": "app", "exp": 1_120}
    assert {name: claims.get(name) for name in good if claims.get(name) != good[name]} == changed


@pytest.mark.parametrize(
    ("kind", "alg"),
    [
        ("jarm_bad_signature", "ES256"),
        ("jarm_unknown_key", "ES256"),
        ("jarm_rotated_key", "ES256"),
        ("jarm_rs256", "RS256"),
        ("jarm_alg_none", "none"),
    ],
)
def test_a_signed_answer_is_not_signed_by_the_key_that_was_published(kind: str, alg: str):
    """By another one, by none, or wrongly."""
    value = signed(kind)

    assert unverified_header(value if alg != "none" else f"{value}AA")["alg"] == alg
    with pytest.raises(NotSignedError):
        verify(KEY, value)


def test_every_kind_of_signed_answer_has_a_row_here():
    """A new one needs a test."""
    tested = {"wrong_aud", "no_aud", "expired", "no_exp"}
    tested |= {"bad_signature", "unknown_key", "rotated_key", "rs256", "alg_none"}

    assert {kind for kind in GRANT_KINDS if kind.startswith("jarm_")} == {f"jarm_{name}" for name in tested}
