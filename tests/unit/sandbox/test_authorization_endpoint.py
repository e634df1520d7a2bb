"""Tests of ``broker/sandbox/authorization_endpoint.py``: from the login to the answer for the client."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from broker.sandbox.authorization_endpoint import AuthorizationEndpoint, Shown, Visit
from broker.sandbox.authorization_request import RequestReader
from broker.sandbox.authorization_response import Responder
from broker.sandbox.families import Families
from broker.sandbox.faults import Fault, read_fault
from broker.sandbox.jose import SigningAlg
from broker.sandbox.keyring import Keyring
from broker.sandbox.options import Options
from tests.unit.sandbox.test_authorization_request import CLIENT, GOOD, KEY, NOW

ISSUER = "https://localhost:1"


class Window:
    """A browser window at an authorization URL."""

    def __init__(self, **changes: Any) -> None:
        numbers = count()
        options = Options()
        self.families = Families(options=options, new_value=lambda: f"v{next(numbers)}")
        self.reader = RequestReader(
            issuer=ISSUER, clients={"app": CLIENT}, options=options, new_value=lambda: f"r{next(numbers)}"
        )
        keyring = Keyring(access_token_key=KEY, keys={SigningAlg.PS256: KEY})
        responder = Responder(issuer=ISSUER, options=options, keyring=keyring)
        self.endpoint = AuthorizationEndpoint(reader=self.reader, families=self.families, responder=responder)
        self.query = tuple((name, value) for name, value in {**GOOD, **changes}.items() if value is not None)

    def send(self, fault: Fault | None = None, /, **form: str) -> Shown:
        return self.endpoint.visit(Visit(query=self.query, form=tuple(form.items()), now=NOW, take=lambda: fault))


def parameters(shown: Shown) -> dict[str, str]:
    assert shown.returned is not None
    return dict(shown.returned.pairs)


def test_a_person_logs_in_reads_and_allows():
    """Page by page, each knowing no more than its form says."""
    window = Window(login_hint="bob")

    login, consent, end = window.send(), window.send(user="bob"), window.send(user="bob", decision="allow")

    assert [one.outcome for one in (login, consent, end)] == ["login", "consent", "granted"]
    assert 'value="bob" checked' in (login.page or "")
    assert "hello" not in (consent.page or "")
    assert parameters(end) == {"code": "v0", "state": "s", "iss": ISSUER}


def test_what_was_allowed_is_what_the_code_is_for():
    """Subject, scope, nonce, challenge, acr."""
    window = Window(acr_values="gold silver")
    code = parameters(window.send(user="bob", decision="allow"))["code"]

    approved = window.families._codes[code].approved

    assert (approved.subject, approved.scope, approved.nonce) == ("bob", ("openid", "read"), "n")
    assert (approved.code_challenge, approved.acr, approved.auth_time) == (GOOD["code_challenge"], "gold", int(NOW))


def test_a_person_may_say_no():
    """access_denied, and no code."""
    window = Window()

    said = parameters(window.send(user="alice", decision="deny"))

    assert (said["error"], said["state"], said["iss"]) == ("access_denied", "s", ISSUER)
    assert window.families._codes == {}


@pytest.mark.parametrize("form", [{"user": "mallory", "decision": "allow"}, {"decision": "allow"}])
def test_strangers_do_not_decide(form: dict[str, str]):
    """They are asked who they are."""
    assert Window().send(**form).outcome == "login"


def test_a_decision_is_one_of_two():
    """Anything else is asked again."""
    assert Window().send(user="alice", decision="perhaps").outcome == "consent"


def test_a_wrong_request_is_shown_to_the_person_or_told_to_the_client():
    """It depends on whether there is a way back."""
    to_person, to_client = Window(client_id="nobody").send(), Window(scope="admin").send()

    assert (to_person.status, to_person.returned) == (400, None)
    assert to_person.page is not None
    assert parameters(to_client)["error"] == "invalid_scope"


def test_nobody_is_ever_logged_in():
    """prompt=none cannot work (OpenID Connect Core section 3.1.2.6)."""
    assert parameters(Window(prompt="none").send(user="alice", decision="allow"))["error"] == "login_required"


@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_a_pushed_request_is_spent_by_the_decision(decision: str):
    """Pages may be loaded again before, and nothing after."""
    window = Window()
    request_uri = window.reader.push(window.query, CLIENT, now=NOW)
    window.query = (("client_id", "app"), ("request_uri", request_uri))

    outcomes = [window.send(), window.send(user="bob"), window.send(user="bob", decision=decision)]
    again = window.send(user="bob", decision="allow")

    assert [one.outcome for one in outcomes[:2]] == ["login", "consent"]
    assert again.outcome == "invalid_request_uri"


def test_a_fault_makes_an_error_of_a_consent():
    """With the code that it names, and without an authorization code."""
    window = Window()
    fault = read_fault({"where": "authorize", "kind": "authorization_error", "error": "temporarily_unavailable"})

    shown = window.send(fault, user="alice", decision="allow")

    assert parameters(shown)["error"] == "temporarily_unavailable"
    assert (shown.outcome, shown.fault) == ("fault", fault)
    assert window.families._codes == {}
