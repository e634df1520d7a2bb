"""Each way to tamper with a file is found, named, and costs the records it touches and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.storage.judging import Fault, Judgement, WrongKeyError, judge
from broker.storage.ledger import Ledger, bucket_of
from broker.storage.values import Image, Row
from broker.tokens.storing import Change, Delete
from tests.unit.storage.places import KEY, OTHER_KEY, put

STORE = b"s" * 16
A, B, C, D = (f"grant/{name}" for name in "abcd")

FIRST: list[Change] = [put(A, "a1"), put(B, "b1"), put(C, "c1"), put(D, "d1")]
SECOND: list[Change] = [put(A, "a2"), Delete(name=D)]


def images(*batches: list[Change], anchored: bool = False) -> list[Image]:
    """Give the file as it is after each batch."""
    ledger = Ledger(store=STORE, sealer=KEY, counter=0, entries={})
    made = []
    for batch in batches:
        step = ledger.step(batch, anchored=anchored)
        contents = ledger.contents_after(step)
        ledger.take(step)
        made.append(
            Image(
                identities=(contents.identity, contents.identity),
                rows=contents.rows,
                listings=contents.listings,
                head=contents.head,
                whole=True,
            )
        )
    return made


def turned(content: bytes, at: int) -> bytes:
    """Give *content* with one bit turned."""
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


OLD, NEW = images(FIRST, SECOND)


def row_of(image: Image, name: str) -> Row:
    return next(row for row in image.rows if row.name == name)


def without(image: Image, *names: str) -> tuple[Row, ...]:
    return tuple(row for row in image.rows if row.name not in names)


def judged(image: Image) -> Judgement:
    judgement = judge(image, KEY)
    assert judgement is not None
    return judgement


def found(judgement: Judgement) -> dict[str, tuple[bytes, bool]]:
    return {name: (value, suspect) for name, value, suspect in judgement.ledger.values()}


def test_a_file_that_was_left_alone_is_whole():
    """Nothing in it is suspect."""
    judgement = judged(NEW)

    assert judgement.whole
    assert judgement.findings == ()
    assert found(judgement) == {A: (b"a2", False), B: (b"b1", False), C: (b"c1", False)}
    assert judgement.ledger.counter == 2


def swapped(image: Image) -> Image:
    a, b = row_of(image, A), row_of(image, B)
    rows = (replace(a, sealed=b.sealed), replace(b, sealed=a.sealed), *without(image, A, B))
    return replace(image, rows=rows)


def renamed(image: Image) -> Image:
    return replace(image, rows=(replace(row_of(image, A), name="grant/zz"), *without(image, A)))


def rolled_back(image: Image) -> Image:
    return replace(image, rows=(row_of(OLD, A), *without(image, A)))


def removed(image: Image) -> Image:
    return replace(image, rows=without(image, A))


def brought_back(image: Image) -> Image:
    return replace(image, rows=(*image.rows, row_of(OLD, D)))


def altered(image: Image) -> Image:
    a = row_of(image, A)
    return replace(image, rows=(replace(a, sealed=turned(a.sealed, -20)), *without(image, A)))


def emptied(image: Image) -> Image:
    a = row_of(image, A)
    return replace(image, rows=(replace(a, sealed=b"", name="\n", generation=-1), *without(image, A)))


def listing_cut(image: Image) -> Image:
    return replace(image, listings={n: x for n, x in image.listings.items() if n != bucket_of(A)})


def listing_altered(image: Image) -> Image:
    listing = image.listings[bucket_of(A)]
    return replace(image, listings={**image.listings, bucket_of(A): b"\x01" + listing[1:]})


def listing_and_record_rolled_back(image: Image) -> Image:
    return replace(rolled_back(image), listings={**image.listings, bucket_of(A): OLD.listings[bucket_of(A)]})


def generation_changed(image: Image) -> Image:
    return replace(image, rows=(replace(row_of(image, A), generation=1), *without(image, A)))


@pytest.mark.parametrize(
    ("tamper", "findings", "values"),
    [
        (swapped, {A: (Fault.MISPLACED, True), B: (Fault.MISPLACED, True)}, {A: (b"a2", True), B: (b"b1", True)}),
        (renamed, {A: (Fault.MISPLACED, True)}, {A: (b"a2", True)}),
        (generation_changed, {A: (Fault.MISPLACED, True)}, {A: (b"a2", True)}),
        (rolled_back, {A: (Fault.OLDER, True)}, {A: (b"a1", True)}),
        (removed, {A: (Fault.MISSING, False)}, {}),
        (brought_back, {D: (Fault.UNLISTED, True)}, {A: (b"a2", False), D: (b"d1", True)}),
        (altered, {A: (Fault.ALTERED, False)}, {}),
        (emptied, {A: (Fault.MISSING, False), "unknown": (Fault.ALTERED, False)}, {}),
        (listing_cut, {A: (Fault.UNVERIFIED, True)}, {A: (b"a2", True)}),
        (listing_altered, {A: (Fault.UNVERIFIED, True)}, {A: (b"a2", True)}),
        (listing_and_record_rolled_back, {A: (Fault.UNVERIFIED, True)}, {A: (b"a1", True)}),
    ],
)
def test_tampering_is_found_and_named(
    tamper: Callable[[Image], Image],
    findings: dict[str, tuple[Fault, bool]],
    values: dict[str, tuple[bytes, bool]],
):
    """And whoever was not touched lives on, without suspicion."""
    judgement = judged(tamper(NEW))

    assert not judgement.whole
    assert {item.name: (item.fault, item.kept) for item in judgement.findings} == findings
    untouched = {B: (b"b1", False), C: (b"c1", False)}
    assert found(judgement) == untouched | values


@pytest.mark.parametrize("head", [None, b"", OLD.head, turned(NEW.head or b"", -1)])
def test_without_its_head_everything_is_suspect_and_nothing_is_lost(head: bytes | None):
    """Each record may have been exchanged for an older one, with its listing."""
    judgement = judged(replace(NEW, head=head))

    assert not judgement.whole
    values = found(judgement)
    assert {name: value for name, (value, _) in values.items()} == {A: b"a2", B: b"b1", C: b"c1"}
    assert values[A][1]
    if head != OLD.head:
        assert judgement.head is None
        assert {item.fault for item in judgement.findings} == {Fault.UNVERIFIED}
        assert judgement.ledger.counter == 2


def test_what_was_suspect_stays_so_until_it_is_written_anew():
    """A restart does not wash it clean."""
    judgement = judged(rolled_back(NEW))
    step = judgement.ledger.step([put(B, "b2")], anchored=False)
    contents = judgement.ledger.contents_after(step)
    again = replace(NEW, rows=contents.rows, listings=contents.listings, head=contents.head)

    second = judged(again)

    assert second.whole
    assert found(second) == {A: (b"a1", True), B: (b"b2", False), C: (b"c1", False)}
    second.ledger.take(second.ledger.step([put(A, "a3")], anchored=False))
    assert found(second)[A] == (b"a3", False)


def test_of_two_rows_of_one_name_the_listed_one_counts():
    """In whichever order they stand; the file is not whole then."""
    for rows in ((row_of(OLD, A), *NEW.rows), (*NEW.rows, row_of(OLD, A))):
        judgement = judged(replace(NEW, rows=rows))

        assert found(judgement)[A] == (b"a2", False)
        assert judgement.findings == ()
        assert not judgement.whole


def test_two_records_in_one_row_are_parted():
    """The new file has a row for each."""
    rows = (replace(row_of(NEW, B), row=row_of(NEW, A).row), *without(NEW, B))

    judgement = judged(replace(NEW, rows=rows))

    assert len({entry.row for entry in judgement.ledger.entries.values()}) == 3


def test_one_good_identity_of_two_is_enough():
    """But the file is not whole."""
    for identities in ((b"", NEW.identities[0]), (NEW.identities[0],)):
        judgement = judged(replace(NEW, identities=identities))

        assert not judgement.whole
        assert len(judgement.ledger) == 3


def test_without_an_identity_nothing_is_known():
    """The file is unreadable, then."""
    assert judge(replace(NEW, identities=(b"x" * 41, b"")), KEY) is None


def test_a_wrong_key_is_not_damage():
    """Nothing may be done to the file."""
    with pytest.raises(WrongKeyError):
        judge(NEW, OTHER_KEY)


def test_what_sqlite_complains_about_is_not_whole():
    """Even if all records are there."""
    assert not judged(replace(NEW, whole=False)).whole
