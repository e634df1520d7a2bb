"""
Every test of the API that has a real socket runs each way: without the fast path, with it, and with it primed.

Primed, whatever a test sends is in the memo before it is sent, so that the very first request goes the fast path
where it can.
"""

from __future__ import annotations

import pytest

from tests.unit.api import world
from tests.unit.api.world import Way

SOCKETS = frozenset({"test_protocol", "test_server", "test_service"})
"""The modules whose tests have a Unix socket of the API."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run them each way."""
    if metafunc.module.__name__.rpartition(".")[2] in SOCKETS:
        metafunc.fixturenames.append("way")
        metafunc.parametrize("way", list(Way), ids=lambda way: way.value, indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Say to ``world`` which way servers go."""
    chosen: Way = request.param
    monkeypatch.setattr(world, "CHOSEN", [chosen])
    return chosen
