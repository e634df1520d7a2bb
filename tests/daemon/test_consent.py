"""People consent, through a real broker and over real TLS: to what they see, each for themselves, and once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.grant_faults import GRANT_KINDS
from broker.sandbox.person import Callback, decide
from tests.daemon.harness import (
    PATIENCE,
    Answer,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    exchange,
    found,
    get,
    sandbox_process,
    split,
    wait_until,
)

MORE = """
[daemon]
state_dir = "state"

[store]
key = { file = "consent-store.key" }

[token.person]
client = "demo"
grant_type = "authorization_code"
scope = ["openid", "hello:read"]
userinfo = true

[token.people]
client = "demo"
grant_type = "authorization_code"
scope = ["openid", "hello:read"]
grants = "many"

[token.signed]
client = "signed"
grant_type = "authorization_code"
scope = ["openid", "hello:read"]
grants = "many"

[token.posted]
client = "posted"
grant_type = "authorization_code"
scope = ["openid", "hello:read"]
grants = "many"

[listener.a]
path = "a.sock"
mode = "0600"

[listener.b]
path = "b.sock"
mode = "0600"

[workload.a]
listener = ["a"]
tokens = ["person", "people", "signed", "posted"]
may = ["get", "authorize", "list", "revoke"]
grants = "own"

