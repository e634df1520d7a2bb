"""``check --online`` against a real server, and against one that has gone wrong: named in words, all at once."""

from __future__ import annotations

import datetime as dt
import json
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from broker.cli import main
from tests.daemon.harness import PATIENCE, SandboxProcess, canaries, found, sandbox_process
from tests.unit.keys.certificates import CLIENT_AUTH, DAY, NOW, issue, written


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("online")) as process:
        yield process


def check(sandbox: SandboxProcess, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; nothing secret may come out."""
    command = [sys.executable, "-m", "broker", "check", "--online"]
    command += ["--config", str(config or sandbox.home / "config.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert found(done.stdout + done.stderr, canaries(sandbox.home)) == set()
    assert "Traceback" not in done.stderr
    return done


def test_a_server_that_agrees_is_exit_0_with_the_days_of_the_certificate(sandbox: SandboxProcess):
    """And not one token was asked for."""
    sandbox.control.clear_requests()

    done = check(sandbox)

    assert done.returncode == 0
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
    assert "issuer.sandbox: its metadata is accepted" in done.stdout
    assert "day(s) left" in done.stdout
    assert sandbox.control.requests("token") == []


METHODS = "token_endpoint_auth_methods_supported"
ALGS = "token_endpoint_auth_signing_alg_values_supported"
BOUND = "tls_client_certificate_bound_access_tokens"

DISAGREEMENTS: dict[str, tuple[str, dict[str, object], tuple[str, ...]]] = {
    "another issuer": ("wrong_issuer", {}, ("[issuer_mismatch]", "to the letter, any last slash included")),
    "a host to list": ("foreign_endpoint", {}, ("is on a host that is not trusted", 'endpoint_hosts = ["127.0.0.1:')),
    "methods": (
        "alter",
        {"set": {METHODS: ["tls_client_auth", "client_secret_basic"]}},
        (f'{METHODS} lacks the client_auth_method of [client.demo], "private_key_jwt"', 'offers "tls_client_auth"'),
    ),
    "no methods": ("alter", {"remove": [METHODS]}, ('is absent and so means "client_secret_basic"',)),
    "algorithms": (
        "alter",
        {"set": {ALGS: ["RS256", "EdDSA"]}},
        (
            'lacks the alg of the signing_keys of [client.demo], "PS256"',
            'takes "EdDSA": register a key with such an alg',
        ),
    ),
    "certificate binding": (
        "alter",
        {"set": {BOUND: False}},
        (f"{BOUND} is false", "have the server's operator turn on certificate-bound tokens (RFC 8705)"),
    ),
    "the grant type": (
        "alter",
        {"set": {"grant_types_supported": ["authorization_code"]}},
        ('lacks the grant_type of a token of [client.demo], "client_credentials"', "enable it, or remove the token"),
    ),
    "all at once": (
        "alter",
        {"set": {METHODS: ["client_secret_basic"], ALGS: ["RS256"], BOUND: False}},
        ("3 disagreement(s)", "none that the profile admits"),
    ),
    "no token endpoint": ("alter", {"remove": ["token_endpoint"]}, ("no token_endpoint", "whether this is the issuer")),
    "plain http": (
        "alter",
        {"set": {"token_endpoint": "http://localhost/t"}},
        ("is not https", "correct its metadata"),
    ),
    "nothing there": (
        "status",
        {"status": 404},
        ("(status 404)", "discovery: nothing is there", "asked for was https"),
    ),
    "trouble": ("status", {"status": 502}, ("(status 502)", "ask again later")),
    "a page": ("html", {}, ("[not_json]", "a login page or a proxy may have answered")),
    "a redirect": ("redirect", {}, ("[redirected]", "asked for was https://localhost:")),
    "the wrong name": ("bad_certificate", {"variant": "wrong_name"}, ("for other names than the one in its URL",)),
    "an old certificate": ("bad_certificate", {"variant": "expired"}, ("has expired: have it renewed",)),
}


@pytest.mark.parametrize(("kind", "parameters", "said"), DISAGREEMENTS.values(), ids=DISAGREEMENTS.keys())
def test_each_disagreement_is_named_with_something_to_do_and_is_exit_2(
    sandbox: SandboxProcess,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    parameters: dict[str, object],
    said: tuple[str, ...],
):
    """In words that name the member and the key, and without a word that only the server knows."""
    sandbox.control.clear_faults()
    sandbox.control.fault("metadata", kind, times=10, **parameters)

    code = main(["check", "--online", "--config", str(sandbox.home / "config.toml")])  # many: no process for each

    sandbox.control.clear_faults()
    told = capsys.readouterr().err
    assert code == 2
    assert [words for words in said if words not in told] == []
    assert "INVALID" not in told
    assert found(told, canaries(sandbox.home)) == set()


def test_a_slash_too_many_is_named(sandbox: SandboxProcess):
    """It is what goes wrong most often, and hardest to see."""
    config = sandbox.home / "slash.toml"
    text = (sandbox.home / "config.toml").read_text()
    config.write_text(re.sub(r'issuer = "(https://[^"]*)"', r'issuer = "\1/"', text))

    done = check(sandbox, config)

    assert done.returncode == 2
    assert "and differs by a slash at the end" in done.stderr


def test_what_concerns_consents_alone_is_told_and_refuses_nothing(sandbox: SandboxProcess):
    """Pushed requests and signed request objects are required: no token here has either."""
    required = ("require_pushed_authorization_requests", "require_signed_request_object")
    sandbox.control.fault("metadata", "alter", times=10, set=dict.fromkeys(required, True))

    done = check(sandbox)

    sandbox.control.clear_faults()
    assert done.returncode == 0
    assert [member for member in required if f"{member} is true: no matter" not in done.stdout] == []


def test_where_people_are_asked_all_that_it_takes_is_compared(sandbox: SandboxProcess):
    """Before anybody has gone through a login for nothing."""
    good = check(sandbox, sandbox.home / "consents.toml")
    members = {
        "require_signed_request_object": True,
        "code_challenge_methods_supported": ["plain"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "grant_types_supported": ["client_credentials", "authorization_code"],
    }
    removed = ["jwks_uri", "userinfo_endpoint", "pushed_authorization_request_endpoint", "revocation_endpoint"]
    sandbox.control.fault("metadata", "alter", set=members, remove=removed)
    bad = check(sandbox, sandbox.home / "consents.toml")
    sandbox.control.clear_faults()

    assert good.returncode == 0, good.stdout + good.stderr
    assert "no matter to client_credentials" not in good.stdout + bad.stdout
    assert bad.returncode == 2
    for member in (
        "code_challenge_methods_supported",
        "id_token_signing_alg_values_supported",
        "grant_types_supported",
        "jwks_uri",
        "userinfo_endpoint",
        "pushed_authorization_request_endpoint",
    ):
        (told,) = (line for line in bad.stderr.splitlines() if f" {member} " in line)
        assert "; " in told, "something to do"
    assert "revocation_endpoint is absent" in bad.stdout
    assert "authorization requests are signed" in bad.stdout


def test_a_certificate_that_ends_in_days_is_told_with_its_date(sandbox: SandboxProcess):
    """There is time left to renew it, so that nothing is refused."""
    pair = issue("client", end=NOW + 3 * DAY, usages=CLIENT_AUTH)
    written(sandbox.home / "ending.pem", pair.cert_pem())
    written(sandbox.home / "ending.key", pair.key_pem())
    config = sandbox.home / "ending.toml"
    text = (sandbox.home / "config.toml").read_text()
    text = re.sub(r'cert_file = "[^"]*"', 'cert_file = "ending.pem"', text)
    config.write_text(re.sub(r'key_file = "[^"]*"', 'key_file = "ending.key"', text))

    done = check(sandbox, config)

    assert done.returncode == 0, done.stderr
    assert f"day(s) left, until {NOW + 3 * DAY:%Y-%m-%d}" in done.stdout
    assert ": renew it now" in done.stdout


@contextmanager
def stating(sandbox: SandboxProcess, ahead: dt.timedelta) -> Iterator[int]:
    """Serve good metadata with the sandbox's server certificate and a Date that is off; gives the port."""

    class Stating(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(dt.datetime.now(dt.UTC) + ahead, usegmt=True)

        def do_GET(self) -> None:
            issuer = f"https://{self.headers['Host']}"
            document = {
                "issuer": issuer,
                "token_endpoint": f"{issuer}/token",
                "mtls_endpoint_aliases": {"token_endpoint": f"{issuer}/token"},
                METHODS: ["private_key_jwt"],
                BOUND: True,
            }
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sandbox.home / "server" / "good.pem", sandbox.home / "server" / "good.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stating)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("ahead", "way"), [(dt.timedelta(hours=2), "s behind the server's"), (dt.timedelta(minutes=-1), "s ahead of the")]
)
def test_clocks_that_differ_are_told_with_the_direction(sandbox: SandboxProcess, ahead: dt.timedelta, way: str):
    """By the Date of the answer: assertions would be refused, and no server says why."""
    config = sandbox.home / "clock.toml"
    text = (sandbox.home / "config.toml").read_text()
    with stating(sandbox, ahead) as port:
        config.write_text(re.sub(r'issuer = "https://[^"]*"', f'issuer = "https://localhost:{port}"', text))
        done = check(sandbox, config)

    assert done.returncode == 2
    assert "issuer.sandbox: its metadata is accepted" in done.stdout
    seconds = re.search(r"this host's clock is (\d+) " + re.escape(way), done.stderr)
    assert seconds is not None, done.stderr
    assert abs(int(seconds[1]) - abs(ahead.total_seconds())) <= 10
    assert "assertions will be refused; compare both with a third clock" in done.stderr


def test_a_missing_alias_is_told_and_refuses_nothing(sandbox: SandboxProcess):
    """The ordinary endpoint is called with the certificate."""
    sandbox.control.fault("metadata", "alter", times=10, remove=["mtls_endpoint_aliases"])

    done = check(sandbox)

    sandbox.control.clear_faults()
    assert done.returncode == 0
    assert "mtls_endpoint_aliases has no token_endpoint: the ordinary one is called" in done.stdout
    assert "ask for its mutual TLS endpoint" in done.stdout


def test_a_server_whose_authority_is_not_trusted_is_named_with_ca_file(sandbox: SandboxProcess):
    """There is no way around it."""
    text = (sandbox.home / "config.toml").read_text()
    config = sandbox.home / "untrusted.toml"
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("ca_file")))

    done = check(sandbox, config)

    assert done.returncode == 2
    assert "ca_file" in done.stderr
