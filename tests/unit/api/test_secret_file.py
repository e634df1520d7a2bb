"""The file with the secret of a TCP listener."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.api.directories import Spot
from broker.api.secret_file import CONTENT, CONTENT_BYTES, SECRET_BYTES, digest_of, write_secret
from broker.errors import LocalError
from broker.hostenv.clock import SystemRandomness

SECRET = "A" * CONTENT_BYTES
OTHER = "B" * CONTENT_BYTES


def spot(path: Path, gid: int | None = None) -> Spot:
    return Spot(listener="tcp", path=path, what="secret", gid=gid)


def refused(path: Path) -> LocalError:
    with pytest.raises(LocalError) as caught:
        write_secret(spot(path), SECRET)
    return caught.value


def test_the_content_is_the_secret_and_nothing_else(tmp_path: Path):
    """No newline that a program would have to take off."""
    write_secret(spot(tmp_path / "secret"), SECRET)

    assert (tmp_path / "secret").read_text() == SECRET
    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]


def test_a_secret_of_the_daemon_is_one_that_is_replaced_at_the_next_start():
    """The shape that is looked for is the shape that is written."""
    assert CONTENT.fullmatch(SystemRandomness().token(SECRET_BYTES).encode())


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_its_group_may_read_it_and_nobody_else(tmp_path: Path, umask: int):
    """Whatever the umask; the group is the one that was named."""
    before = os.umask(umask)
    try:
        write_secret(spot(tmp_path / "secret", gid=os.getegid()), SECRET)
    finally:
        os.umask(before)

    found = (tmp_path / "secret").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, os.getegid())


def test_the_group_gets_the_file(tmp_path: Path):
    """And may pass through the directory that is made for it: it is how a workload comes to the secret."""
    group = 4_711 if os.geteuid() == 0 else os.getegid()  # only root gives files to any group

    write_secret(spot(tmp_path / "made" / "secret", gid=group), SECRET)

    assert ((tmp_path / "made").stat().st_gid, (tmp_path / "made" / "secret").stat().st_gid) == (group, group)


def test_the_secret_of_an_earlier_start_is_replaced(tmp_path: Path):
    """By another file: who had the old one open does not see the new secret in it."""
    path = tmp_path / "secret"
    write_secret(spot(path), OTHER)
    with path.open() as old:
        write_secret(spot(path), SECRET)

        assert old.read() == OTHER
    assert path.read_text() == SECRET


def test_a_file_that_was_left_half_written_is_no_obstacle(tmp_path: Path):
    """A process may die at any moment."""
    (tmp_path / ".secret.new").write_text("half")

    write_secret(spot(tmp_path / "secret"), SECRET)

    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]


@pytest.mark.parametrize("content", ["", "precious", "A" * 42, "A" * 44, "A" * 42 + "\n", "A" * 42 + "="])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: str):
    """A path that was written by mistake must not cost a file."""
    path = tmp_path / "config.toml"
    path.write_text(content)

    assert refused(path).code == "listener_secret_occupied"
    assert path.read_text() == content


def test_a_symbolic_link_is_neither_followed_nor_replaced(tmp_path: Path):
    """Not even one to a secret."""
    (tmp_path / "elsewhere").write_text(OTHER)
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")

    assert refused(tmp_path / "secret").code == "listener_secret_occupied"
    assert (tmp_path / "elsewhere").read_text() == OTHER


def test_a_directory_or_a_pipe_in_the_way_is_refused(tmp_path: Path):
    """And a pipe does not hold us up."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")

    assert {refused(tmp_path / name).code for name in ("directory", "pipe")} == {"listener_secret_occupied"}


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path):
    """They could put a secret of theirs in place of ours, and be asked for it."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)

    found = refused(tmp_path / "shared" / "secret")

    assert found.code == "listener_directory_unsafe"
    assert "a secret in place of ours" in found.message


def test_what_the_system_refuses_is_said(tmp_path: Path):
    """The name is too long for a file: an OSError like any other."""
    assert refused(tmp_path / ("n" * 255)).code == "listener_failed"


def test_it_is_removed_unless_it_holds_another_secret(tmp_path: Path):
    """A broker that came after us may have written there."""
    path = tmp_path / "secret"
    ours = write_secret(spot(path), SECRET)
    path.write_text(OTHER)

    ours.unlink()
    assert path.read_text() == OTHER

    path.write_text(SECRET)
    ours.unlink()
    ours.unlink()
    assert not path.exists()


def test_neither_the_secret_nor_its_digest_is_printable(tmp_path: Path):
    """It is in no log, whatever is logged."""
    written = write_secret(spot(tmp_path / "secret"), SECRET)

    assert SECRET not in repr(written)
    assert repr(written.digest) not in repr(written)
    assert written.digest == digest_of(SECRET)
