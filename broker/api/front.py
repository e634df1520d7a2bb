"""What a connection needs of a desk, whatever world the desk works with; a desk knows nothing of connections."""

from __future__ import annotations

from typing import Protocol

from broker.api.answers import Answer
from broker.api.desk import ReadBody, Reply
from broker.api.guard import Incoming
from broker.api.memo import Parsed
from broker.api.problems import Problem
from broker.policy.peer import Peer
from broker.tokens.calls import Body


class Front(Protocol):
    """What a connection needs of a desk, whatever world the desk works with."""

    async def answer(self, incoming: Incoming, peer: Peer, read_body: ReadBody, body: Body | None = None) -> Answer:
        """Answer a request; never raises. *body* is there for one that is passed on."""

    def parsed(self, incoming: Incoming, peer: Peer, *, last: bool) -> Parsed | None:
        """Give what a request that was answered comes down to; None where such a one always needs ``answer``."""

    def at_once(self, parsed: Parsed, peer: Peer) -> Reply | None:
        """Make what answers *parsed* of *peer* at once, as often as it comes; None for what needs ``answer``."""

    def refuse(self, problem: Problem, peer: Peer) -> Answer:
        """Answer a connection on which no request was understood."""

    def report_bug(self, where: str, error: BaseException) -> str:
        """Report an exception that nobody expected."""
