"""
``docs/howto/iridium.md`` and ``docs/reference/dialects.md``: each command is run, each piece of configuration loaded.

What is not as for a reader: files are in a temporary folder, and users need not exist. That the example works at an
Iridium, with the example application before it, is shown in ``test_web_app``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.oauth.dialect import IRIDIUM, STANDARD, Dialect
from tests.daemon.harness import PATIENCE
from tests.daemon.iridium_example import EXAMPLE, ROOT
from tests.unit.config.files import FakeAccounts

GUIDE = ROOT / "docs" / "howto" / "iridium.md"

API = ROOT / "docs" / "reference" / "api.md"

REFERENCE = ROOT / "docs" / "reference" / "dialects.md"


ACCOUNTS = FakeAccounts(users={"app": 1_000}, groups={"app": 1_000})


def blocks(page: Path, kind: str) -> list[str]:
    """Give the fenced blocks of a kind, in their order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def loaded(directory: Path, text: str) -> Settings:
    file = directory / "config.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load_settings(file, credentials_directory=None, accounts=ACCOUNTS)


def with_table(table: str) -> str:
    """Give the example with a table in place of the name of its dialect."""
    text, line = EXAMPLE.read_text(), 'dialect = "iridium"\n'
    assert text.count(f"\n{line}") == 1
    return text.replace(f"\n{line}", "\n", 1) + f"\n{table}\n"


def test_the_example_is_good(tmp_path: Path):
    """With the names of whoever reads it in place of these."""
    settings = loaded(tmp_path, EXAMPLE.read_text())

    assert settings.issuers["iridium"].issuer.dialect is IRIDIUM
    assert settings.warnings == ()


def test_the_example_of_another_server_is_good(tmp_path: Path):
    """The dialect is its own: nothing in it is Iridium's but by chance."""
    settings = loaded(tmp_path, (EXAMPLE.parent / "homegrown.toml").read_text())

    dialect = settings.issuers["homegrown"].issuer.dialect
    changed = {field.name for field in fields(Dialect) if getattr(dialect, field.name) != getattr(STANDARD, field.name)}
    assert {"endpoints", "renamed_parameters", "refresh_rotation", "subject_member", "error_codes"} <= changed
    assert not changed & {"authorization", "provider_hosts", "refresh_authentication"}
    assert settings.warnings == ()


def test_the_commands_of_the_guide_run(tmp_path: Path):
    """In their order, but for the application, which runs until it is ended (``test_web_app``)."""
    (tmp_path / "config.toml").write_text(
        EXAMPLE.read_text()
        .replace('uid = ["app"]', "uid = [0]")
        .replace('group = "app"', "")
        .replace("/etc/token-broker", str(tmp_path))
        .replace("/var/log/token-broker", str(tmp_path))
        .replace("/var/lib/token-broker", f"{tmp_path}/state")
        .replace("/run/token-broker/app", str(tmp_path))
    )
    (tmp_path / "config.toml").chmod(0o600)
    lines = [line[2:] for block in blocks(GUIDE, "console") for line in block.splitlines() if line.startswith("$ ")]
    run = [line for line in lines if line.startswith("token-broker ")]
    assert len(run) >= 2

    for line in run:
        command = line.replace("/etc/token-broker", str(tmp_path)).split()[1:]
        done = subprocess.run(
            [sys.executable, "-m", "broker", *command], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    (app,) = (line for line in lines if not line.startswith("token-broker "))
    assert (ROOT / app.split()[1]).is_file()


@pytest.mark.parametrize("block", blocks(GUIDE, "toml"))
def test_each_piece_of_configuration_of_the_guide_is_good(tmp_path: Path, block: str):
    """Put where it belongs in the example."""
    if "[issuer.iridium.dialect]" in block:
        loaded(tmp_path, with_table(block))
    else:
        token = '\n[token.service]\nclient = "service"\nrefresh = "on_demand"\n'
        text = EXAMPLE.read_text().replace('tokens = ["github", "google"]', 'tokens = ["github", "google", "service"]')
        loaded(tmp_path, f"{text}\n{block}{token}")


def letters() -> list[str]:
    """Give what the guide's table says for a server that follows the page to the letter."""
    rows = re.findall(r"^\|[^|]*\|[^|]*\| (`.*`[^|]*) \|$", GUIDE.read_text(), re.MULTILINE)
    return [" \n".join(re.findall(r"`([a-z_]+ = [^`]+)`", row)) for row in rows if " = " in row]


def test_the_table_of_the_guide_is_read():
    """A test of nothing would pass."""
    assert len(letters()) >= 6


@pytest.mark.parametrize("lines", letters())
def test_each_line_for_the_page_to_the_letter_is_good(tmp_path: Path, lines: str):
    """In a table whose base is Iridium."""
    loaded(tmp_path, with_table(f'[issuer.iridium.dialect]\nbase = "iridium"\n{lines}'))


def test_the_development_server_of_the_example_is_good(tmp_path: Path):
    """The lines that are commented out."""
    text = EXAMPLE.read_text()
    begin = text.index("# [issuer.iridium]")
    section = "\n".join(line.removeprefix("# ") for line in text[begin:].splitlines())
    ours = re.search(r"^\[issuer\.iridium\]\n(?:.+\n)+", text, re.MULTILINE)
    assert ours is not None

    settings = loaded(tmp_path, text.replace(ours[0], f"{section}\n"))

    assert settings.issuers["iridium"].issuer.issuer == "http://localhost:8381"


@pytest.mark.parametrize("block", blocks(REFERENCE, "toml")[:2])
def test_each_example_of_the_reference_is_good(tmp_path: Path, block: str):
    """In place of the issuer of the example."""
    text = EXAMPLE.read_text()
    ours = re.search(r"^\[issuer\.iridium\]\n(?:.+\n)+", text, re.MULTILINE)
    assert ours is not None

    loaded(tmp_path, text.replace(ours[0], block.replace("NAME", "iridium")))


def test_what_iridium_fills_in_is_toml():
    """The reference shows it as one would write it."""
    for block in blocks(REFERENCE, "toml")[2:]:
        assert tomllib.loads(block)


def test_the_routes_of_the_guide_exist():
    """A back end is written after them; the reference of the API is held to the code by tests of its own."""
    known = {plain(path) for path in re.findall(r"/v1/[A-Za-z0-9_/{}.-]+", API.read_text())}
    named = re.findall(r"`(?:POST |DELETE )?(/v1/[^`]*)`", GUIDE.read_text())

    assert len(named) >= 4
    for route in named:
        assert plain(route) in known or plain(route).rpartition("/egress/")[0] + "/egress/{}/{}" in known, route


def plain(route: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", route)
