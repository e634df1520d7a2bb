"""
``docs/examples/raidiam.toml`` at Raidiam's sandbox, as far as that can be had here (``tests.interop.raidiam``).

Each row is a broker with that file, from a person's consent to a call of the directory through the broker, its refresh,
another transport certificate and the end of the grant. Programs never hold a token or a certificate.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.daemon.egress_place import Reply, UnixConnection
from tests.daemon.harness import Answer, BrokerProcess, wait_until
from tests.daemon.test_consent import send
from tests.daemon.test_proxy import ConnectProxy
from tests.interop.brokers import running
from tests.interop.credentials import Certificate
from tests.interop.person import consent
from tests.interop.raidiam import (
    ALIASES,
    EXAMPLE,
    NAMES,
    REDIRECT_URI,
    SOFTWARE,
    WEBSITE,
    application,
    at_the_bed,
    raidiam,
)
from tests.interop.rig import Rig

ORGANISATION = "/organisations/74e929d9-33b6-4d85-8ba7-c146c867a817/softwarestatements"
OTHER_ORGANISATION = "/organisations/1b1c1d9f-0000-4000-8000-000000000000/softwarestatements"

LIFETIME = 300
"""Seconds of an access token, as is reported of the real server."""
SHORT = 6
"""Seconds, so that a refresh is seen."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How an application is registered."""

    method: str
    demanded: bool
    client_id: str
    keeps: bool = False

    @property
    def name(self) -> str:
        return f"{self.method}-{'signed' if self.demanded else 'plain'}"


ROWS = (
    Row(method="private_key_jwt", demanded=True, client_id=str(uuid.UUID(int=1))),
    Row(
        method="private_key_jwt",
        demanded=False,
        client_id=f"https://rp.directory.example/openid_relying_party/{uuid.UUID(int=2)}",
        keeps=True,
    ),
    Row(method="tls_client_auth", demanded=True, client_id=str(uuid.UUID(int=3)), keeps=True),
    Row(method="tls_client_auth", demanded=False, client_id=str(uuid.UUID(int=4))),
)
NOT_GRANTED, NOT_BOUND = str(uuid.UUID(int=5)), str(uuid.UUID(int=6))
"""Applications whose role has no metadata, and whose tokens are not bound to the certificate."""


