from __future__ import annotations

from pathlib import Path

import pytest

from bench.nginx import program
from bench.rig import GaveUpError


def test_a_machine_without_nginx_is_told_what_to_install(tmp_path: Path):
    """There is nothing to compare with, and no figure in place of that."""
    with pytest.raises(GaveUpError, match="apt-get install nginx"):
        program(str(tmp_path))


def test_nginx_is_taken_from_where_it_is(tmp_path: Path):
    """The search is that of a shell."""
    (tmp_path / "nginx").touch(mode=0o755)

    assert program(str(tmp_path)) == tmp_path / "nginx"
