"""The whole way from a file to settings: everything wrong at once, nothing secret said, nothing else raised."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from broker.config.load import load_settings
from broker.config.problems import ConfigurationError, Problem
from broker.config.settings import LogLevel
from tests.unit.config.files import EXAMPLE, GOOD, FakeAccounts, changed, load, only_problem, problems, write

SECRET_SHAPED = "eyJhbGciOiJQUzI1NiJ9.c2VjcmV0+/c2VjcmV0=="
NAME_SHAPED = "hunter2-canary"


def test_a_good_file_is_loaded_whole(tmp_path: Path) -> None:
    """Everything that wiring needs is there."""
    settings = load(tmp_path)

    assert settings.path == tmp_path / "config.toml"
    assert settings.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert set(settings.issuers) == set(settings.clients) == {"raidiam"}
    assert set(settings.certificates) == {"transport"}
    assert set(settings.keys) == {"signing"}
    assert [token.name for token in settings.tokens] == ["directory"]
    assert [listener.name for listener in settings.listeners] == ["app"]
    assert [workload.name for workload in settings.workloads] == ["app"]
    assert settings.log_level is LogLevel.INFO
    assert settings.warnings == ()


def test_a_relative_path_of_the_file_comes_out_absolute(tmp_path: Path) -> None:
    """The daemon may change its directory later."""
    path = write(tmp_path, GOOD)
    relative = Path(os.path.relpath(path))

    settings = load_settings(relative, credentials_directory=None, accounts=FakeAccounts())

    assert settings.path.is_absolute()
    assert settings.keys["signing"].file.is_absolute()
    assert settings.keys["signing"].file.resolve() == (tmp_path / "signing.key").resolve()


def test_the_host_is_asked_for_users_by_default(tmp_path: Path) -> None:
    """Root has the number 0 everywhere."""
    path = write(tmp_path, changed(("uid = [1000]", 'uid = ["root"]')))

    settings = load_settings(path, credentials_directory=None)

    assert settings.workloads[0].uids == {0}


def test_an_empty_file_says_what_a_broker_needs(tmp_path: Path) -> None:
    """The shortest way to a list of what to write."""
    found = problems(tmp_path, "")

    assert [problem.path for problem in found] == ["audit", "token", "listener", "workload"]
    assert all(problem.hint for problem in found)


def test_a_missing_file_has_no_problems_but_a_hint(tmp_path: Path) -> None:
    """There is nothing to list."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "none.toml", credentials_directory=None)

    assert caught.value.code == "configuration_unreadable"
    assert caught.value.problems == ()
    assert caught.value.hint


def test_a_syntax_error_is_the_only_problem(tmp_path: Path) -> None:
    """What follows it cannot be told."""
    problem = only_problem(tmp_path, changed(('file = "audit.jsonl"', "file = audit.jsonl")))

    assert problem == Problem(
        path="", message="line 2, column 8: not valid TOML: no value begins like this; strings stand in quotation marks"
    )


def test_a_file_that_everybody_may_write_is_refused_with_the_rest(tmp_path: Path) -> None:
    """It is one problem among others."""
    path = write(tmp_path, changed(('alg = "PS256"', 'alg = "PS265"')))
    path.chmod(0o666)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, credentials_directory=None)

    assert [problem.path for problem in caught.value.problems] == ["", "key.signing.alg"]


def test_problems_of_every_kind_are_said_at_once(tmp_path: Path) -> None:
    """Syntax of values, unknown keys, references, combinations and the host, in sound and broken sections."""
    text = changed(
        ('file = "audit.jsonl"', 'fiel = "audit.jsonl"'),
        ('alg = "PS256"', "alg = 5"),
        ('client_id = "our-client"', ""),
        ('issuer = "raidiam"', 'issuer = "raidaim"'),
        ('client = "raidiam"', 'client = "riadiam"'),
        ('path = "app.sock"', 'path = "app.sock"\nmode = "0600"\ngroup = "nobody-here"'),
        ("uid = [1000]", 'uid = ["nobody-here"]'),
        ("[token.directory]", "[tokn.x]\n[token.directory]"),
    )

    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)

    assert caught.value.code == "configuration_invalid"
    assert caught.value.message.endswith("config.toml has 9 problems")
    assert [str(problem).partition(";")[0] for problem in caught.value.problems] == [
        "tokn: there is no such section",
        "audit.fiel: there is no such key",
        "key.signing.alg: must be a string, not a whole number",
        "client.raidiam.client_id: is missing",
        'client.raidiam.issuer: no issuer named "raidaim"',
        'token.directory.client: no client named "riadiam"',
        "listener.app.group: has no effect: the mode does not let a group connect",
        'workload.app.uid[0]: no user named "nobody-here" on this host',
        'listener.app.group: no group named "nobody-here" on this host',
    ]


def test_one_problem_is_counted_in_the_singular(tmp_path: Path) -> None:
    """People read it."""
    with pytest.raises(ConfigurationError, match=r"config\.toml has 1 problem$"):
        load(tmp_path, changed(('alg = "PS256"', "")))


