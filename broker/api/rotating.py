"""
``POST /v1/rotate``: the files are looked at now, for operators; an addition to the routes that workloads use.

A signal would do for the look, but it cannot name what is compromised, and gives no answer. Whoever may ask for it,
root and the uid of the broker, could replace the files as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from broker.api import consent_problems, problems
from broker.api.answers import Answer, json_answer
from broker.api.bodies import BodyRules
from broker.api.problems import ErrorCode, Problem, ProblemError, RefusalReason
from broker.api.table import Call
from broker.api.world import World
from broker.events import CompromiseDeclared
from broker.policy.rules import may_read_states

COMPROMISED = BodyRules(
    members={"compromised": list}, inside={"compromised": {"items": {"type": "string"}, "maxItems": 100}}
)
"""Names of sections; without their kind where that is clear."""


async def rotate(world: World, call: Call) -> Answer:
    """Look at the files now, and drop the older generations of what is compromised."""
    if not may_read_states(world.policy, call.peer):
        raise ProblemError(consent_problems.NOT_OPERATOR)
    watcher = world.rotate()
    if watcher is None:
        raise ProblemError(problems.ROUTE_UNKNOWN)
    items = _sections(call.body.get("compromised", []), watcher.sections())
    came_of_it = await watcher.rotate(items)
    if items and came_of_it.adopted:
        # After it, and not before: the audit log must not say of a key that it is dropped while it is in use.
        world.emit(CompromiseDeclared(items=",".join(items), uid=call.peer.uid))
    return json_answer(
        {
            "rotated": list(came_of_it.rotated),
            "refused": [{"item": one.item, "reason": one.reason, "problem": one.problem} for one in came_of_it.refused],
            "dropped": list(came_of_it.dropped),
        }
    )


def _unknown(names: str) -> Problem:
    return Problem(
        status=404,
        error=ErrorCode.NOT_FOUND,
        description="there is no such section, or more than one",
        reason=RefusalReason.SECTION_UNKNOWN,
        hint=f"in compromised, names of sections: {names}",
    )


def _sections(asked: Iterable[object], known: Collection[str]) -> tuple[str, ...]:
    """Give the sections that are meant. Raises ProblemError for a name that is none, or could be two."""
    found: list[str] = []
    for name in asked:
        meant = [section for section in known if name in (section, section.partition(".")[2])]
        if len(meant) != 1:
            raise ProblemError(_unknown(", ".join(known) or "none is configured"))
        found += meant
    return tuple(dict.fromkeys(found))
