"""What the kernel says of a process: its descriptors, its memory, and whom it is connected with."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_SOCKET = re.compile(r"socket:\[(\d+)\]")

ESTABLISHED = "01"
"""The state of a connection in /proc/net/tcp (proc(5))."""


def descriptors(pid: int) -> list[str]:
    """Give what each open descriptor leads to."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(str(one.readlink()))
    return found


def resident(pid: int) -> int:
    """Give the bytes of memory that are in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def connections(pid: int, ports: Collection[int]) -> frozenset[str]:
    """Give the open connections to *ports*, each by the number of its socket, which no other one gets."""
    known: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == ESTABLISHED and int(columns[2].rpartition(":")[2], 16) in ports:
                known.add(columns[9])
    own = (_SOCKET.fullmatch(one) for one in descriptors(pid))
    return frozenset(known & {one[1] for one in own if one is not None})
