"""Names and values of the store are checked where they are made, and values do not show."""

from __future__ import annotations

import pytest

from broker.tokens.storing import MAX_NAME, MAX_VALUE, Delete, Put, StoredRecord, check_name


@pytest.mark.parametrize("name", ["grant/a", "pending/Zm9v-_.~", "tombstone/" + "x" * 43])
def test_a_name_is_a_kind_and_an_id(name: str):
    """As those that the broker makes."""
    assert check_name(name) == name
    assert Delete(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", "grant", "grant/", "/a", "Grant/a", "grant/a b", "grant/ä", "grant/a/b", "grant/a\n", "g/" + "x" * MAX_NAME],
)
def test_another_name_is_refused(name: str):
    """It would stand in files, events and messages."""
    with pytest.raises(ValueError, match="KIND/ID"):
        Put(name=name, value=b"")
    with pytest.raises(ValueError, match="KIND/ID"):
        Delete(name=name)


def test_a_value_that_is_too_large_is_refused():
    """Something has gone wrong before it came here."""
    Put(name="grant/a", value=bytes(MAX_VALUE))

    with pytest.raises(ValueError, match="too large"):
        Put(name="grant/a", value=bytes(MAX_VALUE + 1))


@pytest.mark.parametrize(
    "shown", [Put(name="grant/a", value=b"s3cret"), StoredRecord(name="grant/a", value=b"s3cret", suspect=True)]
)
def test_a_value_is_never_shown(shown: object):
    """It is a refresh token."""
    assert "s3cret" not in repr(shown)
    assert "grant/a" in repr(shown)
