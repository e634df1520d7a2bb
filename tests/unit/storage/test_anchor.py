"""An anchor is written whole, believed only when it is ours, and contradicts exactly what went back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.storage.anchor import Anchor, Contradiction, Mark, contradiction
from tests.unit.storage.places import KEY, OTHER_KEY

MARK = Mark(store=b"s" * 16, counter=7, head=b"h" * 32)


def test_a_mark_comes_back(tmp_path: Path):
    """The newest one; of a crash nothing stays."""
    anchor = Anchor(tmp_path / "anchor", KEY)
    assert anchor.read() == (None, False)
    (tmp_path / "anchor.new").write_bytes(b"of a crash")

    anchor.write(replace(MARK, counter=6))
    anchor.write(MARK)

    assert anchor.read() == (MARK, True)
    assert [path.name for path in tmp_path.iterdir()] == ["anchor"]
    assert (tmp_path / "anchor").stat().st_mode & 0o777 == 0o600


def test_an_altered_anchor_and_one_of_another_key_say_nothing(tmp_path: Path):
    """But that there is one."""
    path = tmp_path / "anchor"
    Anchor(path, KEY).write(MARK)
    content = path.read_bytes()

    for at in range(0, len(content), 3):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert Anchor(path, KEY).read() == (None, True)
    path.write_bytes(content)
    assert Anchor(path, OTHER_KEY).read() == (None, True)
    assert Anchor(path, OTHER_KEY).under(KEY).read() == (MARK, True)


def test_an_anchor_that_cannot_be_read_says_nothing(tmp_path: Path):
    """It is there, and whoever asks has to be told of it, and not of the system's error."""
    (tmp_path / "anchor").mkdir()
    (tmp_path / "file").write_bytes(b"")

    assert Anchor(tmp_path / "anchor", KEY).read() == (None, True)
    assert Anchor(tmp_path / "file" / "anchor", KEY).read() == (None, True)


def test_an_anchor_that_cannot_be_written_stays_as_it_was(tmp_path: Path):
    """And leaves nothing beside it."""
    (tmp_path / "anchor").mkdir()

    with pytest.raises(OSError, match="anchor"):
        Anchor(tmp_path / "anchor", KEY).write(MARK)

    assert [path.name for path in tmp_path.iterdir()] == ["anchor"]


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (MARK, None),
        (replace(MARK, counter=8, head=b"i" * 32), None),
        (replace(MARK, counter=6, head=b"i" * 32), Contradiction.LATER),
        (replace(MARK, head=b"i" * 32), Contradiction.LATER),
        (replace(MARK, store=b"t" * 16, counter=9), Contradiction.OTHER_STORE),
    ],
)
def test_what_is_older_or_another_is_contradicted(now: Mark, found: Contradiction | None):
    """What is ahead is a crash between store and anchor."""
    assert contradiction(MARK, present=True, was_anchored=True, now=now) is found


@pytest.mark.parametrize(
    ("present", "was_anchored", "found"),
    [
        (False, False, None),
        (False, True, Contradiction.MISSING),
        (True, False, Contradiction.UNREADABLE),
        (True, True, Contradiction.UNREADABLE),
    ],
)
def test_a_missing_or_damaged_anchor_contradicts_a_store_that_had_one(
    present: bool, was_anchored: bool, found: Contradiction | None
):
    """Else removing it would be enough; and it is not called an older copy."""
    assert contradiction(None, present=present, was_anchored=was_anchored, now=MARK) is found