TABLE = [
    ('file = "audit.jsonl"', 'file = ""', "audit.file", "must be a path"),
    ('key = { file = "audit.key" }', 'key = "s3cr3t"', "audit.key", "must be a reference"),
    ("[audit]", '[ops]\nlisten = "localhost:1"\n[audit]', "ops.listen", "must be an IP address and a port"),
    ("[audit]", '[log]\nlevel = "trace"\n[audit]', "log.level", '"trace" is none of'),
    ("[audit]", "[daemon]\ndrain_seconds = -1\n[audit]", "daemon.drain_seconds", "must be from 0 to 600"),
    ("[audit]", '[daemon]\nhosts = ["https://x"]\n[audit]', "daemon.hosts[0]", "must be a host"),
    ("[audit]", '[daemon]\nquorum_key = "x"\n[audit]', "daemon.quorum_key", "there is no such key"),
    ("[audit]", "[dialect.api]\n[audit]", "dialect", "there is no such section"),
    ('issuer = "https://auth.example.com"', 'issuer = "ftp://x"', "issuer.raidiam.issuer", "not a plain absolute URL"),
    ('issuer = "https://auth.example.com"', 'issuer = "https://x?y"', "issuer.raidiam.issuer", "has a query"),
    (
        'issuer = "https://auth.example.com"',
        'issuer = "https://u:p@x"',
        "issuer.raidiam.issuer",
        "not a plain absolute",
    ),
    (
        'issuer = "https://auth.example.com"',
        'issuer = "https://169.254.169.254"',
        "issuer.raidiam.issuer",
        "never dialed",
    ),
    ("[issuer.raidiam]", "[issuer.raidiam]\ndialect = 1", "issuer.raidiam.dialect", "must be a name or a table"),
    (
        "[issuer.raidiam]",
        '[issuer.raidiam]\nassertion_audience = "https://x/"',
        "issuer.raidiam.assertion_audience",
        "must be",
    ),
    ('cert_file = "transport.pem"\n', "", "certificate.transport.cert_file", "is missing"),
    ('key_file = "transport.key"', 'key_file = "~/x"', "certificate.transport.key_file", "nobody expands"),
    ('alg = "PS256"', 'alg = "none"', "key.signing.alg", '"none" is none of'),
    ('alg = "PS256"', 'alg = "PS256"\nkid = "é"', "key.signing.kid", "printable ASCII"),
    ('client_id = "our-client"', 'client_id = ""', "client.raidiam.client_id", "printable ASCII"),
    ('client_id = "our-client"', 'client_id = "a"\nclient_secret = "b"', "client.raidiam.client_secret", "must be"),
    (
        'client_id = "our-client"',
        'client_id = "a"\nclient_auth_method = "client_secret_jwt"',
        "client.raidiam.client_auth_method",
        '"client_secret_jwt" is none of "private_key_jwt"',
    ),
    ('scope = ["directory:software"]', 'scope = ["a b"]', "token.directory.scope[0]", "holds a space"),
    ('scope = ["directory:software"]', 'resource = ["x"]', "token.directory.resource[0]", "absolute URI"),
    ('scope = ["directory:software"]', 'audience = [""]', "token.directory.audience[0]", "printable ASCII"),
    (
        'scope = ["directory:software"]',
        'grant_type = "password"',
        "token.directory.grant_type",
        '"password" is none of',
    ),
    (
        'scope = ["directory:software"]',
        "default_lifetime_seconds = 90000",
        "token.directory.default_lifetime_seconds",
        "must be from 1 to 86400",
    ),
    (
        'scope = ["directory:software"]',
        'parameters = { code_challenge = "x" }',
        "token.directory.parameters.code_challenge",
        "is set by the broker alone",
    ),
    ('path = "app.sock"', 'path = "app.sock"\nmode = "0777"', "listener.app.mode", "execution"),
    ('tokens = ["directory"]', "", "workload.app.tokens", "is missing"),
    ('tokens = ["directory"]', 'tokens = ["*"]', "workload.app.tokens[0]", "no token has the name given here"),
    (
        'tokens = ["directory"]',
        'tokens = ["directory"]\nmay = ["*"]',
        "workload.app.may[0]",
        "the value given is none of",
    ),
    ("uid = [1000]", "uid = [4294967295]", "workload.app.uid[0]", "must be from 0 to 4294967294"),
]


@pytest.mark.parametrize(("old", "new", "path", "message"), TABLE)
def test_each_mistake_is_one_problem_at_its_place(tmp_path: Path, old: str, new: str, path: str, message: str) -> None:
    """And brings no others with it."""
    problem = only_problem(tmp_path, changed((old, new)))

    assert problem.path == path
    assert message in problem.message


def printed(error: ConfigurationError) -> str:
    """Give everything that anybody could print of an error."""
    return "\n".join(
        [
            "".join(traceback.format_exception(error)),
            error.message,
            str(error.hint),
            *map(str, error.problems),
            *map(repr, error.problems),
        ]
    )


