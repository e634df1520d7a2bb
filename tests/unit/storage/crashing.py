"""
A program that writes to a store until it is killed, and says what was acknowledged: for ``test_crashes``.

    python -m tests.unit.storage.crashing DIRECTORY WRITES [FILE_BYTES]

Write number N puts N under two of seven names. ``acknowledged N`` on standard output means that it is durable,
``refused N`` that it is not, and is tried again. With *FILE_BYTES* no file may become larger until the first
refusal.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from broker.errors import LocalError
from broker.storage.vault import Place, open_vault
from broker.tokens.storing import Put
from tests.unit.storage.plain import PlainSealer

NAMES = 7
TRIES = 5
PADDING = b"." * 300


def changes(number: int) -> list[Put]:
    """Give what write *number* does."""
    return [Put(name=f"grant/{(number + offset) % NAMES}", value=b"%d %s" % (number, PADDING)) for offset in (0, 3)]


def state(number: int) -> dict[str, bytes]:
    """Give what is stored after write *number*."""
    return {change.name: change.value for done in range(1, number + 1) for change in changes(done)}


def where(directory: Path) -> Place:
    """Give the place of the store in *directory*, which is made."""
    directory.mkdir(0o700, exist_ok=True)
    return Place(directory=directory, sealer=PlainSealer(), wall=float)


def say(word: str, number: int) -> None:
    os.write(1, f"{word} {number}\n".encode())


def main(directory: str, writes: str, file_bytes: str = "") -> None:
    """Write, from where the store has got to."""
    vault = open_vault(where(Path(directory)))
    values = [int(record.value.split()[0]) for record in vault.records()]
    begun = max(values, default=0)
    say("begun", begun)
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes), resource.RLIM_INFINITY))
    for number in range(begun + 1, begun + 1 + int(writes)):
        for _ in range(TRIES):
            try:
                vault.hold_reserve()
                vault.commit(changes(number))
            except LocalError:
                say("refused", number)
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                continue
            say("acknowledged", number)
            break
        vault.tidy()
    vault.close()
    say("closed", 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
