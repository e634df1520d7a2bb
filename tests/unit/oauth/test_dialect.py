"""dialect: departures as data, and the page that documents them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import attrs
import pytest

from broker.config.dialect_section import Base, DialectSection
from broker.oauth.answers import SERVER_ERRORS
from broker.oauth.dialect import (
    IRIDIUM,
    NAMED,
    RAIDIAM,
    STANDARD,
    AuthorizationBy,
    Dialect,
    Logout,
    PkceTransform,
    Placement,
    RefreshAuthentication,
    SubjectFrom,
)
from broker.oauth.static_metadata import ENDPOINT_NAMES
from tests.unit.oauth.builders import an_issuer

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "dialects.md").read_text()
NAMES = [field.name for field in fields(Dialect)]

OTHER: dict[str, Any] = {
    "endpoints": (("token_endpoint", "/t"),),
    "endpoint_host_prefixes": ("a-",),
    "authorization": AuthorizationBy.REDIRECT,
    "authorization_placement": Placement.QUERY,
    "provider_hosts": ("a.example",),
    "provider_callback": "/callback",
    "pkce_transform": PkceTransform.S256_HEX,
    "token_placement": Placement.QUERY,
    "leaks_secrets_in_url": True,
    "state_on_token": True,
    "client_id_with_basic": True,
    "renamed_parameters": (("code", "kode"),),
    "token_parameters": (("a", "b"),),
    "refresh_authentication": RefreshAuthentication.ACCESS_TOKEN,
    "refresh_rotation": "never",
    "logout": Logout.BEARER,
    "logout_method": "POST",
    "subject_from": SubjectFrom.USERINFO,
    "userinfo_accept": "a/b",
    "subject_member": "id",
    "error_members": ("message",),
    "error_codes": (("no", "access_denied"),),
}
"""Another value than the standard's for each field."""

READING = {"endpoint_host_prefixes", "refresh_rotation", "error_members", "error_codes"}


# --- the value ---


@pytest.mark.parametrize("name", NAMES)
def test_each_change_of_a_request_is_a_departure(name: str) -> None:
    """What only says how to read an answer is none: FAPI has nothing against it."""
    dialect = replace(STANDARD, **{name: OTHER[name]})

    assert dialect.departures() == (() if name in READING else (name,))


def test_raidiam_departs_from_nothing() -> None:
    """It is FAPI 2.0, and stays so."""
    assert STANDARD.departures() == ()
    assert RAIDIAM.departures() == ()


def test_iridium_departs_in_what_it_does_otherwise() -> None:
    """Each is named, in the order of the fields: whoever reads them looks them up."""
    assert IRIDIUM.departures() == (
        "endpoints",
        "authorization",
        "provider_hosts",
        "state_on_token",
        "client_id_with_basic",
        "refresh_authentication",
        "logout",
        "subject_from",
        "userinfo_accept",
        "subject_member",
    )


@pytest.mark.parametrize("dialect", [*NAMED.values(), Dialect(**OTHER)])
def test_a_dialect_is_hashed_with_its_issuer(dialect: Dialect) -> None:
    """Servers are told apart by that when the configuration is read again."""
    assert len({an_issuer(dialect=dialect), an_issuer(dialect=replace(dialect))}) == 1
    assert an_issuer(dialect=replace(dialect, subject_member="other")) != an_issuer(dialect=dialect)


def test_an_issuer_has_no_dialect_unless_it_is_said() -> None:
    """The standard is the default."""
    assert an_issuer().dialect is STANDARD


def test_what_a_dialect_does_can_be_asked() -> None:
    """In the two places where much depends on it."""
    assert (STANDARD.identifies, STANDARD.refreshes_with_access_token) == (False, False)
    assert (IRIDIUM.identifies, IRIDIUM.refreshes_with_access_token) == (True, True)


def test_only_a_server_that_redirects_has_others_answer_for_it() -> None:
    """A base may list hosts that a table has no use for."""
    assert STANDARD.answering_hosts == ()
    assert IRIDIUM.answering_hosts == ("github.com", "accounts.google.com")
    assert replace(IRIDIUM, authorization=AuthorizationBy.BROWSER).answering_hosts == ()


