"""
The file of a sink on the disk: replaced whole, or not at all; known again after a restart; removed.

Everything blocks, and runs in threads. What was begun there is waited for, whoever is cancelled: a write that went on
behind our back could bring back a file that was removed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from broker.sinks.place import CREATE, beside, check_way, clean, give_away, open_directory
from broker.sinks.spec import Sink

T = TypeVar("T")

MARK = "user.token_broker.sink"
"""The extended attribute of a token file that says what is in it. Not every file system has such attributes."""

_MARKED = re.compile(r"(\S{1,63}) ([0-9]{1,12}) ([0-9]{1,12})", re.ASCII)

Identity = tuple[int, int, int]
"""What tells a file from another that came after it: device, inode, time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose token a file holds, when it was written, and when it ends: in Unix seconds, by the clock of that moment."""

    token: str
    written_at: int
    ends_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A token file that is there; *mark* is None where the file system keeps none."""

    identity: Identity
    mark: Mark | None


class Files(Protocol):
    """Where sinks put their files. Everything may raise OSError, and LocalError for a place that is not safe."""

    async def find(self, sink: Sink) -> Found | None:
        """Give what is at the path, None where nothing is. Raises LocalError ``sink_occupied``, too."""

    async def write(self, sink: Sink, content: bytes, mark: Mark) -> Identity:
        """Put *content* at the path; whoever reads sees the old file or the new one."""

    async def remove(self, sink: Sink) -> bool:
        """Remove the file, if it is one that holds a token; say whether there was one."""


class SystemFiles:
    """Implements ``Files``."""

    async def find(self, sink: Sink) -> Found | None:
        """See ``Files``."""
        return await to_the_end(partial(find, sink))

    async def write(self, sink: Sink, content: bytes, mark: Mark) -> Identity:
        """See ``Files``."""
        return await to_the_end(partial(write, sink, content, mark))

    async def remove(self, sink: Sink) -> bool:
        """See ``Files``."""
        return await to_the_end(partial(remove, sink))


async def to_the_end(act: Callable[[], T]) -> T:
    """Run *act* in a thread, and wait for its end even when we are cancelled meanwhile."""
    running = asyncio.get_running_loop().run_in_executor(None, act)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # looked at, so that nobody complains that it was not
        raise


def find(sink: Sink) -> Found | None:
    """Look at the path."""
    try:
        directory = open_directory(sink)
    except FileNotFoundError:
        return None
    try:
        found = check_way(sink, directory)
        return None if found is None else Found(identity=_identity(found), mark=_mark_of(sink))
    finally:
        os.close(directory)


def write(sink: Sink, content: bytes, mark: Mark) -> Identity:
    """
    Write beside the path, then rename.

    Until the last moment the new file is ours alone. The directory is not synchronized: after a power failure the old
    file may be back, which is as good as it was.
    """
    directory = open_directory(sink)
    try:
        check_way(sink, directory)
        clean(sink, directory)
        descriptor = os.open(beside(sink), CREATE, 0o600, dir_fd=directory)
        try:
            _write_all(descriptor, content)
            with suppress(OSError):  # without it a restart removes the file, which is the safe side
                os.setxattr(descriptor, MARK, f"{mark.token} {mark.written_at} {mark.ends_at}".encode("ascii"))
            give_away(sink, descriptor)
            os.fchmod(descriptor, sink.mode)  # after the owner: until then nobody else reads it
            os.fsync(descriptor)
            os.rename(beside(sink), sink.path.name, src_dir_fd=directory, dst_dir_fd=directory)
            return _identity(os.fstat(descriptor))
        except BaseException:
            clean(sink, directory)
            raise
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)


def remove(sink: Sink) -> bool:
    """Remove the file, and what is half-written beside it."""
    try:
        directory = open_directory(sink)
    except FileNotFoundError:
        return False
    try:
        clean(sink, directory)
        if check_way(sink, directory) is None:
            return False
        os.unlink(sink.path.name, dir_fd=directory)
        return True
    finally:
        os.close(directory)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _mark_of(sink: Sink) -> Mark | None:
    try:
        text = os.getxattr(sink.path, MARK, follow_symlinks=False).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    marked = _MARKED.fullmatch(text)
    return marked and Mark(token=marked[1], written_at=int(marked[2]), ends_at=int(marked[3]))
