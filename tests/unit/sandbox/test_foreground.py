"""Tests of ``broker/sandbox/foreground.py``: a sandbox that is a process ends when it is asked to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from broker.sandbox.foreground import serve_until_signal
serve_until_signal(
    Path(sys.argv[1]), keep=False, ports={}, strict=False, lifetime=60,
    announce=lambda sandbox: print(sandbox.addresses.issuer, flush=True),
)
print("ended")
"""


@pytest.mark.real_time
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals):
    """After it has said where it is; nothing on standard error, exit 0."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "sandbox")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)

    assert announced.startswith("https://localhost:")
    assert (process.returncode, out, err) == (0, "ended\n", "")
