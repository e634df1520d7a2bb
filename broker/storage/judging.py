"""
What of a file can be believed: each record is held against its listing, and the listings against the head.

Pure but for the sealing. Nothing that the broker did not write is ever given; what it did write, but perhaps
not last, is suspect (rules.md R3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from broker.storage.ledger import BUCKETS, NO_LISTING, Entry, Ledger, bucket_of
from broker.storage.sealer import TAG_BYTES, Sealer
from broker.storage.values import Head, Image, Listed, Row, decode_head, decode_identity, decode_listing
from broker.tokens.storing import check_name

UNKNOWN_NAME = "unknown"
"""Shown for a name that is none of ours: what stands in a damaged file is not repeated."""


class WrongKeyError(Exception):
    """The file is in order, and was sealed with another master key."""


class Fault(StrEnum):
    """What is wrong with one record."""

    MISSING = "missing"
    """It is listed, and not there."""
    ALTERED = "altered"
    """It does not open."""
    OLDER = "older"
    """It is not the one that is listed, but an earlier one of that name."""
    MISPLACED = "misplaced"
    """It stands under another name or number."""
    UNLISTED = "unlisted"
    """It opens, and the listing does not know it: it may have been deleted."""
    UNVERIFIED = "unverified"
    """Its listing, or the head over that, is damaged or older: whether it is the last one is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A record that is not as it should be; *kept*: it opens, and is given as suspect."""

    name: str
    fault: Fault
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """
    *ledger* has what can be believed. *whole*: nothing at all is wrong, and the file may be written to.

    *head* is None if it is damaged; *sealed_head* are its bytes.
    """

    ledger: Ledger
    head: Head | None
    sealed_head: bytes
    findings: tuple[Finding, ...]
    whole: bool

    def was_anchored(self, *, anchor: bool) -> bool:
        """Say whether the store had an anchor when it was last written; if that is damaged, whether it has one."""
        return anchor if self.head is None else self.head.anchored


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    listed: dict[str, Listed]
    fresh: bool


def judge(image: Image, sealer: Sealer) -> Judgement | None:
    """Say what can be believed; None if it is not even known which store this was. Raises WrongKeyError."""
    identities = [decode_identity(encoded) for encoded in image.identities]
    known = [identity for identity in identities if identity is not None]
    if not known:
        return None
    ours = [identity for identity in known if sealer.check_value(identity.store) == identity.check]
    if not ours:
        raise WrongKeyError
    store = ours[0].store
    head = decode_head(image.head, store, sealer) if image.head is not None else None
    listings = [_listing(bucket, image, head, store, sealer) for bucket in range(BUCKETS)]
    entries: dict[str, Entry] = {}
    findings: dict[str, Finding] = {}
    for name, entry, fault in _opened(image.rows, listings, store, sealer):
        if entry is None:
            findings.setdefault(name, Finding(name=name, fault=Fault.ALTERED, kept=False))
        elif name not in entries or (entries[name].suspect and entries[name].generation < entry.generation):
            entries[name] = entry
            if fault is not None:
                findings[name] = Finding(name=name, fault=fault, kept=True)
            else:
                findings.pop(name, None)
    for name in (name for listing in listings for name in listing.listed if name not in entries):
        findings.setdefault(name, Finding(name=name, fault=Fault.MISSING, kept=False))
    counter = _counter(head, entries, listings)
    return Judgement(
        ledger=Ledger(store=store, sealer=sealer, counter=counter, entries=_numbered(entries)),
        head=head,
        sealed_head=image.head or b"",
        findings=tuple(findings[name] for name in sorted(findings)),
        whole=_whole(image, len(ours) == len(identities) == 2, head, listings, entries) and not findings,
    )


def _whole(
    image: Image, identified: bool, head: Head | None, listings: list[_Listing], entries: dict[str, Entry]
) -> bool:
    consistent = head is not None and all(listing.fresh for listing in listings)
    return image.whole and identified and consistent and len(image.rows) == len(entries)


def _listing(bucket: int, image: Image, head: Head | None, store: bytes, sealer: Sealer) -> _Listing:
    encoded = image.listings.get(bucket)
    tag = NO_LISTING if encoded is None else encoded[-TAG_BYTES:]
    fresh = head is not None and len(head.tags) == BUCKETS and head.tags[bucket] == tag
    if encoded is None:
        return _Listing(listed={}, fresh=fresh)
    listed = decode_listing(bucket, encoded, store, sealer)
    if listed is None:
        return _Listing(listed={}, fresh=False)
    return _Listing(listed={item.name: item for item in listed}, fresh=fresh)


def _opened(
    rows: tuple[Row, ...], listings: list[_Listing], store: bytes, sealer: Sealer
) -> Iterator[tuple[str, Entry | None, Fault | None]]:
    """Open each row: where its tag says that it belongs, or else where it stands."""
    by_tag = {item.tag: item for listing in listings for item in listing.listed.values()}
    for row in rows:
        item = by_tag.get(row.sealed[-TAG_BYTES:])
        if item and _opens(row, item.name, item.generation, store, sealer):
            name, generation = item.name, item.generation
            moved = (row.name, row.generation) != (name, generation)
            fault = Fault.MISPLACED if moved else None if listings[bucket_of(name)].fresh else Fault.UNVERIFIED
            suspect = item.suspect or fault is not None
        elif _shown(row.name) == row.name and _opens(row, row.name, row.generation, store, sealer):
            name, generation, suspect = row.name, row.generation, True
            listing = listings[bucket_of(name)]
            known = Fault.OLDER if name in listing.listed else Fault.UNLISTED
            fault = known if listing.fresh else Fault.UNVERIFIED
        else:
            yield _shown(row.name), None, Fault.ALTERED
            continue
        yield name, Entry(row=row.row, generation=generation, sealed=row.sealed, suspect=suspect), fault


def _opens(row: Row, name: str, generation: int, store: bytes, sealer: Sealer) -> bool:
    return generation >= 0 and sealer.unseal(row.sealed, store=store, name=name, generation=generation) is not None


def _shown(name: str) -> str:
    try:
        return check_name(name)
    except ValueError:
        return UNKNOWN_NAME


def _counter(head: Head | None, entries: dict[str, Entry], listings: list[_Listing]) -> int:
    """Give the number of the last write, or, without a head, the last that something bears witness of."""
    if head is not None:
        return head.counter
    numbers = [entry.generation for entry in entries.values()]
    numbers += [item.generation for listing in listings for item in listing.listed.values()]
    return max(numbers, default=0)


def _numbered(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Give each entry a row of its own: in a damaged file two may claim the same."""
    if len({entry.row for entry in entries.values()}) == len(entries):
        return entries
    return {
        name: Entry(row=row, generation=entry.generation, sealed=entry.sealed, suspect=entry.suspect)
        for row, (name, entry) in enumerate(entries.items(), start=1)
    }
