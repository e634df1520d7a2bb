"""``check --online`` against a real server, and against one that has gone wrong: named in words, all at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import PATIENCE, SandboxProcess, canaries, found, sandbox_process


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


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("wrong_issuer", {}, "[issuer_mismatch]"),
        ("foreign_endpoint", {}, "endpoint_hosts = ["),
        (
            "alter",
            {
                "set": {
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                    "token_endpoint_auth_signing_alg_values_supported": ["RS256"],
                    "tls_client_certificate_bound_access_tokens": False,
                }
            },
            "3 disagreement(s)",
        ),
        ("alter", {"remove": ["token_endpoint"]}, "no token_endpoint"),
    ],
)
def test_each_disagreement_is_named_and_is_exit_2(
    sandbox: SandboxProcess, kind: str, parameters: dict[str, object], said: str
):
    """In words that name the member or the key."""
    sandbox.control.clear_faults()
    sandbox.control.fault("metadata", kind, times=10, **parameters)

    done = check(sandbox)

    sandbox.control.clear_faults()
    assert done.returncode == 2
    assert said in done.stderr


def test_a_missing_alias_is_told_and_refuses_nothing(sandbox: SandboxProcess):
    """The ordinary endpoint is called with the certificate."""
    sandbox.control.fault("metadata", "alter", times=10, remove=["mtls_endpoint_aliases"])

    done = check(sandbox)

    sandbox.control.clear_faults()
    assert done.returncode == 0
    assert "mtls_endpoint_aliases has no token_endpoint" in done.stdout


def test_a_server_whose_authority_is_not_trusted_is_named_with_ca_file(sandbox: SandboxProcess):
    """There is no way around it."""
    text = (sandbox.home / "config.toml").read_text()
    config = sandbox.home / "untrusted.toml"
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("ca_file")))

    done = check(sandbox, config)

    assert done.returncode == 2
    assert "ca_file" in done.stderr
