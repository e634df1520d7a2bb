"""Tests of ``broker/sandbox/iridium/journal.py``: names are shown, values are only found."""

from __future__ import annotations

import json

from broker.sandbox.iridium.journal import KEPT, Entry, Journal, Place, Sent, values_of
from tests.unit.sandbox.iridium.talking import basic
from tests.unit.sandbox.iridium.test_wire import asked


def entry(endpoint: str = "token", outcome: str = "issued", value: str = "hush") -> Entry:
    return Entry(
        time=1.0,
        listener="issuer",
        endpoint=endpoint,
        method="POST",
        path="/oauth/token",
        outcome=outcome,
        status=200,
        form=("code",),
        sent=(Sent(place="form", name="code", value=value),),
    )


def test_requests_are_counted_by_endpoint_and_outcome():
    """What was never seen counts 0."""
    journal = Journal()
    journal.record(entry())
    journal.record(entry(outcome="invalid_grant"))

    assert [journal.count(name) for name in ("token", "token.issued", "refresh")] == [2, 1, 0]
    assert [one.outcome for one in journal.entries("token")] == ["issued", "invalid_grant"]
    assert journal.entries("refresh") == ()


def test_only_the_latest_are_kept_and_all_are_counted():
    """A load test does not fill the memory."""
    journal = Journal()
    for _ in range(KEPT + 1):
        journal.record(entry())

    assert (journal.count("token"), len(journal.entries())) == (KEPT + 1, KEPT)


def test_a_value_is_found_and_never_shown():
    """Also within something longer."""
    journal = Journal()
    journal.record(entry(value="hush-hush"))
    place = Place(endpoint="token", method="POST", place="form", name="code")

    assert journal.places_of("hush-") == (place,)
    assert journal.places_of("other") == ()
    assert "hush" not in json.dumps(journal.as_json()) + repr(journal.entries())
    assert journal.as_json()["requests"][0]["form"] == ("code",)


def test_it_forgets_on_command():
    """Values, too."""
    journal = Journal()
    journal.record(entry())
    journal.clear()

    assert journal.as_json() == {"counters": {}, "requests": []}
    assert journal.places_of("hush") == ()


def test_every_place_of_a_request_is_looked_at():
    """A secret in Basic credentials is found although it is encoded there."""
    authorization = basic("a", "in-basic")
    request = asked(path="/in-path", query=(("q", "in-query"),), form=(("f", "in-form"),), authorization=authorization)

    found = {(one.place, one.name) for one in values_of(request, (("Authorization", authorization),))}
    decoded = [one for one in values_of(request, ()) if "in-basic" in one.value]

    assert found == {("path", ""), ("query", "q"), ("form", "f"), ("header", "Authorization")}
    assert [(one.place, one.name) for one in decoded] == [("header", "Authorization")]
