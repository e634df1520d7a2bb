"""
Links of all pages, as a forge follows them: to files that exist, and to headings that are there.

``make docs`` checks them on the site; this takes a second, and needs nothing that is not installed anyway.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
TARGET = re.compile(r"\]\([^)]*\)")
TEST = re.compile(r"`(tests/[\w/.]+)`")


@cache
def text(page: Path) -> str:
    """Give a page without its blocks of code."""
    return FENCE.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as a forge makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(text(page)):
        plain = TARGET.sub("", heading).replace("[", "").lower().strip()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        while (numbered := anchor if number == 1 else f"{anchor}-{number - 1}") in found:
            number += 1
        found.add(numbered)
    return found


def links(page: Path) -> list[str]:
    """Give where a page leads, but for other sites."""
    targets = LINK.findall(CODE.sub("code", text(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def leads_somewhere(page: Path, link: str) -> bool:
    """Say whether there is what *link* on *page* names."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file or folder of the repository, and where it names a heading, to one."""
    dead = [link for link in links(page) if not leads_somewhere(page, link)]

    assert dead == []


def test_every_page_says_one_thing_first() -> None:
    """One title each, which is what menus show."""
    titles = {page: re.findall(r"^# .+$", text(page), re.MULTILINE) for page in PAGES}

    assert {page for page, found in titles.items() if len(found) != 1} == set()


def test_the_index_leads_to_every_kind_of_page() -> None:
    """By folders, so that a new page is found unasked; those outside of folders are named."""
    index = (ROOT / "docs" / "index.md").read_text()
    trees = {line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.splitlines()}

    missing = [
        path
        for page in PAGES
        if page.is_relative_to(ROOT / "docs") and page.name != "index.md"
        for path in [page.relative_to(ROOT / "docs")]
        if f"{path.parent}/*" not in trees and str(path.with_suffix("")) not in trees
    ]

    assert missing == []


def test_the_index_lists_no_page_twice() -> None:
    """A pattern takes what the lines of its own list left, and not what other lists have."""
    listed: list[Path] = []
    for tree in re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.DOTALL):
        lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
        pages = [page for line in lines for page in sorted((ROOT / "docs").glob(f"{line}.md"))]
        listed += dict.fromkeys(pages)

    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "explanation").glob("*.md")), ids=lambda page: page.stem)
def test_what_is_said_to_be_shown_by_a_test_has_one(page: Path) -> None:
    """A file that was renamed leaves no claim without its proof."""
    gone = [path for path in TEST.findall(page.read_text()) if not (ROOT / path).exists()]

    assert gone == []


def test_every_number_of_the_threat_model_is_there() -> None:
    """T1 to T36, each in one row, but for the one that is said not to be there."""
    page = (ROOT / "docs" / "explanation" / "threat-model.md").read_text()

    rows = [int(number) for number in re.findall(r"^\| T(\d+) \|", page, re.MULTILINE)]

    assert sorted(rows) == [number for number in range(1, 37) if number != 34]
    assert "T34, " in page
