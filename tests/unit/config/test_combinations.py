"""Keys that need each other, and sections that contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.combinations import check_combinations
from broker.config.listener_combinations import MAX_SOCKET_PATH_BYTES
from broker.config.problems import Findings
from broker.config.source import parse
from broker.config.structure import structure
from tests.unit.config.files import changed

BASE = Path("/etc/token-broker")
ISSUER = 'issuer = "https://auth.example.com"'
Edits = tuple[tuple[str, str], ...]


def found(text: str) -> list[str]:
    """Give what the combinations of a text say, and nothing else that is wrong with it."""
    raw = parse(text.encode(), Findings())
    assert raw is not None
    findings = Findings()
    check_combinations(structure(raw, Findings()), BASE, findings)
    return [str(problem) for problem in findings.problems()]


def without(kind: str) -> str:
    """Give the good file without the sections *kind*."""
    blocks = [block for block in changed().split("\n\n") if not block.startswith(f"[{kind}")]
    return "\n\n".join(blocks)


def test_a_good_file_has_nothing_that_contradicts() -> None:
    """The base of all the others."""
    assert found(changed()) == []


UPSTREAM = '[upstream.api]\nbase_url = "https://api.example"\ntoken = "directory"\nallow = ["GET /a"]\n'

TABLE: list[tuple[Edits, str]] = [
    # tokens
    (
        (('scope = ["directory:software"]', 'required = true\nrefresh = "on_demand"'),),
        (
            'token.directory.required: contradicts refresh = "on_demand": before somebody asks there is no token '
            'to be ready; write refresh = "eager", or remove required'
        ),
    ),
    # issuers
    (
        ((ISSUER, 'issuer = "http://127.0.0.1:9400"'),),
        (
            "issuer.raidiam.issuer: the issuer is not https; "
            "http is only for a loopback address, with allow_insecure_loopback = true"
        ),
    ),
    (
        ((ISSUER, 'issuer = "http://auth.example.com"\nallow_insecure_loopback = true'),),
        ("issuer.raidiam.issuer: the issuer is not https; write https://, as the server's metadata does"),
    ),
    (
        ((ISSUER, f'{ISSUER}\nproxy_credentials = {{ file = "proxy.secret" }}'),),
        "issuer.raidiam.proxy_credentials: is for a proxy, and there is none; add proxy, or remove it",
    ),
    (
        (("[audit]", f'{UPSTREAM}proxy_credentials = {{ file = "proxy.secret" }}\n\n[audit]'),),
        "upstream.api.proxy_credentials: is for a proxy, and there is none; add proxy, or remove it",
    ),
    (
        ((ISSUER, 'issuer = "http://localhost:1"\nallow_insecure_loopback = true\nproxy = "http://localhost:2"'),),
        ("issuer.raidiam.proxy: would see every request: the issuer is http; remove it, or write an issuer with https"),
    ),
    (
        ((ISSUER, f"{ISSUER}\nallow_insecure_loopback = true"),),
        (
            "issuer.raidiam.allow_insecure_loopback: is true for an issuer that is not on a loopback address; "
            "remove it: it is for tests on one machine"
        ),
    ),
    # tokens
    (
        (('scope = ["directory:software"]', 'parameters = { client_id = "other" }'),),
        "token.directory.parameters.client_id: is set by the broker alone; remove it",
    ),
    (
        (('scope = ["directory:software"]', 'parameters = { scope = "other" }'),),
        "token.directory.parameters.scope: is set by the broker alone; write scope above, as a key of the token",
    ),
    # listeners
    (
        (("[workload.app]", '[listener.other]\npath = "./x/../app.sock"\n\n[workload.app]'),),
        'listener.other.path: is that of listener "app" too; give each listener a place of its own',
    ),
    (
        (('path = "app.sock"', 'path = "app.sock"\nmode = "0600"\ngroup = 1000'),),
        (
            "listener.app.group: has no effect: the mode does not let a group connect; "
            'write mode = "0660", or remove the group'
        ),
    ),
    (
        (('path = "app.sock"', f'path = "/{"x" * MAX_SOCKET_PATH_BYTES}"'),),
        (
            "listener.app.path: is longer than 107 bytes, which is all that a Unix socket may have; "
            "choose a directory nearer to the root, such as /run/token-broker"
        ),
    ),
    # workloads
    (
        (('listener = ["app"]\nuid = [1000]', "uid = []\ngid = []"),),
        (
            "workload.app: names no listener, uid or gid, and so would be everybody; "
            'add uid = ["USER"], or the listener that only it can open'
        ),
    ),
    # the daemon
    (
        (("[audit]", "[daemon]\nmax_connections = 10\nmax_connections_per_uid = 11\n\n[audit]"),),
        "daemon.max_connections_per_uid: is more than max_connections; max_connections is 10",
    ),
    (
        (("[audit]", "[daemon]\nmax_waiting = 10\nmax_waiting_per_uid = 11\n\n[audit]"),),
        "daemon.max_waiting_per_uid: is more than max_waiting; max_waiting is 10",
    ),
    # the store
    (
        (("[audit]", '[store]\nkey = { file = "k" }\n\n[audit]'),),
        'store: has nowhere to be: there is no state directory; add state_dir = "/var/lib/token-broker" under [daemon]',
    ),
    (
        (
            (
                "[audit]",
                '[daemon]\nstate_dir = "state"\n[store]\nkey = { file = "k" }\nanchor = "x/../state/anchor"\n[audit]',
            ),
        ),
        (
            "store.anchor: lies in the state directory, and would be put back together with it; "
            "name a file on another volume"
        ),
    ),
    # the audit log
    (
        (('file = "audit.jsonl"\nkey', "key"),),
        (
            'audit.file: is missing; add file = "/var/log/token-broker/audit.jsonl", '
            "or enabled = false to run without an audit log"
        ),
    ),
]


@pytest.mark.parametrize(("edits", "expected"), TABLE)
def test_what_does_not_go_together_is_refused_with_the_fix(edits: Edits, expected: str) -> None:
    """Each combination has its own message, and is the only one."""
    assert found(changed(*edits)) == [expected]


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(((ISSUER, 'issuer = "http://localhost:9400"\nallow_insecure_loopback = true'),), id="localhost"),
        pytest.param(((ISSUER, 'issuer = "http://127.9.9.9"\nallow_insecure_loopback = true'),), id="127/8"),
        pytest.param(((ISSUER, 'issuer = "https://[::1]:9400"\nallow_insecure_loopback = true'),), id="::1"),
        pytest.param((('listener = ["app"]\n', ""),), id="a workload known by its uid"),
        pytest.param((("uid = [1000]", "gid = [1000]"),), id="a workload known by its gid"),
        pytest.param((("uid = [1000]\n", ""),), id="a workload known by its listener"),
        pytest.param((("[audit]", "[daemon]\nmax_connections = 10\n\n[audit]"),), id="a default gives way"),
        pytest.param(
            (
                (
                    "[audit]",
                    '[daemon]\nstate_dir = "state"\n[store]\nkey = { file = "k" }\nanchor = "state2/a"\n[audit]',
                ),
            ),
            id="an anchor elsewhere",
        ),
        pytest.param((('file = "audit.jsonl"\nkey', "enabled = false\nkey"),), id="no audit log, written out"),
        pytest.param((('path = "app.sock"', f'path = "/{"x" * (MAX_SOCKET_PATH_BYTES - 1)}"'),), id="107 bytes"),
        pytest.param((('scope = ["directory:software"]', 'parameters = { vendor = "x" }'),), id="a vendor's parameter"),
    ],
)
def test_what_goes_together_is_accepted(edits: Edits) -> None:
    """Each rule's other side."""
    assert found(changed(*edits)) == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("token", "token: is missing: there is nothing to serve"),
        ("listener", "listener: is missing: there is nowhere to ask"),
        ("workload", "workload: is missing: nobody would get a token"),
        ("audit", "audit: is missing: who got which token would be recorded nowhere"),
    ],
)
def test_a_broker_that_serves_nobody_is_refused(kind: str, message: str) -> None:
    """Started, it would look healthy. And the audit log has to be decided about."""
    (problem,) = found(without(kind))

    assert problem.startswith(message)


