"""The schema, the example and the page of documentation say the same."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import pytest

from broker.config import schema
from broker.config.dialect_section import Base, DialectSection
from broker.config.load import load_settings
from broker.config.schema import (
    DEFAULT_LIFETIME_SECONDS,
    NAMED_SECTIONS,
    SINGLE_SECTIONS,
    GrantType,
    Prompt,
    SecretReference,
    SigningAlg,
)
from broker.config.settings import LogLevel, OnAuditFailure
from broker.oauth.client import (
    AliasedEndpoint,
    AssertionAudience,
    ClientAuthMethod,
    ClientSecretEncoding,
    Discovery,
    Parameters,
    Profile,
    RefreshRotation,
    RequestObjectUse,
    ResponseMode,
    SenderConstraint,
)
from broker.oauth.jose import SIGNING_ALGS
from broker.policy.rules import Action, GrantsOf
from broker.sinks.spec import Format
from broker.tokens.spec import DEFAULT_LIFETIME, Grants, OnGrantLost, OnSubjectChange, Refresh, TokenSpec
from tests.unit.config.files import EXAMPLE, REFERENCE, FakeAccounts

HEADINGS = {**SINGLE_SECTIONS, **{f"{kind}.NAME": cls for kind, cls in NAMED_SECTIONS.items()}}
"""What the documentation calls each section."""

ROW = re.compile(r"^\| `(?P<key>\w+)` \| (?P<type>.+?) \| (?P<default>.+?) \| (?P<meaning>.+) \|$")


def in_toml(value: Any) -> str:
    """Write a default as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # members of enumerations too
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(in_toml(element) for element in value) + "]"
    return str(value)


def default_of(field: attrs.Attribute[Any]) -> str:
    """Give the default of a field as the documentation has it."""
    if field.default is attrs.NOTHING:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
        return "`{}`"
    return f"`{in_toml(field.default)}`"


