"""Who may do what: default deny, keys together, values as alternatives, workloads add up."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.peer import Peer
from broker.policy.rules import (
    Action,
    Allowed,
    Denial,
    Denied,
    GrantsOf,
    Policy,
    Workload,
    decide,
    grants_of,
    may_read_states,
    tokens_of,
    workloads_of,
)

OWN_UID = 900


def policy(*workloads: Workload) -> Policy:
    return Policy(workloads=workloads, own_uid=OWN_UID)


def app(**changes: object) -> Workload:
    given_by_default: dict[str, object] = {
        "name": "app",
        "listeners": frozenset({"app"}),
        "uids": frozenset({1000}),
        "tokens": frozenset({"directory"}),
    }
    return Workload(**{**given_by_default, **changes})  # type: ignore[arg-type]


PEER = Peer(listener="app", uid=1000, gid=1000, groups=frozenset({44, 27}), pid=0)


def test_nobody_gets_anything_where_there_are_no_workloads():
    """The default is to deny."""
    decision = decide(policy(), PEER, Action.GET, "directory")

    assert decision == Denied(reason=Denial.NO_WORKLOAD)


def test_a_workload_gets_its_token():
    """Listener and uid match, the token is listed, and get is what a workload may do unless it says otherwise."""
    decision = decide(policy(app()), PEER, Action.GET, "directory")

    assert decision == Allowed(workloads=("app",))


@pytest.mark.parametrize(
    "peer",
    [
        Peer(listener="other", uid=1000, gid=1000),
        Peer(listener="app", uid=1001, gid=1000),
        Peer(listener="other", uid=1001, gid=1000),
        Peer(listener="app", uid=None, gid=1000),
        Peer(listener="", uid=1000, gid=1000),
    ],
)
def test_every_key_that_restricts_has_to_match(peer: Peer):
    """Keys restrict together: one that does not match is enough to deny."""
    decision = decide(policy(app()), peer, Action.GET, "directory")

    assert decision == Denied(reason=Denial.NO_WORKLOAD)


def test_the_values_of_a_key_are_alternatives():
    """One of the uids is enough."""
    workload = app(uids=frozenset({1, 2, 1000}), listeners=frozenset({"app", "other"}))

    assert workload.matches(PEER)


@pytest.mark.parametrize("gid", [1000, 44, 27])
def test_a_group_matches_as_primary_and_as_supplementary(gid: int):
    """Which of the two kinds it is makes no difference."""
    assert app(gids=frozenset({gid})).matches(PEER)


def test_a_group_that_the_peer_has_not_does_not_match():
    """Neither primary nor supplementary."""
    assert not app(gids=frozenset({45})).matches(PEER)


def test_a_supplementary_group_counts_where_the_primary_one_is_unknown():
    """Each id is looked at for itself."""
    peer = Peer(listener="app", uid=1000, gid=None, groups=frozenset({44}))

    assert app(gids=frozenset({44})).matches(peer)


def test_a_workload_that_restricts_nothing_is_nobody():
    """A section that was left empty by mistake must not be everybody."""
    assert not Workload(name="app", tokens=frozenset({"directory"})).matches(PEER)


def test_the_listener_alone_can_be_the_boundary():
    """One socket for each workload is the only boundary between containers of one uid; the uid is not looked at."""
    workload = app(uids=frozenset())

    assert workload.matches(Peer(listener="app", uid=None))
    assert not workload.matches(Peer(listener="other", uid=None))


LOOSE_IDS = st.frozensets(st.integers(min_value=0, max_value=3) | st.none(), max_size=3)
"""With None among them, which no configuration comes to: even so it would be nobody."""


@given(uids=LOOSE_IDS, gids=LOOSE_IDS, listeners=st.frozensets(st.sampled_from(["tcp", "app"])))
def test_a_caller_of_whom_nothing_is_known_is_only_ever_who_can_reach_a_listener(
    uids: frozenset[Any], gids: frozenset[Any], listeners: frozenset[str]
):
    """A workload with a uid or a gid is never one without, whatever stands in it."""
    workload = Workload(name="app", listeners=listeners, uids=uids, gids=gids)

    assert workload.matches(Peer(listener="tcp")) == ("tcp" in listeners and not uids and not gids)


def test_an_unknown_uid_matches_no_uid():
    """The overflow uid became None when the peer was read; not even a configured 65534 is meant by it."""
    assert not app(uids=frozenset({65534})).matches(Peer(listener="app", uid=None, gid=None))


def test_a_token_of_another_workload_is_denied():
    """It is configured, and not for this caller."""
    decision = decide(policy(app(), app(name="b", uids=frozenset({2}))), PEER, Action.GET, "payments")

    assert decision == Denied(reason=Denial.NOT_GRANTED, workloads=("app",))


def test_an_unknown_token_is_denied_with_a_reason_of_its_own():
    """The audit log can tell it from a foreign one; the caller cannot (tests of the API)."""
    decision = decide(policy(app()), PEER, Action.GET, None)

    assert decision == Denied(reason=Denial.UNKNOWN_TOKEN, workloads=("app",))


def test_an_action_that_is_not_granted_is_denied():
    """Having a token does not mean being allowed to refresh it."""
    decision = decide(policy(app()), PEER, Action.REFRESH, "directory")

    assert decision == Denied(reason=Denial.ACTION_NOT_GRANTED, workloads=("app",))


def test_a_workload_that_may_do_nothing_has_no_tokens():
    """An empty may is not the default may."""
    restricted = policy(app(may=frozenset()))

    assert decide(restricted, PEER, Action.GET, "directory") == Denied(
        reason=Denial.ACTION_NOT_GRANTED, workloads=("app",)
    )
    assert tokens_of(restricted, PEER) == frozenset()


def test_several_matching_workloads_add_up():
    """The caller has the tokens of both, and each decision names who granted it."""
    both = policy(app(), app(name="b", uids=frozenset(), tokens=frozenset({"payments", "directory"})))

    assert decide(both, PEER, Action.GET, "payments") == Allowed(workloads=("b",))
    assert decide(both, PEER, Action.GET, "directory") == Allowed(workloads=("app", "b"))
    assert tokens_of(both, PEER) == {"directory", "payments"}


def test_rights_are_not_put_together_from_halves():
    """One workload has the token and another the action: neither allows it."""
    halves = policy(app(), app(name="b", tokens=frozenset({"payments"}), may=frozenset({Action.REFRESH})))

    decision = decide(halves, PEER, Action.REFRESH, "directory")

    assert decision == Denied(reason=Denial.ACTION_NOT_GRANTED, workloads=("app", "b"))


def test_the_tokens_of_one_action_are_those_of_the_workloads_that_allow_it():
    """A token that may only be listed is not one that may be got."""
    mixed = policy(app(), app(name="b", tokens=frozenset({"payments"}), may=frozenset({Action.LIST})))

    assert tokens_of(mixed, PEER, Action.GET) == {"directory"}
    assert tokens_of(mixed, PEER) == {"directory", "payments"}


@pytest.mark.parametrize(("uid", "allowed"), [(0, True), (OWN_UID, True), (1000, False), (None, False)])
def test_root_and_the_daemons_uid_may_read_states(uid: int | None, allowed: bool):
    """And nobody else, least of all somebody unknown."""
    assert may_read_states(policy(), Peer(listener="app", uid=uid)) is allowed


@pytest.mark.parametrize("uid", [0, OWN_UID])
def test_reading_states_gives_no_token(uid: int):
    """Root gets a token only if a workload section says so."""
    peer = Peer(listener="app", uid=uid, gid=0)

    assert decide(policy(app()), peer, Action.GET, "directory") == Denied(reason=Denial.NO_WORKLOAD)
    assert decide(policy(app(uids=frozenset({uid}))), peer, Action.GET, "directory") == Allowed(workloads=("app",))


def test_the_pid_never_decides():
    """It is 0 across PID namespaces, and may be reused."""
    decisions = {
        decide(policy(app()), Peer(listener="app", uid=1000, pid=pid), Action.GET, "directory")
        for pid in (None, 0, 1, 4711)
    }

    assert decisions == {Allowed(workloads=("app",))}


IDS = st.integers(min_value=0, max_value=3)
NAMES = st.sampled_from(["a", "b", "c"])
WORKLOADS = st.builds(
    Workload,
    name=NAMES,
    listeners=st.frozensets(NAMES),
    uids=st.frozensets(IDS),
    gids=st.frozensets(IDS),
    tokens=st.frozensets(NAMES),
    may=st.frozensets(st.sampled_from(Action)),
)
PEERS = st.builds(
    Peer, listener=NAMES, uid=st.none() | IDS, gid=st.none() | IDS, groups=st.frozensets(IDS), pid=st.none() | IDS
)


@given(st.lists(WORKLOADS, max_size=4), PEERS)
def test_what_is_allowed_is_what_a_plain_reading_of_the_rules_allows(workloads: list[Workload], peer: Peer):
    """Whatever the sections say: allowed exactly if one of them says so in every respect."""
    rules = Policy(workloads=tuple(workloads), own_uid=OWN_UID)
    own_groups = {peer.gid, *peer.groups} - {None}

    for action, token in itertools.product(Action, ("a", "b", "c")):
        granting = [
            workload.name
            for workload in workloads
            if (workload.listeners or workload.uids or workload.gids)
            and (not workload.listeners or peer.listener in workload.listeners)
            and (not workload.uids or peer.uid in workload.uids)
            and (not workload.gids or own_groups & workload.gids)
            and token in workload.tokens
            and action in workload.may
        ]
        decision = decide(rules, peer, action, token)
        assert isinstance(decision, Allowed) == bool(granting)
        if granting:
            assert decision.workloads == tuple(granting)
            assert token in tokens_of(rules, peer, action)


@given(st.lists(WORKLOADS, max_size=4), PEERS)
def test_adding_a_workload_never_takes_a_right_away(workloads: list[Workload], peer: Peer):
    """Sections add up, so their order and number can only give."""
    before = Policy(workloads=tuple(workloads), own_uid=OWN_UID)
    after = Policy(workloads=(*workloads, app()), own_uid=OWN_UID)

    assert tokens_of(before, peer) <= tokens_of(after, peer)
    assert set(workloads_of(before, peer)) <= set(workloads_of(after, peer))


@pytest.mark.parametrize(
    ("grants", "owner", "allowed"),
    [
        (GrantsOf.ALL, None, True),
        (GrantsOf.ALL, "app", True),
        (GrantsOf.ALL, "other", True),
        (GrantsOf.OWN, None, True),
        (GrantsOf.OWN, "app", True),
        (GrantsOf.OWN, "other", False),
        (GrantsOf.OWN, "", False),
    ],
)
def test_a_workload_with_its_own_grants_has_no_others(grants: GrantsOf, owner: str | None, allowed: bool):
    """Where it is about a grant; the token itself is open to it all the same."""
    decision = decide(policy(app(grants=grants)), PEER, Action.GET, "directory", owner=owner)

    assert decision == (
        Allowed(workloads=("app",)) if allowed else Denied(reason=Denial.FOREIGN_GRANT, workloads=("app",))
    )


def test_the_right_to_a_grant_is_not_put_together_from_halves():
    """One workload owns the grant and may not get, the other may get and does not own it."""
    owning = app(name="owning", grants=GrantsOf.OWN, may=frozenset({Action.LIST}))
    getting = app(name="getting", grants=GrantsOf.OWN)

    decision = decide(policy(owning, getting), PEER, Action.GET, "directory", owner="owning")

    assert decision == Denied(reason=Denial.ACTION_NOT_GRANTED, workloads=("owning", "getting"))


@given(
    st.lists(
        st.builds(
            lambda name, token, grants, may: app(name=name, tokens=frozenset(token), grants=grants, may=frozenset(may)),
            st.sampled_from(["a", "b", "c"]),
            st.sets(st.sampled_from(["x", "y"])),
            st.sampled_from(GrantsOf),
            st.sets(st.sampled_from([Action.LIST, Action.GET])),
        ),
        max_size=4,
        unique_by=lambda workload: workload.name,
    )
)
def test_a_list_of_grants_has_what_would_be_allowed_one_by_one(workloads: list[Workload]):
    """For every token and every owner."""
    visible = grants_of(policy(*workloads), PEER, Action.LIST)

    for token, owner in itertools.product(["x", "y"], ["a", "b", "c", "d"]):
        allowed = isinstance(decide(policy(*workloads), PEER, Action.LIST, token, owner=owner), Allowed)
        owners = visible.get(token, frozenset())
        assert allowed == (owners is None or owner in owners), (token, owner)