[workload.b]
listener = ["b"]
tokens = ["person", "people"]
may = ["get", "authorize", "list", "revoke"]
grants = "own"
"""

CLIENT = """
[client.{name}]
issuer = "sandbox"
client_id = "{client_id}"
client_auth_method = "private_key_jwt"
signing_keys = ["demo"]
certificate = "demo"
sender_constraint = "certificate"
redirect_uris = ["http://127.0.0.1/callback"]
response_mode = "{response_mode}"
"""

SETTLE = 1.0
"""Seconds: a broker that tries again does so after one at the latest."""

REDIRECT_URI = "http://127.0.0.1:49152/callback"


def send(path: Path, method: str, target: str, body: Any = None) -> Answer:
    """Send a request with a JSON body, or without one."""
    raw = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"] if raw else []
    return split(exchange(path, ("\r\n".join(lines) + "\r\n\r\n").encode() + raw))


class Place:
    """A sandbox and a broker beside it, with two applications at sockets of their own."""

    def __init__(self, sandbox: SandboxProcess, broker: BrokerProcess) -> None:
        self.sandbox = sandbox
        self.broker = broker
        self.a, self.b = sandbox.home / "a.sock", sandbox.home / "b.sock"

    def begin(self, path: Path, token: str = "person", **more: str) -> dict[str, Any]:
        body = {"token": token, "redirect_uri": REDIRECT_URI, **more}
        answer = send(path, "POST", "/v1/authorizations", body)
        assert answer.status == 201, answer.body
        begun: dict[str, Any] = answer.json()
        return begun

    def person(self, begun: dict[str, Any], user: str = "alice", *, allow: bool = True) -> Callback:
        """Have a person log in and decide."""
        return decide(begun["authorization_url"], ca_file=self.sandbox.home / "ca.pem", user=user, allow=allow)

    def come_back(self, path: Path, begun: dict[str, Any], callback: Callback, **changes: str) -> Answer:
        body: dict[str, Any] = {"binding": begun["binding"], "callback_url": callback.url, **changes}
        if callback.form is not None:
            body["form"] = dict(callback.form)
        return send(path, "POST", f"/v1/authorizations/{begun['id']}/callback", body)

    def consent(self, path: Path, token: str = "person", user: str = "alice", **more: str) -> Answer:
        begun = self.begin(path, token, **more)
        return self.come_back(path, begun, self.person(begun, user))

    def settled_calls(self) -> list[str]:
        """Give them when whatever was only put off for a moment has been made, too."""
        time.sleep(SETTLE)
        return self.calls()

    def calls(self) -> list[str]:
        """Give the requests that the broker made since they were forgotten, but for metadata and keys."""
        return [
            request["endpoint"]
            for request in self.sandbox.control.requests()
            if request["endpoint"] in {"par", "token", "userinfo", "revocation"}
            and request.get("grant_type") != "client_credentials"
        ]


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """Run a sandbox and a broker with a store; no token ends meanwhile, so that no refresh is among the calls."""
    with sandbox_process(directory, lifetime=3_600) as sandbox:
        home = sandbox.home
        subprocess.run(
            [sys.executable, "-m", "broker", "keygen", "store", str(home / "consent-store.key")],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        (home / "state").mkdir(mode=0o700)
        config = (home / "config.toml").read_text()
        client_id = config.partition('client_id = "')[2].partition('"')[0]
        config += MORE
        config += CLIENT.format(name="signed", client_id=client_id, response_mode="jwt")
        config += CLIENT.format(name="posted", client_id=client_id, response_mode="form_post")
        with broker_process(sandbox, config=config) as broker:
            yield Place(sandbox, broker)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("consent")) as made:
        yield made


def test_a_person_consents_and_the_application_gets_a_token_that_works(at: Place):
    """From the URL to the resource; a renewal keeps the id, whatever the application is told is recorded."""
    before = send(at.a, "GET", "/v1/tokens/person")
    at.sandbox.control.clear_requests()
    answer = at.consent(at.a)
    token = get(at.a, "/v1/tokens/person").json()["access_token"]
    renewed = at.consent(at.a)
    listed = get(at.a, "/v1/grants").json()["grants"]

    assert (before.status, before.json()["error"]) == (409, "consent_required")
    assert answer.status == 200, answer.body
    assert (answer.json()["subject"], answer.json()["subject_verified"]) == ("alice", True)
    assert at.calls() == ["par", "token", "userinfo"] * 2
    assert renewed.json()["grant"] == answer.json()["grant"]
    assert [grant["id"] for grant in listed] == [answer.json()["grant"]]
    granted = at.broker.records("authorization_granted")
    assert [record["renewed"] for record in granted] == [False, True]
    assert found(at.broker.said() + at.broker.audit.read_text(), {token, "alice"}) == set()


def test_another_person_does_not_renew_a_grant(at: Place):
    """Two people, one grant: it is as it was, and what the second gave is revoked at the server."""
    first = at.consent(at.a, "people")
    grant = first.json()["grant"]
    token = get(at.a, f"/v1/grants/{grant}/token").json()["access_token"]
    at.sandbox.control.clear_requests()

    second = at.consent(at.a, "people", "bob", grant=grant)

    assert (second.status, second.json()["error"]) == (409, "subject_mismatch")
    assert at.calls() == ["par", "token", "revocation"]
    assert get(at.a, f"/v1/grants/{grant}/token").json()["access_token"] == token
    [kept] = [one for one in get(at.a, "/v1/grants?token=people").json()["grants"] if one["id"] == grant]
    assert kept["subject"] == "alice"


def test_one_who_starts_never_gets_the_grant_of_one_who_completes(at: Place):
    """A starts and has B log in at the link: B's session has another binding, and A's application another uid."""
    started_by_a = at.begin(at.a, "people")
    started_by_b = at.begin(at.b, "people")
    response_of_b = at.person(started_by_a, "bob")
    at.sandbox.control.clear_requests()

    # B's browser comes back with the link of A: its session has the binding that B was given.
    with_the_binding_of_b = at.come_back(at.a, {**started_by_a, "binding": started_by_b["binding"]}, response_of_b)
    # The application of B passes it on as its own, and as A's.
    as_its_own = at.come_back(at.b, started_by_b, response_of_b)
    as_the_others = at.come_back(at.b, started_by_a, response_of_b)

    assert (with_the_binding_of_b.status, as_the_others.status) == (404, 404)
    assert with_the_binding_of_b.body == as_the_others.body
    assert (as_its_own.status, as_its_own.json()["check"]) == (400, "state")
    assert at.calls() == []
    assert get(at.a, "/v1/grants?token=people&subject=bob").json()["grants"] == []


def test_a_grant_is_nobody_elses(at: Place):
    """Application B, with a right to the same token, learns nothing of A's grant."""
    grant = at.consent(at.a, "people").json()["grant"]

    for path in (f"/v1/grants/{grant}/token", "/v1/grants/unknown/token"):
        assert get(at.b, path).status == 404
    assert get(at.b, f"/v1/grants/{grant}/token").body == get(at.b, "/v1/grants/unknown/token").body


RESPONSES = [
    ("wrong_iss", {}, "iss"),
    ("no_iss", {}, "iss"),
    ("wrong_state", {}, "state"),
    ("no_state", {}, "state"),
    ("repeated_parameter", {}, "repeated_parameter"),
    ("repeated_parameter", {"name": "state"}, "repeated_parameter"),
    ("authorization_error", {"error": "access_denied"}, "error"),
]
SIGNED_RESPONSES = [
    ("wrong_iss", "signed_iss"),
    ("no_iss", "signed_iss"),
    ("wrong_state", "state"),
    ("jarm_bad_signature", "signature"),
    ("jarm_alg_none", "alg"),
    ("jarm_rs256", "alg"),
    ("jarm_wrong_aud", "aud"),
    ("jarm_no_aud", "aud"),
    ("jarm_expired", "exp"),
    ("jarm_no_exp", "exp"),
]
ID_TOKENS = [
    ("no_id_token", "id_token"),
    ("wrong_nonce", "nonce"),
    ("no_nonce", "nonce"),
    ("id_token_alg_none", "alg"),
    ("id_token_rs256", "alg"),
    ("id_token_bad_signature", "signature"),
    ("id_token_expired", "exp"),
    ("id_token_future", "iat"),
    ("id_token_wrong_iss", "signed_iss"),
    ("id_token_wrong_aud", "aud"),
    ("id_token_two_audiences", "aud"),
    ("id_token_wrong_at_hash", "at_hash"),
    ("id_token_no_sub", "sub"),
]


