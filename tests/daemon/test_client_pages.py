"""
``docs/howto/clients``: the pages say what the files do, and the calls that they show are made.

The client in C# is held to the page by its text alone: there is no .NET where the tests run, and its page says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.client_languages import CLIENTS, LANGUAGES, ROOT, build, needs
from tests.daemon.client_place import client_place, free_port
from tests.daemon.harness import PATIENCE, BrokerProcess

PAGES = ROOT / "docs" / "howto" / "clients"

INDEX = (PAGES / "index.md").read_text()

CSHARP = "TokenBroker.cs"

FILES = {**{name: language.file for name, language in LANGUAGES.items()}, "csharp": CSHARP}

LONGEST_SNIPPET = 12
"""Lines: what is longer belongs into the file, where it is tested."""

PORT = free_port()

JAVA = "java.io.* java.net.* java.net.http.* java.nio.file.* java.time.*"


def snippets(page: str, language: str = "") -> list[str]:
    """Give the pieces of code of a page, in *language* or in all but the terminal's."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
    return [text for marked, text in found if (marked == language if language else marked != "console")]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with client_place(tmp_path_factory.mktemp("pages"), PORT) as process:
        yield process


def run(command: list[str], broker: BrokerProcess) -> str:
    """Run a program that calls the API through the broker, and give what it printed."""
    there = {"TOKEN_BROKER_SOCKET": f"unix://{broker.socket}"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, env={**os.environ, **there}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def shell(text: str, _: Path) -> list[str]:
    return ["sh", "-euc", text]


def python(text: str, home: Path) -> list[str]:
    (home / "call.py").write_text(f"import sys\nsys.path.insert(0, {str(CLIENTS)!r})\n{text}")
    return [sys.executable, "-I", "-W", "error", str(home / "call.py")]


def node(text: str, home: Path) -> list[str]:
    (home / "call.mjs").write_text(text)
    return ["node", str(home / "call.mjs")]


def go(text: str, home: Path) -> list[str]:
    imports = "".join(f'\t"{name}"\n' for name in ("io", "log", "net/http", "os", "strings", "time"))
    (home / "call.go").write_text(f"package main\n\nimport (\n{imports})\n\nfunc init() {{\n{text}\nos.Exit(0)\n}}\n")
    (home / "token_broker.go").write_text((CLIENTS / "token_broker.go").read_text())
    build(["go", "build", "-o", str(home / "call"), str(home / "call.go"), str(home / "token_broker.go")], home)
    return [str(home / "call")]


def java(text: str, home: Path) -> list[str]:
    imports = "".join(f"import {name};\n" for name in JAVA.split())
    body = text.replace("127.0.0.1:8181", f"127.0.0.1:{PORT}")
    main = f"public class Call {{ public static void main(String[] a) throws Exception {{\n{body}}} }}\n"
    (home / "Call.java").write_text(imports + main)
    build(["javac", "-d", str(home), str(home / "Call.java")], home)
    return ["java", "-cp", str(home), "Call"]


def rust(text: str, home: Path) -> list[str]:
    file = (CLIENTS / "token_broker.rs").read_text().replace("fn main() {", f"fn main() {{\n{text}}}\npub fn rest() {{")
    (home / "call.rs").write_text(file)
    build(["rustc", "--edition", "2021", "-o", str(home / "call"), str(home / "call.rs")], home)
    return [str(home / "call")]


CALLS = {
    "shell": (shell, "sh"),
    "python": (python, "python"),
    "node": (node, "js"),
    "go": (go, "go"),
    "java": (java, "java"),
    "rust": (rust, "rust"),
}


@pytest.mark.parametrize("language", CALLS)
def test_the_call_that_a_page_shows_is_made(language: str, broker: BrokerProcess, tmp_path: Path):
    """With the token's certificate, which the program never sees."""
    needs(*LANGUAGES[language].tools)
    prepare, marked = CALLS[language]
    text = snippets(f"{language}.md", marked)[-1]
    text = text.replace("/run/token-broker/legacy/secret", str(broker.config.parent / "legacy.secret"))

    said = run(prepare(text, tmp_path), broker)

    assert '"hello"' in said or "hello" in said.lower(), said


def test_each_file_has_a_page_and_each_page_its_file():
    """And the first page leads to all of them."""
    assert {path.name for path in CLIENTS.iterdir() if path.is_file()} == set(FILES.values())
    assert {path.stem for path in PAGES.glob("*.md")} == {"index", *FILES}
    for name, file in FILES.items():
        page = (PAGES / f"{name}.md").read_text()
        link = f"(../../../deploy/examples/clients/{file})"
        assert (link in page, link in INDEX, f"({name}.md)" in INDEX) == (True, True, True)
        assert "/v1/egress/" in page
        assert "(index.md#what-makes-a-client-correct)" in page


@pytest.mark.parametrize("name", FILES)
def test_pages_have_no_second_copy_of_a_file(name: str):
    """What is shown is a few lines, and none that the file has in a row of three."""
    file = (CLIENTS / FILES[name]).read_text()
    for text in snippets(f"{name}.md"):
        lines = text.splitlines()
        assert len(lines) <= LONGEST_SNIPPET
        assert not any("\n".join(lines[at : at + 3]) in file for at in range(len(lines) - 2))


@pytest.mark.parametrize("file", FILES.values())
def test_a_client_has_the_numbers_of_the_page(file: str):
    """The time-out, the size, the longest wait, the tries, the names, the socket."""
    text = (CLIENTS / file).read_text()
    for said in ("15 s", "256 KiB", "more than 10 s", "every 100 ms, ten times", "/run/token-broker/api.sock"):
        assert said in INDEX

    assert re.search(r"\b15(_000)?\b", text)
    assert re.search(r"262[_']?144", text)
    assert re.search(r"\b10\b", text)
    assert "unix:///run/token-broker/api.sock" in text
    assert "consent_required" in text
    assert "[a-z0-9][a-z0-9._-]{0,62}" in text or file in {"token.sh", "token_broker.rs"}


def test_the_client_in_csharp_says_what_the_page_says():
    """It cannot be run here, so that its settings are read."""
    text = (CLIENTS / CSHARP).read_text()
    for setting in (
        "UseProxy = false",
        "AllowAutoRedirect = false",
        "PooledConnectionLifetime = TimeSpan.Zero",
        "MaxResponseContentBufferSize = LargestAnswer",
        "Timeout = TimeSpan.FromSeconds(AnswerSeconds)",
        'BaseAddress = new Uri("http://localhost")',
        "AddressFamily.Unix",
        "status == 429 || status == 503) && waited < 2",
        "++broken == 2",
        "attempt == 10",
        "Task.Delay(100",
        '"/refresh"',
    ):
        assert setting in text
    assert "**The tests of this repository do not run it**" in (PAGES / "csharp.md").read_text()


def test_the_client_in_csharp_is_csharp(tmp_path: Path):
    """Mono's compiler parses it; it has none of the classes that would be needed for more."""
    needs("mcs")

    said = build(["mcs", "--parse", str(CLIENTS / CSHARP)], tmp_path)

    assert said == ""
