"""
``python -m tests.daemon.fast ...``: the command, with a daemon that goes the fast path whatever its configuration says.

With ``FAST_PATH=1`` in the environment the tests of this directory start every broker so: they were written for the
ordinary way, and have to hold on both.
"""

from __future__ import annotations

import sys
from typing import Any

from broker.api.server import ApiServer
from broker.cli import main
from broker.wiring import parts


def fast_server(*arguments: Any, **options: Any) -> ApiServer:
    """Make the server of the API sockets."""
    return ApiServer(*arguments, **{**options, "fast_path": True})


if __name__ == "__main__":
    parts.ApiServer = fast_server  # type: ignore[assignment, attr-defined]
    sys.exit(main())
