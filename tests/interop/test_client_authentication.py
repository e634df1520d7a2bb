"""
Every way to prove who a client is, by the real daemon at real servers, in one table.

One broker has a client and a token for each row. What the rows ask for stands beside what came of it: how the
server saw the client authenticate, how the assertion was signed, what the token is bound to.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.daemon.harness import BrokerProcess
from tests.interop.rig import Rig, TokenRequest, assertion_registration, registration, tls_registration

SECRET = 'canary: 50%+ of a "secret" & more'
"""Each of its special characters is lost somewhere if it is not encoded, or encoded twice."""

PLAIN_SECRET = "canary-without-anything-special"


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    What is asked: *binding* is what tokens shall be bound to, *refused* the error that is expected instead.

    *registered* is the secret that the server knows, where it is another.
    """

    profile: str
    method: str
    alg: str | None = None
    encoding: str | None = None
    secret: str | None = None
    registered: str | None = None
    binding: str = "certificate"
    refused: str | None = None

    @property
    def name(self) -> str:
        """The name of its sections."""
        parts = (self.profile, self.method, self.alg, self.encoding, self.binding, self.refused)
        return "-".join(part.lower() for part in parts if part)

    @property
    def client_id(self) -> str:
        """An id that needs encoding where one is sent in a header."""
        return f"https://rp.example/{self.name}?a b:50%+" if self.secret == SECRET and not self.refused else self.name

    @property
    def certificate(self) -> str | None:
        """Which certificate its connections present."""
        if self.method == "self_signed_tls_client_auth":
            return "self_signed"
        return "app" if self.binding == "certificate" or self.method == "tls_client_auth" else None


PRESENTED = {
    "private_key_jwt": ("client_id", "client_assertion"),
    "tls_client_auth": ("client_id",),
    "self_signed_tls_client_auth": ("client_id",),
    "client_secret_basic": ("authorization",),
    "client_secret_post": ("client_id", "client_secret"),
}
"""Never two methods at once: a strict server refuses that."""

BINDINGS = ("certificate", "none")
TLS_METHODS = ("tls_client_auth", "self_signed_tls_client_auth")

ROWS = (
    *(Row(profile="fapi2", method="private_key_jwt", alg=alg) for alg in ("PS256", "ES256", "EdDSA")),
    *(Row(profile="fapi1_advanced", method="private_key_jwt", alg=alg) for alg in ("PS256", "ES256")),
    *(Row(profile=profile, method=method) for profile in ("fapi2", "fapi1_advanced") for method in TLS_METHODS),
    *(
        Row(profile="oidc", method="private_key_jwt", alg=alg, binding=binding)
        for alg in ("PS256", "ES256", "EdDSA", "RS256")
        for binding in BINDINGS
    ),
    *(Row(profile="oidc", method=method, binding=binding) for method in TLS_METHODS for binding in BINDINGS),
    *(
        Row(profile="oauth2", method="client_secret_basic", encoding="form", secret=SECRET, binding=binding)
        for binding in BINDINGS
    ),
    Row(profile="oauth2", method="client_secret_basic", encoding="raw", secret=PLAIN_SECRET, binding="none"),
    Row(
        profile="oauth2",
        method="client_secret_basic",
        encoding="raw",
        secret=SECRET,
        binding="none",
        refused="invalid_request",  # this server decodes
    ),
    *(Row(profile="oauth2", method="client_secret_post", secret=SECRET, binding=binding) for binding in BINDINGS),
    Row(
        profile="oauth2",
        method="client_secret_post",
        secret=PLAIN_SECRET,
        registered="another one",
        binding="none",
        refused="invalid_client",
    ),
)


def is_fapi(profile: str) -> bool:
    return profile.startswith("fapi")


def register(rig: Rig, row: Row) -> dict[str, Any]:
    """The client metadata of a row."""
    bound = row.binding == "certificate"
    match row.method:
        case "private_key_jwt":
            assert row.alg is not None
            return assertion_registration(row.client_id, rig.signing_keys[row.alg], bound=bound)
        case "tls_client_auth":
            return tls_registration(row.client_id, rig.app, bound=bound)
        case "self_signed_tls_client_auth":
            return registration(row.client_id, row.method, bound=bound, jwks={"keys": [rig.self_signed_jwk]})
        case _:
            return registration(row.client_id, row.method, bound=bound, client_secret=row.registered or row.secret)


