"""How tests of this package look at a refusal: the code is the claim, path and hint are for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.errors import LocalError


@contextmanager
def refused(code: str, *paths: Path) -> Iterator[pytest.ExceptionInfo[LocalError]]:
    """Expect a LocalError with this *code* that names every one of *paths*."""
    with pytest.raises(LocalError) as caught:
        yield caught
    assert code == caught.value.code, caught.value.message
    for path in paths:
        assert str(path) in caught.value.message
