"""Tests of ``broker/sandbox/journal.py``."""

from __future__ import annotations

import json

from broker.sandbox.journal import KEPT, Entry, Journal


def entry(endpoint: str = "token", outcome: str = "issued", jti: str | None = None) -> Entry:
    return Entry(time=1.0, endpoint=endpoint, method="POST", outcome=outcome, jti=jti)


def test_requests_are_counted_by_endpoint_and_outcome():
    """What was never seen counts 0."""
    journal = Journal()
    journal.record(entry())
    journal.record(entry(outcome="invalid_client"))

    assert [journal.count(name) for name in ("token", "token.issued", "metadata")] == [2, 1, 0]


def test_only_the_latest_are_kept_and_all_are_counted():
    """A load test does not fill the memory."""
    journal = Journal()
    for number in range(KEPT + 1):
        journal.record(entry(jti=str(number)))

    assert journal.count("token") == KEPT + 1
    assert len(journal.entries()) == KEPT
    assert journal.entries()[0].jti == "1"


def test_entries_of_one_endpoint_are_told_apart():
    """Oldest first."""
    journal = Journal()
    for endpoint, jti in (("token", "1"), ("metadata", None), ("token", "2")):
        journal.record(entry(endpoint, jti=jti))

    assert [one.jti for one in journal.entries("token")] == ["1", "2"]


def test_it_is_json_and_can_be_cleared():
    """As the control listener gives it."""
    journal = Journal()
    journal.record(entry(jti="a"))
    shown = json.loads(json.dumps(journal.as_json()))
    journal.clear()

    assert shown["counters"] == {"token": 1, "token.issued": 1}
    assert shown["requests"][0]["jti"] == "a"
    assert journal.as_json() == {"counters": {}, "requests": []}


def test_a_token_at_the_wrong_connection_is_counted():
    """Whatever came of the request; one of which nothing is known is not."""
    journal = Journal()
    for matched in (True, False, None):
        journal.record(Entry(time=1.0, endpoint="resource", method="GET", outcome="fault", matched=matched))

    assert (journal.count("resource"), journal.count("resource.unmatched")) == (3, 1)
