"""Unix sockets, opened safely."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.api.listeners import MAX_PATH_BYTES, OpenUnix, UnixListener, open_unix
from broker.errors import LocalError

NOBODY = 65_534

pytestmark = pytest.mark.real_time


def listener(path: Path, **changes: int) -> UnixListener:
    return UnixListener(name="app", path=path, **changes)


@contextlib.contextmanager
def opened(wanted: UnixListener) -> Iterator[OpenUnix]:
    found = open_unix(wanted)
    try:
        yield found
    finally:
        found.close()


def refused(wanted: UnixListener) -> LocalError:
    with pytest.raises(LocalError) as caught:
        open_unix(wanted).close()
    return caught.value


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def as_nobody(action: Callable[[], str]) -> str:
    """Do *action* as a user without rights, in a child if we are root; it gives a short text."""
    if os.geteuid() != 0:
        return action()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, action().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


@contextlib.contextmanager
def nobodys_directory() -> Iterator[Path]:
    """Make a directory that a user without rights can reach: those of pytest belong to us alone."""
    path = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def test_a_socket_is_opened_and_takes_connections(tmp_path: Path):
    """With the mode that was configured."""
    path = tmp_path / "app.sock"

    with opened(listener(path, mode=0o620)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

        assert stat.S_ISSOCK(path.lstat().st_mode)
        assert mode_of(path) == 0o620


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_umask_has_no_say(tmp_path: Path, umask: int):
    """Neither for the socket nor for the directory that is made for it."""
    path = tmp_path / "made" / "app.sock"
    before = os.umask(umask)
    try:
        with opened(listener(path, mode=0o660)):
            modes = (mode_of(path), mode_of(path.parent))
    finally:
        os.umask(before)

    assert modes == (0o660, 0o750)


def test_closing_removes_the_file(tmp_path: Path):
    """The next one finds a clean place."""
    path = tmp_path / "app.sock"

    open_unix(listener(path)).close()

    assert not path.exists()


def test_closing_twice_or_after_somebody_removed_the_file_is_no_error(tmp_path: Path):
    """It is gone: that was the aim."""
    path = tmp_path / "app.sock"
    found = open_unix(listener(path))
    path.unlink()

    found.close()
    found.close()


def test_closing_leaves_a_socket_that_took_our_place(tmp_path: Path):
    """A newer broker's, for instance."""
    path = tmp_path / "app.sock"
    ours = open_unix(listener(path))
    path.unlink()

    with opened(listener(path)):
        ours.close()

        assert path.exists()


def test_closing_leaves_a_file_that_took_our_place(tmp_path: Path):
    """Whatever it is, it is not ours."""
    path = tmp_path / "app.sock"
    ours = open_unix(listener(path))
    path.unlink()
    path.write_text("precious")

    ours.close()

    assert path.read_text() == "precious"


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path):
    """Nobody listens on it: a connect is refused."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()

    with opened(listener(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_on_which_somebody_listens_is_left_alone(tmp_path: Path):
    """Two brokers with one configuration: the second says so and does no harm."""
    path = tmp_path / "app.sock"

    with opened(listener(path)):
        error = refused(listener(path))

        assert error.code == "listener_in_use"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path):
    """A connect fails for another reason than that nobody listens."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(path))

        assert refused(listener(path)).code == "listener_in_use"
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "fifo"])
def test_a_file_in_the_way_is_left_alone(tmp_path: Path, kind: str):
    """Only sockets are ever removed; a link is not followed to one."""
    path, other = tmp_path / "app.sock", tmp_path / "other"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            other.write_text("precious")
            path.symlink_to(other)
        case "dangling link":
            path.symlink_to(other)
        case _:
            os.mkfifo(path)

    error = refused(listener(path))

    assert error.code == "listener_occupied"
    assert error.hint
    assert os.path.lexists(path)


@pytest.mark.parametrize("path", ["@app", "app.sock", "./app.sock", "\0app", "/tmp/a\0b"])
def test_abstract_and_relative_paths_are_refused(path: str):
    """An abstract socket has no permissions, and network namespaces share it."""
    error = refused(listener(Path(path)))

    assert error.code == "listener_path_refused"
    assert "abstract" in (error.hint or "")


