"""Tests of ``broker/sandbox/twists.py``: one thing is changed and the rest is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sandbox.faults import read_fault
from broker.sandbox.metadata import ALIASED, metadata_document
from broker.sandbox.options import Options
from broker.sandbox.twists import NOBODY, twist_body, twist_claims
from tests.unit.sandbox.test_metadata import ADDRESSES

CLAIMS = {"cnf": {"x5t#S256": "thumb"}, "scope": "read", "aud": "https://api"}
BODY = {"access_token": "t", "token_type": "Bearer", "expires_in": 60, "scope": "read"}
METADATA = metadata_document(ADDRESSES, Options())


def twisted(body: dict[str, Any], kind: str, **parameters: Any) -> dict[str, Any]:
    where = "metadata" if "issuer" in body else "token"
    fault = read_fault({"where": where, "kind": kind, **parameters})
    return twist_body(fault, dict(body), elsewhere="https://127.0.0.1:4", opaque="random")


def moved(origin: str) -> dict[str, Any]:
    endpoints = {name: f"{origin}{path}" for name, path in ALIASED.items()}
    return {**endpoints, "mtls_endpoint_aliases": endpoints}


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Give the members that differ; None where one is gone."""
    return {name: after.get(name) for name in {*before, *after} if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("kind", "parameters", "changed"),
    [
        ("wrong_cnf", {}, {"cnf": {"x5t#S256": NOBODY}}),
        ("no_cnf", {}, {"cnf": None}),
        ("wider_scope", {}, {"scope": "read admin"}),
        ("wider_scope", {"value": "write delete"}, {"scope": "read write delete"}),
    ],
)
def test_claims_are_changed_as_named(kind: str, parameters: dict[str, Any], changed: dict[str, Any]):
    """And no other claim is."""
    claims = dict(CLAIMS)
    twist = twist_claims(read_fault({"where": "token", "kind": kind, **parameters}))

    assert twist is not None
    twist(claims)

    assert changes(CLAIMS, claims) == changed


@pytest.mark.parametrize("kind", ["status", "opaque", "bad_expires_in"])
def test_other_faults_leave_the_claims_alone(kind: str):
    """As does no fault at all."""
    assert twist_claims(read_fault({"where": "token", "kind": kind})) is None
    assert twist_claims(None) is None


@pytest.mark.parametrize(
    ("kind", "parameters", "changed"),
    [
        ("opaque", {}, {"access_token": "random"}),
        ("wrong_token_type", {}, {"token_type": "mac"}),
        ("wrong_token_type", {"value": "DPoP"}, {"token_type": "DPoP"}),
        ("bad_expires_in", {}, {"expires_in": -1}),
        ("bad_expires_in", {"value": "60"}, {"expires_in": "60"}),
        ("bad_expires_in", {"value": 1e400}, {"expires_in": float("inf")}),
        ("alter", {"set": {"id_token": "x"}, "remove": ["scope"]}, {"id_token": "x", "scope": None}),
        ("status", {}, {}),
        ("wrong_cnf", {}, {}),
    ],
)
def test_an_answer_is_changed_as_named(kind: str, parameters: dict[str, Any], changed: dict[str, Any]):
    """And no other member is."""
    assert changes(BODY, twisted(BODY, kind, **parameters)) == changed


@pytest.mark.parametrize(
    ("kind", "parameters", "changed"),
    [
        ("wrong_issuer", {}, {"issuer": "https://localhost:1INVALID"}),
        ("wrong_issuer", {"value": "https://localhost:1/"}, {"issuer": "https://localhost:1/"}),
        (
            "foreign_endpoint",
            {},
            moved("https://127.0.0.1:4"),
        ),
        (
            "foreign_endpoint",
            {"origin": "http://169.254.169.254"},
            moved("http://169.254.169.254"),
        ),
    ],
)
def test_metadata_is_changed_as_named(kind: str, parameters: dict[str, Any], changed: dict[str, Any]):
    """And no other member is."""
    assert changes(METADATA, twisted(METADATA, kind, **parameters)) == changed


def test_no_fault_changes_nothing():
    """The same object comes back."""
    assert twist_body(None, BODY, elsewhere="", opaque="") is BODY
