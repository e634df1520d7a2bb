"""Whether the file of a sink may be where it is to be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.sinks.files import Mark, remove, write
from broker.sinks.place import beside, examine, prepare
from broker.sinks.spec import Sink
from tests.unit.keys.privileges import STRANGER, without_privileges
from tests.unit.sinks.world import sink

IS_ROOT = os.geteuid() == 0


def refused(wanted: Sink, judge: Callable[[Sink], None] = examine) -> LocalError:
    with pytest.raises(LocalError) as caught:
        judge(wanted)
    return caught.value


@pytest.mark.parametrize("content", [None, "", "a-token", '{"access_token":"x"}'])
def test_nothing_or_a_token_may_be_there(tmp_path: Path, content: str | None) -> None:
    """And nothing is touched."""
    if content is not None:
        (tmp_path / "token").write_text(content)

    examine(sink(path=tmp_path / "token"))
    prepare(sink(path=tmp_path / "token"))

    assert [one.read_text() for one in tmp_path.iterdir()] == ([] if content is None else [content])


@pytest.mark.parametrize("judge", [examine, prepare])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.symlink_to("elsewhere"), "is a symbolic link"),
        (lambda path: path.write_text("127.0.0.1 localhost\n"), "does not hold a token"),
        (os.mkfifo, "is no file of the broker's"),
        (lambda path: path.hardlink_to(path.parent / "of-another"), "is no file of the broker's"),
    ],
)
def test_anything_else_is_left_alone(
    tmp_path: Path, spoil: Callable[[Path], object], words: str, judge: Callable[[Sink], None]
) -> None:
    """With the path, and what to do."""
    path = tmp_path / "token"
    (tmp_path / "of-another").write_text("a-token")
    spoil(path)

    error = refused(sink(path=path), judge)

    assert error.code == "sink_occupied"
    assert words in error.message
    assert str(path) in error.message
    assert error.hint
    assert os.path.lexists(path)


def test_a_directory_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Also with the sticky bit: who comes first has the name."""
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o1777)

    error = refused(sink(path=place / "token"))

    assert error.code == "sink_directory_unsafe"
    assert str(place) in error.message


def test_a_directory_above_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can rename the directory can replace it."""
    above = tmp_path / "open"
    (above / "own").mkdir(parents=True)
    above.chmod(0o777)

    error = refused(sink(path=above / "own" / "token"))

    assert error.code == "sink_directory_unsafe"
    assert str(above) in error.message
    assert error.hint is not None
    assert "chmod" in error.hint


@pytest.mark.skipif(not IS_ROOT, reason="only root makes directories of others")
def test_a_directory_of_another_user_or_group_is_refused(tmp_path: Path) -> None:
    """Its owner could replace the file; so could a group that can write it."""
    theirs, shared = tmp_path / "theirs", tmp_path / "shared"
    theirs.mkdir()
    shared.mkdir()
    os.chown(theirs, 40_001, 40_001)
    os.chown(shared, 0, 40_001)
    shared.chmod(0o770)

    found = [refused(sink(path=place / "token")).message for place in (theirs, shared)]

    assert "belongs to another user" in found[0]
    assert "writable for the group 40001" in found[1]


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """The directory itself has to be named."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert "symbolic link" in refused(sink(path=tmp_path / "link" / "token")).message


def test_a_missing_directory_is_refused_and_not_made(tmp_path: Path) -> None:
    """Who may look into it is the operator's to say. But for a check it may be one that a listener makes."""
    place = tmp_path / "missing"

    error = refused(sink(path=place / "token"))
    examine(sink(path=place / "token"), made={place})

    assert error.code == "sink_failed"
    assert error.hint is not None
    assert str(place) in error.hint
    assert not place.exists()


def test_what_a_crash_left_is_removed_at_the_start(tmp_path: Path) -> None:
    """Whatever it holds."""
    wanted = sink(path=tmp_path / "token")
    (tmp_path / beside(wanted)).write_bytes(b"half a tok")

    prepare(wanted)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_given_away_is_known_by_its_owner() -> None:
    """The broker may be able to give files away and not be able to read them; anybody else's is left alone."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "token")
        path.write_text("a-token")
        path.chmod(0o000)
        owner = os.geteuid()
        if IS_ROOT:
            owner = STRANGER + 1
            os.chown(path, owner, -1)
            os.chown(directory, STRANGER, -1)
        with without_privileges():
            examine(sink(path=path, uid=owner))
            error = refused(sink(path=path))

    assert error.code == "sink_occupied"


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files to others")
@pytest.mark.parametrize("made_of_it", ["a-token\n", "two\nlines\n", "x" * 300_000])
def test_whoever_owns_the_file_cannot_keep_the_broker_from_replacing_or_removing_it(
    tmp_path: Path, made_of_it: str
) -> None:
    """Or a workload would decide whether all the others are served, and how long a token lies there."""
    path = tmp_path / "token"
    path.write_text(made_of_it)
    os.link(path, tmp_path / "another-name")
    os.chown(path, 40_001, 40_001)
    wanted = sink(path=path, uid=40_001)

    prepare(wanted)
    write(wanted, b"new-token", Mark(token="t", written_at=1, ends_at=2))
    is_new = path.read_bytes() == b"new-token"
    path.write_text(made_of_it)

    assert is_new
    assert remove(wanted)
    assert not path.exists()
    assert (tmp_path / "another-name").read_text() == made_of_it


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files to others")
def test_another_owner_in_the_configuration_is_no_obstacle(tmp_path: Path) -> None:
    """The file of the one before is replaced."""
    path = tmp_path / "token"
    path.write_text("a-token")
    os.chown(path, 40_001, 40_001)

    prepare(sink(path=path, uid=40_002))


def test_an_owner_that_the_broker_cannot_give_files_to_is_refused() -> None:
    """At the start, and nothing is left; a group that is none of ours alike."""
    with tempfile.TemporaryDirectory() as directory:
        if IS_ROOT:
            os.chown(directory, STRANGER, -1)
        with without_privileges():
            owner = refused(sink(path=Path(directory, "token"), uid=STRANGER + 1), prepare)
            group = refused(sink(path=Path(directory, "token"), gid=STRANGER + 1), prepare)
            left = list(Path(directory).iterdir())

    assert [owner.code, group.code] == ["sink_owner_refused"] * 2
    assert "the user" in owner.message
    assert "the group" in group.message
    assert left == []
