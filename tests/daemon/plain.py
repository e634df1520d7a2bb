"""
``python -m tests.daemon.plain ...``: the command, with a daemon that has no fast path whatever its configuration says.

With ``FAST_PATH=0`` in the environment the tests of this directory start every broker so: what they claim has to
hold on both ways.
"""

from __future__ import annotations

import sys
from typing import Any

from broker.api.server import ApiServer
from broker.cli import main
from broker.wiring import parts


def plain_server(*arguments: Any, **options: Any) -> ApiServer:
    """Make the server of the API sockets."""
    return ApiServer(*arguments, **{**options, "fast_path": False})


if __name__ == "__main__":
    parts.ApiServer = plain_server  # type: ignore[assignment, attr-defined]
    sys.exit(main())
