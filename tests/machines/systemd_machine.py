"""
A machine with a real systemd, to install the broker on as the guide says.

Its root is made once in a session, from packages of its distribution; it is booted by systemd-nspawn without a network
and without telling the host's service manager. Commands get in by the namespaces of its first process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "howto" / "systemd.md"
CHECKOUT = "/usr/src/token-broker"
"""Where the guest has the repository."""

PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""

PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,curl,procps,adduser,logrotate"
TOOLS = ("systemd-nspawn", "mmdebstrap", "nsenter", "git")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEM_CALLS = "@memlock @keyring landlock_create_ruleset landlock_add_rule landlock_restrict_self bpf"
"""What systemd in the guest needs for its own units, beside nspawn's own list."""

POWER_OFF = signal.SIGRTMIN + 4
"""What systemd(1) as the first process takes for `poweroff`."""


@dataclass(frozen=True)
class Release:
    """A release of Debian, with the version of its Python."""

    name: str
    python: str


RELEASES = (Release("trixie", "3.13"), Release("bookworm", "3.11"))


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


def lacks() -> str | None:
    """Say why no machine can be booted here; None if one can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    return None if os.geteuid() == 0 else "needs root"


def make_root(release: Release, where: Path) -> None:
    """Make the root of a machine with the broker's wheels and a copy of the repository; skip where there is no way."""
    _or_skip(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", release.name, str(where)],
        "the packages of Debian cannot be fetched",
    )
    wheels = where / "wheels"
    locks = [argument for name in ("run", "build") for argument in ("-r", str(ROOT / "requirements" / f"{name}.txt"))]
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"]
    _or_skip(
        [*fetch, "--implementation=cp", f"--python-version={release.python}", f"--dest={wheels}", *locks],
        "the locked wheels cannot be fetched",
    )
    checkout = where / CHECKOUT.lstrip("/")
    checkout.mkdir(parents=True)
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).out
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    (where / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")  # the smallest Debian has none
    for unit in ("systemd-firstboot.service", "console-getty.service", "getty.target"):
        (where / "etc/systemd/system" / unit).symlink_to("/dev/null")


def _or_skip(command: list[str], reason: str) -> None:
    done = _run(command)
    if done.code:
        pytest.skip(f"{reason}: {done.err.strip()[-300:]}")


def _run(command: list[str], given: str | None = None, patience: float = 600.0) -> Done:
    ended = subprocess.run(command, input=given or "", capture_output=True, text=True, timeout=patience, check=False)
    return Done(ended.returncode, ended.stdout, ended.stderr)


@dataclass
class Machine:
    """A booted machine: *root* is its file system, *pid* its first process as the host sees it."""

    root: Path
    pid: int

    def run(self, *command: str, given: str | None = None, env: Mapping[str, str] | None = None) -> Done:
        """Run a command in the machine as root."""
        return _run([*self.enter(env), *command], given, patience=PATIENCE * 2)

    def enter(self, env: Mapping[str, str] | None = None) -> list[str]:
        """Give what stands before a command to run it in the machine."""
        variables = [f"{name}={value}" for name, value in {"PATH": PATH, "LANG": "C.UTF-8", **(env or {})}.items()]
        return ["nsenter", "--target", str(self.pid), "--all", "env", "-i", *variables]

    def good(self, *command: str, given: str | None = None) -> str:
        """Run a command that has to succeed; give what it printed."""
        done = self.run(*command, given=given)
        assert done.code == 0, f"{command}: {done.code}\n{done.out}\n{done.err}\n{self.journal()[-3_000:]}"
        return done.out

    def as_user(self, user: str, *command: str) -> Done:
        """Run a command as somebody else, with all groups of theirs."""
        return self.run("runuser", "-u", user, "--", *command)

    def guide(self, heading: str) -> str:
        """Do what the guide says under *heading*, in the checkout, all in one shell that stops at the first failure."""
        script = "\n".join(blocks(GUIDE.read_text(), heading))
        assert script, f"the guide has no commands under {heading}"
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_CONFIG_FILE": "/dev/null"}
        done = self.run("bash", "-euo", "pipefail", "-c", f"cd {CHECKOUT}\n{script}", env=offline)
        assert done.code == 0, f"{heading}: {done.out}\n{done.err}\n{self.journal()[-3_000:]}"
        return done.out

    def file(self, path: str) -> Path:
        """Give a file of the machine as the host sees it (not what lies in memory there)."""
        return self.root / path.lstrip("/")

    def journal(self, unit: str = "token-broker.service") -> str:
        """Give what *unit* has said."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").out

    def property(self, name: str, unit: str = "token-broker.service") -> str:
        """Give a property of a unit."""
        return self.good("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def main_pid(self) -> str:
        """Give the broker's process id in the machine."""
        return self.property("MainPID")

    def until(self, what: str, wanted: str, *command: str) -> None:
        """Wait until *command* prints *wanted*."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in (said := self.run(*command).out):
            assert time.monotonic() < deadline, f"in vain: {what}: {said}\n{self.journal()[-3_000:]}"
            time.sleep(0.1)

    def settled(self) -> None:
        """Forget failures and starts that were counted, so that no test stands in the way of the next."""
        self.run("systemctl", "reset-failed")
        self.good("systemctl", "start", "token-broker.socket", "token-broker.service")


def blocks(text: str, heading: str) -> list[str]:
    """Give the shell commands in the section *heading* of a page."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return [] if section is None else re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot the machine in *root*, and power it off in the end."""
    log = root.with_suffix(".log")
    command = [
        "systemd-nspawn",
        "--directory",
        str(root),
        "--boot",
        "--register=no",
        "--keep-unit",
        "--private-network",
    ]
    command += ["--private-users=no", "--capability=all", f"--system-call-filter={SYSTEM_CALLS}", "--console=pipe"]
    with log.open("wb") as out:
        outside = subprocess.Popen(
            [*command, f"--machine=tb-{os.getpid()}"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        machine = Machine(root, _first_process(outside, log))
        deadline = time.monotonic() + PATIENCE
        while machine.run("systemctl", "is-system-running").out.strip() not in {"running", "degraded"}:
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)
        yield machine
    finally:
        _power_off(outside, log)


def _first_process(outside: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and outside.poll() is None:
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError(f"it did not boot: {log.read_text(errors='replace')}")


def _power_off(outside: subprocess.Popen[bytes], log: Path) -> None:
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
    if outside.poll() is None:
        for child in children.read_text().split():
            os.kill(int(child), POWER_OFF)
        try:
            outside.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            outside.kill()
            outside.wait()
            raise AssertionError(f"it did not power off: {log.read_text(errors='replace')}") from None


def sandbox_config(machine: Machine) -> str:
    """Give the configuration of the guide for the sandbox server of the machine."""
    made = tomllib.loads(machine.file("/srv/sandbox/config.toml").read_text())
    issuer, key, client = made["issuer"]["sandbox"], made["key"]["demo"], made["client"]["demo"]
    changes = {
        '"https://auth.example.com"': f'"{issuer["issuer"]}"\nca_file = "ca.pem"\nsandbox = true',
        '"signing-1"': f'"{key["kid"]}"',
        '"PS256"': f'"{key["alg"]}"',
        '"our-client"': f'"{client["client_id"]}"',
        '["read"]': json.dumps(made["token"]["demo"]["scope"]),
    }
    text = (ROOT / "deploy" / "systemd" / "config.toml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text
