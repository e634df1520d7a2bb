"""The image, run as it is meant to: without a name, a capability, a network or a file that it could write."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.rig import make_keys
from tests.daemon.harness import get, wait_until
from tests.machines.container_place import ROOT, ContainerPlace

BROKER = 65532
"""The user and the group of the image."""

MEMORY = 128 * 1024 * 1024

HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--network=none",
    f"--memory={MEMORY}",
    "--pids-limit=64",
)

CONFIG = """\
[issuer.bank]
issuer = "https://as.bank.example"
profile = "fapi2"

[certificate.transport]
cert_file = "client.pem"
key_file = "client.key"

[key.signing]
file = "signing.pem"
alg = "ES256"

[client.app]
issuer = "bank"
client_id = "app-1"
client_auth_method = "private_key_jwt"
signing_keys = ["signing"]
certificate = "transport"

[token.directory]
client = "app"
scope = ["directory:software"]
required = true

[listener.app]
path = "/run/token-broker/app/api.sock"
mode = "0666"

[workload.app]
listener = ["app"]
uid = [0]
tokens = ["directory"]

[audit]
file = "/var/log/token-broker/audit.jsonl"
key = { file = "audit.key" }
"""
"""The issuer cannot be reached: it serves, and is not ready."""

LOOK = """
id -u; id -g; grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d ' \\t'
touch /probe /opt/token-broker/probe /etc/token-broker/probe 2>&1 | grep -c 'Read-only file system'
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
"""

SEARCH = """
find / -xdev -perm /6000 -print
find / -xdev \\( -name pip -o -name 'pip-*' -o -name 'pip3*' -o -name ensurepip \\) -path '*bin/*' -print
find / -xdev -type d \\( -name pip -o -name ensurepip -o -name sandbox \\) -path '*/python3*' -print
for name in cc gcc c++ make ld as pip pip3; do command -v "$name"; done
"""

BYTECODE = """
import importlib, os, pkgutil, sys
import broker
for module in pkgutil.walk_packages(broker.__path__, "broker."):
    if module.name != "broker.__main__":
        importlib.import_module(module.name)
loaded = [module for module in list(sys.modules.values()) if getattr(module, "__cached__", None)]
files = {module.__file__: module.__cached__ for module in loaded}
print(len(files), sorted(source for source, cached in files.items() if not os.path.exists(cached)))
"""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of the image that runs a broker, and what it has mounted."""

    place: ContainerPlace
    name: str
    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "app" / "api.sock"

    def inside(self, *command: str) -> tuple[int, str]:
        """Run a command in it; gives its exit code and all that it said."""
        done = self.place.run("exec", self.name, *command)
        return done.returncode, done.stdout + done.stderr

    def logs(self) -> list[str]:
        done = self.place.run("logs", self.name)
        return (done.stdout + done.stderr).splitlines()


@pytest.fixture
def folder(containers: ContainerPlace) -> Iterator[Path]:
    """What a cluster mounts: keys and a configuration of the broker's user, and places that it can write."""
    folder = containers.home / "mounted"
    (folder / "etc").mkdir(parents=True)
    make_keys(folder / "etc")
    (folder / "etc" / "config.toml").write_text(CONFIG)
    for name in ("run", "log"):
        (folder / name).mkdir(mode=0o755)
    for path in (folder / "run", folder / "log", folder / "etc", *(folder / "etc").iterdir()):
        os.chown(path, BROKER, BROKER)
    folder.parent.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def mounts(folder: Path) -> tuple[str, ...]:
    return (
        f"--volume={folder / 'etc'}:/etc/token-broker:ro",
        f"--volume={folder / 'run'}:/run/token-broker",
        f"--volume={folder / 'log'}:/var/log/token-broker",
    )


@pytest.fixture
def broker(containers: ContainerPlace, folder: Path) -> Iterator[Container]:
    """A broker that serves."""
    container = Container(place=containers, name="broker", folder=folder)
    containers.podman("run", "--detach", "--name", container.name, *HARDENED, *mounts(folder), containers.image)
    try:
        wait_until(container.socket.exists, "\n".join(container.logs()) or "the socket is there")
        yield container
    finally:
        containers.run("rm", "--force", "--time", "0", container.name)


def look(containers: ContainerPlace, script: str) -> list[str]:
    """Give the lines that a shell prints in a container of the image."""
    shell = ("--entrypoint", "/bin/sh", containers.image, "-c", script)
    return containers.run("run", "--rm", *HARDENED, *shell).stdout.splitlines()


def test_it_runs_as_nobody_with_nothing(containers: ContainerPlace):
    """Without any option that names a user, and with those of a restricted pod."""
    lines = look(containers, LOOK)

    assert lines[:2] == [str(BROKER), str(BROKER)]
    assert lines[2:6] == ["CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1", "Seccomp:2"]
    assert lines[6:] == ["3", str(MEMORY)]


def test_nothing_in_it_installs_builds_or_becomes_somebody_else(containers: ContainerPlace):
    """No pip in any form, no compiler, no bit that changes the user, and no server of the sandbox."""
    as_root = ("run", "--rm", "--network=none", "--user=0:0", "--entrypoint", "/bin/sh")

    found = containers.run(*as_root, containers.image, "-c", SEARCH)

    assert (found.stdout, found.stderr) == ("", "")


def test_the_base_has_what_the_image_has_not(containers: ContainerPlace):
    """Otherwise the test above would show nothing."""
    found = containers.podman("run", "--rm", "--network=none", containers.base, "/bin/sh", "-c", SEARCH + "true")

    assert "/usr/bin/passwd" in found
    assert re.search(r"/pip$", found, re.MULTILINE)