@dataclass(frozen=True)
class Bed:
    """The servers, the way to them, and a broker there."""

    rig: Rig
    proxy: ConnectProxy
    broker: BrokerProcess
    row: Row

    def begin(self) -> Answer:
        body = {"token": "website", "redirect_uri": REDIRECT_URI}
        return send(self.broker.socket, "POST", "/v1/authorizations", body)

    def grant(self) -> str:
        """Have a person consent, as an application does it that forwards its callback; gives the grant."""
        begun = self.begin()
        assert begun.status == 201, begun.body
        url = begun.json()["authorization_url"]
        back = consent(url, redirect_uri=REDIRECT_URI, ca_file=self.rig.ca_file, proxy=self.proxy.url)
        body = {"binding": begun.json()["binding"], "callback_url": back.url}
        done = send(self.broker.socket, "POST", f"/v1/authorizations/{begun.json()['id']}/callback", body)
        assert done.status == 200, done.body
        grant: str = done.json()["grant"]
        return grant

    def token(self, name: str = "website") -> dict[str, Any]:
        answer = self.broker.token(name, "?wait=10")
        assert answer.status == 200, answer.body
        token: dict[str, Any] = answer.json()
        return token

    def call(
        self, method: str = "GET", path: str = ORGANISATION, body: bytes | None = None, api: str = "directory"
    ) -> Reply:
        """Call the directory through the broker."""
        connection = UnixConnection(self.broker.socket)
        try:
            return connection.ask(method, f"/v1/egress/{api}{path}", body)
        finally:
            connection.close()

    def directly(self, token: str, certificate: Certificate | None) -> int:
        """Call the directory past the broker; gives the status."""
        connection = self._connection(NAMES["api"], certificate)
        try:
            connection.request("GET", ORGANISATION, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def refresh(self, refresh_token: str) -> tuple[int, str | None]:
        """Refresh past the broker, as the client that it is; gives the status and the error."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self.row.client_id}
        if self.row.method == "private_key_jwt":
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form["client_assertion"] = self._assertion()
        connection = self._connection(NAMES["mtls"], self.rig.app)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/token", urlencode(form), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()).get("error")
        finally:
            connection.close()

    def _assertion(self) -> str:
        key = self.rig.signing_keys["PS256"]
        now = int(time.time())
        claims = {"iss": self.row.client_id, "sub": self.row.client_id, "aud": NAMES["issuer"]}
        times = {"jti": str(uuid.uuid4()), "iat": now, "exp": now + 60}
        header = {"alg": key.alg, "kid": key.kid}
        return jwt.encode(header, {**claims, **times}, RSAKey.import_key(key.file.read_bytes()), algorithms=[key.alg])

    def _connection(self, url: str, certificate: Certificate | None) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=self.rig.ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate.cert_file, certificate.key_file)
        connection = http.client.HTTPSConnection("127.0.0.1", self.proxy.port, context=context, timeout=10)
        connection.set_tunnel(str(urlsplit(url).hostname), 443)
        return connection

    def put(self, certificate: Certificate) -> None:
        """Replace the files of the transport certificate, and have the broker look."""
        home = self.broker.config.parent
        shutil.copy(certificate.cert_file, home / "transport.pem")
        shutil.copy(certificate.key_file, home / "transport.key")
        command = [sys.executable, "-m", "broker", "rotate", "--socket", str(self.broker.socket)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "certificate.transport: new, and in use" in done.stdout, done.stdout + done.stderr

    def asked(self, grant_type: str) -> list[Any]:
        """Give the token requests of this row's client."""
        return [
            seen
            for seen in self.rig.token_requests()
            if seen.client_id == self.row.client_id and seen.grant_type == grant_type
        ]

    def reached(self, path: str) -> list[dict[str, Any]]:
        """Give the requests of this row's client at another endpoint."""
        return [seen for seen in self.rig.calls() if seen["client_id"] == self.row.client_id and seen["path"] == path]


def configuration(row: Row, rig: Rig, proxy: ConnectProxy) -> str:
    """Fill in the example as the guide says, and add the way to the servers."""
    text = EXAMPLE.read_text().replace('"KID"', f'"{rig.signing_keys["PS256"].kid}"')
    text = text.replace('"CLIENT_ID"', f'"{row.client_id}"').replace('cert_file = "signing.pem"\n', "")
    text = text.replace('"private_key_jwt"', f'"{row.method}"')
    if not row.demanded:
        text = text.replace('request_object = "always"', 'request_object = "never"')
    if not row.demanded and row.method == "tls_client_auth":
        text = text.replace('signing_keys = ["signing"]\n', "")
    return at_the_bed(text, rig.ca_file, proxy)


@contextmanager
def bed_at(rig: Rig, proxy: ConnectProxy, row: Row, home: Path, *written: tuple[str, str]) -> Iterator[Bed]:
    """Have a broker up that is configured for *row*, but with the second of each pair for the first."""
    home.mkdir(mode=0o700)
    for name, content in (
        ("transport.pem", rig.app.cert_file.read_bytes()),
        ("transport.key", rig.app.key_file.read_bytes()),
        ("signing.key", rig.signing_keys["PS256"].file.read_bytes()),
        ("store.key", bytes(range(32))),
        ("audit.key", bytes(range(32))),
    ):
        (home / name).touch(mode=0o600)
        (home / name).write_bytes(content)
    text = configuration(row, rig, proxy)
    for known, other in written:
        assert text.count(known) == 1
        text = text.replace(known, other)
    (home / "config.toml").write_text(text)
    broker = BrokerProcess(
        name="broker",
        directory=home,
        arguments=[],
        config=home / "config.toml",
        socket=home / "api.sock",
        audit=home / "audit.jsonl",
    )
    with running(broker):
        yield Bed(rig, proxy, broker, row)


def registered(rig: Rig) -> list[dict[str, Any]]:
    """Give the applications of the portal."""
    key, subject = rig.signing_keys["PS256"].public_jwk, rig.app.subject
    rows = [
        application(row.client_id, key=key, subject=subject, method=row.method, demanded=row.demanded) for row in ROWS
    ]
    not_granted = application(NOT_GRANTED, key=key, subject=subject, scope="openid")
    not_bound = application(NOT_BOUND, key=key, subject=subject)
    return [*rows, not_granted, {**not_bound, "tls_client_certificate_bound_access_tokens": False}]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, ConnectProxy]]:
    keeping = tuple(row.client_id for row in ROWS if row.keeps)
    with raidiam(tmp_path_factory.mktemp("rig"), registered, keeping=keeping) as (rig, proxy):
        yield rig, proxy


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def bed(
    servers: tuple[Rig, ConnectProxy], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bed]:
    """Give a broker with the example's file for each row, and nothing that was seen before."""
    with bed_at(*servers, request.param, tmp_path_factory.mktemp("broker") / "home") as made:
        yield made


