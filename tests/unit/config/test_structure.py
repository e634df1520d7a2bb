"""From tables to sections: types, unknown keys, and nothing converted."""

from __future__ import annotations

from typing import Any

import pytest

from broker.config.problems import Findings
from broker.config.schema import AuditSection, DaemonSection, SigningAlg
from broker.config.structure import structure
from broker.oauth.client import Profile
from tests.unit.config.files import document


def found(raw: dict[str, Any]) -> list[str]:
    """Give what structuring says about tables as tomllib would give them."""
    findings = Findings()
    structure(raw, findings)
    return [str(problem) for problem in findings.problems()]


def test_a_good_file_becomes_sections() -> None:
    """Words become members of enumerations, arrays tuples, and what is left out its default."""
    made = document()

    assert made.keys["signing"].alg is SigningAlg.PS256
    assert made.issuers["raidiam"].profile is Profile.FAPI2
    assert made.clients["raidiam"].signing_keys == ("signing",)
    assert made.workloads["app"].uid == (1000,)
    assert made.daemon == DaemonSection()


def test_a_single_section_that_is_missing_is_its_defaults_but_for_audit() -> None:
    """Running without an audit log must be written out."""
    made = structure({}, Findings())

    assert made.daemon == DaemonSection()
    assert made.audit is None
    assert made.ops is not None
    assert made.ops.enabled


def test_an_audit_section_without_keys_is_not_a_missing_one() -> None:
    """They get different messages."""
    made = structure({"audit": {}}, Findings())

    assert made.audit == AuditSection()


SECTION = {"client": "a"}

