"""``check --online`` at the real server: what agrees is left alone, what does not is named; also through a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import main
from tests.daemon.test_proxy import connect_proxy
from tests.interop.rig import Rig

CONFIG = """
[issuer.real]
issuer = "{issuer}"
profile = "{profile}"
ca_file = "{ca_file}"
{more}

[certificate.app]
cert_file = "{certificate}"
key_file = "{key}"

[key.ours]
file = "{file}"
alg = "{alg}"

[client.ours]
issuer = "real"
client_id = "ours"
client_auth_method = "{method}"
certificate = "app"
{client}

[token.ours]
client = "ours"

[listener.app]
path = "api.sock"

[workload.app]
listener = ["app"]
tokens = ["ours"]

[audit]
file = "audit.log"
key = {{ file = "audit.key" }}
"""

SIGNED = 'signing_keys = ["ours"]'


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(tmp_path_factory.mktemp("real")) as server:
        yield server


def config(
    rig: Rig,
    home: Path,
    *,
    profile: str = "fapi2",
    alg: str = "PS256",
    method: str = "private_key_jwt",
    client: str = SIGNED,
    more: str = "",
) -> list[str]:
    """Write a configuration, and give the arguments that check it."""
    for name, content in (("ours.secret", "canary-4711\n"), ("audit.key", "k" * 48)):
        (home / name).touch(mode=0o600)
        (home / name).write_text(content)
    text = CONFIG.format(
        issuer=rig.issuer,
        profile=profile,
        ca_file=rig.ca_file,
        certificate=rig.app.cert_file,
        key=rig.app.key_file,
        file=rig.signing_keys[alg].file,
        alg=alg,
        method=method,
        client=client,
        more=more,
    )
    (home / "config.toml").write_text(text)
    return ["check", "--online", "--config", str(home / "config.toml")]


@pytest.mark.parametrize("alg", ["PS256", "ES256", "EdDSA"])
def test_a_client_that_the_server_can_serve_agrees(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str], alg: str
):
    """And the real document, with all that it has beside, says nothing that is worth a remark but requirements."""
    code = main(config(rig, tmp_path, alg=alg))

    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    assert "issuer.real: its metadata is accepted" in told.out
    remarks = [line for line in told.out.splitlines() if line.startswith("client.ours: ")]
    assert [line for line in remarks if "no matter to client_credentials" not in line] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"profile": "oauth2", "alg": "RS256"},
            'lacks the alg of the signing_keys of [client.ours], "RS256"; the server takes "PS256", "ES256", "EdDSA"',
        ),
        (
            {
                "profile": "oidc",
                "method": "client_secret_basic",
                "client": 'client_secret = { file = "ours.secret" }',
            },
            'lacks the client_auth_method of [client.ours], "client_secret_basic"; the server offers "private_key_jwt"',
        ),
    ],
)
def test_what_the_server_does_not_offer_is_named_with_what_it_does(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], said: str
):
    """Read from its own metadata."""
    code = main(config(rig, tmp_path, **options))

    told = capsys.readouterr().err
    assert code == 2
    assert said in told
    assert "canary" not in told


def test_a_slash_too_many_finds_nothing_or_another_issuer(rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The real server answers at both; the difference is named."""
    arguments = config(rig, tmp_path)
    file = tmp_path / "config.toml"
    file.write_text(file.read_text().replace(f'"{rig.issuer}"', f'"{rig.issuer}/"'))

    code = main(arguments)

    assert code == 2
    assert "and differs by a slash at the end" in capsys.readouterr().err


def test_the_check_reaches_the_real_server_through_a_proxy(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """One tunnel, and nothing said but CONNECT."""
    with connect_proxy() as proxy:
        code = main(config(rig, tmp_path, more=f'proxy = "{proxy.url}"'))

    assert code == 0, capsys.readouterr().err
    assert (proxy.tunnels, {head.split()[0] for head in proxy.heads}) == (1, {"CONNECT"})
