from __future__ import annotations

import time
from pathlib import Path

import pytest

from broker.cli.web_browser import is_remote, open_link

LINK = "http://127.0.0.1:4000/start/key"


def desktop(tmp_path: Path) -> dict[str, str]:
    """The environment of a desktop whose opener writes down what it is given."""
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/opened\n')
    opener.chmod(0o755)
    return {"PATH": str(tmp_path), "DISPLAY": ":0"}


@pytest.mark.real_time
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # nobody waits for a browser
def test_the_desktop_is_asked_to_open_the_link(tmp_path: Path):
    """It may take its time: nobody waits for it."""
    is_asked = open_link(LINK, desktop(tmp_path), uid=1000)

    deadline = time.monotonic() + 10
    while not (tmp_path / "opened").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_asked
    assert (tmp_path / "opened").read_text() == LINK


@pytest.mark.parametrize(
    ("change", "uid"),
    [
        ({"DISPLAY": ""}, 1000),
        ({"SSH_CONNECTION": "192.0.2.1 5000 192.0.2.2 22"}, 1000),
        ({"PATH": "/nonexistent"}, 1000),
        ({}, 0),
    ],
)
def test_nothing_is_opened_where_nobody_would_see_it(tmp_path: Path, change: dict[str, str], uid: int):
    """No display, a person at another machine, no opener, or root: the link is only printed."""
    variables = {**desktop(tmp_path), **change}

    assert open_link(LINK, variables, uid=uid) is False
    assert not (tmp_path / "opened").exists()


def test_an_opener_that_cannot_be_run_is_no_failure(tmp_path: Path):
    """The link was printed in any case."""
    variables = desktop(tmp_path)
    (tmp_path / "xdg-open").write_bytes(b"\x7fELF nonsense")

    assert open_link(LINK, variables, uid=1000) is False


@pytest.mark.parametrize(
    ("variables", "remote"), [({}, False), ({"SSH_TTY": "/dev/pts/1"}, True), ({"SSH_CONNECTION": "x"}, True)]
)
def test_ssh_is_recognized(variables: dict[str, str], remote: bool):
    """By what its server puts into the environment."""
    assert is_remote(variables) is remote
