"""
Iridium as its page has it and as it is: every flow with both providers, in both settings of every switch of the fake.

Each row is a server and a configuration. What a step comes to is stated for each: ``ok`` where it can work, and where
it cannot the closed code with which it fails. The run prints the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.daemon.iridium_place import OK, Place, Setup, place

DOCUMENTED, OBSERVED = "documented", "observed"

REFRESHABLE = {"IRI-13b": DOCUMENTED, "IRI-13e": DOCUMENTED}
"""As observed no public application may refresh, and refreshed tokens are nobody's: both have rows of their own."""

BY_SECRET = 'client_auth_method = "client_secret_basic"\nclient_secret = { file = "client.secret" }'
RAW = 'client_secret_encoding = "raw"'
BY_FORM = 'client_auth_method = "client_secret_post"\nclient_secret = { file = "client.secret" }'
CONFIDENTIAL = "sandbox-confidential"

LOCAL = """
endpoints = { authorization_endpoint = "/oauth/authorize" }
authorization = "browser"
pkce_transform = "S256-hex"
"""
CALLBACK = 'provider_callback = "/oauth/external/callback"'
TO_THE_LETTER = f"""
{CALLBACK}
renamed_parameters = {{ code_verifier = "code_verfier" }}
state_on_token = false
refresh_authentication = "client"
subject_from = "id_token"
endpoints = {{ logout_endpoint = "/application/{{client_id}}/tokens" }}
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """*what* is shown; *switches* are set in order; expectations by step, all of them ``ok`` if nothing is said."""

    what: str
    switches: Mapping[str, str] = field(default_factory=dict)
    setup: Setup = field(default_factory=Setup)
    login: str = OK
    call: str = OK
    refresh: str = OK
    logout: Any = True
    service: str | None = None


def switch(name: str, setting: str, *, setup: Setup | None = None, **expected: Any) -> Row:
    return Row(what=f"{name} {setting}", switches={**REFRESHABLE, name: setting}, setup=setup or Setup(), **expected)


def both(name: str, setup: Setup | None = None) -> list[Row]:
    return [switch(name, setting, setup=setup) for setting in (DOCUMENTED, OBSERVED)]


ROWS = [
    # all of it
    Row(what="everything observed", refresh="unauthorized_client"),
    Row(
        what="everything observed, no refreshes wanted",
        setup=Setup(dialect='refresh_authentication = "none"'),
        refresh="none",
    ),
    Row(
        what="everything documented but the comma",
        switches={"IRI": DOCUMENTED, "IRI-08": OBSERVED},
        setup=Setup(dialect=TO_THE_LETTER),
    ),
    Row(what="the usual", switches=REFRESHABLE),
    Row(what="http://localhost", switches=REFRESHABLE, setup=Setup(development=True)),
    # one by one
    *both("IRI-01"),
    *both("IRI-02"),
    switch("IRI-03", OBSERVED),
    switch("IRI-03", DOCUMENTED, login="provider_redirect_invalid"),
    switch("IRI-03", DOCUMENTED, setup=Setup(dialect=CALLBACK)),
    switch("IRI-04", OBSERVED),
    switch("IRI-04", DOCUMENTED, login="unrecognized"),
    switch(
        "IRI-04",
        DOCUMENTED,
        setup=Setup(dialect='renamed_parameters = { code_verifier = "code_verfier" }'),
    ),
    switch("IRI-04", OBSERVED, setup=Setup(dialect="state_on_token = false"), login="invalid_grant"),
    switch("IRI-05", OBSERVED, setup=Setup(dialect=LOCAL)),
    switch("IRI-05", DOCUMENTED, setup=Setup(dialect=LOCAL.replace("S256-hex", "S256"))),
    switch("IRI-06", OBSERVED, setup=Setup(dialect=LOCAL.replace("S256-hex", "S256")), login="malformed"),
    switch("IRI-06", DOCUMENTED, setup=Setup(dialect=LOCAL.replace("S256-hex", "S256")), login="unrecognized"),
    switch(
        "IRI-07",
        OBSERVED,
        setup=Setup(dialect=f'{LOCAL}renamed_parameters = {{ code_challenge_method = "method" }}'),
        login="state",
    ),
    switch(
        "IRI-07",
        DOCUMENTED,
        setup=Setup(dialect=f'{LOCAL}renamed_parameters = {{ code_challenge_method = "method" }}'),
        login="invalid_request",
    ),
    switch("IRI-08", OBSERVED),
    switch("IRI-08", DOCUMENTED, login="malformed"),
    *both("IRI-09"),
    *both("IRI-10"),
    switch("IRI-11", OBSERVED, setup=Setup(service=f"{BY_SECRET}\n{RAW}"), service=OK),
    switch("IRI-11", DOCUMENTED, setup=Setup(service=BY_SECRET), service=OK),
    switch("IRI-11", DOCUMENTED, setup=Setup(service=BY_FORM), service=OK),
    switch("IRI-11", OBSERVED, setup=Setup(service=BY_FORM), service="invalid_client"),
    switch("IRI-12", DOCUMENTED, setup=Setup(client=f"{BY_SECRET}\n{RAW}", client_id=CONFIDENTIAL)),
    switch("IRI-12", DOCUMENTED, setup=Setup(client=BY_FORM, client_id=CONFIDENTIAL)),
    switch(
        "IRI-12", OBSERVED, setup=Setup(client=f"{BY_SECRET}\n{RAW}", client_id=CONFIDENTIAL), login="invalid_client"
    ),
    switch("IRI-12", OBSERVED, setup=Setup(client=BY_FORM, client_id=CONFIDENTIAL), login="invalid_client"),
    *both("IRI-13a"),
    switch("IRI-13a", DOCUMENTED, setup=Setup(dialect='refresh_authentication = "client"')),
    switch("IRI-13a", OBSERVED, setup=Setup(dialect='refresh_authentication = "client"'), refresh="unrecognized"),
    switch("IRI-13b", DOCUMENTED),
    switch("IRI-13b", OBSERVED, refresh="unauthorized_client"),
    *both("IRI-13c"),
    *both("IRI-13d"),
    switch("IRI-13e", DOCUMENTED),
    switch("IRI-13e", OBSERVED, refresh="subject_changed"),
    switch("IRI-13e", OBSERVED, setup=Setup(token='on_subject_change = "serve"')),
    switch("IRI-14", OBSERVED),
    switch("IRI-14", DOCUMENTED, logout="pending"),
    switch(
        "IRI-14",
        DOCUMENTED,
        setup=Setup(dialect='endpoints = { logout_endpoint = "/application/{client_id}/tokens" }'),
    ),
    switch("IRI-15", OBSERVED),
    switch("IRI-15", DOCUMENTED, login="unrecognized"),
    switch("IRI-15", DOCUMENTED, setup=Setup(dialect='subject_from = "id_token"')),
    # where parameters stand
    Row(
        what="authorization in the query",
        switches=REFRESHABLE,
        setup=Setup(dialect='authorization_placement = "query"'),
    ),
    Row(
        what="tokens in the query",
        switches=REFRESHABLE,
        setup=Setup(dialect='token_placement = "query"\nleaks_secrets_in_url = true'),
    ),
]


@dataclass(frozen=True)
class Result:
    """What the steps of one provider came to."""

    login: str
    call: str = "-"
    refresh: str = "-"
    logout: Any = "-"


def walk(at: Place, row: Row, provider: str) -> Result:
    """Log in, call, wait for the refresh, call again, log out."""
    came_to, answer = at.log_in(provider)
    if came_to != OK:
        return Result(came_to)
    grant, local = answer["grant"], "browser" in row.setup.dialect
    whose = at.iridium.subject_of("ada", "iridium" if local else provider)
    called = at.who(provider, grant)
    is_looked_up = 'subject_from = "id_token"' not in row.setup.dialect
    assert (answer.get("subject"), answer["subject_verified"]) == ((whose, True) if is_looked_up else (None, False))
    refreshed = "none" if row.refresh == "none" else at.refreshed(grant)
    again = at.who(provider, grant)
    # With on_subject_change = "serve" it is the application's from the first refresh on.
    after = at.iridium.registry.applications[row.setup.client_id].subject if row.setup.token else whose
    good = (called, again) == (whose, after)
    return Result(came_to, OK if good else f"{called} {again}", refreshed, at.log_out(grant))


def expected(row: Row) -> Result:
    return Result(row.login, row.call, row.refresh, row.logout) if row.login == OK else Result(row.login)


def run(row: Row, directory: Path) -> tuple[Row, dict[str, Result], str | None]:
    directory.mkdir()
    with place(directory, row.setup, row.switches) as at, ThreadPoolExecutor(max_workers=2) as pool:
        walks = {provider: pool.submit(walk, at, row, provider) for provider in ("github", "google")}
        results = {provider: done.result() for provider, done in walks.items()}
        service = None
        if row.service is not None:
            answer = at.ask("GET", "/v1/tokens/service?wait=3")
            failed = at.broker.log("token_refresh_failed")
            service = OK if answer.status == 200 else str(failed[-1]["server_error"] or failed[-1]["reason"])
        if row.login != OK:  # the code was sent once, if at all
            assert at.iridium.journal.count("token") <= len(walks)
        if row.refresh not in {OK, "none"} and row.login == OK:  # nobody insists
            assert at.iridium.journal.count("refresh") == len(walks)
        if "leaks_secrets_in_url" not in row.setup.dialect:
            in_urls = [
                (entry.endpoint, name)
                for entry in at.iridium.journal.entries()
                if entry.endpoint in {"token", "refresh"}
                for name in entry.query
            ]
            assert in_urls == []
    return row, results, service


def test_every_flow_with_both_providers_in_both_settings_of_every_switch(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    """What can work does, and what cannot fails as it is said to: with a code that names why, and once."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        done = [pool.submit(run, row, tmp_path / str(number)) for number, row in enumerate(ROWS)]
        results = [one.result() for one in done]

    record_property("table", table(results))
    wrong = [
        (row.what, provider, got, expected(row), service)
        for row, by_provider, service in results
        for provider, got in by_provider.items()
        if got != expected(row) or service != row.service
    ]
    assert wrong == []


