"""
``python -m tests.daemon.hurried FILE run --config CONFIG``: the broker with a boot clock that can be set ahead.

The number in FILE are the seconds that deadlines have come closer. The wall clock is right, so that an
authorization server sees nothing of it: what has to wait for a minute can be tested in an instant.
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.cli.check import load, load_files
from broker.daemon.process import hold_signals, run_daemon
from broker.hostenv.clock import SystemClock


class HurriedClock(SystemClock):
    """Clocks of which those for deadlines are as far ahead as *file* says."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def boot(self) -> float:
        return super().boot() + self._ahead()

    def awake(self) -> float:
        return super().awake() + self._ahead()

    def _ahead(self) -> float:
        return float(self._file.read_text())


def main(file: str, _command: str, _option: str, config: str) -> int:
    """Run the broker."""
    hold_signals()
    settings, code = load(Path(config))
    if settings is None:
        return code
    identities, code = load_files(settings)
    if identities is None:
        return code
    return run_daemon(settings, identities, log_stream=sys.stderr, clock=HurriedClock(Path(file)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