def documented(text: str) -> dict[str, list[re.Match[str]]]:
    """Give the rows of the tables in a page, by the heading above them."""
    tables: dict[str, list[re.Match[str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip("`[]")
        row = ROW.match(line)
        if row:
            tables.setdefault(heading, []).append(row)
    return tables


DOCUMENTED = documented(REFERENCE.read_text())


def test_each_section_of_the_schema_is_documented_and_no_other() -> None:
    """A page about keys that do not exist is worse than none."""
    assert set(DOCUMENTED) == {*HEADINGS, "Secrets"}


@pytest.mark.parametrize(("heading", "cls"), [*HEADINGS.items(), ("Secrets", SecretReference)])
def test_each_key_is_documented_with_its_default(heading: str, cls: type) -> None:
    """Both ways: each key has a row, each row is a key, in the same order."""
    rows = [(row["key"], row["default"]) for row in DOCUMENTED[heading]]

    assert rows == [(field.name, default_of(field)) for field in attrs.fields(cls)]


def test_each_word_of_an_enumeration_is_documented() -> None:
    """Whoever writes one looks it up there."""
    enums = [
        (SigningAlg, "key.NAME", "alg"),
        (GrantType, "token.NAME", "grant_type"),
        (Profile, "issuer.NAME", "profile"),
        (Discovery, "issuer.NAME", "discovery"),
        (Base, "issuer.NAME", "dialect"),
        (AssertionAudience, "issuer.NAME", "assertion_audience"),
        (ClientAuthMethod, "client.NAME", "client_auth_method"),
        (ClientSecretEncoding, "client.NAME", "client_secret_encoding"),
        (AliasedEndpoint, "client.NAME", "mtls_endpoint_aliases"),
        (SenderConstraint, "client.NAME", "sender_constraint"),
        (RefreshRotation, "issuer.NAME", "refresh_rotation"),
        (ResponseMode, "client.NAME", "response_mode"),
        (RequestObjectUse, "client.NAME", "request_object"),
        (SigningAlg, "client.NAME", "id_token_signed_response_alg"),
        (SigningAlg, "client.NAME", "authorization_signed_response_alg"),
        (Parameters, "client.NAME", "front_channel_params"),
        (Grants, "token.NAME", "grants"),
        (Prompt, "token.NAME", "prompt"),
        (OnGrantLost, "token.NAME", "on_grant_lost"),
        (OnSubjectChange, "token.NAME", "on_subject_change"),
        (Refresh, "token.NAME", "refresh"),
        (Format, "sink.NAME", "format"),
        (GrantsOf, "workload.NAME", "grants"),
        (Action, "workload.NAME", "may"),
        (LogLevel, "log", "level"),
        (OnAuditFailure, "audit", "on_failure"),
    ]

    for words, heading, key in enums:
        (row,) = (row for row in DOCUMENTED[heading] if row["key"] == key)
        assert set(re.findall(r'"(\w+)"', row["type"])) == {word.value for word in words}, (heading, key)


def test_ranges_are_documented() -> None:
    """The numbers on the page are those in the schema."""
    source = inspect.getsource(schema).replace("MAX_LIFETIME_SECONDS)", f"{schema.MAX_LIFETIME_SECONDS})")
    in_schema = re.findall(r"(\w+): Annotated\[int, between\(([\d_]+), ([\d_]+)\)\]", source)
    written = {
        (row["key"], *found.groups())
        for rows in DOCUMENTED.values()
        for row in rows
        if (found := re.search(r"(\d+) to (\d+)$", row["type"]))
    }

    assert written == {(key, low.replace("_", ""), high.replace("_", "")) for key, low, high in in_schema}
    assert len(written) == 18


def test_each_field_of_the_schema_says_what_it_means() -> None:
    """A sentence below each field, for whoever reads the code."""
    for cls in [*HEADINGS.values(), SecretReference, DialectSection]:
        (tree,) = ast.parse(inspect.getsource(cls)).body
        assert isinstance(tree, ast.ClassDef)
        fields = [index for index, node in enumerate(tree.body) if isinstance(node, ast.AnnAssign)]
        for index in fields:
            said = tree.body[index + 1] if index + 1 < len(tree.body) else None
            assert isinstance(said, ast.Expr), ast.unparse(tree.body[index])
            assert isinstance(said.value, ast.Constant)


# --- the example ---


def example() -> dict[str, list[dict[str, Any]]]:
    """Give the tables of each section of the example: not all keys of one may stand together."""
    raw = tomllib.loads(EXAMPLE.read_text())
    single = {key: [table] for key, table in raw.items() if key in SINGLE_SECTIONS}
    named = {f"{kind}.NAME": list(raw[kind].values()) for kind in NAMED_SECTIONS if kind in raw}
    return single | named


def test_the_example_shows_every_section_and_every_key() -> None:
    """In the order of the schema in each, so that a new key is not forgotten."""
    schemas = {heading: [field.name for field in attrs.fields(cls)] for heading, cls in HEADINGS.items()}

    assert {heading: {key for table in tables for key in table} for heading, tables in example().items()} == {
        heading: set(keys) for heading, keys in schemas.items()
    }
    for heading, tables in example().items():
        for table in tables:
            assert list(table) == [key for key in schemas[heading] if key in table]


def test_the_example_is_good_on_any_machine(tmp_path: Path) -> None:
    """No file it names exists, no user is looked up, and it is started without systemd."""
    path = tmp_path / "config.toml"
    path.write_bytes(EXAMPLE.read_bytes())
    path.chmod(0o600)

    settings = load_settings(path, credentials_directory=None, accounts=FakeAccounts())

    assert settings.warnings == ()
    assert [token.name for token in settings.tokens] == ["software", "payments", "reports", "accounts", "profile"]


@pytest.mark.parametrize(("heading", "cls"), HEADINGS.items())
def test_the_example_says_each_default(heading: str, cls: type) -> None:
    """The comment above a key names the default that the schema has."""
    comments = comments_of(heading)

    for field in attrs.fields(cls):
        default = default_of(field).strip("`")
        if default == "required":
            assert "\n# Required." in comments[field.name], field.name
        elif (heading, field.name) != ("audit", "file"):
            assert f"\n# Default: {default}" in comments[field.name], field.name


def comments_of(heading: str) -> dict[str, str]:
    """Give the comment above each key of a section of the example."""
    comments: dict[str, str] = {}
    current, above = "", ""
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("["):
            current = re.sub(r"^\[(\w+)(\.\w+)?\]$", lambda found: found[1] + (".NAME" if found[2] else ""), line)
            above = ""
        elif line.startswith("#"):
            above += f"\n{line}"
        elif found := re.match(r"(\w+) = ", line):
            if current == heading:
                comments.setdefault(found[1], above)
            above = ""
    return comments


def test_every_kind_of_reference_to_a_secret_is_shown() -> None:
    """The other form stands in the introduction."""
    text = EXAMPLE.read_text()

    for field in attrs.fields(SecretReference):
        assert f"{{ {field.name} = " in text


# --- the values of the components ---


def test_the_algorithms_are_those_of_the_protocol() -> None:
    """A key that the schema admits can sign."""
    assert {alg.value for alg in SigningAlg} == SIGNING_ALGS


def test_the_default_lifetime_is_that_of_a_token() -> None:
    """It is written twice because the file has whole numbers."""
    assert DEFAULT_LIFETIME_SECONDS == DEFAULT_LIFETIME


def test_the_grant_types_are_those_of_a_token() -> None:
    """The default of the file is the default of the component."""
    assert TokenSpec(name="a", client="b").grant_type == GrantType.CLIENT_CREDENTIALS


def test_the_words_of_the_audience_are_those_of_the_protocol() -> None:
    """They are not taken as an enumeration because a wrong one gets an explanation of its own."""
    source = inspect.getsource(schema.IssuerSection)

    assert "assertion_audience: AudienceWord" in source
    assert issubclass(AssertionAudience, StrEnum)
    assert {word.value for word in AssertionAudience} == {"issuer", "target"}
