"""
Who else could change where a path leads: the judgement of sshd's StrictModes, for every directory on the way.

A directory is as safe as those above it: whoever can write one of them can rename what is below and put
something else there. The way is walked from the root, so that what was found safe cannot be changed while
the rest is looked at. It knows no errors of the broker: whoever asks says what it means.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = 0
"""The user and the group that may do everything anyway."""

HANDED_ON = stat.S_ISGID | stat.S_IWGRP
"""Of a directory whose group can write it, and is that of whatever is made in it: the mark of ``fsGroup``."""

MAX_LINKS = 40
"""Symlinks on one path, as the kernel's own limit (path_resolution(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """
    A place on a path that somebody else could change.

    *path* is the directory or the symlink, *what* goes on after it ("belongs to ..."), *fix* is a command or
    an advice.
    """

    path: Path
    what: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Whom we trust beside root: ourselves, and our primary group as with every other file."""

    uid: int
    gid: int

    def owner(self, uid: int) -> bool:
        """Say whether files of *uid* are as good as ours."""
        return uid in (ROOT, self.uid)


def process_trusts() -> Trusted:
    """Describe this process."""
    return Trusted(uid=os.geteuid(), gid=os.getegid())


def weakness_above(
    path: Path,
    *,
    trusted: Trusted | None = None,
    links_only: bool = False,
    is_volume: Callable[[str], bool] = os.path.ismount,
) -> Weakness | None:
    """
    Find the first place on the way to *path* that somebody else could change; None where there is none.

    Judged are the directories in which its components stand, and the symlinks among them; *path* itself is
    the caller's to judge. With *links_only* directories count only where a symlink stands in them. What does
    not exist ends the way. A sticky directory is good: entries of others are judged as what they are. So is
    one that is mounted read-only (a ConfigMap), and the root of a volume (*is_volume*) other than the system's
    that hands its group on: Kubernetes makes volumes so for the ``fsGroup`` of a pod (emptyDir 2777), and who
    else has them mounted for writing is decided there. Raises OSError where the way cannot be walked.
    """
    trusted = trusted or process_trusts()
    for directory, entry, found in _walk(path):
        is_link = found is not None and stat.S_ISLNK(found.st_mode)
        weakness = _judge(directory, trusted, is_volume) if is_link or not links_only else None
        if weakness is not None:
            return weakness
        if found is not None and is_link and not trusted.owner(found.st_uid):
            return Weakness(
                path=Path(entry),
                what=f"is a symbolic link of uid {found.st_uid}, who decides where it leads",
                fix="name what it leads to",
            )
    return None


def _walk(path: Path) -> Iterator[tuple[str, str, os.stat_result | None]]:
    """
    Give each directory in which a component of *path* is looked up, with the component and what it is.

    The next step is taken when it is asked for: after the last one was judged. Raises OSError.
    """
    pending = deque(os.fspath(path.absolute()).split("/"))
    directory, links = "/", 0
    while pending:
        name = pending.popleft()
        if name in {"", "."}:
            continue
        if name == "..":
            directory = directory.rpartition("/")[0] or "/"  # there is no symlink in it any more
            continue
        entry = f"{directory.rstrip('/')}/{name}"
        try:
            found = os.lstat(entry)
        except FileNotFoundError:
            yield directory, entry, None
            return
        yield directory, entry, found
        if not stat.S_ISLNK(found.st_mode):
            directory = entry
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = str(Path(entry).readlink())
        pending.extendleft(reversed(target.split("/")))
        directory = "/" if target.startswith("/") else directory


def _judge(directory: str, trusted: Trusted, is_volume: Callable[[str], bool]) -> Weakness | None:
    found = os.lstat(directory)
    if not trusted.owner(found.st_uid):
        return Weakness(
            path=Path(directory),
            what=f"belongs to uid {found.st_uid}, who could replace what is in it",
            fix=f"chown it to root, or to uid {trusted.uid}",
        )
    by_everybody = bool(found.st_mode & stat.S_IWOTH)
    by_a_group = bool(found.st_mode & stat.S_IWGRP) and found.st_gid not in (ROOT, trusted.gid)
    if not (by_everybody or by_a_group) or found.st_mode & stat.S_ISVTX:
        return None
    if directory != "/" and os.statvfs(directory).f_flag & os.ST_RDONLY:
        return None
    is_open_volume = directory != "/" and is_volume(directory)
    if is_open_volume and found.st_mode & HANDED_ON == HANDED_ON:
        return None
    who = "everybody" if by_everybody else f"the group {found.st_gid}"
    return Weakness(
        path=Path(directory),
        what=f"is writable for {who} (mode {stat.S_IMODE(found.st_mode):04o}), who could replace what is in it",
        fix=f"chmod {'o' if by_everybody else 'g'}-w {directory}, or chmod +t"
        + (" (in Kubernetes, give the pod an fsGroup)" if is_open_volume else ""),
    )
