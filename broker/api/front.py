"""What a connection needs of a desk, whatever world the desk works with; a desk knows nothing of connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.api.answers import Answer
from broker.api.desk import Asked, ReadBody
from broker.api.guard import Incoming
from broker.api.memo import Recall
from broker.api.problems import Problem
from broker.api.table import Offer
from broker.policy.peer import Peer
from broker.tokens.calls import Body


class Front(Protocol):
    """What a connection needs of a desk, whatever world the desk works with."""

    async def answer(self, incoming: Incoming, peer: Peer, read_body: ReadBody, body: Body | None = None) -> Answer:
        """Answer a request; never raises. *body* is there for one that is passed on."""

    def learn(self, recall: Recall, piece: bytes, incoming: Incoming, *, last: bool) -> None:
        """Keep what *piece* was read as, which has just been answered, if such a request may be answered at once."""

    def turn(self) -> int:
        """Begin a turn of the loop, in which nothing else runs."""

    def answer_at_once(self, turn: int, asked: Asked) -> Sequence[Offer | None]:
        """Answer requests that were read before, together; None for what needs ``answer``. Never raises."""

    def refuse(self, problem: Problem, peer: Peer) -> Answer:
        """Answer a connection on which no request was understood."""

    def report_bug(self, where: str, error: BaseException) -> str:
        """Report an exception that nobody expected."""
