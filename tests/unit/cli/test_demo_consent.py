"""Tests of ``broker/cli/demo_consent.py``: what a person does with the demonstration is done, and shown."""

from __future__ import annotations

import re
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from broker.sandbox.person import decide
from tests.unit.cli.test_demo import demo, processes_of

pytestmark = pytest.mark.real_time


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory with a short name: a Unix socket's may have 107 bytes, and pytest's directories are deep."""
    with tempfile.TemporaryDirectory(prefix="tb-") as directory:
        yield Path(directory)


def test_a_consent_in_a_browser_is_shown_to_be_used(temporary: Path):
    """Whoever opens the printed link ends with a token of their own; a script stands for the browser."""
    with demo(temporary=temporary) as process:
        assert process.stdout is not None
        said = ""
        while (link := re.search(r"http://127\.0\.0\.1:\d+/start/[\w-]{43}\n", said)) is None:
            said += process.stdout.readline()
        status = browse(link.group().strip(), next(temporary.glob("*/sandbox/ca.pem")), user="bob")
        while "as bob's" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert status == 200
    assert "Consent given." in said
    assert process.returncode == 0
    assert processes_of(temporary) == []


def browse(link: str, ca_file: Path, *, user: str) -> int:
    """Follow *link* to the sandbox, decide there, go back with the cookie, and give the status of the last page."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), Unredirected())
    with pytest.raises(urllib.error.HTTPError) as sent:
        opener.open(link, timeout=10)
    callback = decide(sent.value.headers["Location"], ca_file=ca_file, user=user)
    sent.value.close()
    with pytest.raises(urllib.error.HTTPError) as done:
        opener.open(callback.url, timeout=60)
    done.value.close()
    end = urljoin(callback.url, done.value.headers["Location"])
    with opener.open(end, timeout=10) as page:
        return int(page.status)


class Unredirected(urllib.request.HTTPRedirectHandler):
    """Stops at redirects, so that each one can be looked at."""

    def redirect_request(self, *_arguments: object) -> None:
        return None
