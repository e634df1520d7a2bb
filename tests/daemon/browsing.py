"""
A headless Chromium and a running ``token-broker login``, for tests that go through a login as a person does.

The browser is the machine's own (Debian: chromium); what drives it comes with the locked tools of the tests.
Nothing leaves the machine: whatever a page wants from elsewhere is refused and written down.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, sync_playwright

FLAGS = (
    "--no-sandbox",  # root has none, and CI is root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

LOOPBACK = frozenset({"127.0.0.1", "localhost"})
WIDE, PHONE = 1280, 390
"""CSS pixels."""
PATIENCE = 20_000
"""Milliseconds for a page to come: it takes some hundred, unless the machine is very busy."""

LINK = re.compile(r"http://127\.0\.0\.1:\d+/start/[A-Za-z0-9_-]+")

CONTRASTS = """
() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [red, green, blue] = color.match(/[\\d.]+/g).slice(0, 3).map((value) => channel(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll('*')].filter(hasText).map((element) => {
    const pair = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((a, b) => b - a);
    return [element.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)];
  });
}
"""
"""The contrast of each element with text against what lies behind it (WCAG 2.2)."""


def require_chromium() -> str:
    """Give the path of Chromium; skip the test where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser."""
    path = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Visitor:
    """Somebody with a browser of their own: *asked* are the addresses their pages wanted, *foreign* those elsewhere."""

    context: BrowserContext
    page: Page
    asked: list[str] = field(default_factory=list)
    foreign: list[tuple[str, str]] = field(default_factory=list)
    """Which page wanted it, and what."""

    def contrasts(self) -> list[tuple[str, float]]:
        """Give the contrast of every text on the page with its ground."""
        return [(str(tag), float(ratio)) for tag, ratio in self.page.evaluate(CONTRASTS)]

    def is_wider_than_the_window(self) -> bool:
        """Say whether one would have to scroll sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@contextmanager
def visitor(browser: Browser, *, scheme: str = "light", width: int = WIDE) -> Iterator[Visitor]:
    """Open a window, as wide as that, for somebody who likes it light or dark."""
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 844},
        ignore_https_errors=True,  # the server's CA is made for the test
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    somebody = Visitor(context, page)

    def look(route: Route, request: Request) -> None:
        if urlsplit(request.url).hostname in LOOPBACK:
            route.continue_()
        else:
            somebody.foreign.append((urlsplit(request.frame.url).netloc, request.url))
            route.abort()

    context.route("**/*", look)
    context.on("request", lambda request: somebody.asked.append(request.url))  # redirects too
    try:
        yield somebody
    finally:
        context.close()


@dataclass(slots=True)
class LoginCommand:
    """A running ``token-broker login`` that has printed its *link*."""

    process: subprocess.Popen[str]
    said: str
    link: str

    @property
    def origin(self) -> str:
        """Where its pages are."""
        parts = urlsplit(self.link)
        return f"{parts.scheme}://{parts.netloc}"

    def end(self) -> tuple[int, str, str]:
        """Wait for it: exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, self.said + err


@contextmanager
def login_command(socket: Path, token: str, *arguments: str) -> Iterator[LoginCommand]:
    """Run the command, as somebody at a terminal without a desktop."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "DISPLAY", "WAYLAND"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "login", token, "--socket", str(socket), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said += line
            if "Ctrl-C gives up" in line:
                break
        link = LINK.search(said)
        assert link is not None, said
        yield LoginCommand(process, said, link[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()