def test_the_missing_audit_section_is_answered_with_the_two_lines() -> None:
    """What most people meet first should be mended by copying."""
    (problem,) = found(without("audit"))

    assert 'add the two lines [audit] and file = "/var/log/token-broker/audit.jsonl"' in problem
    assert "[audit] and enabled = false" in problem


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(((ISSUER, 'issuer = "http://x"\nprofile = 5'), ('alg = "PS256"', 'alg = "RS256"')), id="issuer"),
        pytest.param((('alg = "PS256"', "alg = 5"),), id="key"),
        pytest.param((('issuer = "raidiam"', 'issuer = "other"'), ('alg = "PS256"', 'alg = "RS256"')), id="no issuer"),
        pytest.param((('client_id = "our-client"', ""), ('certificate = "transport"', "")), id="client"),
        pytest.param((('tokens = ["directory"]', "tokens = 5"),), id="workload"),
        pytest.param((('path = "app.sock"', "path = 5"),), id="listener"),
        pytest.param((('file = "audit.jsonl"', "file = 5"),), id="audit"),
        pytest.param((("[audit]", "[daemon]\nmax_connections = 5\nhosts = 5\n\n[audit]"),), id="daemon"),
    ],
)
def test_nothing_is_concluded_from_a_broken_or_missing_section(edits: Edits) -> None:
    """Its own problem is in the list; a conclusion would mislead."""
    assert found(changed(*edits)) == []
