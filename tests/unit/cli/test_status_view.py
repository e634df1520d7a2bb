"""Tests of ``broker/cli/status_view.py``: the pieces that a table is made of (test_status.py has the whole)."""

from __future__ import annotations

from broker.cli.local_client import Status, TokenState
from broker.cli.status_view import members_of, notes_of, remarks_of, rows_of, verdict_of


def token(name: str = "a", **members: object) -> TokenState:
    """Give a token's state, fresh but for *members*."""
    values = {"state": "fresh", "required": True, "expires_in": 5, "retry_in": None, "reason": None, "hint": None}
    return TokenState(name=name, **{**values, **members})  # type: ignore[arg-type]


def test_a_row_has_no_color_where_none_is_wanted():
    """The headings come first."""
    lines = rows_of([token()], colors=False)

    assert [line.split()[0] for line in lines] == ["TOKEN", "a"]
    assert "\x1b" not in "".join(lines)


def test_notes_are_the_hint_and_the_count_of_grants():
    """Each with the token's name, because it stands apart from its row."""
    assert notes_of([token(hint="look there", grants=2)], None) == [
        "a: look there",
        "a: 2 grant(s), each with a state of its own: token-broker grants list --token a",
    ]
    assert notes_of([token()], None) == []


def test_remarks_are_about_the_daemon():
    """Sandbox, restart, reload; and none where all is as it should be."""
    status = Status(ready=False, tokens=(), sandboxes=("s",), restart=("store",), reload_refused=True)

    assert [line.split()[0] for line in remarks_of(status)] == ["SANDBOX,", "restart", "the"]
    assert verdict_of(status) == "NOT READY"
    assert remarks_of(Status(ready=True, tokens=(), sandboxes=())) == []


def test_members_are_those_that_the_page_names():
    """``--json`` and ``--watch --json`` have the same."""
    members = members_of(Status(ready=True, tokens=(token(),), sandboxes=()))

    assert list(members) == ["ready", "tokens", "sandbox", "restart", "reload_refused"]
    assert members["tokens"][0]["name"] == "a"


def test_what_is_to_be_done_about_many_tokens_is_said_once():
    """The first of them are named, and the rest is counted: the table has all."""
    tokens = [token("a", hint="x"), token("b", hint="y"), *(token(name, hint="x") for name in "cdef")]

    assert notes_of(tokens, None) == ["a, c, d and 2 more: x", "b: y"]


def test_rows_that_are_too_wide_keep_state_and_reason():
    """Whether a token is required is the first to go."""
    long = token("a" * 20, state="unavailable", reason="connect_failed", retry_in=100)

    heading, row = rows_of([long], colors=False, width=80)

    assert "REQUIRED" not in heading
    assert heading.endswith("REASON")
    assert row.endswith("connect_failed")
    assert len(row) <= 80
