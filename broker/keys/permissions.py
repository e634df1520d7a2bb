"""
Who else could read or write a file: the judgement of rules.md R8 as functions of what was seen.

Pure: the facts come from an opened descriptor (``files``). Root is always trusted, because it can read our
memory anyway; so are we. A group is trusted with reading, if it is one of ours, and with nothing more.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from broker.errors import LocalError
from broker.keys.acl import UnreadableAclError, readers_of

ROOT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads: the effective uid, and the effective gid with all supplementary groups."""

    uid: int
    groups: frozenset[int]

    def trusts(self, uid: int) -> bool:
        """Say whether files of *uid* are as good as ours."""
        return uid in {ROOT, self.uid}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An opened file: *mode* as in stat(2), *acl* the extended attribute ``system.posix_acl_access`` or None."""

    mode: int
    uid: int
    gid: int
    acl: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory in which a symlink stands; *read_only*: by the mount, for everybody who sees it as we do."""

    mode: int
    uid: int
    read_only: bool = False


def process_reader() -> Reader:
    """Describe this process."""
    return Reader(uid=os.geteuid(), groups=frozenset({os.getegid(), *os.getgroups()}))


def check_private(path: Path, file: File, reader: Reader) -> None:
    """Accept a file that only we, root and our groups can read, and only we and root can write."""
    _check_owner(path, file, reader)
    hint = f"chmod 0600 {shlex.quote(str(path))} (a volume of Kubernetes: defaultMode: 0440 and fsGroup)"
    if file.mode & stat.S_IRWXO:
        raise _permissions(path, f"is open to everybody (mode {_octal(file.mode)})", hint)
    if file.mode & (stat.S_IWGRP | stat.S_IXGRP):
        raise _permissions(path, f"gives its group more than reading (mode {_octal(file.mode)})", hint)
    if file.mode & stat.S_IRGRP:
        _check_readers(path, file, reader, hint)


def check_public(path: Path, file: File, reader: Reader) -> None:
    """Accept a file that only we and root can write."""
    _check_owner(path, file, reader)
    if file.mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"can be changed by others (mode {_octal(file.mode)})"
        raise _permissions(path, message, f"chmod go-w {shlex.quote(str(path))}")


def check_link(path: Path, name: str, directory: Directory, reader: Reader) -> None:
    """
    Accept the symlink *name* on the way of *path* if nobody else could replace it.

    A sticky bit is no excuse: it keeps others from replacing this symlink, but not from having been there
    first. A read-only mount is one: volumes of Kubernetes have mode 1777, and are mounted so.
    """
    if not reader.trusts(directory.uid):
        who = f"belongs to uid {directory.uid}"
    elif directory.mode & (stat.S_IWGRP | stat.S_IWOTH) and not directory.read_only:
        who = f"can be changed by others (mode {_octal(directory.mode)})"
    else:
        return
    hint = "name the file itself instead of a symlink, or keep the symlink where only root or the broker can write"
    raise LocalError("file_symlink", f"{path}: the symlink {name} stands in a directory that {who}", hint=hint)


def _check_owner(path: Path, file: File, reader: Reader) -> None:
    if reader.trusts(file.uid):
        return
    message = f"{path}: belongs to uid {file.uid}, not to root or to the user of the broker (uid {reader.uid})"
    raise LocalError("file_owner", message, hint=f"chown {reader.uid} {shlex.quote(str(path))}")


def _check_readers(path: Path, file: File, reader: Reader, hint: str) -> None:
    """Judge the group's right to read; with an access control list that bit is the sum of several rights."""
    if file.acl is None:
        users, groups = frozenset[int](), frozenset({file.gid})
    else:
        try:
            users, groups = readers_of(file.acl, owning_group=file.gid)
        except UnreadableAclError:
            raise _permissions(path, "has an access control list that cannot be understood", hint) from None
    for uid in sorted(users):
        if not reader.trusts(uid):
            raise _permissions(path, f"can be read by uid {uid} (see getfacl)", f"setfacl -b {shlex.quote(str(path))}")
    for gid in sorted(groups - reader.groups):
        raise _permissions(path, f"can be read by the group {gid}, which the broker is not in", hint)


def _permissions(path: Path, message: str, hint: str) -> LocalError:
    return LocalError("file_permissions", f"{path}: {message}", hint=hint)


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
