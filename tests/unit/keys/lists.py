"""Access control lists in the kernel's binary form, for tests."""

from __future__ import annotations

import struct

OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
UNDEFINED = 0xFFFFFFFF


def acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """Make a list of entries (tag, rights) or (tag, rights, uid or gid)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *(*entry, UNDEFINED)[:3]) for entry in entries)
