"""Tests of ``broker/sandbox/streaming.py``: how bodies are cut into blocks."""

from __future__ import annotations

import pytest

from broker.sandbox.streaming import BLOCK, PERIOD, pattern, step_of


@pytest.mark.parametrize("size", [0, 1, PERIOD, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_every_byte_of_a_body_is_where_it_belongs(size: int):
    """Across the borders of blocks, too."""
    body = b"".join(pattern(size))

    assert body == bytes(number % PERIOD for number in range(size))


def test_no_block_is_large():
    """A body of any size takes the memory of one."""
    assert max(len(block) for block in pattern(10 * BLOCK)) == BLOCK


@pytest.mark.parametrize(("pace", "step"), [(None, BLOCK), (1, 1), (9, 1), (1_000, 100), (10**9, BLOCK)])
def test_a_pace_is_kept_in_tenths_of_a_second(pace: int | None, step: int):
    """A slow body trickles, and does not come in lumps."""
    assert step_of(pace) == step