@pytest.fixture(scope="module")
def rigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Rig]]:
    """A server with the FAPI 2.0 profile, and a plain one."""

    def clients(fapi: bool) -> Any:
        return lambda rig: [register(rig, row) for row in ROWS if is_fapi(row.profile) is fapi]

    with (
        Rig.start(tmp_path_factory.mktemp("fapi"), clients=clients(fapi=True)) as strict,
        Rig.start(tmp_path_factory.mktemp("plain"), fapi=False, clients=clients(fapi=False)) as plain,
    ):
        yield {True: strict, False: plain}


HEAD = """
[audit]
file = "audit.log"
key = {{ file = "audit.key" }}

[ops]
listen = "127.0.0.1:0"

[listener.app]
path = "{socket}"
mode = "0600"

[workload.app]
listener = ["app"]
tokens = {tokens}
"""


def sections(rigs: dict[bool, Rig]) -> Iterator[str]:
    """The issuers, certificates, keys, clients and tokens of all rows."""
    for profile in dict.fromkeys(row.profile for row in ROWS):
        rig = rigs[is_fapi(profile)]
        yield f'[issuer.{profile}]\nissuer = "{rig.issuer}"\nprofile = "{profile}"\nca_file = "{rig.ca_file}"'
    for fapi, rig in rigs.items():
        for name, one in (("app", rig.app), ("self_signed", rig.self_signed)):
            yield f'[certificate.{prefix(fapi)}-{name}]\ncert_file = "{one.cert_file}"\nkey_file = "{one.key_file}"'
        algs = dict.fromkeys(row.alg for row in ROWS if row.alg and is_fapi(row.profile) is fapi)
        for alg, key in ((alg, rig.signing_keys[alg]) for alg in algs):
            name = f"{prefix(fapi)}-{alg.lower()}"
            yield f'[key.{name}]\nfile = "{key.file}"\nalg = "{alg}"\nkid = "{key.kid}"'
    for row in ROWS:
        yield "\n".join(client_section(row))
        rig = rigs[is_fapi(row.profile)]
        yield f'[token.{row.name}]\nclient = "{row.name}"\nscope = {json.dumps(rig.scope.split())}'


def prefix(fapi: bool) -> str:
    return "strict" if fapi else "plain"


def client_section(row: Row) -> Iterator[str]:
    owner = prefix(is_fapi(row.profile))
    yield f"[client.{row.name}]"
    yield f'issuer = "{row.profile}"'
    yield f"client_id = {json.dumps(row.client_id)}"
    yield f'client_auth_method = "{row.method}"'
    yield f'sender_constraint = "{row.binding}"'
    if row.alg:
        yield f'signing_keys = ["{owner}-{row.alg.lower()}"]'
    if row.certificate:
        yield f'certificate = "{owner}-{row.certificate}"'
    if row.secret:
        yield f'client_secret = {{ file = "{row.name}.secret" }}'
    if row.encoding:
        yield f'client_secret_encoding = "{row.encoding}"'


