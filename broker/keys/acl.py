"""
POSIX access control lists (acl(5)), as the kernel stores them in ``system.posix_acl_access``.

Needed because the group bits of a file that has such a list are not its group's: they are the mask, the
most that anybody in the list may do. systemd hands a service its credentials this way: owner root, mode
0440, and a list with the service's uid. Read by its mode alone such a file seems open to root's group;
and a file with an entry for somebody else would seem as safe as that.
"""

from __future__ import annotations

import struct

VERSION = 2
"""POSIX_ACL_XATTR_VERSION of <linux/posix_acl_xattr.h>."""

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")

_READ = 4
_USER = 0x02
_OWNING_GROUP = 0x04
_GROUP = 0x08
_MASK = 0x10
_OTHER_TAGS = frozenset({0x01, 0x20})
"""The owner and the others: their rights are in the mode."""


class UnreadableAclError(ValueError):
    """The bytes are not an access control list as we know them."""


def readers_of(acl: bytes, *, owning_group: int) -> tuple[frozenset[int], frozenset[int]]:
    """
    Give the uids and the gids that *acl* lets read, beside the owner and the others.

    Raises UnreadableAclError.
    """
    users: set[int] = set()
    groups: set[int] = set()
    mask = _READ
    for tag, rights, identity in _entries(acl):
        if tag == _MASK:
            mask = rights
        elif tag == _USER and rights & _READ:
            users.add(identity)
        elif tag == _GROUP and rights & _READ:
            groups.add(identity)
        elif tag == _OWNING_GROUP and rights & _READ:
            groups.add(owning_group)
    if not mask & _READ:
        return frozenset(), frozenset()
    return frozenset(users), frozenset(groups)


def _entries(acl: bytes) -> list[tuple[int, int, int]]:
    if len(acl) < _HEADER.size or _HEADER.unpack_from(acl)[0] != VERSION:
        raise UnreadableAclError
    body = acl[_HEADER.size :]
    if len(body) % _ENTRY.size:
        raise UnreadableAclError
    entries = [(tag, rights, identity) for tag, rights, identity in _ENTRY.iter_unpack(body)]
    if any(tag not in _OTHER_TAGS | {_USER, _OWNING_GROUP, _GROUP, _MASK} for tag, _, _ in entries):
        raise UnreadableAclError
    return entries
