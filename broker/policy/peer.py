"""
Who is at the other end of a connection, as the kernel says.

Made once, when the connection is accepted (``broker.api.peers``); a decision looks at nothing else. The pid
never decides: it may be 0 across PID namespaces, and it may be reused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    The other end of a connection.

    *listener* is the name of the socket it could open. *uid* and *gid* are None where the kernel cannot name
    them in our user namespace: unknown, and equal to nobody's. *groups* are the supplementary groups,
    without unknown ones. *pid* is a hint for the audit log.
    """

    listener: str
    uid: int | None = None
    gid: int | None = None
    groups: frozenset[int] = frozenset()
    pid: int | None = None
