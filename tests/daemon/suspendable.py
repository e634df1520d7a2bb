"""
``python -m tests.daemon.suspendable FILE run --config CONFIG``: the broker on a machine that can be suspended.

A time namespace sets its offset once, when it is made, and libfaketime shifts CLOCK_MONOTONIC and CLOCK_BOOTTIME
only together; so the one thing that is not real here is the clock that the broker is given, which it takes as
an argument. The number in FILE are the seconds that the machine has slept so far: the boot clock and the wall
clock went on meanwhile, CLOCK_MONOTONIC and with it every timer of the loop did not.
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.cli.check import load, load_files
from broker.daemon.process import hold_signals, run_daemon
from broker.hostenv.clock import SystemClock


class SuspendableClock(SystemClock):
    """The clocks of a machine that has slept for as long as *file* says."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def boot(self) -> float:
        return super().boot() + self._slept()

    def wall(self) -> float:
        return super().wall() + self._slept()

    def _slept(self) -> float:
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
    return run_daemon(settings, identities, log_stream=sys.stderr, clock=SuspendableClock(Path(file)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
