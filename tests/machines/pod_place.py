"""
The pod of ``deploy/kubernetes``, played by podman, with a sandbox as its authorization server.

The sandbox runs from this tree, in the network of the pod and in nothing else of it: it listens on loopback only.
"""

from __future__ import annotations

import copy
import ctypes
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.daemon.harness import Answer, SandboxProcess, split, wait_until
from tests.deploy.manifests import BROKER, Manifest, container, pod, settings_of
from tests.machines.container_place import PATIENCE, ContainerPlace
from tests.machines.kubelet_volumes import ProjectedFiles, make_claimed, make_empty_dir
from tests.machines.pod_differences import for_sandbox, ordinary, played_spec

SOCKET = Path("/run/token-broker/app/api.sock")

LIFETIME = 60
"""Seconds that tokens last."""

REQUEST = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(60)
try:
    s.connect(sys.argv[1])
except OSError as error:
    sys.exit(f"{type(error).__name__}")
s.sendall(sys.stdin.buffer.read())
while piece := s.recv(65536):
    sys.stdout.buffer.write(piece)
"""
"""Sends what comes in to a socket, and gives what comes back; or says which error kept it from connecting."""

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True, kw_only=True)
class PlayedPod:
    """
    A pod that runs.

    *shipped* is the spec that it is made of, *volumes* are its directories, by name, *pid* is a process in its network.
    """

    name: str
    place: ContainerPlace
    shipped: Manifest
    volumes: Path
    keys: ProjectedFiles
    sandbox: SandboxProcess
    pid: int

    def run_in(self, name: str, *command: str, given: bytes = b"") -> Done:
        """Run a command in a container, as a probe or an application would."""
        return self._podman("exec", "--interactive", f"{self.name}-{name}", *command, given=given)

    def run_beside(self, uid: int, *groups: int, given: bytes) -> Done:
        """Send a request from one more container, which mounts the socket as the application does."""
        return self._podman(
            *("run", "--rm", "--interactive", f"--pod={self.name}", "--cap-drop=all", "--read-only"),
            f"--user={uid}:{uid}",
            *(f"--group-add={group}" for group in groups),
            f"--volume={self.volumes / 'token-broker-app'}:{SOCKET.parents[1]}:ro",
            self.place.base,
            *("python3", "-I", "-c", REQUEST, str(SOCKET)),
            given=given,
        )

    def ask(self, target: str, **headers: str) -> Answer:
        """GET *target* in the container of the application."""
        done = self.run_in("app", "python3", "-I", "-c", REQUEST, str(SOCKET), given=request(target, **headers))
        assert done.returncode == 0, done.stderr.decode()
        return split(done.stdout)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Put this thread into the network of the pod, where the sandbox is, too."""
        with network_of(self.pid):
            yield

    def log(self, name: str) -> str:
        """Give what a container wrote."""
        done = self._podman("logs", f"{self.name}-{name}")
        return (done.stdout + done.stderr).decode()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Give the broker's log lines of one event."""
        lines = [json.loads(line) for line in self.log(BROKER).splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def state(self, name: str) -> dict[str, Any]:
        """Give the state of a container, as podman has it."""
        state: dict[str, Any] = json.loads(
            self.place.podman("inspect", "--format={{json .State}}", f"{self.name}-{name}")
        )
        return state

    def exit_code(self, name: str) -> int:
        """Wait until a container has ended, and give its exit code; podman knows that a little later."""
        wait_until(lambda: self.state(name)["Status"] == "exited", f"the end of {name}")
        code: int = self.state(name)["ExitCode"]
        return code

    def wait_as_the_kubelet(self) -> None:
        """Run the start-up probe until it is content, as long as the container runs."""
        probe = container(self.shipped, BROKER)["startupProbe"]["exec"]["command"]

        def is_content() -> bool:
            assert self.state(BROKER)["Running"], self.log(BROKER)
            return self.run_in(BROKER, *probe).returncode == 0

        wait_until(is_content, "the start-up probe")

    def start_again(self) -> None:
        """Start it after a stop; the sandbox stays behind, in the network that it had."""
        self.place.podman("pod", "start", self.name)

    def stop(self) -> None:
        """Stop it as the kubelet does: SIGTERM for each container, and time."""
        self.place.podman("pod", "stop", "--time=30", self.name)

    def _podman(self, *arguments: str, given: bytes = b"") -> Done:
        return subprocess.run(
            self.place.command(*arguments),
            env=self.place.environment(),
            input=given,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )


def request(target: str, **headers: str) -> bytes:
    """Write a GET; the underscores of *headers* are hyphens."""
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def secret_of(home: Path) -> Mapping[str, bytes]:
    """Give what people put into the Secret, with the sandbox's keys as theirs."""
    files = {
        "transport.pem": "client.pem",
        "transport.key": "client.key",
        "signing.pem": "signing-ps256.pem",
        "audit.key": "audit.key",
        "store.key": "store.key",
        "ca.pem": "ca.pem",
    }
    return {name: (home / source).read_bytes() for name, source in files.items()}


@contextmanager
def played_pod(place: ContainerPlace, directory: Path, manifests: str = "base") -> Iterator[PlayedPod]:
    """Play the pod of a folder, and wait for it as the kubelet does; all of it is gone in the end."""
    shipped = ordinary(manifests, directory / "manifests")
    name, volumes = f"pod-{uuid.uuid4().hex[:8]}", directory / "volumes"
    keys, config = _make_volumes(shipped, volumes)
    file, text = directory / "pod.yaml", settings_of(shipped).path.read_text()
    spec = played_spec(copy.deepcopy(pod(shipped)), place, volumes)
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
    sandbox = SandboxProcess(name="sandbox", directory=directory, arguments=[], lifetime=LIFETIME)
    try:
        place.podman("kube", "play", "--network=none", "--start=false", str(file))
        infra = place.podman("pod", "inspect", "--format={{.InfraContainerID}}", name)
        place.podman("start", infra)
        pid = int(place.podman("inspect", "--format={{.State.Pid}}", infra))
        with network_of(pid):
            sandbox.up()
        keys.write(secret_of(sandbox.home))
        config.write({"config.toml": for_sandbox(text, sandbox.control.addresses["issuer"]).encode()})
        place.podman("pod", "start", name)
        played = PlayedPod(
            name=name, place=place, shipped=pod(shipped), volumes=volumes, keys=keys, sandbox=sandbox, pid=pid
        )
        played.wait_as_the_kubelet()
        yield played
    finally:
        place.run("pod", "rm", "--force", "--time=0", name)
        sandbox.stop()


def _make_volumes(manifests: list[Manifest], volumes: Path) -> tuple[ProjectedFiles, ProjectedFiles]:
    """Make the volumes of the pod; give those of the Secret and of the configuration, which are still empty."""
    group: int = pod(manifests)["securityContext"]["fsGroup"]
    volumes.mkdir()
    for volume in pod(manifests)["volumes"]:
        if "emptyDir" in volume:
            make_empty_dir(volumes / volume["name"], group)
        if "persistentVolumeClaim" in volume:
            make_claimed(volumes / volume["name"], group)
    (example,) = [each for each in manifests if each["metadata"]["name"].startswith("example-app-")]
    program = ProjectedFiles(volumes / "example-app", group, mode=0o644)
    program.write({name: text.encode() for name, text in example["data"].items()})
    keys = ProjectedFiles(volumes / "token-broker-keys", group, mode=0o440)
    return keys, ProjectedFiles(volumes / "token-broker-config", group, mode=0o644)


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Put this thread, and the processes that it starts, into the network of another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            _enter(libc, theirs)
        finally:
            os.close(theirs)
        try:
            yield
        finally:
            _enter(libc, ours)
    finally:
        os.close(ours)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    """setns(2), which ``os`` has since Python 3.12."""
    if libc.setns(namespace, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