@pytest.mark.parametrize(("kind", "parameters", "check"), RESPONSES)
def test_a_response_that_fails_a_check_costs_no_call(at: Place, kind: str, parameters: dict[str, str], check: str):
    """The server that sent it hears nothing any more, and the authorization is spent."""
    at.sandbox.control.fault("authorize", kind, times=1, **parameters)
    begun = at.begin(at.a, "people")
    callback = at.person(begun)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert answer.json()["check"] == check, answer.body
    assert answer.status == (409 if check == "error" else 400)
    assert at.come_back(at.a, begun, callback).status == 410
    assert at.settled_calls() == []
    assert at.broker.records("authorization_failed")[-1]["check"] == check


@pytest.mark.parametrize(("kind", "check"), SIGNED_RESPONSES)
def test_a_signed_response_that_fails_a_check_costs_no_call(at: Place, kind: str, check: str):
    """JARM, with a signature that is none, another's, or of something else."""
    at.sandbox.control.fault("authorize", kind, times=1)
    begun = at.begin(at.a, "signed")
    callback = at.person(begun)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert (answer.status, answer.json()["check"]) == (400, check), answer.body
    assert at.settled_calls() == []


@pytest.mark.parametrize(("kind", "check"), ID_TOKENS)
def test_an_id_token_that_fails_a_check_costs_the_grant(at: Place, kind: str, check: str):
    """What was issued beside it is revoked, and no other call is made."""
    grants = get(at.a, "/v1/grants?limit=200").json()["grants"]
    at.sandbox.control.fault("token", kind, times=1, grant_type="authorization_code")
    begun = at.begin(at.a, "people")
    callback = at.person(begun)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert (answer.status, answer.json()["check"]) == (502, check), answer.body
    assert at.settled_calls() == ["token", "revocation"]
    assert [one["id"] for one in get(at.a, "/v1/grants?limit=200").json()["grants"]] == [one["id"] for one in grants]


def test_userinfo_about_another_person_costs_the_grant(at: Place):
    """Though everything else is good."""
    at.sandbox.control.fault("userinfo", "wrong_sub", times=1)
    begun = at.begin(at.a)
    callback = at.person(begun)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert (answer.status, answer.json()["check"]) == (502, "userinfo_sub"), answer.body
    assert at.settled_calls() == ["token", "userinfo", "revocation"]


def test_a_person_may_say_no(at: Place):
    """And the application is told so, in the server's word."""
    begun = at.begin(at.a, "people")
    callback = at.person(begun, allow=False)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert (answer.status, answer.json()["server_error"]) == (409, "access_denied")
    assert at.settled_calls() == []


@pytest.mark.parametrize("token", ["signed", "posted"])
def test_responses_come_signed_or_posted(at: Place, token: str):
    """JARM and form_post."""
    answer = at.consent(at.a, token)

    assert answer.status == 200, answer.body
    assert get(at.a, f"/v1/grants/{answer.json()['grant']}/token").status == 200


def test_keys_may_be_rotated_just_before_they_sign(at: Place):
    """One fetch for the missing key; decoys beside it do no harm."""
    at.sandbox.control.fault("jwks", "decoy_keys", times=1)
    at.sandbox.control.fault("token", "id_token_rotated_key", times=1, grant_type="authorization_code")

    answer = at.consent(at.a, "people")

    assert answer.status == 200, answer.body


def test_a_grant_that_is_given_up_is_revoked_and_served_no_more(at: Place):
    """At once."""
    grant = at.consent(at.a, "people").json()["grant"]
    at.sandbox.control.clear_requests()

    answer = send(at.a, "DELETE", f"/v1/grants/{grant}")

    assert answer.json()["revoked"] is True
    assert get(at.a, f"/v1/grants/{grant}/token").status == 404
    assert at.calls() == ["revocation"]