@pytest.fixture(autouse=True)
def _afresh(servers: tuple[Rig, ConnectProxy]) -> None:
    servers[0].forget()


def test_from_consent_to_a_call_of_the_directory(bed: Bed, record_property: Callable[[str, object], None]):
    """Pushed as it is registered, redeemed at the alias, and of use with the very certificate alone."""
    bed.grant()
    token = bed.token()
    made = bed.call("POST", body=b"{}")
    seen = bed.call()

    pushed = bed.reached("/request")[-1]
    assert (pushed["status"], pushed["signed"], pushed["mtls"]) == (201, bed.row.demanded, True)
    [exchanged] = bed.asked("authorization_code")
    assert (exchanged.status, exchanged.auth_method, exchanged.mtls) == (200, bed.row.method, True)
    assert exchanged.thumbprint == bed.rig.app.thumbprint
    assert exchanged.assertion_alg == ("PS256" if bed.row.method == "private_key_jwt" else None)
    assert token["scope"] == WEBSITE
    assert token["cnf"] == {"x5t#S256": bed.rig.app.thumbprint}
    assert (made.status, seen.status) == (201, 200)
    assert json.loads(made.body) in json.loads(seen.body)["statements"]
    assert {call.thumbprint for call in bed.rig.api_calls()} == {bed.rig.app.thumbprint}
    statuses = [bed.directly(token["access_token"], one) for one in (bed.rig.app, bed.rig.other, None)]
    assert statuses == [200, 401, 401]
    record_property(
        "table",
        f"{bed.row.method:16} request object {'signed' if bed.row.demanded else 'plain ':6} "
        f"{'keeps' if bed.row.keeps else 'replaces':8} refresh tokens -> pushed 201, bound token, API 201 and 200",
    )


def test_a_refresh_is_not_noticed(bed: Bed):
    """Whether the server gives another refresh token or not; the directory takes what comes."""
    bed.rig.set_lifetime(SHORT)
    try:
        bed.grant()
        tokens = [bed.token()["access_token"]]
        for _ in range(2):
            wait_until(lambda: bed.token()["access_token"] not in tokens, "another token")
            tokens.append(bed.token()["access_token"])
            assert bed.call().status == 200
    finally:
        bed.rig.set_lifetime(LIFETIME)

    refreshed = bed.asked("refresh_token")
    assert len(refreshed) >= 2
    assert {(seen.status, seen.mtls, seen.thumbprint) for seen in refreshed} == {(200, True, bed.rig.app.thumbprint)}


def test_another_transport_certificate_is_a_matter_of_files(bed: Bed):
    """A grant moves to it with a refresh; from then on both servers see the new one, and an old token wants the old."""
    bed.grant()
    old = bed.token()["access_token"]
    newer = bed.rig.authority.issue("app")
    assert newer.subject == bed.rig.app.subject

    bed.put(newer)
    wait_until(lambda: bed.token()["cnf"] == {"x5t#S256": newer.thumbprint}, "a token for the new certificate")
    new = bed.token()["access_token"]
    bed.rig.forget()
    called = bed.call()
    software = bed.call(api="directory-software")

    assert (called.status, software.status) == (200, 200)
    assert {call.thumbprint for call in bed.rig.api_calls()} == {newer.thumbprint}
    assert {seen.thumbprint for seen in bed.asked("client_credentials")} <= {newer.thumbprint}
    assert [bed.directly(old, one) for one in (bed.rig.app, newer)] == [200, 401]
    assert [bed.directly(new, one) for one in (bed.rig.app, newer)] == [401, 200]
    bed.put(bed.rig.app)
    first = {"x5t#S256": bed.rig.app.thumbprint}
    wait_until(lambda: [bed.token(name)["cnf"] for name in ("website", "software")] == [first] * 2, "the first one")


