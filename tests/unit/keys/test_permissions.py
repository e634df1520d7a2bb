"""permissions: who else could read or write, judged from facts alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.keys.permissions import (
    Directory,
    File,
    Reader,
    check_link,
    check_private,
    check_public,
    process_reader,
)
from tests.unit.keys.lists import GROUP, MASK, OTHERS, OWNER, OWNING_GROUP, USER, acl
from tests.unit.keys.refusals import refused

WE = Reader(uid=1000, groups=frozenset({1000, 50}))
PATH = Path("/etc/broker/it's.key")


def file(mode: int, *, uid: int = 1000, gid: int = 1000, acl: bytes | None = None) -> File:
    return File(mode=stat.S_IFREG | mode, uid=uid, gid=gid, acl=acl)


def directory(mode: int, *, uid: int = 0, read_only: bool = False) -> Directory:
    return Directory(mode=stat.S_IFDIR | mode, uid=uid, read_only=read_only)


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_private_file_of_ours_or_of_root_is_accepted(mode: int, uid: int) -> None:
    """Root can read our memory anyway."""
    check_private(PATH, file(mode, uid=uid), WE)


@pytest.mark.parametrize("gid", [1000, 50])
@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_group_of_ours_may_read_a_private_file(mode: int, gid: int) -> None:
    """fsGroup in Kubernetes comes as a supplementary group."""
    check_private(PATH, file(mode, uid=0, gid=gid), WE)


@pytest.mark.parametrize("gid", [0, 7])
def test_another_group_may_not_read_a_private_file(gid: int) -> None:
    """Not even root's group: its members need not be root."""
    with refused("file_permissions", PATH) as caught:
        check_private(PATH, file(0o640, gid=gid), WE)

    assert f"group {gid}" in caught.value.message


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o777])
def test_a_private_file_with_any_bit_for_others_is_refused(mode: int) -> None:
    """And the hint is a command that can be pasted, quotes in the name or not."""
    with refused("file_permissions", PATH) as caught:
        check_private(PATH, file(mode), WE)

    assert f"{mode:04o}" in caught.value.message
    assert "chmod 0600 '/etc/broker/it'\"'\"'s.key'" in (caught.value.hint or "")


@pytest.mark.parametrize("mode", [0o620, 0o660, 0o610, 0o650])
def test_a_group_may_do_nothing_but_read(mode: int) -> None:
    """Whoever can write a key file can have us use another key."""
    with refused("file_permissions", PATH):
        check_private(PATH, file(mode), WE)


@pytest.mark.parametrize("check", [check_private, check_public])
def test_a_file_of_somebody_else_is_refused(check: Callable[[Path, File, Reader], None]) -> None:
    """Its owner can change the mode at any time."""
    with refused("file_owner", PATH) as caught:
        check(PATH, file(0o600, uid=1001), WE)

    assert "uid 1001" in caught.value.message
    assert (caught.value.hint or "").startswith("chown 1000 ")


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o640, 0o600])
def test_anybody_may_read_a_public_file(mode: int) -> None:
    """Certificates are sent in the clear."""
    check_public(PATH, file(mode, uid=0, gid=7), WE)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620])
def test_nobody_else_may_write_a_public_file(mode: int) -> None:
    """Whoever can write the CAs can be every authorization server."""
    with refused("file_permissions", PATH) as caught:
        check_public(PATH, file(mode), WE)

    assert (caught.value.hint or "").startswith("chmod go-w ")


def test_a_credential_of_systemd_is_accepted() -> None:
    """Root's, mode 0440, and a list that lets our uid read: the group bits are the mask, not root's group."""
    given = acl((OWNER, 4), (USER, 4, 1000), (OWNING_GROUP, 0), (MASK, 4), (OTHERS, 0))

    check_private(PATH, file(0o440, uid=0, gid=0, acl=given), WE)


def test_a_list_that_lets_another_user_read_is_refused() -> None:
    """Though the mode looks as if only our group could."""
    given = acl((OWNER, 6), (USER, 4, 1001), (OWNING_GROUP, 0), (MASK, 4), (OTHERS, 0))

    with refused("file_permissions", PATH) as caught:
        check_private(PATH, file(0o640, acl=given), WE)

    assert "uid 1001" in caught.value.message
    assert (caught.value.hint or "").startswith("setfacl -b ")


def test_a_list_that_lets_another_group_read_is_refused() -> None:
    """As the group of the file itself."""
    given = acl((OWNER, 6), (OWNING_GROUP, 4), (GROUP, 4, 7), (MASK, 4), (OTHERS, 0))

    with refused("file_permissions", PATH):
        check_private(PATH, file(0o640, acl=given), WE)


def test_a_list_that_cannot_be_understood_is_refused() -> None:
    """In doubt, somebody can read."""
    with refused("file_permissions", PATH):
        check_private(PATH, file(0o640, acl=b"?"), WE)


def test_a_list_that_lets_nobody_read_is_not_even_read() -> None:
    """The mask is in the mode: without group bits, no entry counts."""
    check_private(PATH, file(0o600, acl=b"?"), WE)


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_symlink_may_stand_where_only_we_and_root_can_write(uid: int) -> None:
    """Nobody else could have made it, and nobody else can replace it."""
    check_link(PATH, "..data", directory(0o755, uid=uid), WE)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777, 0o1775])
def test_a_symlink_where_others_can_write_is_refused(mode: int) -> None:
    """Sticky or not: in /tmp, whoever came first made the symlink."""
    with refused("file_symlink", PATH) as caught:
        check_link(PATH, "..data", directory(mode), WE)

    assert "..data" in caught.value.message


def test_a_symlink_in_a_directory_of_somebody_else_is_refused() -> None:
    """Its owner can replace it, whatever the mode says."""
    with refused("file_symlink", PATH):
        check_link(PATH, "..data", directory(0o755, uid=1001), WE)


@pytest.mark.parametrize("mode", [0o1777, 0o3777])
def test_a_symlink_on_a_read_only_mount_is_accepted(mode: int) -> None:
    """So a secret volume of Kubernetes looks from inside: mode 1777, and read-only."""
    check_link(PATH, "..data", directory(mode, read_only=True), WE)


def test_a_read_only_mount_of_somebody_else_is_refused() -> None:
    """Whoever owns the directory filled it, before it was mounted."""
    with refused("file_symlink", PATH):
        check_link(PATH, "..data", directory(0o755, uid=1001, read_only=True), WE)


def test_this_process_is_described_with_all_its_groups() -> None:
    """Effective ids: those that the kernel goes by."""
    reader = process_reader()

    assert reader.uid == os.geteuid()
    assert reader.groups == {os.getegid(), *os.getgroups()}
