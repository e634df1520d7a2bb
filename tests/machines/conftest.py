"""What the tests of this folder share: one image for all that are run by one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.container_place import ContainerPlace, container_place


@pytest.fixture(scope="session")
def containers() -> Iterator[ContainerPlace]:
    """Podman, and the image of the broker."""
    with container_place() as place:
        yield place
