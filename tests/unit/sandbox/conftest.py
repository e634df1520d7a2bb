"""Keys and certificates are made once for all tests here: an RSA key alone takes longer than most of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from broker.sandbox.layout import ADDRESSES, LOCK, make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sandbox that ran before; tests copy it and go on with ``keep``."""
    directory = tmp_path_factory.mktemp("prepared") / "sandbox"
    directory.mkdir(mode=0o700)
    (directory / LOCK).touch()
    make(directory, now=time.clock_gettime(time.CLOCK_REALTIME))
    (directory / ADDRESSES).write_text(json.dumps({"ports": {}}))
    return directory
