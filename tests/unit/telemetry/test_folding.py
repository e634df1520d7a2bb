from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.events import LibraryReported, UnexpectedFailure
from broker.telemetry.folding import MAX_KINDS, RULES, Folding, Repeatable
from tests.unit.telemetry.catalogue import KINDS, TYPES, refused


def counts(events: list[Repeatable]) -> list[int]:
    return [event.count for event in events]


def test_twenty_refusals_a_minute_are_recorded_one_by_one():
    """Whoever does not repeat himself too often has every attempt on record, with its pid."""
    folding = Folding()

    out = [event for pid in range(20) for event in folding.offer(refused(pid=pid), now=float(pid))]

    assert out == [refused(pid=pid) for pid in range(20)]


def test_after_that_one_record_in_ten_seconds_has_the_count():
    """Eight refusals a second for a minute: 20 records, then one each 10 s."""
    folding = Folding()

    passed = [(tick / 8, event.count) for tick in range(480) for event in folding.offer(refused(), now=tick / 8)]

    assert [count for _, count in passed[:20]] == [1] * 20
    assert passed[20:] == [(12.375, 80), (22.375, 80), (32.375, 80), (42.375, 80), (52.375, 80)]


def test_a_flood_that_goes_on_is_folded_in_the_next_minute_too():
    """The first 20 are not given again each minute to somebody who never stops."""
    folding = Folding()
    passed = sum(len(folding.offer(refused(), now=tick / 10)) for tick in range(36_000))

    assert passed <= 20 + 360


def test_whoever_slows_down_is_recorded_one_by_one_again():
    """After a minute below the limit."""
    folding = Folding()
    for tick in range(100):
        folding.offer(refused(), now=tick / 100)

    later = [folding.offer(refused(), now=200.0 + 30 * number) for number in range(5)]

    assert [counts(out) for out in later] == [[1]] * 5


def test_what_differs_is_not_folded_together():
    """Another uid, another token, another reason: each has its own count."""
    folding = Folding()
    kinds = [refused(uid=1), refused(uid=2), refused(token="other"), refused(reason="other"), refused(listener="l")]

    out = [event for _ in range(20) for kind in kinds for event in folding.offer(kind, now=0.0)]

    assert len(out) == 100


def test_the_pid_does_not_make_a_difference_and_is_not_claimed_for_a_count():
    """A shell loop has a new pid each time; a count of several callers has none."""
    folding = Folding()
    for pid in range(25):
        folding.offer(refused(pid=pid), now=0.0)

    assert folding.due(now=10.0) == [refused(pid=None, count=5)]


def test_the_count_of_a_flood_that_stopped_is_recorded_in_time():
    """Though no further refusal comes to carry it."""
    folding = Folding()
    for _ in range(30):
        folding.offer(refused(), now=0.0)

    assert folding.due(now=9.0) == []
    assert counts(folding.due(now=10.0)) == [10]
    assert folding.due(now=20.0) == []


def test_the_count_is_not_lost_at_the_end():
    """Whatever the time."""
    folding = Folding()
    for _ in range(23):
        folding.offer(refused(), now=0.0)

    assert counts(folding.flush(now=0.5)) == [3]
    assert folding.flush(now=0.5) == []


def test_a_count_of_one_is_the_refusal_itself():
    """With its pid."""
    folding = Folding()
    for pid in range(21):
        folding.offer(refused(pid=pid), now=0.0)

    assert folding.flush(now=1.0) == [refused(pid=20)]


def test_failures_are_folded_to_one_a_second():
    """A loop that runs out of descriptors: 2,500 failures in 6 s are 7 lines."""
    for event in (
        UnexpectedFailure(where="accept", incident="", error="OSError EMFILE", frames=""),
        LibraryReported(library="asyncio", where="x.py:1 f", error=None, frames=None),
    ):
        folding = Folding()
        out = [passed for tick in range(2_500) for passed in folding.offer(event, now=tick * 0.0024)]
        out += folding.flush(now=6.0)

        assert len(out) == 7
        assert sum(counts(out)) == 2_500


def test_failures_with_different_incidents_are_each_reported():
    """Each has been given to a caller, who may ask about it."""
    folding = Folding()

    out = [
        passed
        for number in range(50)
        for passed in folding.offer(
            UnexpectedFailure(where="api", incident=f"id-{number}", error="KeyError", frames=""), now=0.0
        )
    ]

    assert len(out) == 50


def test_the_memory_is_bounded_and_no_count_is_lost_for_it():
    """The oldest kind makes room, and is recorded first."""
    folding = Folding()
    for _ in range(22):
        folding.offer(refused(uid=0), now=0.0)
    for uid in range(1, MAX_KINDS):
        folding.offer(refused(uid=uid), now=0.0)

    out = folding.offer(refused(uid=MAX_KINDS), now=1.0)

    assert out == [refused(uid=0, pid=None, count=2), refused(uid=MAX_KINDS)]


def test_what_has_been_quiet_is_forgotten():
    """Otherwise the memory of a long-lived daemon fills with old uids."""
    folding = Folding()
    for uid in range(100):
        folding.offer(refused(uid=uid), now=0.0)

    folding.due(now=120.0)

    assert folding._kinds == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(["offer", "offer", "offer", "due"]), st.integers(0, 2), st.floats(0.0, 30.0)),
        max_size=200,
    )
)
def test_every_refusal_is_counted_exactly_once(steps: list[tuple[str, int, float]]):
    """Whatever the times."""
    folding = Folding()
    now, offered, out = 0.0, 0, list[Repeatable]()
    for act, uid, pause in steps:
        now += pause
        if act == "due":
            out += folding.due(now)
        else:
            offered += 1
            out += folding.offer(refused(uid=uid), now)
    out += folding.flush(now)

    assert sum(counts(out)) == offered


def test_every_event_with_a_count_has_a_rule():
    """And no other."""
    assert set(RULES) == {kind for kind in KINDS if "count" in TYPES[kind]}
