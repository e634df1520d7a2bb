"""Directories in which a listener leaves a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.api.directories import DIRECTORY_MODE, Spot, check_directory, examine, failed, open_directory
from broker.errors import LocalError

STRANGER = 4_712


def spot(path: Path, **changes: int) -> Spot:
    return Spot(listener="app", path=path, what="socket", **changes)


def status(mode: int, *, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, uid, gid, 0, 0, 0, 0))


def opened(path: Path) -> None:
    os.close(open_directory(spot(path)))


def test_one_level_is_made(tmp_path: Path):
    """With the mode that lets the group pass through."""
    opened(tmp_path / "made" / "file")

    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == DIRECTORY_MODE


def test_two_levels_are_not(tmp_path: Path):
    """Most likely something is not mounted."""
    with pytest.raises(LocalError) as caught:
        opened(tmp_path / "a" / "b" / "file")

    assert caught.value.code == "listener_failed"
    assert str(tmp_path / "a") in str(caught.value.hint)


def test_a_link_or_a_file_is_no_directory(tmp_path: Path):
    """Whoever can change a link decides where the file goes."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")

    for name in ("link", "file"):
        with pytest.raises(LocalError) as caught:
            opened(tmp_path / name / "socket")
        assert caught.value.code == "listener_directory_unsafe"


@pytest.mark.parametrize(
    "found",
    [
        status(0o755),
        status(0o755, uid=os.geteuid()),
        status(0o775),
        status(0o775, gid=os.getegid()),
        status(0o750, gid=STRANGER),
    ],
)
def test_a_directory_that_only_root_and_we_can_write_is_good(found: os.stat_result):
    """Our own primary group included."""
    check_directory(spot(Path("/run/app/api.sock")), found)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (status(0o755, uid=STRANGER), "another user"),
        (status(0o777), "everybody"),
        (status(0o1777), "everybody"),
        (status(0o775, gid=STRANGER), f"group {STRANGER}"),
    ],
)
def test_others_who_can_write_could_put_something_in_place_of_ours(found: os.stat_result, message: str):
    """A sticky bit does not help: they may have been there first."""
    with pytest.raises(LocalError) as caught:
        check_directory(spot(Path("/run/app/api.sock")), found)

    assert message in caught.value.message
    assert caught.value.hint


def test_the_systems_words_are_passed_on():
    """Without a number that nobody knows by heart."""
    said = failed(spot(Path("/run/app/api.sock")), "it cannot be done", PermissionError(13, "x"))

    assert said.message == "listener app: it cannot be done: Permission denied"


def test_a_directory_above_that_others_can_write_is_as_bad(tmp_path: Path):
    """Whoever can rename the directory can put another in its place; it is named, with what mends it."""
    (tmp_path / "open" / "ours").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)

    with pytest.raises(LocalError) as caught:
        opened(tmp_path / "open" / "ours" / "file")

    assert caught.value.code == "listener_directory_unsafe"
    assert f"{tmp_path / 'open'} is writable for everybody" in caught.value.message
    assert str(caught.value.hint).startswith(f"chmod o-w {tmp_path / 'open'}")


def test_nothing_is_made_in_such_a_directory(tmp_path: Path):
    """It is refused before."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    with pytest.raises(LocalError):
        opened(tmp_path / "open" / "made" / "file")

    assert list((tmp_path / "open").iterdir()) == []


def test_looking_makes_nothing(tmp_path: Path):
    """What is missing may be made at the start."""
    examine(spot(tmp_path / "made" / "file"))

    assert list(tmp_path.iterdir()) == []


def test_looking_finds_what_opening_finds(tmp_path: Path):
    """The directory itself, one above it, and what is none."""
    (tmp_path / "open" / "ours").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "open" / "x", tmp_path / "open" / "ours" / "x", tmp_path / "file" / "x"):
        with pytest.raises(LocalError) as caught:
            examine(spot(path))
        assert caught.value.code == "listener_directory_unsafe"


def test_a_way_that_cannot_be_walked_is_said(tmp_path: Path):
    """In the system's words."""
    (tmp_path / "circle").symlink_to("circle")

    with pytest.raises(LocalError) as caught:
        examine(spot(tmp_path / "circle" / "x" / "file"))

    assert caught.value.code == "listener_failed"
