"""Names of sections in other sections."""

from __future__ import annotations

import attrs
import pytest

from broker.config.problems import Findings
from broker.config.references import _references, check_references
from broker.config.schema import NAMED_SECTIONS, ClientSection, IssuerSection
from broker.config.source import parse
from broker.config.structure import structure
from tests.unit.config.files import changed


def found(text: str) -> list[str]:
    """Give what is wrong with the references in a text, and nothing else that is wrong with it."""
    raw = parse(text.encode(), Findings())
    assert raw is not None
    findings = Findings()
    check_references(structure(raw, Findings()), findings)
    return [str(problem) for problem in findings.problems()]


def test_a_good_file_has_none() -> None:
    """Every name leads somewhere."""
    assert found(changed()) == []


def test_the_fields_that_name_sections_are_found_in_the_schema() -> None:
    """Optional ones and those in arrays too."""
    references = _references(ClientSection)

    assert references == {
        "issuer": "issuer",
        "signing_keys": "key",
        "certificate": "certificate",
        "dpop_key": "key",
    }
    assert _references(IssuerSection) == {}


def test_each_reference_leads_to_a_kind_of_section() -> None:
    """A kind misspelled in the schema would refuse every file."""
    targets = {target for cls in NAMED_SECTIONS.values() for target in _references(cls).values()}

    assert targets <= set(NAMED_SECTIONS)
    assert all(attrs.has(cls) for cls in NAMED_SECTIONS.values())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'client = "raidiam"',
            'client = "raidaim"',
            'token.directory.client: no client named "raidaim"; did you mean "raidiam"?',
        ),
        (
            'signing_keys = ["signing"]',
            'signing_keys = ["signing", "xyz"]',
            'client.raidiam.signing_keys[1]: no key named "xyz"; known: "signing"',
        ),
        (
            'certificate = "transport"',
            'certificate = "Bearer eyJ.."',
            'client.raidiam.certificate: no certificate has the name given here; known: "transport"',
        ),
        (
            "[certificate.transport]",
            "[other.transport]",
            'client.raidiam.certificate: no certificate named "transport"; add a section [certificate.NAME]',
        ),
        (
            'tokens = ["directory"]',
            'tokens = ["xyz"]',
            'workload.app.tokens[0]: no token named "xyz"; known: "directory"',
        ),
        (
            'listener = ["app"]',
            'listener = ["ap"]',
            'workload.app.listener[0]: no listener named "ap"; did you mean "app"?',
        ),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest(old: str, new: str, expected: str) -> None:
    """Each kind of reference, with and without something near."""
    assert found(changed((old, new))) == [expected]


def test_a_broken_section_is_still_found_by_those_that_name_it() -> None:
    """Its own problem is in the list; that it does not exist would be a lie."""
    text = changed(('issuer = "https://auth.example.com"', "issuer = 5"))

    assert found(text) == []


def test_the_references_of_a_broken_section_are_still_checked() -> None:
    """So that the next run does not bring the next problem."""
    text = changed(('client_id = "our-client"', "client_id = 5"), ('issuer = "raidiam"', 'issuer = "raidaim"'))

    assert found(text) == ['client.raidiam.issuer: no issuer named "raidaim"; did you mean "raidiam"?']


def test_a_key_where_a_section_belongs_is_left_to_the_schema() -> None:
    """``[token]`` without a name: its keys look like sections."""
    assert found(changed(("[token.directory]", "[token]"), ('tokens = ["directory"]', "tokens = []"))) == []


@pytest.mark.parametrize("value", ["5", "true", "[5]", '{ a = "b" }', "1979-05-27"])
def test_a_value_that_is_no_name_is_left_to_the_schema(value: str) -> None:
    """It is reported there, once."""
    text = changed(('issuer = "raidiam"', f"issuer = {value}"))

    assert found(text) == []
