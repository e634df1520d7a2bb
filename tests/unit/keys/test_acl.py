"""acl: who an access control list lets read."""

from __future__ import annotations

import struct

import pytest

from broker.keys.acl import UnreadableAclError, readers_of
from tests.unit.keys.lists import GROUP, MASK, OTHERS, OWNER, OWNING_GROUP, USER, acl

NOBODY = frozenset[int]()
NAMED = frozenset({1000})
NAMED_GROUP = frozenset({500})
OURS = frozenset({7})


def test_named_users_and_groups_with_the_right_to_read_are_readers() -> None:
    """What chmod cannot show."""
    given = acl((OWNER, 6), (USER, 4, 1000), (OWNING_GROUP, 0), (GROUP, 4, 500), (MASK, 4), (OTHERS, 0))

    users, groups = readers_of(given, owning_group=7)

    assert (users, groups) == (NAMED, NAMED_GROUP)


def test_the_owning_group_is_a_reader_only_by_its_own_entry() -> None:
    """The group bits of the mode are the mask, and do not tell."""
    without = acl((OWNER, 4), (USER, 4, 1000), (OWNING_GROUP, 0), (MASK, 4), (OTHERS, 0))
    with_right = acl((OWNER, 4), (USER, 4, 1000), (OWNING_GROUP, 4), (MASK, 4), (OTHERS, 0))

    assert readers_of(without, owning_group=7) == (NAMED, NOBODY)
    assert readers_of(with_right, owning_group=7) == (NAMED, OURS)


def test_an_entry_without_the_right_to_read_makes_no_reader() -> None:
    """Execution alone reads nothing."""
    given = acl((OWNER, 4), (USER, 1, 1000), (OWNING_GROUP, 0), (GROUP, 3, 500), (MASK, 7), (OTHERS, 0))

    assert readers_of(given, owning_group=7) == (NOBODY, NOBODY)


def test_a_mask_without_reading_takes_the_right_from_all() -> None:
    """The mask is the most that named entries and the group may do."""
    given = acl((OWNER, 4), (USER, 4, 1000), (OWNING_GROUP, 4), (GROUP, 4, 500), (MASK, 0), (OTHERS, 0))

    assert readers_of(given, owning_group=7) == (NOBODY, NOBODY)


def test_a_list_without_a_mask_means_what_it_says() -> None:
    """A minimal list has none."""
    given = acl((OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 0))

    assert readers_of(given, owning_group=7) == (NOBODY, OURS)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x02\x00",
        struct.pack("<I", 3) + acl((OWNER, 4))[4:],
        acl((OWNER, 4)) + b"\x00",
        acl((OWNER, 4), (0x40, 4)),
    ],
    ids=["empty", "short", "other version", "torn entry", "unknown tag"],
)
def test_bytes_that_are_no_list_are_refused(damaged: bytes) -> None:
    """What cannot be understood may let anybody read."""
    with pytest.raises(UnreadableAclError):
        readers_of(damaged, owning_group=7)
