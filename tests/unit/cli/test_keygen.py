"""Tests of ``broker/cli/keygen.py``: a new key, or nothing; never somebody else's and never an old one's end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.keygen import KEY_BYTES, write_new
from broker.errors import LocalError
from broker.keys.files import read_private


@pytest.mark.parametrize("kind", [["audit"], ["store"], []])
def test_a_key_is_random_and_passes_the_rules_for_key_files(
    tmp_path: Path, kind: list[str], capsys: pytest.CaptureFixture[str]
):
    """Two of them differ, the mode is 0600 whatever the umask is, and no byte of them is printed."""
    before = os.umask(0o777)
    try:
        codes = [main(["keygen", *kind, str(tmp_path / name)]) for name in ("a", "b")]
    finally:
        os.umask(before)

    first, second = read_private(tmp_path / "a"), read_private(tmp_path / "b")
    assert codes == [0, 0]
    assert len(first) == len(second) == KEY_BYTES
    assert first != second
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert f'{{ file = "{tmp_path}/a" }}' in capsys.readouterr().out


def test_an_existing_file_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Nor is the target of a symlink, even one that leads nowhere."""
    (tmp_path / "key").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "new")

    codes = [main(["keygen", str(tmp_path / name)]) for name in ("key", "link")]

    assert codes == [1, 1]
    assert (tmp_path / "key").read_bytes() == b"old"
    assert not (tmp_path / "new").exists()
    assert "file_exists" in capsys.readouterr().err


def test_a_directory_that_our_own_group_can_write_is_good(tmp_path: Path):
    """As it is for ``check`` and ``run``: with a umask of 002 every directory of a user is such a one."""
    directory = tmp_path / "d"
    directory.mkdir()
    os.chown(directory, -1, os.getegid())
    directory.chmod(0o775)

    write_new(directory / "key", b"k")

    assert (directory / "key").read_bytes() == b"k"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to a group that it is not in")
@pytest.mark.parametrize("mode", [0o770, 0o720])
def test_a_directory_that_another_group_can_write_is_refused(tmp_path: Path, mode: int):
    """Its members could replace the file."""
    directory = tmp_path / "d"
    directory.mkdir()
    os.chown(directory, -1, 40_001)
    directory.chmod(mode)

    with pytest.raises(LocalError) as caught:
        write_new(directory / "key", b"k")

    assert caught.value.code == "directory_unsafe"
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o772])
def test_a_directory_in_which_others_can_replace_the_file_is_refused(tmp_path: Path, mode: int):
    """Nothing is written there."""
    directory = tmp_path / "d"
    directory.mkdir()
    directory.chmod(mode)

    with pytest.raises(LocalError) as caught:
        write_new(directory / "key", b"k")

    assert caught.value.code == "directory_unsafe"
    assert list(directory.iterdir()) == []


def test_a_sticky_directory_is_accepted(tmp_path: Path):
    """Others cannot replace our file in it, and one that was there before is not taken."""
    directory = tmp_path / "d"
    directory.mkdir()
    directory.chmod(0o1777)

    write_new(directory / "key", b"k")

    assert (directory / "key").read_bytes() == b"k"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path):
    """Its owner could replace the file."""
    directory = tmp_path / "d"
    directory.mkdir()
    os.chown(directory, 40_001, -1)

    with pytest.raises(LocalError) as caught:
        write_new(directory / "key", b"k")

    assert caught.value.code == "directory_unsafe"


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_a_directory_that_is_none_is_named(tmp_path: Path, parent: str):
    """It is not made: a typing error would make directories in strange places."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(LocalError) as caught:
        write_new(tmp_path / parent / "key", b"k")

    assert caught.value.code == "directory_missing"


def test_a_file_that_cannot_be_made_is_an_error_with_its_path():
    """A file system in which nobody can make files stands for a full disk."""
    with pytest.raises(LocalError) as caught:
        write_new(Path("/proc/key"), b"k")

    assert caught.value.code == "file_unwritable"


def test_an_unknown_kind_is_wrong_usage(tmp_path: Path):
    """A misspelled kind must not become the name of a file."""
    with pytest.raises(SystemExit) as caught:
        main(["keygen", "audti", str(tmp_path / "key")])

    assert caught.value.code == 2