def test_a_path_may_be_107_bytes_and_no_more(tmp_path: Path):
    """A Unix socket address has room for no more, and the message says how many there are."""
    room = MAX_PATH_BYTES - len(os.fsencode(tmp_path)) - 1

    with opened(listener(tmp_path / ("a" * room))):
        pass

    assert refused(listener(tmp_path / ("a" * (room + 1)))).code == "listener_path_refused"


def test_a_directory_for_everybody_is_refused_with_a_way_out(tmp_path: Path):
    """Also with the sticky bit: what is refused is that others can put a socket there first."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    error = refused(listener(shared / "app.sock"))

    assert error.code == "listener_directory_unsafe"
    assert error.hint is not None
    suggested = Path(error.hint.rpartition(" ")[2])
    with opened(listener(suggested)):
        assert mode_of(suggested.parent) == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to a group that it is not in")
def test_a_directory_that_a_foreign_group_may_write_is_refused(tmp_path: Path):
    """A member could rename the socket away and bind its own in its place."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, NOBODY)
    shared.chmod(0o770)

    error = refused(listener(shared / "app.sock"))

    assert error.code == "listener_directory_unsafe"
    assert f"group {NOBODY}" in error.message


def test_a_directory_that_the_group_of_the_broker_may_write_is_used(tmp_path: Path):
    """A umask of 002 makes such directories, and the group is the broker's own."""
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, -1, os.getegid())
    own.chmod(0o770)

    with opened(listener(own / "app.sock")) as found:
        assert found.listener.path.is_socket()


def test_a_directory_behind_a_link_is_refused(tmp_path: Path):
    """Who owns the link decides where the socket is."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert refused(listener(tmp_path / "link" / "app.sock")).code == "listener_directory_unsafe"


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path):
    """With the same code: the place is wrong."""
    (tmp_path / "file").write_text("")

    assert refused(listener(tmp_path / "file" / "app.sock")).code == "listener_directory_unsafe"


def test_only_one_level_is_made(tmp_path: Path):
    """A mistyped path does not leave a tree of directories behind."""
    error = refused(listener(tmp_path / "a" / "b" / "app.sock"))

    assert error.code == "listener_failed"
    assert str(tmp_path / "a") in (error.hint or "")
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path):
    """Its owner could replace the socket at any time."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12_345, -1)

    error = refused(listener(theirs / "app.sock"))

    assert error.code == "listener_directory_unsafe"
    assert error.hint


def test_the_group_is_set_beside_the_mode(tmp_path: Path):
    """Each for itself, and also on the directory that is made, so that the group can get to the socket."""
    gid = 54_321 if os.geteuid() == 0 else os.getgroups()[-1]
    path = tmp_path / "made" / "app.sock"

    with opened(listener(path, gid=gid, mode=0o660)):
        found = (path.lstat().st_gid, path.parent.stat().st_gid, mode_of(path))

    assert found == (gid, gid, 0o660)


def test_a_group_that_may_not_be_given_is_refused():
    """And nothing stays open."""

    def attempt() -> str:
        wanted = listener(directory / "app.sock", gid=0)
        try:
            open_unix(wanted).close()
        except LocalError as error:
            return f"{error.code} {bool(error.hint)}"
        return "opened"

    with nobodys_directory() as directory:
        assert as_nobody(attempt) == "listener_group_refused True"


def test_a_directory_that_we_may_not_write_in_is_refused():
    """The message says what the system said."""

    def attempt() -> str:
        try:
            open_unix(listener(directory / "app.sock")).close()
        except LocalError as error:
            return f"{error.code} {error.message}"
        return "opened"

    with nobodys_directory() as directory:
        directory.chmod(0o500)

        found = as_nobody(attempt)

    assert found.startswith("listener_failed ")
    assert found.endswith("Permission denied")


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path):
    """Also not by one that comes late."""
    (tmp_path / "occupied").write_text("")
    before = len(list(Path("/proc/self/fd").iterdir()))

    for path in (tmp_path / "occupied", tmp_path / "a" / "b" / "c", Path("@x")):
        refused(listener(path))

    assert len(list(Path("/proc/self/fd").iterdir())) == before
