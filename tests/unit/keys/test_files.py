"""files: what is checked is what is read, and every symlink on the way is looked at."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.keys.files import MAX_LINKS, MAX_PRIVATE, MAX_PUBLIC, read_private, read_public
from broker.keys.permissions import Reader
from tests.unit.keys.certificates import written
from tests.unit.keys.lists import MASK, OTHERS, OWNER, OWNING_GROUP, USER, acl
from tests.unit.keys.privileges import STRANGER, someone_else, without_privileges
from tests.unit.keys.refusals import refused

EVERY_READ = pytest.mark.parametrize("read", [read_private, read_public])
Read = Callable[[Path], bytes]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@EVERY_READ
def test_a_file_of_ours_is_read_whole(tmp_path: Path, read: Read) -> None:
    """Byte for byte, however many reads it takes."""
    content = os.urandom(MAX_PRIVATE)
    path = written(tmp_path / "key", content)

    assert read(path) == content


@EVERY_READ
def test_a_relative_path_starts_at_the_working_directory(tmp_path: Path, read: Read) -> None:
    """As for every program."""
    path = written(tmp_path / "key", b"content")

    assert read(Path(os.path.relpath(path))) == b"content"


@EVERY_READ
def test_a_missing_file_is_named(tmp_path: Path, read: Read) -> None:
    """With the whole path."""
    with refused("file_missing", tmp_path / "absent"):
        read(tmp_path / "absent")


@EVERY_READ
def test_a_missing_credential_is_told_where_it_belongs(read: Read) -> None:
    """Nobody can put it where it is looked for."""
    with pytest.raises(LocalError) as caught:
        read(Path("/run/credentials/token-broker.service/of-no-such-name"))

    assert caught.value.code == "file_missing"
    assert "LoadCredential=" in (caught.value.hint or "")


@EVERY_READ
def test_a_path_through_a_file_is_missing(tmp_path: Path, read: Read) -> None:
    """Nothing is below a file."""
    written(tmp_path / "key", b"content")

    with refused("file_missing"):
        read(tmp_path / "key" / "below")


@EVERY_READ
def test_a_path_with_a_nul_is_missing(read: Read) -> None:
    """The kernel would stop reading the name there."""
    with refused("file_missing"):
        read(Path("/etc/\0key"))


@EVERY_READ
def test_a_name_that_is_too_long_says_why(tmp_path: Path, read: Read) -> None:
    """Errors nobody thought of keep their names."""
    with refused("file_unreadable") as caught:
        read(tmp_path / ("x" * 300))

    assert errno.errorcode[errno.ENAMETOOLONG] in caught.value.message


@EVERY_READ
def test_a_directory_is_not_read(tmp_path: Path, read: Read) -> None:
    """Also when the path ends with a dot."""
    for path in (tmp_path, tmp_path / "sub/..", Path("/"), Path()):
        (tmp_path / "sub").mkdir(exist_ok=True)
        with refused("file_not_regular"):
            read(path)


@EVERY_READ
def test_a_fifo_does_not_hold_us_up(tmp_path: Path, read: Read) -> None:
    """Opened without O_NONBLOCK it would wait for a writer, for ever."""
    os.mkfifo(tmp_path / "key", 0o600)

    with refused("file_not_regular", tmp_path / "key"):
        read(tmp_path / "key")


@EVERY_READ
def test_a_socket_is_not_read(tmp_path: Path, read: Read) -> None:
    """The kernel refuses to open it, with an errno of its own."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))

        with refused("file_not_regular", tmp_path / "s"):
            read(tmp_path / "s")


@EVERY_READ
def test_a_device_is_not_read(read: Read) -> None:
    """An endless one would fill the memory."""
    with refused("file_not_regular"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize(("read", "limit"), [(read_private, MAX_PRIVATE), (read_public, MAX_PUBLIC)])
def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path, read: Read, limit: int) -> None:
    """One byte more is refused."""
    good = written(tmp_path / "good", bytes(limit))
    bad = written(tmp_path / "bad", bytes(limit + 1))

    assert len(read(good)) == limit
    with refused("file_too_large", bad):
        read(bad)


