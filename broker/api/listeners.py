"""
Unix sockets, opened so that nobody can connect who should not, and nothing of others is touched.

No abstract sockets: they have no permissions, and network namespaces share them (CVE-2020-15257). A file in
the way is removed only if it is a socket that nobody listens on.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from broker.api.directories import Spot, examine, failed, give_to_group, open_directory, unsafe
from broker.errors import LocalError

MAX_PATH_BYTES = 107
"""Bytes: ``sun_path`` of unix(7) has 108, one of them the NUL that other programs need."""

BACKLOG = 1_024
"""Connections that may wait to be accepted; twice the default cap of all, so that a burst or a restart loses none."""

PROBE_TIMEOUT = 1.0
"""Seconds: a live listener with a full backlog makes a connect wait; then it is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListener:
    """A ``[listener.NAME]`` with a path: *mode* are permission bits, *gid* None keeps the daemon's own group."""

    name: str
    path: Path
    mode: int = 0o660
    gid: int | None = None

    @property
    def spot(self) -> Spot:
        """Where its file is."""
        return Spot(listener=self.name, path=self.path, what="socket", gid=self.gid)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUnix:
    """
    A listening socket, and which file it is: *device* and *inode* tell ours from one that took its place.

    *inherited*: the file is not ours, whoever opened the socket for us looks after it.
    """

    listener: UnixListener
    socket: socket.socket
    device: int = 0
    inode: int = 0
    inherited: bool = False

    @property
    def address(self) -> str:
        """The address as clients have it in ``TOKEN_BROKER_SOCKET``."""
        return f"unix://{os.fspath(self.listener.path)}"

    def unlink(self) -> None:
        """
        Remove the file, if it is still ours.

        To be called while the socket is open: as long as it is, the inode's number cannot be given away.
        """
        if self.inherited:
            return
        try:
            found = os.lstat(self.listener.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                self.listener.path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise failed(self.listener.spot, "its file cannot be removed", error) from error

    def close(self) -> None:
        """Remove the file, if it is still ours, and stop listening."""
        try:
            self.unlink()
        finally:
            self.socket.close()


def open_unix(listener: UnixListener) -> OpenUnix:
    """
    Listen on *listener*.

    Raises LocalError: ``listener_path_refused``, ``listener_directory_unsafe``, ``listener_occupied``,
    ``listener_in_use``, ``listener_group_refused`` or ``listener_failed``.
    """
    _check_path(listener)
    directory = open_directory(listener.spot)
    try:
        _clear_the_way(listener, directory)
        return _listen(listener, directory)
    finally:
        os.close(directory)


def examine_unix(listener: UnixListener) -> None:
    """Judge what is there for *listener*, and change nothing; one that somebody listens on may be our own daemon's."""
    _check_path(listener)
    examine(listener.spot)
    try:
        found = os.lstat(listener.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise failed(listener.spot, "its path cannot be looked at", error) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise _occupied(listener)


def _occupied(listener: UnixListener) -> LocalError:
    return LocalError(
        "listener_occupied",
        f"listener {listener.name}: {listener.path} exists and is not a socket",
        hint="remove it, or choose another path",
    )


def _check_path(listener: UnixListener) -> None:
    path = os.fsencode(listener.path)
    if path.startswith(b"@") or b"\0" in path or not listener.path.is_absolute():
        raise LocalError(
            "listener_path_refused",
            f"listener {listener.name}: the path is not that of a file",
            hint="give an absolute path; abstract sockets have no permissions and are not supported",
        )
    if len(path) > MAX_PATH_BYTES:
        raise LocalError(
            "listener_path_refused",
            f"listener {listener.name}: the path has {len(path)} bytes; a Unix socket's may have {MAX_PATH_BYTES}",
            hint="choose a directory nearer to the root, such as /run/token-broker",
        )


def _clear_the_way(listener: UnixListener, directory: int) -> None:
    """Remove a socket that a dead process left; refuse to remove anything else."""
    try:
        found = os.stat(listener.path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise failed(listener.spot, "its path cannot be looked at", error) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise _occupied(listener)
    if not _is_stale(listener):
        raise LocalError(
            "listener_in_use",
            f"listener {listener.name}: somebody listens on {listener.path}",
            hint="stop the other broker, or choose another path",
        )
    try:
        os.unlink(listener.path.name, dir_fd=directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise failed(listener.spot, "the socket that a dead process left cannot be removed", error) from error


def _is_stale(listener: UnixListener) -> bool:
    """Find out by connecting: only ECONNREFUSED means that nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(os.fspath(listener.path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False  # no permission, another type, a full backlog: in any case not ours to remove
    return False


def _listen(listener: UnixListener, directory: int) -> OpenUnix:
    """Bind, set group and mode, and only then listen: until then every connect is refused."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listening.fileno(), 0)  # the file is born with these bits: nobody's
        listening.bind(os.fspath(listener.path))
        found = _set_permissions(listener, directory)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise LocalError(
                "listener_in_use",
                f"listener {listener.name}: {listener.path} appeared while it was being opened",
                hint="is another broker starting with the same configuration?",
            ) from error
        raise failed(listener.spot, "it cannot be opened", error) from error
    except BaseException:
        listening.close()
        raise
    return OpenUnix(listener=listener, socket=listening, device=found.st_dev, inode=found.st_ino)


def _set_permissions(listener: UnixListener, directory: int) -> os.stat_result:
    """Set group and mode of the very file that was bound; a link put in its place is not followed."""
    bound = os.open(listener.path.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    try:
        found = os.fstat(bound)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise unsafe(listener.spot, "was changed while the socket was being opened", "who else writes there?")
        give_to_group(listener.spot, bound)
        Path(f"/proc/self/fd/{bound}").chmod(listener.mode)
    finally:
        os.close(bound)
    return found