@pytest.fixture(scope="module")
def broker(rigs: dict[bool, Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The daemon, with all rows."""
    home = tmp_path_factory.mktemp("broker")
    private = {"audit.key": "k" * 48} | {f"{row.name}.secret": f"{row.secret}\n" for row in ROWS if row.secret}
    for name, content in private.items():
        (home / name).touch(mode=0o600)
        (home / name).write_text(content)
    head = HEAD.format(socket=home / "api.sock", tokens=json.dumps([row.name for row in ROWS]))
    (home / "config.toml").write_text("\n\n".join([head, *sections(rigs)]))
    process = BrokerProcess(
        name="broker",
        directory=home,
        arguments=[],
        config=home / "config.toml",
        socket=home / "api.sock",
        audit=home / "audit.log",
    )
    try:
        process.up(ready=False)
        yield process
        process.sweep()
    finally:
        process.stop()


def asked(row: Row, rig: Rig) -> tuple[str, ...]:
    """What has to come of a row, as a line of the table."""
    if row.refused:
        return (row.refused, "-", "-", "-")
    thumbprint = {"app": rig.app.thumbprint, "self_signed": rig.self_signed.thumbprint, None: "-"}[row.certificate]
    bound_to = thumbprint if row.binding == "certificate" else "-"
    return (spoken(row.method, row.alg), " ".join(PRESENTED[row.method]), thumbprint[:SHORT], bound_to[:SHORT])


def got(row: Row, broker: BrokerProcess, seen: dict[str | None, TokenRequest]) -> tuple[str, ...]:
    """What came of a row: from the answer of the broker, and from what the server saw."""
    answer = broker.token(row.name, "?wait=20")
    body = answer.json()
    if answer.status != 200:
        return (body.get("server_error", body["error"]), "-", "-", "-")
    request = seen[row.client_id]
    bound_to = body.get("cnf", {}).get("x5t#S256", "-")
    return (
        spoken(request.auth_method, request.assertion_alg),
        " ".join(request.presented),
        (request.thumbprint or "-")[:SHORT],
        bound_to[:SHORT],
    )


SHORT = 6
"""Characters of a thumbprint: enough to tell one from another."""


def spoken(*words: str | None) -> str:
    return " ".join(word for word in words if word)


COLUMNS = ("seen as", "presented", "with", "bound to")


def table(lines: list[tuple[Row, tuple[str, ...], tuple[str, ...]]]) -> str:
    """Lay the rows out for people: what was asked on the left, what was got on the right."""
    cells: list[tuple[str, ...]] = [("profile", "client authentication", *COLUMNS, *COLUMNS)]
    cells += [(row.profile, spoken(row.method, row.alg, row.encoding), *wanted, *came) for row, wanted, came in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    asked_at = sum(widths[:2]) + 4
    got_at = asked_at + sum(widths[2:6]) + 8
    return "\n".join(["ASKED".rjust(asked_at + 5).ljust(got_at) + "GOT", *body])


def test_each_method_with_each_algorithm_gives_what_was_asked_for(
    rigs: dict[bool, Rig], broker: BrokerProcess, record_property: Callable[[str, str], None]
) -> None:
    """The table: profiles, methods, algorithms, encodings, bound and not; the last word is the server's."""
    for row in ROWS:
        broker.token(row.name, "?wait=20")
    seen = {fapi: {one.client_id: one for one in rig.token_requests()} for fapi, rig in rigs.items()}

    lines = [
        (row, asked(row, rigs[is_fapi(row.profile)]), got(row, broker, seen[is_fapi(row.profile)])) for row in ROWS
    ]

    record_property("table", table(lines))
    assert [came for _, _, came in lines] == [wanted for _, wanted, _ in lines]


def test_no_form_of_a_secret_comes_out(broker: BrokerProcess) -> None:
    """Beside the secret itself, which the sweep looks for: encoded, and as the header that carried it."""
    forms = {SECRET, quote_plus(SECRET)}
    for row in ROWS:
        if row.method == "client_secret_basic" and row.secret:
            for name, secret in ((row.client_id, row.secret), (quote_plus(row.client_id), quote_plus(row.secret))):
                forms.add(base64.b64encode(f"{name}:{secret}".encode()).decode())
    broker.token(ROWS[-1].name, "?wait=20")

    said = broker.said() + broker.audit.read_text() + broker.ops("/metrics").body.decode()

    assert [form for form in forms if form in said] == []


def test_an_event_names_an_assertion_only_where_there_was_one(broker: BrokerProcess) -> None:
    """A ``jti`` that the server never saw would lead whoever compares logs astray."""
    made = {row.name: row.alg is not None for row in ROWS if not row.refused}
    for name in made:
        broker.token(name, "?wait=20")

    records = {record["token"]: record.get("jti") is not None for record in broker.records("token_refreshed")}

    assert records == made