SECRETS = [
    # where a secret belongs, but as a reference
    ('key = { file = "audit.key" }', 'key = "CANARY"'),
    ('key = { file = "audit.key" }', 'key = ["CANARY"]'),
    ('key = { file = "audit.key" }', 'key = { value = "CANARY" }'),
    ('key = { file = "audit.key" }', 'key = { file = ["CANARY"] }'),
    ('key = { file = "audit.key" }', 'key = { credential = "CANARY/" }'),
    ('key = { file = "audit.key" }', 'key = { file = "CANARY", credential = "CANARY" }'),
    ('key_file = "transport.key"', 'key_file = "transport.key"\npassphrase = "CANARY"'),
    ('alg = "PS256"', 'alg = "PS256"\npassphrase = "CANARY"'),
    # where somebody might think that it belongs
    ('client_id = "our-client"', 'client_id = "our-client"\nclient_secret = "CANARY"'),
    ('file = "signing.key"', 'file = "-----BEGIN PRIVATE KEY-----\\nCANARY"'),
    ('alg = "PS256"', 'alg = "PS256"\nkid = "CANARY\\n"'),
    ('issuer = "https://auth.example.com"', 'issuer = "https://user:CANARY@auth.example.com"'),
    ('issuer = "https://auth.example.com"', 'issuer = "https://auth.example.com"\nassertion_audience = "CANARY"'),
    ('scope = ["directory:software"]', 'scope = ["CANARY scope"]'),
    ('scope = ["directory:software"]', 'resource = ["CANARY"]'),
    ('scope = ["directory:software"]', 'parameters = { client_secret = "CANARY" }'),
    ('scope = ["directory:software"]', 'parameters = { password = "CANARY", n = 5 }'),
    # and where it breaks the syntax
    ('key = { file = "audit.key" }', "key = CANARY"),
    ('key = { file = "audit.key" }', 'key = "CANARY'),
    ('key = { file = "audit.key" }', "key = { CANARY }"),
]


@pytest.mark.parametrize("canary", [NAME_SHAPED, SECRET_SHAPED])
@pytest.mark.parametrize(("old", "new"), SECRETS)
def test_no_problem_repeats_what_may_be_a_secret(tmp_path: Path, old: str, new: str, canary: str) -> None:
    """Not in the problem, not in the traceback, not in what it was raised from."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, changed((old, new.replace("CANARY", canary))))

    assert canary not in printed(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# --- any file at all ---

LINES = EXAMPLE.read_text().splitlines()
KEYS = [index for index, line in enumerate(LINES) if re.match(r"\w+ = ", line)]
SECTIONS = [index for index, line in enumerate(LINES) if line.startswith("[")]
CANARY = f"{SECRET_SHAPED}CANARY"

VALUES = st.sampled_from(
    [
        "0", "-1", "5", "99999999999999999999", "1.5", "nan", "true", "false", '""', '"x"', '"a b"', '"\\u0000"',
        "[]", "[[]]", '["x"]', "[1, true]", "{}", '{ file = "x" }', '{ credential = "x" }', "{ a = { b = 1 } }",
        "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"http://127.0.0.1"', '"https://[::1"', '"\U0001f600"',
        "?", "", f'"{CANARY}"', f'["{CANARY}"]', f'{{ file = "x", value = "{CANARY}" }}', f'{{ "x" = ["{CANARY}"] }}',
    ]
)  # fmt: skip
WORDS = st.sampled_from(["x", "issuer", "file", "scope", "tokens", "a.b", '"a b"', '""', "enabled", "uid"])


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """Take the example and delete, rename, retype or repeat some of its lines."""
    lines = list(LINES)
    for index in draw(st.lists(st.sampled_from(KEYS + SECTIONS), min_size=1, max_size=6, unique=True)):
        action = draw(st.sampled_from(["delete", "rename", "retype", "repeat"]))
        key, separator, value = lines[index].partition(" = ")
        if action == "delete":
            lines[index] = ""
        elif action == "repeat":
            lines[index] += f"\n{lines[index]}"
        elif not separator:
            lines[index] = f"[{draw(WORDS)}]"
        elif action == "rename":
            lines[index] = f"{draw(WORDS)} = {value}"
        else:
            lines[index] = f"{key} = {draw(VALUES)}"
    return "\n".join(lines)


def check_any(text: str) -> None:
    """Load a text, and insist that nothing but a ConfigurationError comes of it, and no canary."""
    refusal: ConfigurationError | None = None
    with tempfile.TemporaryDirectory() as directory:
        try:
            load(Path(directory), text)
        except ConfigurationError as error:
            refusal = error
    if refusal is not None:
        assert refusal.code == "configuration_invalid"
        assert refusal.problems
        assert CANARY not in printed(refusal)


@given(spoiled())
@hypothesis_settings(max_examples=150, deadline=None)
def test_no_change_of_the_example_raises_anything_else_or_repeats_a_secret(text: str) -> None:
    """Whatever an operator does to the file, the answer is a list of problems, or settings."""
    check_any(text)


@given(st.text(max_size=200))
@hypothesis_settings(max_examples=50, deadline=None)
def test_no_text_at_all_raises_anything_else(text: str) -> None:
    """Not even what is no TOML."""
    check_any(text)
