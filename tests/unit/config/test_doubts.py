"""What looks like a mistake but may be meant."""

from __future__ import annotations

import pytest

from broker.config.doubts import find_doubts, find_locked_out
from broker.config.problems import Findings
from tests.unit.config.files import changed, document

ISSUER = 'issuer = "https://auth.example.com"'
OTHER_LISTENER = '[listener.other]\npath = "other.sock"\n\n[workload.app]'


def found(*edits: tuple[str, str]) -> list[str]:
    """Give the warnings about a changed file."""
    warnings = Findings()
    find_doubts(document(changed(*edits)), warnings)
    return [str(warning) for warning in warnings.problems()]


def test_the_good_file_raises_no_doubts() -> None:
    """Warnings that are always there are not read."""
    assert found() == []


@pytest.mark.parametrize(
    ("edit", "path", "message"),
    [
        (('key = { file = "audit.key" }\n', ""), "audit.key", "not authenticated"),
        (("[audit]", "[audit]\nenabled = false"), "audit.enabled", "recorded nowhere"),
        (
            (ISSUER, 'issuer = "https://auth.example.com/.well-known/openid-configuration"'),
            "issuer.raidiam.issuer",
            "is the address of the metadata",
        ),
        (('"our-client"', '"CLIENT_ID"'), "client.raidiam.client_id", "the word of an example"),
        ((ISSUER, f"{ISSUER}\nsandbox = true"), "issuer.raidiam.sandbox", "a sandbox is trusted"),
        (
            (ISSUER, 'issuer = "http://127.0.0.1:1"\nallow_insecure_loopback = true'),
            "issuer.raidiam.allow_insecure_loopback",
            "without TLS",
        ),
        (
            ("[workload.app]", '[certificate.other]\ncert_file = "a"\nkey_file = "b"\n\n[workload.app]'),
            "certificate.other",
            "is used by no other section",
        ),
        (
            ("[workload.app]", '[key.other]\nfile = "a"\nalg = "ES256"\n\n[workload.app]'),
            "key.other",
            "is used by no other section",
        ),
        (
            ("[workload.app]", '[issuer.other]\nissuer = "https://b.example"\n\n[workload.app]'),
            "issuer.other",
            "is used by no other section",
        ),
        (
            ("[workload.app]", '[token.other]\nclient = "raidiam"\n\n[workload.app]'),
            "token.other",
            "no workload may get it",
        ),
        (
            ('client = "raidiam"', 'client = "raidiam"\ngrant_type = "authorization_code"'),
            "token.directory",
            "needs a person's consent, and no workload may ask for it",
        ),
        (("[workload.app]", OTHER_LISTENER), "listener.other", "nobody gets a token there"),
        (("uid = [1000]", "uid = [65534]"), "workload.app.uid", "matches nobody"),
        (("uid = [1000]", "gid = [65534]"), "workload.app.gid", "matches nobody"),
        (
            (
                'path = "app.sock"\n\n[workload.app]\nlistener = ["app"]\nuid = [1000]',
                'path = "app.sock"\nmode = "0666"\n\n[workload.app]\nlistener = ["app"]',
            ),
            "workload.app",
            "everybody who reaches the socket",
        ),
        (
            ('path = "app.sock"', 'address = "127.0.0.1:8181"\nsecret_file = "secret"'),
            "workload.app",
            "over TCP a caller has no uid",
        ),
    ],
)
def test_a_doubt_is_said_at_its_place(edit: tuple[str, str], path: str, message: str) -> None:
    """One edit, one warning."""
    (warning,) = found(edit)

    assert warning.startswith(f"{path}: ")
    assert message in warning


def test_an_unused_client_leaves_what_it_names_in_use() -> None:
    """One warning at the root of it, not one for each section that hangs below."""
    client = (
        '[client.other]\nissuer = "raidiam"\nclient_id = "x"\nsigning_keys = ["signing"]\ncertificate = "transport"\n\n'
    )

    assert found(("[workload.app]", f"{client}[workload.app]")) == ["client.other: is used by no other section"]


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (('tokens = ["directory"]', "tokens = []"), "tokens"),
        (('tokens = ["directory"]', 'tokens = ["directory"]\nmay = []'), "may"),
    ],
)
def test_a_workload_that_gets_nothing_is_said(edit: tuple[str, str], key: str) -> None:
    """And with it the token that nobody gets any more."""
    warnings = found(edit)

    assert f"workload.app.{key}: is empty: this workload gets nothing" in warnings
    assert any(warning.startswith("token.directory: ") for warning in warnings)


def test_a_listener_is_not_idle_while_a_workload_is_known_everywhere() -> None:
    """A workload without listener is recognized on each."""
    assert found(("[workload.app]", OTHER_LISTENER), ('listener = ["app"]\n', "")) == []


def test_a_socket_open_to_all_is_fine_where_uids_are_asked() -> None:
    """The kernel's word is the boundary then, not the file's permissions."""
    assert found(('path = "app.sock"', 'path = "app.sock"\nmode = "0666"')) == []


def test_unknown_ids_beside_known_ones_are_fine() -> None:
    """The workload still matches somebody."""
    assert found(("uid = [1000]", "uid = [1000, 65534]")) == []


@pytest.mark.parametrize(
    ("mode", "uid", "warned"),
    [("0600", "[1234]", True), ("0640", "[1234]", True), ("0660", "[1234]", False), ("0600", "[1234, 77]", False)],
    ids=["nobody else", "reading is not enough", "the group", "the broker itself"],
)
def test_a_workload_that_cannot_open_its_socket_is_doubted(mode: str, uid: str, warned: bool) -> None:
    """It would get "permission denied" for ever, and nothing would be in the log."""
    parsed = document(changed(("[listener.app]", f'[listener.app]\nmode = "{mode}"'), ("uid = [1000]", f"uid = {uid}")))
    warnings = Findings()

    find_locked_out(parsed, warnings, euid=77)

    assert [str(one).partition(":")[0] for one in warnings.problems()] == (["workload.app.uid"] if warned else [])