def test_a_grant_that_was_given_up_is_no_more(bed: Bed):
    """Its refresh token is revoked, and of no use to whoever had kept it; its access token, a JWT, lives to its end."""
    grant = bed.grant()
    token = bed.token()["access_token"]
    [kept] = bed.rig.refresh_tokens(bed.row.client_id)[-1:]
    if bed.row.keeps:  # where another refresh would not take it from the broker
        assert bed.refresh(kept) == (200, None)
    before = len(bed.reached("/token/revocation"))

    ended = send(bed.broker.socket, "DELETE", f"/v1/grants/{grant}")

    assert (ended.status, ended.json()["revoked"]) == (200, True)
    revoked = bed.reached("/token/revocation")[before:]
    assert [(call["status"], call["mtls"]) for call in revoked] == [(200, True)]
    assert bed.broker.token("website", "?wait=0").status == 409
    assert bed.call().status == 409
    assert bed.refresh(kept) == (400, "invalid_grant")
    assert bed.directly(token, bed.rig.app) == 200


def test_the_application_itself_reads_the_directory(bed: Bed):
    """With directory:software and nobody's consent: it may read, and not write."""
    seen = bed.call(api="directory-software")
    token = bed.token("software")

    assert seen.status == 200
    assert token["scope"] == SOFTWARE
    assert token["cnf"] == {"x5t#S256": bed.rig.app.thumbprint}
    assert bed.call("POST", body=b"{}", api="directory-software").status == 403


@pytest.mark.parametrize("retry_after", ["17", "Fri, 31 Dec 2032 23:59:59 GMT"])
def test_when_the_directory_is_busy_the_caller_is_told_until_when(bed: Bed, retry_after: str):
    """429 and its Retry-After are the caller's, once, and no answer of the broker."""
    bed.rig.throttle(1, retry_after)

    busy, again = bed.call(api="directory-software"), bed.call(api="directory-software")

    assert (busy.status, again.status) == (429, 200)
    assert busy.values("retry-after") == [retry_after]
    assert busy.values("proxy-status") == []
    assert [call.status for call in bed.rig.api_calls()] == [429, 200]


def test_an_interaction_id_reaches_the_directory_and_comes_back(bed: Bed):
    """For whoever asks Raidiam about a call."""
    answer = bed.call(path=OTHER_ORGANISATION, api="directory-software")

    [given] = answer.values("x-fapi-interaction-id")
    assert str(uuid.UUID(given)) == given


def test_check_online_agrees_with_the_example(bed: Bed):
    """Its metadata are accepted, and aliases of endpoints that the broker has no use for change nothing."""
    said = online(bed.broker.config)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "issuer.raidiam: its metadata is accepted" in said.stdout
    assert len(ALIASES) == 8


def test_without_the_dialect_the_second_host_is_one_to_be_listed(bed: Bed, tmp_path: Path):
    """The host of the aliases is another one than the issuer's: the line to add is said, and does the same."""
    dialect, line = 'dialect = "raidiam"', 'endpoint_hosts = ["matls-auth.sandbox.raidiam.io"]'
    text = bed.broker.config.read_text()
    assert text.count(dialect) == 1
    config = bed.broker.config.with_name("without.toml")
    config.write_text(text.replace(dialect, ""))

    said = online(config)
    config.write_text(text.replace(dialect, line))

    assert said.returncode == 2
    assert line in said.stdout + said.stderr
    assert online(config).returncode == 0