TABLE: list[tuple[dict[str, Any], list[str]]] = [
    # names of sections and of keys
    ({"isuer": {}}, ['isuer: there is no such section; did you mean "issuer"?']),
    ({"tokens": {}}, ['tokens: there is no such section; did you mean "token"?']),
    (
        {"zzz": 1},
        [
            (
                "zzz: there is no such section; "
                "the keys here are audit, certificate, client, daemon, issuer, key, listener, log, ops, sink, store, "
                "token, upstream, workload"
            )
        ],
    ),
    (
        {"certificate": {"c": {"cert_file": "c.pem", "key_file": 1}}},
        ['certificate.c.key_file: must be a path or a table, not a whole number; for example "client.key"'],
    ),
    (
        {"certificate": {"c": {"cert_file": "c.pem", "key_file": {"credential": "a", "file": "b"}}}},
        [
            (
                "certificate.c.key_file: must have exactly one of file and credential; "
                'write { file = "..." } or { credential = "..." } and move the secret there'
            )
        ],
    ),
    ({"log": {"levle": "info"}}, ['log.levle: there is no such key; did you mean "level"?']),
    ({"log": {"zzz": 1}}, ["log.zzz: there is no such key; the keys here are level"]),
    ({"log": {"\x1b[2J": 1}}, ['log."\\u001b[2J": there is no such key; the keys here are level']),
    (
        {"daemon": {"zzz": "/x", "drain": 1}},
        [
            'daemon.drain: there is no such key; did you mean "drain_seconds"?',
            (
                "daemon.zzz: there is no such key; the keys here are drain_seconds, fast_path, hosts, landlock, "
                "max_connections, "
                "max_connections_per_uid, max_requests_per_second_per_uid, max_waiting, max_waiting_per_uid, "
                "request_seconds, state_dir"
            ),
        ],
    ),
    (
        {"token": {"A b": SECTION}},
        [
            (
                'token."A b": is not a name; '
                "a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"
            )
        ],
    ),
    (
        {"token": {"directory": 5}},
        ["token.directory: must be a section with a name; write [token.NAME] above its keys"],
    ),
    ({"token": {"scope": ["a"]}}, ["token.scope: must be a section with a name; write [token.NAME] above its keys"]),
    ({"token": [SECTION]}, ["token: must be sections with names; write [token.NAME]"]),
    ({"token": {"t": {}}}, ["token.t.client: is missing"]),
    ({"certificate": {"c": {}}}, ["certificate.c.cert_file: is missing", "certificate.c.key_file: is missing"]),
    # types: nothing is converted
    ({"daemon": 5}, ["daemon: must be a table, not a whole number"]),
    ({"log": [{}]}, ["log: must be a table, not an array"]),
    (
        {"daemon": {"drain_seconds": "10"}},
        [
            (
                "daemon.drain_seconds: must be a whole number, not a string; "
                "write it without quotation marks and without a unit"
            )
        ],
    ),
    (
        {"daemon": {"drain_seconds": 1.0}},
        ["daemon.drain_seconds: must be a whole number, not a number with a fraction"],
    ),
    ({"daemon": {"drain_seconds": True}}, ["daemon.drain_seconds: must be a whole number, not true or false"]),
    ({"audit": {"enabled": 1}}, ["audit.enabled: must be true or false, not a whole number"]),
    (
        {"audit": {"enabled": "false"}},
        ["audit.enabled: must be true or false, not a string; write it without quotation marks and without a unit"],
    ),
    (
        {"audit": {"file": 5}},
        ['audit.file: must be a string, not a whole number; for example "/etc/token-broker/file.pem"'],
    ),
    (
        {"listener": {"l": {"path": "s", "mode": 660}}},
        ['listener.l.mode: must be a string, not a whole number; for example "0660"'],
    ),
    (
        {"issuer": {"i": {"issuer": "x", "assertion_audience": ["a", "b"]}}},
        ['issuer.i.assertion_audience: must be a string, not an array; for example "issuer"'],
    ),
    (
        {"token": {"t": {"client": "a", "scope": "read"}}},
        ["token.t.scope: must be an array, not a string; put it in brackets: [...]"],
    ),
    ({"token": {"t": {"client": "a", "scope": {"a": 1}}}}, ["token.t.scope: must be an array, not a table"]),
    ({"token": {"t": {"client": "a", "scope": ["ok", 5]}}}, ["token.t.scope[1]: must be a string, not a whole number"]),
    ({"token": {"t": {"client": "a", "parameters": ["x"]}}}, ["token.t.parameters: must be a table, not an array"]),
    (
        {"token": {"t": {"client": "a", "parameters": {"n": 5}}}},
        ["token.t.parameters.n: must be a string, not a whole number"],
    ),
    (
        {"workload": {"w": {"tokens": [], "uid": [True]}}},
        ["workload.w.uid[0]: must be a name or a whole number, not true or false"],
    ),
    (
        {"workload": {"w": {"tokens": [], "uid": 1000}}},
        ["workload.w.uid: must be an array, not a whole number; put it in brackets: [...]"],
    ),
    # words
    (
        {"log": {"level": "Info"}},
        ['log.level: "Info" is none of "debug", "info", "warning", "error"; did you mean "info"?'],
    ),
    ({"log": {"level": 5}}, ['log.level: must be a string, not a whole number; for example "debug"']),
    (
        {"log": {"level": "two words"}},
        ['log.level: the value given is none of "debug", "info", "warning", "error"'],
    ),
    (
        {"key": {"k": {"file": "f", "alg": "HS256"}}},
        ['key.k.alg: "HS256" is none of "PS256", "ES256", "EdDSA", "RS256"'],
    ),
    (
        {"client": {"c": {"issuer": "i", "client_id": "c", "mtls_endpoint_aliases": ["token_endpont"]}}},
        [
            (
                'client.c.mtls_endpoint_aliases[0]: "token_endpont" is none of "token_endpoint", '
                '"pushed_authorization_request_endpoint", "revocation_endpoint", "userinfo_endpoint"; '
                'did you mean "token_endpoint"?'
            )
        ],
    ),
    # rules for single values
    ({"daemon": {"request_seconds": 0}}, ["daemon.request_seconds: must be from 1 to 60"]),
    (
        {"token": {"t": {"client": "a", "scope": ["a b"]}}},
        ['token.t.scope[0]: holds a space; one entry for each scope: ["read", "write"]'],
    ),
    # secrets
    (
        {"audit": {"key": "hunter2"}},
        [
            (
                "audit.key: must be a reference: no secret is written into this file; "
                'write { file = "..." } or { credential = "..." } and move the secret there'
            )
        ],
    ),
    (
        {"audit": {"key": {}}},
        [
            (
                "audit.key: must have exactly one of file and credential; "
                'write { file = "..." } or { credential = "..." } and move the secret there'
            )
        ],
    ),
    (
        {"audit": {"key": {"file": "a", "credential": "b"}}},
        [
            (
                "audit.key: must have exactly one of file and credential; "
                'write { file = "..." } or { credential = "..." } and move the secret there'
            )
        ],
    ),
    (
        {"audit": {"key": {"value": "hunter2"}}},
        ["audit.key.value: there is no such key; the keys here are credential, file"],
    ),
]


@pytest.mark.parametrize(("raw", "expected"), TABLE)
def test_what_is_wrong_is_said_at_its_place(raw: dict[str, Any], expected: list[str]) -> None:
    """Each mistake is one line: where, what, and what to write."""
    assert found(raw) == expected


def test_one_broken_section_hides_nothing_of_another() -> None:
    """Two sections of one kind, each with a problem, and a third that is good."""
    raw = {"key": {"a": {"file": 5, "alg": "PS256"}, "b": {"file": "f"}, "c": {"file": "f", "alg": "ES256"}}}
    findings = Findings()

    made = structure(raw, findings)

    assert [problem.path for problem in findings.problems()] == ["key.a.file", "key.b.alg"]
    assert set(made.keys) == {"c"}
    assert set(made.declared("key")) == {"a", "b", "c"}


def test_all_problems_of_one_section_are_said() -> None:
    """A type, a rule, a missing key and an unknown key together."""
    raw = {"token": {"t": {"scope": [5, "a b"], "required": 1, "extra": 1}}}
    findings = Findings()

    structure(raw, findings)

    paths = {problem.path for problem in findings.problems()}
    assert paths == {"token.t.client", "token.t.scope[0]", "token.t.scope[1]", "token.t.required", "token.t.extra"}
