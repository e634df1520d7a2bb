"""APIs: what goes together with their tokens, the listeners that lead to them and the workloads that call them."""

from __future__ import annotations

import pytest

from broker.config.problems import Findings
from broker.config.source import parse
from broker.config.structure import structure
from broker.config.upstream_combinations import check_upstreams
from tests.unit.config.files import changed

UPSTREAM = '[upstream.api]\nbase_url = "https://api.example"\ntoken = "directory"\nallow = ["GET /a"]\n'
CALLER = ('tokens = ["directory"]', 'upstreams = ["api"]\nmay = ["egress"]')


def found(*edits: tuple[str, str], upstream: str = UPSTREAM) -> list[str]:
    """Give what is wrong with the APIs of a changed file."""
    raw = parse(changed(("[audit]", f"{upstream}\n[audit]"), *edits).encode(), Findings())
    assert raw is not None
    findings = Findings()
    check_upstreams(structure(raw, Findings()), findings)
    return [str(problem) for problem in findings.problems()]


def test_a_workload_that_calls_an_api_needs_no_token() -> None:
    """Nothing is said."""
    assert found(CALLER) == []


@pytest.mark.parametrize(
    ("edit", "upstream", "problem"),
    [
        (CALLER, UPSTREAM.replace('"GET /a"', ""), "upstream.api.allow: is empty"),
        (('tokens = ["directory"]', ""), UPSTREAM, "workload.app.tokens: is missing"),
        (('tokens = ["directory"]', 'upstreams = ["api"]'), UPSTREAM, "workload.app.upstreams: has no effect without"),
        (
            ('tokens = ["directory"]', 'tokens = ["directory"]\nmay = ["get", "egress"]'),
            UPSTREAM,
            "workload.app.may: allows calls of APIs, and names none",
        ),
    ],
)
def test_what_does_not_go_together_is_said(edit: tuple[str, str], upstream: str, problem: str) -> None:
    """One problem each, with what to write."""
    (said,) = found(edit, upstream=upstream)

    assert said.startswith(problem)
    assert "; " in said


def test_a_base_url_is_for_an_api_with_one_grant() -> None:
    """Its calls name no grant, so that it would not be known whose token they want."""
    people = UPSTREAM.replace("directory", "people") + (
        '[token.people]\nclient = "main"\ngrant_type = "authorization_code"\ngrants = "many"\n'
    )

    (said,) = found(CALLER, ('path = "app.sock"', 'path = "app.sock"\nupstream = "api"'), upstream=people)

    assert said.startswith("listener.app.upstream: leads to an API whose token has a grant for each person")
