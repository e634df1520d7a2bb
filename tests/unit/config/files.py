"""Configuration files for tests: a small one that is good, ways to spoil it, and accounts that need no host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.config.load import load_settings
from broker.config.problems import ConfigurationError, Findings, Problem
from broker.config.settings import Settings
from broker.config.source import parse
from broker.config.structure import Document, structure

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "config.example.toml"
REFERENCE = REPOSITORY / "docs" / "reference" / "configuration.md"

GOOD = """\
[audit]
file = "audit.jsonl"
key = { file = "audit.key" }

[issuer.raidiam]
issuer = "https://auth.example.com"

[certificate.transport]
cert_file = "transport.pem"
key_file = "transport.key"

[key.signing]
file = "signing.key"
alg = "PS256"

[client.raidiam]
issuer = "raidiam"
client_id = "our-client"
signing_keys = ["signing"]
certificate = "transport"

[token.directory]
client = "raidiam"
scope = ["directory:software"]

[listener.app]
path = "app.sock"

[workload.app]
listener = ["app"]
uid = [1000]
tokens = ["directory"]
"""
"""The shortest file that is good and that nothing is said about."""


@dataclass(frozen=True)
class FakeAccounts:
    """A host with the users and groups that a test says."""

    users: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)

    def uid(self, name: str) -> int | None:
        return self.users.get(name)

    def gid(self, name: str) -> int | None:
        return self.groups.get(name)


def changed(*edits: tuple[str, str]) -> str:
    """Give the good file with each *(old, new)* replaced, once; an *old* that is not there is a mistake of the test."""
    text = GOOD
    for old, new in edits:
        assert old in text, f"nothing to replace: {old}"
        text = text.replace(old, new, 1)
    return text


def document(text: str = GOOD) -> Document:
    """Structure a text that has no problems of its own."""
    findings = Findings()
    raw = parse(text.encode(), findings)
    assert raw is not None
    made = structure(raw, findings)
    assert findings.problems() == ()
    return made


def write(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def load(
    directory: Path, text: str = GOOD, *, credentials: Path | None = None, accounts: FakeAccounts | None = None
) -> Settings:
    return load_settings(write(directory, text), credentials_directory=credentials, accounts=accounts or FakeAccounts())


def problems(
    directory: Path, text: str, *, credentials: Path | None = None, accounts: FakeAccounts | None = None
) -> tuple[Problem, ...]:
    """Give the problems of a file; none if it is good."""
    try:
        load(directory, text, credentials=credentials, accounts=accounts)
    except ConfigurationError as error:
        return error.problems
    return ()


def only_problem(directory: Path, text: str) -> Problem:
    """Give the one problem of a file, and insist that it is the only one."""
    found = problems(directory, text)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]