def test_a_private_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The mode that editors and git give."""
    path = written(tmp_path / "key", b"content", 0o644)

    assert read_public(path) == b"content"
    with refused("file_permissions", path):
        read_private(path)


def test_a_group_must_be_one_of_ours_to_read_a_private_file(tmp_path: Path) -> None:
    """The groups of the reader decide, not the name."""
    path = written(tmp_path / "key", b"content", 0o640)
    status = path.stat()

    assert read_private(path, reader=Reader(uid=status.st_uid, groups=frozenset({status.st_gid}))) == b"content"
    with refused("file_permissions", path):
        read_private(path, reader=Reader(uid=status.st_uid, groups=frozenset({status.st_gid + 1})))


@pytest.mark.parametrize("read", [read_private, read_public])
def test_a_file_of_somebody_else_is_refused(tmp_path: Path, read: Callable[..., bytes]) -> None:
    """Neither root's nor ours."""
    path = written(tmp_path / "key", b"content")
    reader = someone_else(path)

    with refused("file_owner", path):
        read(path, reader=reader)


def test_a_public_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """CAs decide who the other side is."""
    path = written(tmp_path / "ca", b"content", 0o666)

    with refused("file_permissions", path):
        read_public(path)


def test_an_access_control_list_is_seen_behind_the_mode(tmp_path: Path) -> None:
    """Read from the opened file, not from its name."""
    path = written(tmp_path / "key", b"content", 0o600)
    given = acl((OWNER, 6), (USER, 4, STRANGER), (OWNING_GROUP, 0), (MASK, 4), (OTHERS, 0))
    os.setxattr(path, "system.posix_acl_access", given)

    with refused("file_permissions", path) as caught:
        read_private(path)

    assert f"uid {STRANGER}" in caught.value.message


@EVERY_READ
def test_a_file_that_the_kernel_keeps_from_us_is_unreadable(tmp_path: Path, read: Read) -> None:
    """And the hint says how to look at it."""
    path = written(tmp_path / "key", b"content", 0o000)

    with refused("file_unreadable", path) as caught, without_privileges():
        read(path)

    assert "ls -ld" in (caught.value.hint or "")


def volume(directory: Path, content: bytes, stamp: str) -> Path:
    """Write a key as Kubernetes does: behind ``..data``, which is replaced in one step."""
    (directory / stamp).mkdir(mode=0o755)
    written(directory / stamp / "tls.key", content, 0o400)
    (directory / "..new").symlink_to(stamp)
    (directory / "..new").rename(directory / "..data")
    if not (directory / "tls.key").is_symlink():
        (directory / "tls.key").symlink_to("..data/tls.key")
    return directory / "tls.key"


@EVERY_READ
def test_a_key_behind_the_symlinks_of_kubernetes_is_read_and_followed_when_swapped(tmp_path: Path, read: Read) -> None:
    """Two symlinks, both in a directory of ours."""
    tmp_path.chmod(0o755)

    first = read(volume(tmp_path, b"one", "..2026_1"))
    second = read(volume(tmp_path, b"two", "..2026_2"))

    assert (first, second) == (b"one", b"two")


@EVERY_READ
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_symlink_where_others_can_write_is_refused(tmp_path: Path, read: Read, mode: int) -> None:
    """Whoever can replace it chooses the key that we use."""
    target = written(tmp_path / "key", b"content")
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(mode)
    (loose / "link").symlink_to(target)

    with refused("file_symlink", loose / "link"):
        read(loose / "link")


@EVERY_READ
def test_a_key_itself_may_lie_where_others_can_write(tmp_path: Path, read: Read) -> None:
    """It is ours, so nobody else can have made it."""
    tmp_path.chmod(0o1777)

    assert read(written(tmp_path / "key", b"content")) == b"content"


