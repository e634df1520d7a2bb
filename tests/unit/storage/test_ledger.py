"""A step is worked out without changing anything, and a new file would hold exactly what is acknowledged."""

from __future__ import annotations

from broker.storage.judging import judge
from broker.storage.ledger import BUCKETS, Ledger, bucket_of
from broker.storage.values import Image, decode_head, decode_listing
from broker.tokens.storing import Change, Delete
from tests.unit.storage.places import KEY, OTHER_KEY, put

STORE = b"s" * 16


def empty() -> Ledger:
    return Ledger(store=STORE, sealer=KEY, counter=0, entries={})


def take(ledger: Ledger, *changes: Change) -> None:
    ledger.take(ledger.step(changes, anchored=False))


def values(ledger: Ledger) -> dict[str, bytes]:
    return {name: value for name, value, _ in ledger.values()}


def test_a_step_changes_nothing_until_it_is_taken():
    """It may fail on its way to the disk."""
    ledger = empty()
    step = ledger.step([put("grant/a", "1")], anchored=False)

    assert values(ledger) == {}
    assert ledger.counter == 0
    ledger.take(step)
    assert values(ledger) == {"grant/a": b"1"}
    assert ledger.counter == 1


def test_the_last_change_of_a_name_counts():
    """And what is not there can be deleted."""
    ledger = empty()
    take(ledger, put("grant/a", "1"), put("grant/a", "2"), Delete(name="grant/b"), put("grant/c", "3"))
    take(ledger, Delete(name="grant/a"), put("grant/c", "4"), Delete(name="grant/c"), put("grant/d", "5"))

    assert values(ledger) == {"grant/d": b"5"}
    assert len(ledger) == 1


def test_a_row_is_kept_by_its_record_and_given_to_no_other():
    """Two records in one row would be one."""
    ledger = empty()
    take(ledger, put("grant/a", "1"), put("grant/b", "1"))
    before = ledger.entries["grant/a"].row
    take(ledger, put("grant/a", "2"), put("grant/c", "1"))
    take(ledger, Delete(name="grant/b"))
    take(ledger, put("grant/d", "1"))

    assert ledger.entries["grant/a"].row == before
    assert len({entry.row for entry in ledger.entries.values()}) == 3


def test_only_touched_buckets_are_listed_anew():
    """A write costs the same however many records there are."""
    ledger = empty()
    take(ledger, *(put(f"grant/{number}", "1") for number in range(1_000)))

    step = ledger.step([put("grant/7", "2"), Delete(name="grant/8")], anchored=True)

    assert set(step.listings) == {bucket_of("grant/7"), bucket_of("grant/8")}
    listed = decode_listing(bucket_of("grant/7"), step.listings[bucket_of("grant/7")] or b"", STORE, KEY) or ()
    assert {item.generation for item in listed if item.name == "grant/7"} == {2}
    head = decode_head(step.sealed_head, STORE, KEY)
    assert head == step.head
    assert head.anchored


def test_an_emptied_bucket_has_no_listing():
    """And the head knows that."""
    ledger = empty()
    take(ledger, put("grant/a", "1"))

    step = ledger.step([Delete(name="grant/a")], anchored=False)

    assert step.listings == {bucket_of("grant/a"): None}
    assert set(step.head.tags) == {bytes(16)}


def test_a_new_file_would_hold_everything():
    """Judged as a file that was read: whole, with the step done."""
    ledger = empty()
    take(ledger, *(put(f"grant/{number}", str(number)) for number in range(300)))
    step = ledger.step([put("grant/0", "new"), Delete(name="grant/1"), put("grant/x", "x")], anchored=False)

    contents = ledger.contents_after(step)

    image = Image(
        identities=(contents.identity, contents.identity),
        rows=contents.rows,
        listings=contents.listings,
        head=contents.head,
        whole=True,
    )
    judgement = judge(image, KEY)
    assert judgement is not None
    assert judgement.whole
    expected = {f"grant/{number}": str(number).encode() for number in range(2, 300)}
    assert values(judgement.ledger) == expected | {"grant/0": b"new", "grant/x": b"x"}
    assert set(contents.listings) <= set(range(BUCKETS))


def test_another_key_seals_the_same_records():
    """None of it opens with the old one."""
    ledger = empty()
    take(ledger, put("grant/a", "1"))

    other = ledger.resealed(OTHER_KEY)

    assert values(other) == {"grant/a": b"1"}
    assert other.counter > ledger.counter
    assert KEY.unseal(other.entries["grant/a"].sealed, store=STORE, name="grant/a", generation=other.counter) is None
