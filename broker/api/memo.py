"""
What requests that aiohttp has parsed before come down to, by their exact bytes and by who sent them.

An entry is a parsed request, never an answer: what may be answered to it is found out each time. It is kept by
listener, uid, gid and groups, so that nobody gains by what somebody else has sent. Entries are made only of requests
that were answered with a token (or with 304), so that whoever may have nothing leaves nothing here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from broker.api.guard import Incoming
from broker.api.metering import END_OF_HEAD
from broker.api.table import Act
from broker.api.wire import Writer
from broker.policy.peer import Peer

MAX_CALLERS = 128
"""Callers that are kept; those go first that connected longest ago."""

MAX_REQUESTS = 32
"""Requests of one caller: it has few tokens, and few ways to ask for each. The oldest goes first."""

MAX_BYTES = 2_048
"""Bytes of a request that is kept: clients send a hundred. All entries together stay below 10 MiB."""

BEGINNING = b"GET /v1/tokens/"
"""How each of them begins."""

INELIGIBLE = frozenset({"authorization", "cookie", "expect", "proxy-authorization", "transfer-encoding", "upgrade"})
"""Headers of requests that are not kept: they have a secret in them, or more to them than their head."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parsed:
    """
    A request as it was read: *act* answers it, whoever of its callers sends it; *account* is where its rate counts.

    *route* is the template of its path, *writer* writes what *act* does not.
    """

    act: Act
    account: Hashable
    route: str
    writer: Writer


Known = OrderedDict[bytes, Parsed]
"""The requests of one caller, the oldest first."""


class Recall:
    """One connection: its peer, and the requests of its caller that are *known*."""

    __slots__ = ("known", "peer")

    def __init__(self, known: Known, peer: Peer) -> None:
        self.known = known
        self.peer = peer


class Memo:
    """The requests of all callers."""

    def __init__(self) -> None:
        self._callers: OrderedDict[Hashable, Known] = OrderedDict()

    def of(self, peer: Peer) -> Known:
        """Give what is kept of a caller that has just connected."""
        key = (peer.listener, peer.uid, peer.gid, peer.groups)
        known = self._callers.get(key)
        if known is None:
            known = self._callers[key] = OrderedDict()
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)
        else:
            self._callers.move_to_end(key)
        return known

    def __len__(self) -> int:
        """Count the entries."""
        return sum(map(len, self._callers.values()))


def may_be_whole(piece: bytes) -> bool:
    """Say whether what came in one piece may be one request for a token, and nothing else."""
    return (
        len(piece) <= MAX_BYTES
        and piece.startswith(BEGINNING)
        and piece.find(END_OF_HEAD) == len(piece) - len(END_OF_HEAD)
    )


def is_eligible(incoming: Incoming) -> bool:
    """Say whether a request may be kept: one in HTTP/1.1 that is all head."""
    return (
        incoming.version == (1, 1)
        and incoming.method == "GET"
        and not incoming.has_body
        and incoming.content_length is None
        and INELIGIBLE.isdisjoint(name.lower() for name, _ in incoming.headers)
    )


def keep(known: Known, piece: bytes, parsed: Parsed) -> None:
    """Keep what *piece* comes down to."""
    known[piece] = parsed
    if len(known) > MAX_REQUESTS:
        known.popitem(last=False)
