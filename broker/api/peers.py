"""
Who connected: the kernel's answer about a Unix socket, read when the connection is accepted.

SO_PEERCRED and SO_PEERGROUPS are structures of numbers and are read as such; nothing the peer can choose
(its socket's address, its command line) is looked at (CVE-2019-7304).
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from broker.policy.peer import Peer

SO_PEERGROUPS = 59
"""From asm-generic/socket.h; Python has no name for it."""

UCRED = struct.Struct("=iII")
"""``struct ucred`` of unix(7): pid, uid, gid."""

GID = struct.Struct("=I")

COUNT = struct.Struct("=i")
"""What FIONREAD of ioctl(2) gives: an int."""

GROUPS_BYTES = 1_024
"""Bytes, the most that ``socket.getsockopt`` takes: room for 256 supplementary groups."""

GROUPS_KEPT = 64
"""Lists of groups that are kept read: there are as many as there are users that call. All together below 1 MiB."""

OVERFLOW_ID = 65_534
"""What the kernel says of an id that has no name in our user namespace (user_namespaces(7))."""

NO_ID = 2**32 - 1
"""``(uid_t) -1``: the kernel's word for none."""

WHOLE_MAP = ("0", "0", str(NO_ID))
"""The one line of a map that leaves every id as it is: first inside, first outside, count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknowns:
    """The numbers that stand for an unknown user and for an unknown group."""

    uids: frozenset[int]
    gids: frozenset[int]


def is_whole_map(text: str) -> bool:
    """Say whether *text* of ``/proc/self/uid_map`` maps every id to itself, so that 65534 is a real user."""
    lines = [tuple(line.split()) for line in text.splitlines() if line.strip()]
    return lines == [WHOLE_MAP]


def unknown_ids(map_text: str) -> frozenset[int]:
    """Give the numbers that stand for nobody, for a process with this ``uid_map`` (or ``gid_map``)."""
    return frozenset({NO_ID}) if is_whole_map(map_text) else frozenset({NO_ID, OVERFLOW_ID})


def read_unknowns(proc: Path = Path("/proc/self")) -> Unknowns:
    """Read our own maps; where they cannot be read, the overflow ids are taken for unknown."""
    return Unknowns(uids=unknown_ids(_read(proc / "uid_map")), gids=unknown_ids(_read(proc / "gid_map")))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""


def parse_peer(listener: str, ucred: bytes, groups: bytes, unknowns: Unknowns) -> Peer:
    """Read what the two socket options gave. Raises struct.error for bytes that are neither."""
    pid, uid, gid = UCRED.unpack(ucred)
    return Peer(
        listener=listener,
        uid=None if uid in unknowns.uids else uid,
        gid=None if gid in unknowns.gids else gid,
        groups=_groups(groups, unknowns.gids),
        pid=pid,
    )


@lru_cache(maxsize=GROUPS_KEPT)
def _groups(groups: bytes, unknown: frozenset[int]) -> frozenset[int]:
    """Read groups; callers that have the same ones share them."""
    return frozenset(group for (group,) in GID.iter_unpack(groups)) - unknown


def peer_of(connection: socket.socket, listener: str, unknowns: Unknowns) -> Peer:
    """Ask the kernel who is at the other end of *connection*. Raises OSError."""
    ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    return parse_peer(listener, ucred, supplementary_groups(connection.getsockopt), unknowns)


def supplementary_groups(getsockopt: Callable[[int, int, int], bytes]) -> bytes:
    """
    Read SO_PEERGROUPS. Raises OSError.

    A peer with more groups than there is room for (ERANGE) is taken to have none, which can only deny it
    something; its uid and its primary group still count.
    """
    try:
        return getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError as error:
        if error.errno == errno.ERANGE:
            return b""
        raise


class HasFileDescriptor(Protocol):
    """A socket, or what a transport of a loop gives for one."""

    def fileno(self) -> int:
        """Give the descriptor, -1 when it is closed."""


def has_left(connection: HasFileDescriptor, *, hung_up: bool = False) -> bool:
    """
    Say whether the peer has ended *connection*, whatever lies unread before the end: a look that takes no time.

    Where we have *hung_up* it cannot send any more, which says nothing of it: then it has to be gone altogether.
    """
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), 0 if hung_up else select.POLLRDHUP)  # POLLHUP is told unasked
    return bool(poll.poll(0))


def unread(connection: HasFileDescriptor) -> int:
    """Give the bytes that lie in *connection*, arrived and not read. Raises OSError."""
    (count,) = COUNT.unpack(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(COUNT.size)))
    return int(count)