def table(results: Sequence[tuple[Row, dict[str, Result], str | None]]) -> str:
    """Write what each row came to, for people."""
    lines = [f"{'server':42} {'provider':9} {'login':26} {'call':5} {'refresh':20} {'logout':8} service"]
    for row, by_provider, service in results:
        what = row.what + ("" if row.setup == Setup() else "*")
        lines += [
            f"{what:42} {provider:9} {got.login:26} {got.call:5} {got.refresh:20} {got.logout!s:8} {service or '-'}"
            for provider, got in by_provider.items()
        ]
    return "\n".join([*lines, "* with lines of a dialect, client or token that differ from the usual"])


def test_what_iridium_says_of_a_refresh_token_comes_out_nowhere(tmp_path: Path):
    """IRI-10: its error repeats the token; to the broker it is ``invalid_grant``, said twice."""
    setup = Setup(dialect='refresh_authentication = "client"')
    with place(tmp_path, setup, {**REFRESHABLE, "IRI-13a": DOCUMENTED}) as at:
        _, answer = at.log_in("github")
        at.iridium.tokens.end_all()

        ended = at.broker.wait_for("grant_ended", grant=answer["grant"])

        assert ended["reason"] == "invalid_grant"
        served = at.ask("GET", f"/v1/grants/{answer['grant']}/token")
        assert (served.status, served.json()["reason"]) == (409, "invalid_grant")
        assert at.iridium.journal.count("refresh") == 2


