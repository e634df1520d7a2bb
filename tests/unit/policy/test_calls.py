"""Who may call which API: default deny, and one workload has to give all of it."""

from __future__ import annotations

import pytest

from broker.policy.rules import Action, Allowed, Denial, Denied, GrantsOf, Workload, decide_call, upstreams_of
from tests.unit.policy.test_rules import PEER, app, policy

CALLER = app(tokens=frozenset(), upstreams=frozenset({"api"}), may=frozenset({Action.EGRESS}))


def test_a_workload_calls_its_api_without_having_the_token():
    """That is what it is for."""
    assert decide_call(policy(CALLER), PEER, "api") == Allowed(workloads=("app",))


@pytest.mark.parametrize(
    ("workload", "upstream", "owner", "reason"),
    [
        (app(uids=frozenset({1})), "api", None, Denial.NO_WORKLOAD),
        (CALLER, None, None, Denial.UNKNOWN_UPSTREAM),
        (CALLER, "other", None, Denial.NOT_GRANTED),
        (app(upstreams=frozenset({"api"})), "api", None, Denial.ACTION_NOT_GRANTED),
        (app(upstreams=frozenset({"api"}), grants=GrantsOf.OWN), "api", "another", Denial.FOREIGN_GRANT),
    ],
)
def test_everybody_else_is_denied(workload: Workload, upstream: str | None, owner: str | None, reason: Denial):
    """With a reason for the audit log."""
    decision = decide_call(policy(workload), PEER, upstream, owner=owner)

    assert isinstance(decision, Denied)
    assert decision.reason is reason


def test_rights_are_not_put_together_from_halves():
    """One workload has the API, another one may call something else."""
    one = app(name="one", upstreams=frozenset({"api"}))
    two = app(name="two", upstreams=frozenset({"other"}), may=frozenset({Action.EGRESS}))

    decision = decide_call(policy(one, two), PEER, "api")

    assert decision == Denied(reason=Denial.ACTION_NOT_GRANTED, workloads=("one", "two"))
    assert upstreams_of(policy(one, two), PEER) == {"other"}


def test_a_grant_of_its_own_is_the_workloads():
    """Also where it may use no other."""
    own = app(upstreams=frozenset({"api"}), may=frozenset({Action.EGRESS}), grants=GrantsOf.OWN)

    assert decide_call(policy(own), PEER, "api", owner="app") == Allowed(workloads=("app",))
