"""Tests of ``broker/sandbox/faults.py``: descriptions are checked, and faults wait in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import KINDS, FaultBoard, FaultRefusedError, read_fault

DOCUMENT = Path(__file__).parents[3] / "docs" / "sandbox.md"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_has_defaults_that_it_accepts(name: str):
    """A kind alone is a whole description, and its JSON form is read back as the same fault."""
    for where in KINDS[name].where:
        fault = read_fault({"where": where, "kind": name})

        given = {key: value for key, value in fault.as_json().items() if value is not None}
        assert read_fault(json.loads(json.dumps(given))) == fault


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_and_parameter_is_documented(name: str):
    """The page has a row that begins with the kind and names its parameters."""
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{name}` |")]

    assert len(rows) == 1
    for parameter in KINDS[name].parameters:
        assert f"`{parameter}`" in rows[0]


def test_no_kind_is_documented_that_does_not_exist():
    """The table and the catalogue are the same the other way round, too."""
    section = DOCUMENT.read_text().partition("## Kinds of fault")[2].partition("\n## ")[0]
    named = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}

    assert named == set(KINDS)


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        ({}, "kind"),
        ({"kind": "nonsense", "where": "token"}, "kind"),
        ({"kind": ["status"], "where": "token"}, "kind"),
        ({"kind": "status"}, "where"),
        ({"kind": "status", "where": "nowhere"}, "where"),
        ({"kind": "status", "where": ["token"]}, "where"),
        ({"kind": "wrong_cnf", "where": "metadata"}, "where"),
        ({"kind": "wrong_issuer", "where": "token"}, "where"),
        ({"kind": "status", "where": "token", "times": 0}, "times"),
        ({"kind": "status", "where": "token", "times": True}, "times"),
        ({"kind": "status", "where": "token", "times": "1"}, "times"),
        ({"kind": "status", "where": "token", "delay_seconds": -1}, "delay_seconds"),
        ({"kind": "status", "where": "token", "delay_seconds": True}, "delay_seconds"),
        ({"kind": "status", "where": "token", "status": 199}, "status"),
        ({"kind": "status", "where": "token", "status": 600}, "status"),
        ({"kind": "status", "where": "token", "retry_after": "5\r\nSet-Cookie: a"}, "retry_after"),
        ({"kind": "status", "where": "token", "retry_after": 1.5}, "retry_after"),
        ({"kind": "redirect", "where": "token", "status": 304}, "status"),
        ({"kind": "html", "where": "authorize"}, "where"),
        ({"kind": "wrong_state", "where": "token"}, "where"),
        ({"kind": "status", "where": "token", "for_seconds": -1}, "for_seconds"),
        ({"kind": "status", "where": "token", "grant_type": "password"}, "grant_type"),
        ({"kind": "status", "where": "token", "grant_type": ["refresh_token"]}, "grant_type"),
        ({"kind": "huge_body", "where": "token", "bytes": 10**12}, "bytes"),
        ({"kind": "content_type", "where": "token", "value": "a\nb"}, "value"),
        ({"kind": "alter", "where": "token", "set": []}, "set"),
        ({"kind": "alter", "where": "token", "remove": [1]}, "remove"),
        ({"kind": "html", "where": "token", "colour": "red"}, "unknown parameter"),
    ],
)
def test_nonsense_is_refused_with_the_name_of_what_is_wrong(description: dict[str, Any], complaint: str):
    """Nothing is put up that would fail later."""
    with pytest.raises(FaultRefusedError) as caught:
        read_fault(description)

    assert complaint in str(caught.value)


def test_a_refusal_does_not_echo_unknown_names():
    """They are bytes of a stranger."""
    with pytest.raises(FaultRefusedError) as caught:
        read_fault({"kind": "html", "where": "token", "<b>": 1})

    assert "<b>" not in str(caught.value)


def test_faults_are_met_in_order_and_so_often():
    """The second waits until the first is spent."""
    board = FaultBoard(lambda: 0.0)
    board.add(read_fault({"kind": "html", "where": "token", "times": 2}))
    board.add(read_fault({"kind": "empty", "where": "token", "times": 1}))

    met = [board.take(Where.TOKEN) for _ in range(4)]

    assert [fault.kind if fault else None for fault in met] == ["html", "html", "empty", None]


def test_a_fault_without_times_stays_until_cleared():
    """And counts how often it was met."""
    board = FaultBoard(lambda: 0.0)
    board.add(read_fault({"kind": "html", "where": "token"}))
    for _ in range(3):
        assert board.take(Where.TOKEN) is not None
    (waiting,) = board.as_json()

    board.clear()

    assert waiting["met"] == 3
    assert board.take(Where.TOKEN) is None


def test_faults_wait_at_their_own_place():
    """A request to another endpoint does not meet them."""
    board = FaultBoard(lambda: 0.0)
    board.add(read_fault({"kind": "html", "where": "metadata"}))

    assert board.take(Where.TOKEN) is None
    assert board.take(Where.METADATA) is not None


def test_handshakes_and_requests_do_not_take_each_others_faults():
    """A bad certificate waits for a connection, even while requests go by."""
    board = FaultBoard(lambda: 0.0)
    board.add(read_fault({"kind": "bad_certificate", "where": "token"}))
    board.add(read_fault({"kind": "html", "where": "token"}))

    request, handshake = board.take(Where.TOKEN), board.take(Where.TOKEN, handshake=True)

    assert (request and request.kind, handshake and handshake.kind) == ("html", "bad_certificate")


def test_a_fault_may_be_taken_down_by_the_clock():
    """However often it was met, and though nobody clears it."""
    now = [100.0]
    board = FaultBoard(lambda: now[0])
    board.add(read_fault({"kind": "html", "where": "token", "for_seconds": 5}))

    met = []
    for moment in (100.0, 104.9, 105.0):
        now[0] = moment
        met.append(board.take(Where.TOKEN))

    assert [fault is not None for fault in met] == [True, True, False]
    assert board.as_json() == []


@pytest.mark.parametrize(
    ("description", "met_by"),
    [
        ({"kind": "html"}, ["client_credentials", "authorization_code", "refresh_token", None]),
        ({"kind": "html", "grant_type": "refresh_token"}, ["refresh_token"]),
        ({"kind": "wrong_nonce"}, ["authorization_code", "refresh_token", None]),
        ({"kind": "wrong_nonce", "grant_type": "authorization_code"}, ["authorization_code"]),
    ],
)
def test_a_fault_may_be_for_one_grant_type(description: dict[str, Any], met_by: list[str | None]):
    """And those that only people's grants have are never met by client_credentials."""
    board = FaultBoard(lambda: 0.0)
    board.add(read_fault({"where": "token", **description}))

    met = [
        grant_type
        for grant_type in ("client_credentials", "authorization_code", "refresh_token", None)
        if board.take(Where.TOKEN, grant_type=grant_type) is not None
    ]

    assert met == met_by
