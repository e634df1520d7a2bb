"""Grants of people move to a new certificate, one of them first; what the server refuses costs none of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.sandbox.authority import Credential, issue_client, make_authority
from broker.sandbox.layout import load, write_credential
from tests.daemon.harness import PATIENCE, get, wait_until
from tests.daemon.test_consent import Place, place, send
from tests.daemon.test_grants import reload

SWEPT = 2.5
"""Seconds after which connections that nothing needs have been closed."""


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


def rotate(at: Place, new: Credential, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Put *new* into the place of the client's certificate, and have it looked at."""
    write_credential(at.sandbox.home / "client", new)
    command = [sys.executable, "-m", "broker", "rotate", "--socket", str(at.broker.socket), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "certificate.demo: new, and in use" in done.stdout, done.stderr
    return done


def issued(at: Place) -> Credential:
    return issue_client(load(at.sandbox.home).authority, now=datetime.now(UTC), common_name="client")


def bound_to(at: Place, *grants: str) -> list[str]:
    answers = [get(at.a, f"/v1/grants/{grant}/token") for grant in grants]
    assert {answer.status for answer in answers} == {200}
    return [str(answer.json()["cnf"]["x5t#S256"]) for answer in answers]


def test_all_grants_follow_the_one_that_tried(at: Place):
    """Served with every request meanwhile, each token with the certificate that it is bound to."""
    grants = [at.consent(at.a, "people", user).json()["grant"] for user in ("alice", "bob", "alice")]
    before = bound_to(at, *grants)
    new = issued(at)

    rotate(at, new)
    wait_until(lambda: bound_to(at, *grants) == [new.thumbprint()] * 3, "all grants have moved")

    assert set(before) != {new.thumbprint()}
    passed = at.broker.wait_for("client_trial_passed")
    assert passed["grant"] in grants
    assert len(at.broker.log("client_trial_begun")) == 1
    at.broker.wait_for("certificate_retired", thumbprint=before[0])
    assert at.broker.log("grant_ended") == []


def test_a_certificate_that_the_server_refuses_costs_no_grant(at: Place):
    """It comes from an authority that the server does not know; a good one afterwards is taken at once."""
    grants = [at.consent(at.a, "people", user).json()["grant"] for user in ("alice", "bob")]
    before = bound_to(at, *grants)
    now = datetime.now(UTC)
    strange = issue_client(make_authority(now), now=now, common_name="strange")

    rotate(at, strange)
    failed = at.broker.wait_for("client_trial_failed", client="demo")
    during = bound_to(at, *grants)
    new = issued(at)
    rotate(at, new)
    wait_until(lambda: bound_to(at, *grants) == [new.thumbprint()] * 2, "all grants have moved")

    assert failed["retry_in"] == 60.0
    assert during == before
    assert at.broker.log("grant_ended") == []
    assert at.broker.log("grant_quarantined") == []


def test_an_edit_while_the_server_refuses_a_certificate_leaves_the_old_one_in_use(at: Place):
    """It is tried again, and the old connections are open still: a grant can be revoked with these."""
    grants = [at.consent(at.a, "people", user).json()["grant"] for user in ("alice", "bob")]
    before = bound_to(at, *grants)
    config = at.broker.config.read_text()
    # The client's own token, which has no other certificate to go back to, is not to be fetched meanwhile.
    config = config.replace("required = true", 'refresh = "on_demand"')
    reload(at.broker, config)
    now = datetime.now(UTC)
    rotate(at, issue_client(make_authority(now), now=now, common_name="strange"))
    at.broker.wait_for("client_trial_failed", client="demo")

    reload(at.broker, config.replace("[issuer.sandbox]", "[issuer.sandbox]\nmax_requests_per_second = 19"))
    wait_until(lambda: len(at.broker.log("client_trial_failed")) == 2, "the next trial")
    time.sleep(SWEPT)
    during = bound_to(at, *grants)
    revoked = send(at.a, "DELETE", f"/v1/grants/{grants[0]}")

    assert during == before
    assert (revoked.status, revoked.json()["revoked"]) == (200, True)
    assert at.broker.log("certificate_retired") == []
    assert at.broker.log("grant_ended") == []


def test_a_compromised_certificate_is_replaced_for_all_grants_at_once(at: Place):
    """Not one token that is bound to it is served after the answer, and a restart brings none back."""
    grants = [at.consent(at.a, "people", user).json()["grant"] for user in ("alice", "bob")]
    new = issued(at)

    rotate(at, new, "--compromised", "certificate.demo")
    after = [get(at.a, f"/v1/grants/{grant}/token") for grant in grants]
    at.broker.stop()
    at.broker.up()
    restarted = bound_to(at, *grants)

    assert [answer.json()["cnf"]["x5t#S256"] for answer in after] == [new.thumbprint()] * 2
    assert restarted == [new.thumbprint()] * 2
    assert at.broker.log("client_trial_begun") == []
