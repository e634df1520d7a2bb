"""What a store looks like to somebody who only looks: nothing is written, moved or repaired."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from broker.errors import LocalError
from broker.storage.anchor import Anchor, Mark, went_back
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

    *records* can be read, *suspect* of them are, *findings* say why and what is lost. *counter* is the number
    of the last write. *whole*: the broker will go on with this file. *rolled_back*: the anchor contradicts.
    """

    path: Path
    records: int
    suspect: int
    findings: tuple[Finding, ...]
    counter: int
    whole: bool
    rolled_back: bool


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
                path=files[-1].path, records=0, suspect=0, findings=(), counter=0, whole=False, rolled_back=False
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
        suspect=sum(entry.suspect for entry in ledger.entries.values()),
        findings=judgement.findings,
        counter=ledger.counter,
        whole=judgement.whole,
        rolled_back=len(ledger) > 0 and place.anchor is not None and _contradicted(place, place.anchor, judgement),
    )


def _contradicted(place: Place, anchor: Path, judgement: Judgement) -> bool:
    mark, present = Anchor(anchor, place.sealer).read()
    head = judgement.sealed_head[-MAC_BYTES:].rjust(MAC_BYTES, b"\0")
    now = Mark(store=judgement.ledger.store, counter=judgement.ledger.counter, head=head)
    return went_back(mark, present=present, was_anchored=judgement.was_anchored(anchor=True), now=now)
