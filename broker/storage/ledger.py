"""
What the store holds, in memory: sealed records, the listing of each bucket, and the head over all of them.

The sealed form stays in memory so that a new file can be written without reading the old one, when a disk
begins to fail. Pure but for the sealing: a *step* is worked out first, written by others, and only then taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from broker.storage.sealer import TAG_BYTES, Sealer
from broker.storage.values import Contents, Head, Listed, Row, encode_head, encode_identity, encode_listing
from broker.tokens.storing import Change, Put

BUCKETS = 128
"""So many that the listing of one with 10,000 records has 80 names (6 KB), and a head of 2 KB."""

NO_LISTING = bytes(TAG_BYTES)
"""Stands in the head for a bucket that is empty."""


def bucket_of(name: str) -> int:
    """Say in which bucket *name* is listed."""
    return hashlib.sha256(name.encode()).digest()[0] % BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record: *row* in the file, *generation* of its last write, *suspect* as in ``StoredRecord``."""

    row: int
    generation: int
    sealed: bytes = field(repr=False)
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One transaction: *listings* of the buckets it touches (None: empty now), and the new head."""

    head: Head
    put: Mapping[str, Entry]
    gone: Mapping[str, Entry]
    listings: Mapping[int, bytes | None]
    sealed_head: bytes = field(repr=False)

    def rows(self) -> Iterator[Row]:
        """Give the rows to write."""
        return _rows(self.put.items())


class Ledger:
    """Everything that was acknowledged."""

    def __init__(self, *, store: bytes, sealer: Sealer, counter: int, entries: Mapping[str, Entry]) -> None:
        self.store = store
        self.counter = counter
        self._sealer = sealer
        self._entries = dict(entries)
        self._members: list[set[str]] = [set() for _ in range(BUCKETS)]
        for name in self._entries:
            self._members[bucket_of(name)].add(name)
        self._next_row = 1 + max((entry.row for entry in self._entries.values()), default=0)
        self._tags = [_tag(self._listing(bucket, {}, {})) for bucket in range(BUCKETS)]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The records by name."""
        return self._entries

    def values(self, kind: str = "") -> Iterator[tuple[str, bytes, bool]]:
        """Open each record whose name begins with *kind*: name, value, suspect."""
        for name, entry in [(name, entry) for name, entry in self._entries.items() if name.startswith(kind)]:
            value = self._sealer.unseal(entry.sealed, store=self.store, name=name, generation=entry.generation)
            if value is not None:  # it was when it came in
                yield name, value, entry.suspect

    def step(self, changes: Sequence[Change], *, anchored: bool) -> Step:
        """Work out the transaction that does *changes*; nothing is changed yet."""
        counter = self.counter + 1
        final = {change.name: change for change in changes}  # the last one counts
        put: dict[str, Entry] = {}
        gone: dict[str, Entry] = {}
        row = self._next_row
        for name, change in final.items():
            known = self._entries.get(name)
            if isinstance(change, Put):
                sealed = self._sealer.seal(change.value, store=self.store, name=name, generation=counter)
                put[name] = Entry(row=known.row if known else row, generation=counter, sealed=sealed)
                row += known is None
            elif known is not None:
                gone[name] = known
        touched: dict[int, dict[str, Entry]] = {bucket_of(name): {} for name in gone}
        for name, entry in put.items():
            touched.setdefault(bucket_of(name), {})[name] = entry
        listings = {bucket: self._listing(bucket, here, gone) for bucket, here in touched.items()}
        tags = [_tag(listings[bucket]) if bucket in listings else tag for bucket, tag in enumerate(self._tags)]
        head = Head(counter=counter, anchored=anchored, tags=tuple(tags))
        return Step(
            head=head, put=put, gone=gone, listings=listings, sealed_head=encode_head(head, self.store, self._sealer)
        )

    def take(self, step: Step) -> None:
        """Count *step* as done."""
        self.counter = step.head.counter
        self._tags = list(step.head.tags)
        for name, entry in step.put.items():
            self._entries[name] = entry
            self._members[bucket_of(name)].add(name)
            self._next_row = max(self._next_row, entry.row + 1)
        for name in step.gone:
            del self._entries[name]
            self._members[bucket_of(name)].discard(name)

    def contents_after(self, step: Step) -> Contents:
        """Give all that a new file has to hold so that *step* is done in it."""
        kept = ((name, entry) for name, entry in self._entries.items() if name not in {*step.put, *step.gone})
        touched: list[dict[str, Entry]] = [{} for _ in range(BUCKETS)]
        for name, entry in step.put.items():
            touched[bucket_of(name)][name] = entry
        listings = {bucket: self._listing(bucket, here, step.gone) for bucket, here in enumerate(touched)}
        return Contents(
            identity=encode_identity(self.store, self._sealer.check_value(self.store)),
            rows=(*_rows(kept), *step.rows()),
            listings={bucket: listing for bucket, listing in listings.items() if listing is not None},
            head=step.sealed_head,
        )

    def is_sealed_with(self, sealer: Sealer) -> bool:
        """Say whether *sealer* has the key of this ledger."""
        return sealer.check_value(self.store) == self._sealer.check_value(self.store)

    def resealed(self, sealer: Sealer) -> Ledger:
        """Give the same records under another key; what was suspect stays so."""
        entries = {}
        counter = self.counter + 1
        for name, value, suspect in self.values():
            sealed = sealer.seal(value, store=self.store, name=name, generation=counter)
            row = self._entries[name].row
            entries[name] = Entry(row=row, generation=counter, sealed=sealed, suspect=suspect)
        return Ledger(store=self.store, sealer=sealer, counter=counter, entries=entries)

    def _listing(self, bucket: int, put: Mapping[str, Entry], gone: Mapping[str, Entry]) -> bytes | None:
        """Write the listing of *bucket*; *put* are the changes in it, *gone* those that are removed, also elsewhere."""
        names = (self._members[bucket] | put.keys()) - gone.keys()
        if not names:
            return None
        listed = []
        for name in sorted(names):
            entry = put.get(name) or self._entries[name]
            listed.append(Listed(name, entry.generation, entry.sealed[-TAG_BYTES:], entry.suspect))
        return encode_listing(bucket, listed, self.store, self._sealer)


def _rows(entries: Iterable[tuple[str, Entry]]) -> Iterator[Row]:
    for name, entry in entries:
        yield Row(row=entry.row, name=name, generation=entry.generation, sealed=entry.sealed)


def _tag(listing: bytes | None) -> bytes:
    return NO_LISTING if listing is None else listing[-TAG_BYTES:]
