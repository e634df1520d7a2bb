"""What a store looks like to somebody who only looks: nothing is written, moved or repaired."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from broker.errors import LocalError
from broker.storage.anchor import Anchor, Contradiction, Mark, contradiction
from broker.storage.database import Verdict, verdict_of
from broker.storage.files import StoreFile, check_safe, store_files
from broker.storage.judging import Finding, Judgement, WrongKeyError, judge
from broker.storage.sealer import MAC_BYTES
from broker.storage.troubles import unavailable, wrong_key
from broker.storage.values import Image
from broker.storage.vault import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    The state of a store file.

    *records* can be read, *suspects* are the names of those that are suspect, some of them since an earlier start;
    *findings* say what is wrong now and what is lost. *counter* is the number
    of the last write. *whole*: the broker will go on with this file. *contradiction*: how the anchor
    contradicts the file.
    """

    path: Path
    records: int
    suspects: tuple[str, ...]
    findings: tuple[Finding, ...]
    counter: int
    whole: bool
    contradiction: Contradiction | None

    @property
    def sound(self) -> bool:
        """Say whether nothing at all is wrong."""
        return self.whole and not self.suspects and self.contradiction is None


def examine(place: Place) -> Report:
    """
    Look at the store in *place*.

    Raises LocalError: ``store_missing``, ``store_key_wrong``, ``store_unsafe``, ``store_unavailable``.
    """
    try:
        files = store_files(place.directory)
        if not files:
            hint = "the broker makes one at its first start"
            raise LocalError("store_missing", f"there is no store in {place.directory}", hint=hint)
        check_safe(files[-1])
        image = _read(place, files[-1])
        judgement = judge(image, place.sealer) if image is not None else None
        if judgement is None:
            return Report(
                path=files[-1].path, records=0, suspects=(), findings=(), counter=0, whole=False, contradiction=None
            )
        return _reported(place, files[-1].path, judgement)
    except WrongKeyError:
        raise wrong_key(files[-1].path) from None
    except (sqlite3.Error, OSError) as error:
        raise unavailable(place.directory, error) from error


def _read(place: Place, file: StoreFile) -> Image | None:
    try:
        return place.disk.read(file)
    except sqlite3.Error as error:
        if verdict_of(error) is Verdict.REFUSED:
            raise
        return None


def _reported(place: Place, path: Path, judgement: Judgement) -> Report:
    ledger = judgement.ledger
    return Report(
        path=path,
        records=len(ledger),
        suspects=tuple(sorted(name for name, entry in ledger.entries.items() if entry.suspect)),
        findings=judgement.findings,
        counter=ledger.counter,
        whole=judgement.whole,
        contradiction=_contradiction(place.anchor, place, judgement) if place.anchor and len(ledger) > 0 else None,
    )


def _contradiction(anchor: Path, place: Place, judgement: Judgement) -> Contradiction | None:
    mark, present = Anchor(anchor, place.sealer).read()
    head = judgement.sealed_head[-MAC_BYTES:].rjust(MAC_BYTES, b"\0")
    now = Mark(store=judgement.ledger.store, counter=judgement.ledger.counter, head=head)
    return contradiction(mark, present=present, was_anchored=judgement.was_anchored(anchor=True), now=now)