def test_a_lost_answer_is_asked_for_again_while_the_access_token_is_good(tmp_path: Path):
    """A refresh token that was used goes on working (IRI-13d), and the bearer is still good."""
    with place(tmp_path, Setup(), REFRESHABLE, lifetime=12) as at:
        at.iridium.trouble("refresh", "lost_answer", times=1)
        _, answer = at.log_in("github")

        at.broker.wait_for("token_refreshed", grant=answer["grant"])

        assert at.who("github", answer["grant"]) == at.iridium.subject_of("ada", "github")
        assert at.iridium.journal.count("refresh") == 2


def test_after_an_outage_that_outlasts_the_access_token_a_person_is_needed(tmp_path: Path):
    """IRI-13a: the server says twice that the access token is no good, and then nothing is asked any more."""
    with place(tmp_path, Setup(), REFRESHABLE) as at:
        at.iridium.trouble("refresh", "status", times=100, status=503)
        _, answer = at.log_in("github")
        at.broker.wait_for("token_expired", token="github")
        at.iridium.troubles.clear()
        at.broker.wait_for("grant_ended", grant=answer["grant"], reason="access_token_ended")
        asked = at.iridium.journal.count("refresh")

        refused = at.ask("GET", f"/v1/grants/{answer['grant']}/token")
        given_up = at.log_out(answer["grant"])

        assert (refused.status, refused.json()["reason"]) == (409, "access_token_ended")
        assert asked == at.iridium.journal.count("refresh")
        assert given_up is False  # the server says that there is nobody to be logged out
        assert at.iridium.journal.count("logout") == 1


def test_a_restart_loses_no_login(tmp_path: Path):
    """The access token survives in the store, and with it the way to the next one."""
    with place(tmp_path, Setup(), REFRESHABLE, lifetime=12) as at:
        _, answer = at.log_in("google", "bob")
        at.broker.stop()
        at.broker.up(ready=False)

        at.broker.wait_for("token_refreshed", grant=answer["grant"])

        assert at.who("google", answer["grant"]) == at.iridium.subject_of("bob", "google")


def test_a_provider_that_is_not_listed_is_not_visited(tmp_path: Path):
    """The redirect is refused before any browser sees it, and the hint has the line to add."""
    setup = Setup(dialect='provider_hosts = ["github.com"]\n# browser')
    with place(tmp_path, setup, REFRESHABLE) as at:
        answer = at.begin("github")

        assert answer.status == 502
        hosts = [part for part in (at.iridium.addresses.github, at.iridium.addresses.google) if part]
        assert "provider_hosts" in answer.json()["hint"]
        assert urlsplit(hosts[0]).netloc in answer.json()["hint"]
        assert at.iridium.journal.count("provider") == 0