def test_what_the_named_dialects_say_exists() -> None:
    """Endpoints that there are, errors that are registered."""
    for dialect in NAMED.values():
        assert {name for name, _ in dialect.endpoints} <= set(ENDPOINT_NAMES)
        assert {code for _, code in dialect.error_codes} <= SERVER_ERRORS


# --- the section of the configuration ---


def test_the_section_has_each_field_and_the_base() -> None:
    """In the same order; a field that is not written is None, whatever the base has."""
    section = attrs.fields(DialectSection)

    assert [field.name for field in section] == ["base", *NAMES]
    assert {field.name for field in section if field.default is not None} == {"base"}
    assert [base.value for base in Base] == list(NAMED)


# --- the page ---


def section_of(heading: str) -> str:
    """Give the text below a heading."""
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


MEANINGS = dict(re.findall(r"^- \*\*`(\w+)`\*\*: (.+)$", section_of("What each field means"), re.MULTILINE))


def rows(heading: str) -> list[list[str]]:
    """Give the cells of the table below a heading."""
    lines = [line for line in section_of(heading).splitlines() if line.startswith(("| `", "| ---"))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def in_toml(value: Any) -> Any:
    """Give a value as it comes out of TOML; None where there is none."""
    return list(value) or None if isinstance(value, tuple) else value


def test_each_name_is_documented() -> None:
    """And no other."""
    assert [cells[0].strip("`") for cells in rows("Names")] == list(NAMED)


@pytest.mark.parametrize(("column", "name"), list(enumerate(NAMED, start=2)))
def test_each_field_is_documented_as_each_named_dialect_has_it(column: int, name: str) -> None:
    """Both ways, in the order of the fields."""
    documented: dict[str, Any] = {}
    for cells in rows("Fields"):
        cell = cells[column]
        if cell.startswith("[below]"):
            documented[cells[0].strip("`")] = "below"
        else:
            documented[cells[0].strip("`")] = None if cell == "none" else tomllib.loads(f"x = {cell.strip('`')}")["x"]

    dialect = NAMED[name]
    in_code = {each: in_toml(getattr(dialect, each)) for each in NAMES}
    in_code |= {each: "below" for each in ("endpoints", "error_codes") if getattr(dialect, each)}
    assert list(documented) == NAMES
    assert documented == in_code


def type_of(hint: Any) -> str | set[str]:
    """Give what the page says of a type, or the words of an enumeration."""
    (kind,) = (each for each in get_args(hint) if each is not NoneType)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {word.value for word in kind}
    return {bool: "boolean", tuple: "array", Mapping: "table"}.get(get_origin(kind) or kind, "string")


def test_each_type_is_documented() -> None:
    """The words of an enumeration, or what is written in TOML."""
    hints = get_type_hints(DialectSection)

    for name, cells in ((each[0].strip("`"), each) for each in rows("Fields")):
        expected = type_of(hints[name])
        if isinstance(expected, set):
            assert set(re.findall(r'`"([\w-]+)"`', cells[1])) == expected, name
        else:
            assert cells[1].split()[0] == expected, name


def test_each_field_has_its_meaning() -> None:
    """In the order of the table, and marked where it changes no request."""
    assert list(MEANINGS) == NAMES
    assert {name for name, meaning in MEANINGS.items() if meaning.startswith("*Reading.*")} == READING


def test_each_endpoint_is_named_on_the_page() -> None:
    """Whoever describes a server needs to know them."""
    assert set(re.findall(r"`(\w+_(?:endpoint|uri))`", MEANINGS["endpoints"])) == set(ENDPOINT_NAMES)


@pytest.mark.parametrize("name", ["endpoints", "error_codes"])
def test_the_tables_of_iridium_are_documented(name: str) -> None:
    """To the letter, and in their order, which counts for texts."""
    block = section_of("What Iridium fills in").partition(f"\n`{name}`:\n\n```toml\n")[2].partition("```")[0]

    assert tuple(tomllib.loads(block).items()) == getattr(IRIDIUM, name)