@EVERY_READ
def test_a_symlink_to_a_directory_is_looked_at_as_well(tmp_path: Path, read: Read) -> None:
    """In the middle of a path it redirects just the same."""
    (tmp_path / "real").mkdir(mode=0o755)
    written(tmp_path / "real" / "key", b"content")
    (tmp_path / "loose").mkdir(mode=0o755)
    (tmp_path / "loose" / "link").symlink_to(tmp_path / "real")
    good = read(tmp_path / "loose" / "link" / "key")
    (tmp_path / "loose").chmod(0o777)

    with refused("file_symlink"):
        read(tmp_path / "loose" / "link" / "key")

    assert good == b"content"


@EVERY_READ
def test_a_symlink_behind_a_good_symlink_is_looked_at_as_well(tmp_path: Path, read: Read) -> None:
    """Trust in the first says nothing of the second."""
    written(tmp_path / "key", b"content")
    (tmp_path / "loose").mkdir(mode=0o755)
    (tmp_path / "loose").chmod(0o777)
    (tmp_path / "loose" / "second").symlink_to("../key")
    (tmp_path / "first").symlink_to("loose/second")

    with refused("file_symlink", tmp_path / "first"):
        read(tmp_path / "first")


@pytest.mark.parametrize("read", [read_private, read_public])
def test_a_symlink_in_a_directory_of_somebody_else_is_refused(tmp_path: Path, read: Callable[..., bytes]) -> None:
    """The owner of a directory needs no mode to write in it."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    (theirs / "link").symlink_to("/dev/null")
    reader = someone_else(theirs)

    with refused("file_symlink"):
        read(theirs / "link", reader=reader)


@EVERY_READ
def test_dots_mean_the_real_parent_and_not_the_text_before_them(tmp_path: Path, read: Read) -> None:
    """``link/..`` is where the target's directory stands, as the kernel has it."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    written(tmp_path / "a" / "key", b"right")
    written(tmp_path / "key", b"wrong")
    (tmp_path / "link").symlink_to("a/b")

    assert read(tmp_path / "link" / ".." / "key") == b"right"


@EVERY_READ
def test_symlinks_in_a_circle_come_to_an_end(tmp_path: Path, read: Read) -> None:
    """With a code of their own."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with refused("file_symlink", tmp_path / "a"):
        read(tmp_path / "a")


@EVERY_READ
def test_as_many_symlinks_are_followed_as_the_kernel_would(tmp_path: Path, read: Read) -> None:
    """And not one more."""
    written(tmp_path / "0", b"content")
    for number in range(1, MAX_LINKS + 2):
        (tmp_path / str(number)).symlink_to(str(number - 1))

    assert read(tmp_path / str(MAX_LINKS)) == b"content"
    with refused("file_symlink"):
        read(tmp_path / str(MAX_LINKS + 1))


@EVERY_READ
def test_a_symlink_to_nowhere_is_missing(tmp_path: Path, read: Read) -> None:
    """The path in the configuration is named, since that is what can be corrected."""
    (tmp_path / "link").symlink_to("/nowhere/at/all")

    with refused("file_missing", tmp_path / "link"):
        read(tmp_path / "link")


@EVERY_READ
def test_no_descriptor_stays_open(tmp_path: Path, read: Read) -> None:
    """Neither after a success nor after any refusal."""
    key = written(tmp_path / "key", b"content")
    written(tmp_path / "open", b"content", 0o666)
    written(tmp_path / "large", bytes(MAX_PUBLIC + 1))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(key)
    (tmp_path / "far").symlink_to("/nowhere")
    before = descriptors()

    for name in ("key", "link", "open", "large", "loop", "far", "absent", "key/below", "."):
        try:
            read(tmp_path / name)
        except LocalError as error:
            assert error.code  # noqa: PT017 - which one is the business of the other tests

    assert descriptors() == before


@EVERY_READ
def test_no_refusal_quotes_the_file(tmp_path: Path, read: Read) -> None:
    """A key in the wrong place must not end in a log."""
    path = written(tmp_path / "key", b"canary-4711", 0o666)

    with refused("file_permissions") as caught:
        read(path)

    assert "canary" not in f"{caught.value!r}{caught.value.message}{caught.value.hint}"