def test_a_restart_between_the_two_halves_loses_nobody(at: Place):
    """Stopped in an orderly way, and killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        begun = at.begin(at.a, "people")
        callback = at.person(begun)
        at.broker.stop(number)
        at.broker.up()

        answer = at.come_back(at.a, begun, callback)

        assert answer.status == 200, answer.body
        assert get(at.a, f"/v1/grants/{answer.json()['grant']}/token").status == 200


def test_keys_that_cannot_be_had_just_now_cost_nobody_the_consent(at: Place):
    """The first login after a start, while the server's JWKS is down: the same callback is good when it is back."""
    begun = at.begin(at.a, "people")
    callback = at.person(begun)
    at.broker.stop()
    at.sandbox.control.fault("jwks", "status", status=503)
    at.broker.up()
    at.sandbox.control.clear_requests()

    refused = at.come_back(at.a, begun, callback)
    calls = at.settled_calls()
    at.sandbox.control.clear_faults()
    wait_until(lambda: at.come_back(at.a, begun, callback).status == 200, "the keys are asked for again")

    assert (refused.status, refused.json()["reason"]) == (503, "keys_unavailable"), refused.body
    assert calls == []
    assert at.settled_calls() == ["token"]


def test_a_code_that_was_sent_before_a_crash_is_not_sent_again(at: Place):
    """Killed while the answer drips in: nobody knows what became of the code (AC-07)."""
    at.sandbox.control.fault("token", "drip", times=1, seconds_per_byte=1.0, grant_type="authorization_code")
    begun = at.begin(at.a, "people")
    callback = at.person(begun)
    at.sandbox.control.clear_requests()
    passing = threading.Thread(target=lambda: _ignore(at, begun, callback))
    passing.start()
    wait_until(lambda: "token" in at.calls(), "the code is at the server")
    at.broker.stop(signal.SIGKILL)
    passing.join(PATIENCE)
    at.sandbox.control.clear_faults()
    at.broker.up()

    answer = at.come_back(at.a, begun, callback)

    assert answer.status == 410
    assert (answer.json()["state"], answer.json()["reason"]) == ("failed", "interrupted")
    assert at.calls().count("token") == 1


def test_a_pushed_request_without_a_reference_goes_no_further(at: Place):
    """There is nothing to send a person to."""
    at.sandbox.control.fault("par", "no_request_uri", times=1)
    at.sandbox.control.clear_requests()

    answer = send(at.a, "POST", "/v1/authorizations", {"token": "people", "redirect_uri": REDIRECT_URI})

    assert (answer.status, answer.json()["reason"]) == (503, "invalid_response"), answer.body
    assert at.settled_calls() == ["par"]


def test_a_grant_without_a_refresh_token_is_served_to_its_end(at: Place):
    """What there is, is good."""
    at.sandbox.control.fault("token", "no_refresh_token", times=1)

    answer = at.consent(at.a, "people")

    assert answer.status == 200, answer.body
    assert get(at.a, f"/v1/grants/{answer.json()['grant']}/token").status == 200


def test_an_id_token_about_another_person_than_the_userinfo_costs_the_grant(at: Place):
    """Whichever of them is right."""
    at.sandbox.control.fault("token", "id_token_wrong_sub", times=1)
    begun = at.begin(at.a)
    callback = at.person(begun)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert (answer.status, answer.json()["check"]) == (502, "userinfo_sub"), answer.body
    assert at.settled_calls() == ["token", "userinfo", "revocation"]


def test_a_signed_response_may_be_the_first_of_a_new_key(at: Place):
    """It is in the JWKS by then."""
    at.sandbox.control.fault("authorize", "jarm_rotated_key", times=1)

    answer = at.consent(at.a, "signed")

    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("token", "where", "kind", "status", "calls"),
    [
        ("people", "token", "id_token_unknown_key", 502, ["token", "revocation"]),
        ("signed", "authorize", "jarm_unknown_key", 400, []),
    ],
)
def test_a_key_that_is_nowhere_published_signs_nothing(
    at: Place, token: str, where: str, kind: str, status: int, calls: list[str]
):
    """Last of all, because the keys are not fetched again so soon after a search in vain."""
    at.sandbox.control.fault(where, kind, times=1)
    begun = at.begin(at.a, token)
    callback = at.person(begun)
    at.sandbox.control.clear_requests()

    answer = at.come_back(at.a, begun, callback)

    assert (answer.status, answer.json()["check"]) == (status, "key"), answer.body
    assert at.settled_calls() == calls


def test_every_fault_of_a_grant_is_tried():
    """A new kind in the sandbox needs a test here."""
    rows = {row[0] for rows in (RESPONSES, SIGNED_RESPONSES, ID_TOKENS) for row in rows}
    tests = {
        *("wrong_sub", "decoy_keys", "id_token_rotated_key", "no_request_uri", "no_refresh_token"),
        *("id_token_wrong_sub", "jarm_rotated_key", "id_token_unknown_key", "jarm_unknown_key"),
    }

    assert rows | tests == set(GRANT_KINDS)


def _ignore(at: Place, begun: dict[str, Any], callback: Callback) -> None:
    """Pass a callback on to a broker that is about to die."""
    try:
        at.come_back(at.a, begun, callback)
    except (OSError, IndexError, ValueError):
        return
