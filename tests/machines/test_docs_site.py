"""The site, made by ``make docs`` as a person makes it: without a warning, whole, and with nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "dist" / "docs"

LOADS = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
"""Elements that a browser fetches something for, unasked, and the attribute that says what."""


class Page(HTMLParser):
    """What a page links to, what it loads, and which anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADS and LOADS[tag] in given:
            self.loads.append(given[LOADS[tag]])


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """Make the site, and read all of its pages."""
    stamp = ROOT / ".venv" / "docs.stamp"
    prepared = make(stamp.relative_to(ROOT))
    if prepared.returncode:
        pytest.skip(f"what makes the site cannot be installed: {prepared.stderr.strip()[-300:]}")
    done = make("docs")
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


def make(target: str | Path) -> subprocess.CompletedProcess[str]:
    """Run make for *target*; these tests may run under make themselves."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(("make", str(target)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_every_page_of_the_documentation_is_on_the_site(site: dict[Path, Page]) -> None:
    """As a page of the same name."""
    sources = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]

    missing = [str(path) for path in sources if SITE / path not in site]

    assert missing == []


def test_no_link_of_the_site_is_dead(site: dict[Path, Page]) -> None:
    """Pages, anchors, and files of the repository that are shown or can be downloaded."""
    dead = [f"{path.relative_to(SITE)}: {link}" for path, page in site.items() for link in broken(path, page, site)]

    assert dead == []


def broken(path: Path, page: Page, site: dict[Path, Page]) -> Iterator[str]:
    """Give the links of *page* that lead nowhere."""
    for link in page.links + page.loads:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target /= "index.html"
        known = site.get(target)
        if not target.is_file() or (known and parts.fragment and parts.fragment not in known.anchors):
            yield link


def test_the_site_loads_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    """It is read where there is no network, and tells nobody who reads it."""
    foreign = {load for page in site.values() for load in page.loads if re.match(r"(?:https?:)?//", load)}
    sheets = [path.read_text() for path in SITE.rglob("*.css")]

    assert foreign == set()
    assert not any(re.search(r"url\(['\"]?(?:https?:)?//", sheet) for sheet in sheets)


def test_files_of_the_repository_are_shown(site: dict[Path, Page]) -> None:
    """A page of the site may lead to one, and it is the file itself."""
    shown = SITE / "files" / "config.example.toml"

    assert shown.read_bytes() == (ROOT / "config.example.toml").read_bytes()
    assert shown.with_name("config.example.toml.html") in site


def test_every_alert_leads_to_its_paragraph(site: dict[Path, Page]) -> None:
    """The addresses in the rules are those of this site."""
    addresses = re.findall(
        r"runbook_url: https://[^/]+/(.+)#(.+)", (ROOT / "deploy/monitoring/alerts.yaml").read_text()
    )

    assert addresses
    assert [anchor for path, anchor in addresses if anchor not in site[SITE / path].anchors] == []
