"""What handlers work with: the policy in force, and the news that another one is."""

from __future__ import annotations

import asyncio

import pytest

from broker.api.problems import ProblemError
from broker.api.world import Permission, hint_for, permitted
from broker.policy.rules import Action, Policy
from tests.unit.api.handlers import PEER, call, world


async def test_all_who_wait_learn_that_the_policy_was_replaced():
    """By one future; whoever begins to wait after that waits for the next time."""
    of = world()
    first, second = of.replaced(), of.replaced()

    of.replace_policy(Policy(workloads=(), own_uid=1))

    assert first is second
    assert first.done()
    assert not of.replaced().done()
    assert of.policy == Policy(workloads=(), own_uid=1)


async def test_a_policy_can_be_replaced_while_nobody_waits():
    """And when the one who waited has been cancelled."""
    of = world()
    of.replace_policy(of.policy)
    waiting = asyncio.create_task(asyncio.wait([of.replaced()]))
    await asyncio.sleep(0)
    waiting.cancel()
    of.replaced().cancel()

    of.replace_policy(of.policy)

    assert not of.replaced().done()


def test_each_action_is_a_right_of_its_own():
    """And the hint is about the one that was asked for."""
    of = world()

    assert permitted(of, call(), Action.GET) == Permission(token="directory", workloads=("app",))
    with pytest.raises(ProblemError) as refused:
        permitted(of, call(), Action.REFRESH)
    assert refused.value.problem.reason == "action_not_granted"
    assert "refresh" in hint_for(of, PEER, Action.REFRESH)
    assert hint_for(of, PEER) == "this caller may get: directory, ledger"
