"""The pages about the API say what the code does: nothing is missing, and nothing is made up."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from broker.api import (
    authorizations,
    consent_problems,
    directories,
    egress,
    grants,
    listeners,
    ops,
    problems,
    readiness,
    routes,
    secret_file,
    tcp,
    waiting,
)
from broker.api import serving as handing_out
from broker.api.answers import NOT_MODIFIED, problem_answer
from broker.api.guard import MAX_BODY, MAX_HEAD
from broker.api.limits import STRANGER_PLACES, STRANGER_PLACES_PER_UID, Limits, WaitingRoom
from broker.api.ops import OPS_ROUTES
from broker.api.problems import ErrorCode, Problem, RefusalReason
from broker.api.proxy_status import proxied
from broker.api.routes import API_ROUTES
from broker.api.serving import token_answer
from broker.api.table import Call
from broker.api.world import World
from broker.consent.authorizations import Begun
from broker.consent.errors import FinishedError
from broker.consent.pending import Abandoned, Binding, Failed, Granted
from broker.consent.shelf import MAX_OPEN, MAX_OPEN_PER_OWNER
from broker.errors import Outcome, RemoteError
from broker.oauth.checks import Check, CheckFailedError, response_invalid
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.policy.rules import Denial, Policy
from broker.tokens.serving import TokenState, TokenStatus
from tests.fakes import Events
from tests.unit.api.world import EVERYBODY, QUICK, FakeTokens, serving, unavailable

PAGES = Path(__file__).parents[3] / "docs" / "reference"
API = (PAGES / "api.md").read_text()
ERRORS = (PAGES / "errors.md").read_text()

PROBLEMS = [
    *(value for value in (*vars(problems).values(), *vars(consent_problems).values()) if isinstance(value, Problem)),
    problems.method_not_allowed(("GET",)),
    problems.query_refused(""),
    problems.body_refused(""),
    problems.access_denied("", ""),
    problems.unexpected(""),
    consent_problems.consent_required("no_consent", ""),
    consent_problems.choice_refused("", None),
    consent_problems.problem_of(FinishedError(Abandoned())),
    consent_problems.problem_of(FinishedError(Granted(grant="g"))),
    consent_problems.problem_of(FinishedError(Failed(reason="id_token_invalid", check="nonce"))),
    consent_problems.problem_of(response_invalid(Check.STATE)),
    consent_problems.problem_of(CheckFailedError(Reason.ID_TOKEN_INVALID, Check.NONCE)),
    consent_problems.problem_of(RemoteError(Reason.TIMED_OUT, "late", outcome=Outcome.UNKNOWN)),
    consent_problems.problem_of(
        RemoteError(Reason.SERVER_REFUSED, "no", outcome=Outcome.REFUSED, server_error="invalid_client")
    ),
    egress.failed(RemoteError(Reason.CONNECT_FAILED, "no", outcome=Outcome.NOT_SENT)),
    egress.failed(RemoteError(Reason.TIMED_OUT, "late", outcome=Outcome.UNKNOWN)),
    readiness.NOT_READY,
    waiting.unavailable(unavailable()),
    waiting.unavailable(unavailable(code="authorization_server_error", server_error="invalid_client")),
]


def section(page: str, heading: str) -> str:
    """Give what stands under *heading*, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, _, after = page.partition(f"{heading}\n")
    assert after, heading
    return re.split(rf"^#{{1,{level}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Give the cells of all tables in *text*, without their heads."""
    tables = re.findall(r"^\|.*\|\n\| ?---.*\n((?:\|.*\n)*)", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def first_cells(text: str) -> set[str]:
    return {row[0].strip("`") for row in rows(text)}


def test_every_route_is_documented_and_every_documented_route_exists():
    """By method and template."""
    documented = set(re.findall(r"^### `([A-Z]+) (\S+)`$", API, flags=re.MULTILINE))

    api = {(route.method, route.template) for route in API_ROUTES}
    operations = {(route.method, route.template) for route in OPS_ROUTES}
    assert documented == api | operations


def test_every_parameter_is_documented_with_its_range():
    """And no route has one that it has not."""
    for route in API_ROUTES:
        text = section(API, f"### `{route.method} {route.template}`")
        documented = {row[0].strip("`"): row[1] for row in rows(text) if len(row) == 3}

        numbers = {name: f"{values.start} to {values.stop - 1}" for name, values in route.parameters.items()}
        assert documented == numbers | dict.fromkeys(route.texts, "text")


def world(tokens: FakeTokens) -> World:
    return World(
        policy=Policy(workloads=(EVERYBODY,), own_uid=1),
        tokens=tokens,
        emit=Events(),
        waiting=WaitingRoom(QUICK),
        sandbox=lambda: ("play",),
    )


CALL = Call(peer=Peer(listener="app"), name="directory")

DOWN = FakeTokens(
    states={
        "directory": TokenStatus(
            name="directory",
            state=TokenState.STALE,
            required=True,
            expires_in=3,
            reason="connect_failed",
            hint="is it running?",
            retry_in=2,
            grants=4,
        )
    }
)


async def test_every_member_of_a_token_is_documented():
    """Of a served one and of a listed one."""
    token: dict[str, Any] = json.loads((await handing_out.get_token(world(FakeTokens()), CALL)).body)
    listed: dict[str, Any] = json.loads((await routes.list_tokens(world(DOWN), CALL)).body)["tokens"][0]
    text = section(API, "### `GET /v1/tokens/{name}`")
    members = {row[0].strip("`") for row in rows(text) if len(row) == 2}

    assert members == set(token)
    assert first_cells(section(API, "### `GET /v1/tokens`")) == set(listed)
    assert serving().token.token_type in text


async def test_every_member_of_readiness_is_documented():
    """And every state is on the page."""
    asking = world(DOWN)
    asking.restart = lambda: ("listener",)
    asking.refused = lambda: True
    members = json.loads((await routes.ready(asking, Call(peer=Peer(listener="app", uid=1)))).body)

    assert first_cells(section(API, "### `GET /readyz`")) == set(members)
    assert all(f"`{state.value}`" in section(API, "### `GET /v1/tokens`") for state in TokenState)


def test_every_error_is_documented_with_its_statuses():
    """Both ways, pair by pair."""
    documented = {(int(row[0]), row[1].strip("`")) for row in rows(ERRORS) if row[0].isdigit()}

    assert documented == {(problem.status, problem.error.value) for problem in PROBLEMS}
    assert {error for _, error in documented} == {code.value for code in ErrorCode}


def test_every_member_of_an_error_is_documented():
    """The shape is closed."""
    shapes = [json.loads(problem_answer(problem).body) for problem in PROBLEMS]
    table = section(ERRORS, "## Answers of the local API").partition("| status |")[0]

    assert first_cells(table) == set().union(*shapes)


def test_every_reason_of_a_refusal_is_documented():
    """Those of the policy and those of the API."""
    documented = first_cells(section(ERRORS, "## Reasons of refusals in the audit log"))

    assert documented == {str(reason) for reason in (*RefusalReason, *Denial)}


def test_every_header_of_an_answer_is_documented():
    """With no header that no answer has."""
    sent = {name for problem in PROBLEMS for name in problem_answer(proxied(problem)).all_headers()}

    begun = Begun(id="i", binding=Binding("b"), authorization_url="u", expires_in=55.0, state_sha256="s")
    sent |= authorizations.begun_answer(begun).all_headers().keys()
    sent |= NOT_MODIFIED.all_headers().keys() | token_answer(serving(), plain_text=False).all_headers().keys()

    assert first_cells(section(API, "## Headers of answers")) == sent


def test_retry_after_comes_with_the_statuses_that_the_page_says():
    """Callers rely on it."""
    with_it = {problem.status for problem in PROBLEMS if "Retry-After" in dict(problem.headers)}

    assert with_it == {429, 502, 503}
    assert "With 429, 502 and 503" in API


def test_every_code_of_a_listener_is_documented():
    """Those that the modules raise, as their sources say."""
    raised = set()
    for module in (directories, listeners, ops, secret_file, tcp):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "LocalError":
                assert isinstance(node.args[0], ast.Constant)
                raised.add(node.args[0].value)

    assert first_cells(section(ERRORS, "## Listeners that cannot be opened")) == raised


def test_the_limits_on_the_page_are_those_of_the_code():
    """Numbers drift unless something holds them."""
    limits = Limits()
    values = {row[0]: row[1] for row in rows(section(API, "## Limits"))}

    assert values == {
        "request line and headers": f"{MAX_HEAD // 1024} KiB together",
        "body": f"{MAX_BODY // 1024} KiB",
        "time from the first byte of a request to its last": f"`request_seconds` ({limits.request_deadline:.0f} s)",
        "connections, in all and of one uid": (
            f"`max_connections` ({limits.max_connections}), "
            f"`max_connections_per_uid` ({limits.max_connections_per_uid})"
        ),
        "connections of callers that no workload is, in all and of one uid": (
            f"{STRANGER_PLACES}, {STRANGER_PLACES_PER_UID}"
        ),
        "requests that wait for a token, in all and of one uid": (
            f"`max_waiting` ({limits.max_waiting}), `max_waiting_per_uid` ({limits.max_waiting_per_uid})"
        ),
        "requests of one uid in a second": (
            f"`max_requests_per_second_per_uid` ({limits.max_requests_per_second_per_uid})"
        ),
        "time between two requests on a connection": f"{limits.idle_timeout:.0f} s",
        "time for the caller to take an answer": f"{limits.write_deadline:.0f} s",
        "age of a connection": f"{limits.max_connection_age / 3_600:.0f} hour",
    }
    assert f"429 means that {MAX_OPEN_PER_OWNER} of this workload, or {MAX_OPEN:,} in all, wait for a person." in API
    assert f"by default {grants.DEFAULT_LIMIT}" in API
    assert str(MAX_HEAD) in problems.HEADERS_TOO_LARGE.description
    assert str(MAX_BODY) in problems.BODY_TOO_LARGE.description
