from __future__ import annotations

import io
from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.wiring import build
from tests.unit.daemon.test_process import CONFIG
from tests.unit.wiring.configurations import loaded, settings_of

SECOND = """
[token.second]
client = "c"
dpop_resources = ["https://api.example/v1"]
"""


def test_a_configuration_without_audit_and_ops_has_neither(tmp_path: Path):
    """Only where the file says so."""
    text = CONFIG.replace('[audit]\nfile = "audit.log"', "[audit]\nenabled = false")
    settings = settings_of(tmp_path, text)

    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    parts.reopen_logs()

    assert parts.audit is None
    assert parts.ops is None
    assert not (tmp_path / "audit.log").exists()


def test_an_audit_log_that_is_not_safe_keeps_the_daemon_from_being_built(tmp_path: Path):
    """A link in its place could lead anywhere."""
    settings = settings_of(tmp_path)
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(LocalError):
        build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())

    assert not (tmp_path / "elsewhere").exists()


async def test_another_configuration_is_put_to_use_whole(tmp_path: Path):
    """Tokens, means and settings change together; what the daemon was started with is the same object."""
    settings = settings_of(tmp_path)
    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    api, registry = parts.api, parts.life.registry
    other = settings_of(tmp_path, CONFIG.replace('sender_constraint = "none"', 'sender_constraint = "dpop"') + SECOND)

    means = parts.prepare(other, parts.identities)
    before = tuple(parts.life.registry.names())
    under_way = parts.adopt(other, means)
    parts.telemetry.close()

    assert (before, tuple(registry.names())) == (("t",), ("t", "second"))
    assert parts.serving.resources("second") == ("https://api.example/v1",)
    assert parts.serving.resources("t") == ()
    assert (parts.settings, parts.means) == (other, means)
    assert (parts.api, parts.life.registry) == (api, registry)
    assert under_way == ()


@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_is_there_where_the_file_says_so(tmp_path: Path, fast: bool):
    """For the listeners on Unix sockets."""
    settings = settings_of(tmp_path, CONFIG.replace("[daemon]", f"[daemon]\nfast_path = {str(fast).lower()}"))

    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    parts.telemetry.close()

    assert parts.api._fast == (frozenset(one.name for one in settings.listeners) if fast else frozenset())
