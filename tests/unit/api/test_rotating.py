"""``POST /v1/rotate``: who may ask for a look at the files, and for which sections."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.api.problems import Problem, ProblemError
from broker.api.rotated import RefusedItem, Rotated
from broker.api.rotating import rotate
from broker.api.table import Call
from broker.api.world import World
from broker.events import CompromiseDeclared
from broker.policy.peer import Peer
from tests.fakes import Events
from tests.unit.api.handlers import PEER, ROOT, STRANGER, world

SECTIONS = ("certificate.transport", "certificate.demo", "key.signing", "key.demo")


@dataclass
class FakeRotation:
    """Remembers what it was asked for."""

    came: Rotated = field(default_factory=Rotated)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def sections(self) -> Collection[str]:
        return SECTIONS

    async def rotate(self, compromised: Collection[str]) -> Rotated:
        self.asked.append(tuple(compromised))
        return self.came


def rotating(rotation: FakeRotation | None, events: Events | None = None) -> World:
    made = world(emit=events)
    made.rotate = lambda: rotation
    return made


async def refused(rotation: FakeRotation | None, peer: Peer = ROOT, **body: Any) -> Problem:
    with pytest.raises(ProblemError) as caught:
        await rotate(rotating(rotation), Call(peer=peer, body=body))
    return caught.value.problem


async def test_what_came_of_it_is_told():
    """New files, files that cannot be used, and what is dropped."""
    problem = RefusedItem(item="key.demo", reason="key_unreadable", problem="half of it")
    came = Rotated(rotated=("certificate.transport",), refused=(problem,), dropped=("key.signing",))

    answer = await rotate(rotating(FakeRotation(came)), Call(peer=ROOT))

    assert json.loads(answer.body) == {
        "rotated": ["certificate.transport"],
        "refused": [{"item": "key.demo", "reason": "key_unreadable", "problem": "half of it"}],
        "dropped": ["key.signing"],
    }


async def test_sections_are_named_with_their_kind_or_without_where_that_is_clear():
    """Each once; who says that something is compromised is in the audit log."""
    rotation, events = FakeRotation(), Events()
    body = {"compromised": ["transport", "key.demo", "certificate.transport"]}

    await rotate(rotating(rotation, events), Call(peer=ROOT, body=body))
    await rotate(rotating(rotation, events), Call(peer=ROOT))

    assert rotation.asked == [("certificate.transport", "key.demo"), ()]
    (declared,) = events.of(CompromiseDeclared)
    assert (declared.items, declared.uid) == ("certificate.transport,key.demo", 0)


class BrokenRotation(FakeRotation):
    """Comes to no end."""

    async def rotate(self, compromised: Collection[str]) -> Rotated:
        raise KeyError(*compromised)


async def test_what_was_not_carried_out_is_not_declared():
    """The audit log would say of a key that it is dropped while it is in use."""
    events, body = Events(), {"compromised": ["key.demo"]}

    await rotate(rotating(FakeRotation(Rotated(adopted=False)), events), Call(peer=ROOT, body=body))
    with pytest.raises(KeyError):
        await rotate(rotating(BrokenRotation(), events), Call(peer=ROOT, body=body))

    assert events.of(CompromiseDeclared) == []


@pytest.mark.parametrize("name", ["demo", "unknown", "", "key.", 7, None, ["demo"]])
async def test_a_name_that_is_none_or_could_be_two_is_refused_before_anything_is_done(name: Any):
    """With the names that there are."""
    rotation = FakeRotation()

    problem = await refused(rotation, compromised=["transport", name])

    assert (problem.status, rotation.asked) == (404, [])
    assert problem.hint is not None
    assert problem.hint.endswith("certificate.transport, certificate.demo, key.signing, key.demo")


@pytest.mark.parametrize("peer", [PEER, STRANGER])
async def test_only_operators_may_ask(peer: Peer):
    """A workload may not drop what others use."""
    rotation = FakeRotation()

    problem = await refused(rotation, peer, compromised=["transport"])

    assert (problem.status, rotation.asked) == (403, [])


async def test_where_nobody_watches_files_there_is_no_such_route():
    """A server without a daemon around it."""
    assert (await refused(None)).status == 404