def online(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker", "check", "--online", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_client_can_do_without_the_alias_of_an_endpoint(servers: tuple[Rig, ConnectProxy], tmp_path: Path):
    """What is not named is called at the ordinary URL, where this server asks for no certificate; tokens are bound."""
    written = ('certificate = "transport"', 'certificate = "transport"\nmtls_endpoint_aliases = ["token_endpoint"]')
    with bed_at(*servers, ROWS[0], tmp_path / "home", written) as bed:
        before = len(bed.rig.calls())
        grant = bed.grant()
        called = bed.call()
        ended = send(bed.broker.socket, "DELETE", f"/v1/grants/{grant}")

    assert (called.status, ended.json()["revoked"]) == (200, True)
    assert [(call["path"], call["mtls"]) for call in bed.rig.calls()[before:]] == [
        ("/request", False),
        ("/token/revocation", False),
    ]
    assert {seen.mtls for seen in bed.asked("authorization_code")} == {True}


def test_the_key_id_may_be_left_out(servers: tuple[Rig, ConnectProxy], tmp_path: Path):
    """Of assertions and of request objects, for a key set that has none: this server then finds the key by its kind."""
    with bed_at(*servers, ROWS[0], tmp_path / "home", ('kid = "signing-ps256"', 'kid = ""')) as bed:
        bed.grant()

        assert (bed.call().status, bed.call(api="directory-software").status) == (200, 200)


SECOND = """
[client.second]
issuer = "raidiam"
client_id = "{client_id}"
client_auth_method = "tls_client_auth"
certificate = "transport"

[token.second]
client = "second"
scope = ["directory:software"]

[listener.app]
"""
"""Another application, in front of the section that it is written for."""


def test_applications_share_the_certificate_of_their_organisation(servers: tuple[Rig, ConnectProxy], tmp_path: Path):
    """Named once, it is that of both; its successor, too."""
    written = ("\n[listener.app]\n", SECOND.format(client_id=ROWS[3].client_id))
    allowed = ('tokens = ["website", "software"]', 'tokens = ["website", "software", "second"]')
    with bed_at(*servers, ROWS[0], tmp_path / "home", written, allowed) as bed:
        newer = bed.rig.authority.issue("app")
        both = ("software", "second")
        before = [bed.token(name)["cnf"]["x5t#S256"] for name in both]
        bed.put(newer)
        wait_until(
            lambda: {bed.token(name)["cnf"]["x5t#S256"] for name in both} == {newer.thumbprint}, "both have moved"
        )

    assert before == [bed.rig.app.thumbprint] * 2


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """
    What is wrong between portal and file, and what the broker says.

    *consent* is the server's word to whoever starts one, *software* the reason and the server's word in the log; None:
    that works. *hint* is how both hints begin.
    """

    name: str
    client_id: str = ROWS[0].client_id
    written: tuple[tuple[str, str], ...] = ()
    consent: str | None = None
    software: tuple[str, str | None] | None = None
    hint: str | None = None


MISTAKES = (
    Mistake(
        name="the role has no metadata",
        client_id=NOT_GRANTED,
        consent="invalid_scope",
        software=("server_refused", "invalid_scope"),
        hint="the client is not registered for a scope",
    ),
    Mistake(
        name="another kid",
        written=(('kid = "signing-ps256"', 'kid = "signing-2025"'),),
        consent="invalid_client",
        software=("server_refused", "invalid_client"),
        hint="the server does not accept the client authentication: compare client_id, signing key (kid, alg)",
    ),
    Mistake(
        name="another audience",
        written=(("[issuer.raidiam]\n", '[issuer.raidiam]\nassertion_audience = "target"\n'),),
        consent="invalid_client",
        software=("server_refused", "invalid_client"),
        hint="the server does not accept the client authentication: compare client_id, signing key (kid, alg)",
    ),
    Mistake(
        name="request objects are demanded",
        written=(('request_object = "always"', 'request_object = "never"'),),
        consent="invalid_request",
    ),
    Mistake(name="another callback", written=((REDIRECT_URI, f"{REDIRECT_URI}/"),), consent="invalid_request"),
    Mistake(
        name="tokens are not bound",
        client_id=NOT_BOUND,
        software=("downgraded", None),
        hint="register the client with tls_client_certificate_bound_access_tokens",
    ),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "-"))
def test_the_broker_says_what_portal_and_file_disagree_about(
    mistake: Mistake, servers: tuple[Rig, ConnectProxy], tmp_path: Path
):
    """The code is the server's, the hint the broker's; nothing is served."""
    row = Row(method="private_key_jwt", demanded=True, client_id=mistake.client_id)
    with bed_at(*servers, row, tmp_path / "home", *mistake.written) as bed:
        begun = send(bed.broker.socket, "POST", "/v1/authorizations", {"token": "website"})
        software = bed.broker.token("software", "?wait=5")
        failed = bed.broker.log("token_refresh_failed")[:1]

    assert begun.status == (201 if mistake.consent is None else 502)
    assert begun.json().get("server_error") == mistake.consent
    assert (software.status == 200) is (mistake.software is None)
    wanted = [] if mistake.software is None else [mistake.software]
    assert [(seen["reason"], seen["server_error"]) for seen in failed] == wanted
    hints = [told["hint"] for told in (begun.json(), *failed) if "hint" in told]
    assert [hint[: len(mistake.hint or "")] for hint in hints] == [mistake.hint] * len(hints)


def test_the_name_of_a_role_is_no_scope(servers: tuple[Rig, ConnectProxy], tmp_path: Path):
    """The server passes over what it does not know and gives a token without scope; the directory says what lacks."""
    written = ('scope = ["directory:software"]', 'scope = ["PUBLISHER"]')
    with bed_at(*servers, ROWS[0], tmp_path / "home", written) as bed:
        answer = bed.call(api="directory-software")

    assert (answer.status, answer.json()["error"]) == (403, "insufficient_scope")
    assert answer.values("proxy-status") == []