def test_everything_that_is_imported_is_compiled(containers: ContainerPlace):
    """A start on a read-only file system compiles nothing; that of the standard library is part of it."""
    interpreter = ("--entrypoint", "/opt/token-broker/bin/python3", containers.image, "-IB", "-c", BYTECODE)

    said = containers.podman("run", "--rm", *HARDENED, *interpreter)

    number, _, missing = said.partition(" ")
    assert missing == "[]"
    assert int(number) > 500


def test_the_labels_say_what_it_is(containers: ContainerPlace):
    """As the annotations of OCI have it, by the arguments of the build."""
    labels = json.loads(containers.podman("inspect", "--format", "{{json .Config.Labels}}", containers.image))

    assert labels["org.opencontainers.image.title"] == "token-broker"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert f'__version__ = "{labels["org.opencontainers.image.version"]}"' in (ROOT / "broker/__init__.py").read_text()
    assert labels["org.opencontainers.image.base.name"] == containers.base
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["org.opencontainers.image.created"])


def test_a_broker_serves_and_probes_find_out(broker: Container):
    """By the command that the image has, without an argument; the issuer cannot be reached, and that is told."""
    alive, not_ready = broker.inside("token-broker", "health"), broker.inside("token-broker", "health", "--ready")

    answer = get(broker.socket, "/livez")
    assert answer.status == 200
    assert alive == (0, "")
    assert not_ready[0] == 1
    assert "[temporarily_unavailable]" in not_ready[1]
    assert len(not_ready[1].splitlines()) == 1


def test_it_writes_where_it_was_told_and_nowhere_else(broker: Container):
    """Its directory in the volume is its own making; nothing of the image was changed."""
    changed = broker.place.podman("diff", broker.name).splitlines()

    assert (broker.folder / "run" / "app").stat().st_uid == BROKER
    assert (broker.folder / "log" / "audit.jsonl").exists()
    assert [line for line in changed if line.startswith(("A /opt", "C /opt", "A /usr", "C /usr", "A /var/lib"))] == []


GUIDE = (ROOT / "docs" / "howto" / "container.md").read_text()


def typed(beginning: str) -> list[str]:
    """Give the words behind ``podman`` of the only command of the guide that begins so."""
    (command,) = re.findall(rf"^\$ podman {beginning}((?:.*\\\n)*.*)$", GUIDE, re.MULTILINE)
    return [*beginning.split(), *shlex.split(command.replace("\\\n", " "), comments=True)]


def test_an_application_in_another_container_asks_at_the_socket(containers: ContainerPlace, folder: Path):
    """Both by the commands of the guide: named volumes, the group of the listener, a user of its own."""
    (policy,) = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    config = folder / "etc" / "config.toml"
    issuer, audit = CONFIG.partition("[listener.app]")[0], CONFIG[CONFIG.index("[audit]") :]
    config.write_text(f"{issuer}{policy}\n{audit}")
    changes = {"./etc:": f"{folder / 'etc'}:", "token-broker:0.1.0": containers.image}

    def guide(beginning: str) -> list[str]:
        words = typed(beginning)
        for old, new in changes.items():
            words = [new + word.removeprefix(old) if word.startswith(old) else
                     word.replace(f"={old}", f"={new}") for word in words]  # fmt: skip
        return [*words[:1], "--network=none", *words[1:]]

    try:
        containers.podman(*guide("run --detach"))
        wait_until(lambda: containers.run("exec", "broker", "token-broker", "health").returncode == 0, "it serves")
        asked = guide("run --rm")

        allowed = containers.run(*asked)
        another = containers.run(*[word.replace("10001:", "10002:") for word in asked])
        outside = containers.run(*[word.replace(":10000", ":10001") for word in asked])

        assert "directory" in allowed.stdout, allowed.stderr  # exit code 1: the issuer cannot be reached
        assert "directory" not in another.stdout + another.stderr
        assert "not allowed to open" in outside.stderr
    finally:
        containers.run("rm", "--force", "--time", "0", "broker")
        containers.run("volume", "rm", "--force", "broker-run", "broker-log", "broker-state")


def test_the_signal_of_the_image_drains_it(broker: Container):
    """Exit code 0, the last checkpoint of the audit log written, the socket gone."""
    begun = time.monotonic()

    broker.place.podman("stop", "--time", "20", broker.name)

    code = broker.place.podman("inspect", "--format", "{{.State.ExitCode}}", broker.name)
    assert code == "0", broker.logs()
    assert time.monotonic() - begun < 15
    assert not broker.socket.exists()
    last = json.loads((broker.folder / "log" / "audit.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "checkpoint"


def test_a_missing_configuration_is_refused(containers: ContainerPlace):
    """Exit code 2, which no restart mends, and no traceback."""
    done = containers.run("run", "--rm", *HARDENED, containers.image)

    said = done.stderr.splitlines()
    assert done.returncode == 2
    assert [line for line in said if "[configuration_unreadable]" in line] == said[-2:-1]
    assert "/etc/token-broker/config.toml" in done.stderr


def test_an_unsafe_key_is_refused(containers: ContainerPlace, folder: Path):
    """A key that everybody in the container could read."""
    (folder / "etc" / "signing.pem").chmod(0o444)

    done = containers.run("run", "--rm", *HARDENED, *mounts(folder), containers.image)

    assert done.returncode == 2
    assert "/etc/token-broker/signing.pem" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["demo", "sandbox"])
def test_a_command_that_was_left_out_says_so(containers: ContainerPlace, command: str):
    """One line, and no traceback."""
    done = containers.run("run", "--rm", *HARDENED, containers.image, command)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("[sandbox_missing]")
    assert "Traceback" not in done.stderr
