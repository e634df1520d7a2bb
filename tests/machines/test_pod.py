"""
The pod of ``deploy/kubernetes``, run for real: a broker of the image, an application beside it, a socket between them.

podman plays it, from the manifests that ship; in what the two differ is in ``pod_differences.py``.
"""

from __future__ import annotations

import errno
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import main
from tests.daemon.harness import canaries, found, split, wait_until
from tests.deploy.manifests import BROKER, container, pod, rendered
from tests.machines.container_place import ContainerPlace
from tests.machines.kubelet_volumes import open_to_group
from tests.machines.pod_place import SOCKET, PlayedPod, played_pod, request, secret_of

APPLICATION, STRANGER, GROUP = 10_001, 10_002, 10_000

TRY_TO_WRITE = f"""
import errno, os
for act in (lambda: os.unlink("{SOCKET}"), lambda: os.rename("{SOCKET.parent}", "{SOCKET.parents[1]}/other"),
            lambda: open("{SOCKET.parents[1]}/mine", "w"), lambda: os.mkdir("{SOCKET.parents[1]}/app2")):
    try:
        act()
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("done")
"""

LOOK = """
import os, sys
status = open("/proc/1/status").read().splitlines()
for line in status:
    if line.split(":")[0] in {"Uid", "Gid", "Groups", "CapBnd", "CapEff", "NoNewPrivs", "Seccomp"}:
        print(*line.replace(":", "").split())
try:
    open("/anything", "w")
except OSError as error:
    print("root", error.errno)
"""
"""Tells what the first process of a container may do."""


WAIT = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setgroups([int(sys.argv[3])]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX); s.settimeout(60)
s.connect("api.sock")
s.sendall(sys.stdin.buffer.read())
print("sent", file=sys.stderr, flush=True)
while piece := s.recv(65536):
    sys.stdout.buffer.write(piece)
"""
"""Sends what comes in to a socket in a directory that only root can reach, as another user, and says that it did."""


@pytest.fixture(scope="module")
def played(containers: ContainerPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedPod]:
    """One pod for the tests that leave it as it is."""
    with played_pod(containers, tmp_path_factory.mktemp("pod")) as one:
        yield one
        came_out = found(one.log(BROKER) + one.log("app"), canaries(one.sandbox.home))
        assert came_out == set()


@pytest.fixture
def own_pod(containers: ContainerPlace, tmp_path: Path) -> Iterator[PlayedPod]:
    """A pod that may be changed and stopped."""
    with played_pod(containers, tmp_path) as one:
        yield one


def has_token(one: PlayedPod) -> bool:
    return one.ask("/v1/tokens/directory").status == 200


def test_the_application_gets_a_token_through_the_shared_socket(played: PlayedPod) -> None:
    """It is one of the server beside, bound to the certificate of the Secret."""
    wait_until(lambda: has_token(played), "a token")

    answer = played.ask("/v1/tokens/directory")
    assert answer.json()["issuer"] == played.sandbox.control.addresses["issuer"]
    assert answer.json()["expires_in"] > 0
    assert "x5t#S256" in answer.json()["cnf"]


def test_the_example_application_says_that_it_has_one(played: PlayedPod) -> None:
    """As it is in its ConfigMap, with the command of the Job."""
    wait_until(lambda: has_token(played), "a token")
    command = container(pod(rendered("overlays/job")), "app")["command"]

    done = played.run_in("app", *command)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(f"a token of {played.sandbox.control.addresses['issuer']} for ".encode())


def test_the_application_cannot_put_anything_in_the_place_of_the_socket(played: PlayedPod) -> None:
    """Its mount is read-only, whatever the modes in it would let it do."""
    done = played.run_in("app", "python3", "-I", "-c", TRY_TO_WRITE)

    assert done.stdout.decode().split() == ["EROFS"] * 4


def test_the_broker_made_a_directory_of_its_own_in_the_volume(played: PlayedPod) -> None:
    """The group may pass through it and connect, and nobody else."""
    directory = (played.volumes / "token-broker-app" / "app").stat()
    socket = (played.volumes / "token-broker-app" / "app" / "api.sock").stat()

    assert (directory.st_mode & 0o7777, directory.st_uid, directory.st_gid) == (0o750, 65_532, GROUP)
    assert (socket.st_mode & 0o7777, socket.st_uid, socket.st_gid) == (0o660, 65_532, GROUP)


@pytest.mark.parametrize(("uid", "groups"), [(STRANGER, ()), (APPLICATION, ())])
def test_a_container_without_the_group_cannot_connect(played: PlayedPod, uid: int, groups: tuple[int, ...]) -> None:
    """Whatever its uid: the kernel keeps it out."""
    done = played.run_beside(uid, *groups, given=request("/v1/tokens/directory"))

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"PermissionError" in done.stderr


def test_a_container_with_the_group_and_another_uid_is_refused(played: PlayedPod) -> None:
    """It can connect, and is nobody."""
    done = played.run_beside(STRANGER, GROUP, given=request("/v1/tokens/directory"))

    assert split(done.stdout).status == 403
    assert split(done.stdout).json()["error"] == "access_denied"


@pytest.mark.parametrize(("name", "uid"), [(BROKER, 65_532), ("app", APPLICATION)])
def test_containers_have_what_the_manifest_gives_them_and_no_more(played: PlayedPod, name: str, uid: int) -> None:
    """Uids of their own, the group in common, no capability, a filter on system calls, a root that nobody writes."""
    done = played.run_in(name, "python3", "-I", "-c", LOOK)

    seen = {words[0]: words[1:] for words in (line.split() for line in done.stdout.decode().splitlines())}
    assert set(seen["Uid"]) == {str(uid)}
    assert str(GROUP) in seen["Groups"]
    assert int(seen["CapEff"][0], 16) == int(seen["CapBnd"][0], 16) == 0
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == (["1"], ["2"])
    assert seen["root"] == [str(errno.EROFS)]


def test_health_and_metrics_are_where_kubelet_and_prometheus_ask(played: PlayedPod) -> None:
    """At the port of the manifest, on all addresses of the pod."""
    broker = container(pod(rendered("base")), BROKER)
    (port,) = broker["ports"]
    answers = {}

    with played.network():
        for path in (broker["readinessProbe"]["httpGet"]["path"], "/metrics"):
            connection = http.client.HTTPConnection("127.0.0.1", port["containerPort"], timeout=10)
            connection.request("GET", path)
            answers[path] = connection.getresponse().status
            connection.close()

    assert answers == {"/readyz": 200, "/metrics": 200}


def test_every_command_of_the_manifest_runs_in_the_image(played: PlayedPod) -> None:
    """Probes of the native form, hooks of the ordinary one."""
    native = container(pod(rendered("base")), BROKER)
    hooks = container(pod(rendered("overlays/before-1.29")), BROKER)["lifecycle"]
    commands = [native[probe]["exec"]["command"] for probe in ("startupProbe", "livenessProbe")]
    commands += [hooks["postStart"]["exec"]["command"], [hooks["preStop"]["exec"]["command"][0], "0"]]

    for command in commands:
        done = played.run_in(BROKER, *command)
        assert done.returncode == 0, (command, done.stderr)


def test_the_probe_says_when_nobody_serves(played: PlayedPod) -> None:
    """Or else a start would be taken for good that is none."""
    command = container(pod(rendered("base")), BROKER)["startupProbe"]["exec"]["command"]

    done = played.run_in(BROKER, *command[:-1], "/run/token-broker/app/none.sock")

    assert done.returncode == 1


def test_a_server_that_fails_keeps_the_pod_in_service(own_pod: PlayedPod) -> None:
    """The token is served while it is good; the broker stays live and ready."""
    wait_until(lambda: has_token(own_pod), "a token")
    with own_pod.network():
        own_pod.sandbox.control.set(down=True)
    probe = container(pod(rendered("base")), BROKER)["livenessProbe"]["exec"]["command"]

    assert own_pod.run_in(BROKER, *probe).returncode == 0
    assert own_pod.ask("/readyz").status == 200
    assert own_pod.ask("/v1/tokens/directory").status == 200


def test_a_secret_that_is_replaced_is_in_use_without_a_restart(own_pod: PlayedPod) -> None:
    """The kubelet swaps all files at once, behind the link through which they were read."""
    wait_until(lambda: has_token(own_pod), "a token")
    before = own_pod.ask("/v1/tokens/directory").json()["cnf"]
    with own_pod.network():
        own_pod.sandbox.control.issue_certificate("client")

    own_pod.keys.write(secret_of(own_pod.sandbox.home))

    wait_until(lambda: own_pod.ask("/v1/tokens/directory").json()["cnf"] != before, "a token bound to the new one")
    assert own_pod.events("rotation_refused") == []


def test_a_pod_that_is_stopped_drains_and_leaves_nothing(
    own_pod: PlayedPod, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who waits for the next token gets an answer, both containers end with 0, the audit log is whole."""
    wait_until(lambda: has_token(own_pod), "a token")
    tag = own_pod.ask("/v1/tokens/directory").headers["etag"]
    waiting = waits(own_pod, tag)

    own_pod.stop()

    answered, _ = waiting.communicate(timeout=60)
    assert split(answered).status in {200, 304, 503}
    assert {name: own_pod.exit_code(name) for name in (BROKER, "app")} == {BROKER: 0, "app": 0}
    assert list((own_pod.volumes / "token-broker-app" / "app").iterdir()) == []
    log = own_pod.volumes / "token-broker-audit" / "audit.jsonl"
    assert main(["audit", "verify", str(log), "--key", str(own_pod.sandbox.home / "audit.key")]) == 0
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "checkpoint"


def test_a_store_stays_on_its_volume(containers: ContainerPlace, tmp_path: Path) -> None:
    """
    The next pod takes it over, if the kubelet left it alone, as ``OnRootMismatch`` has it do.

    Where it did not, the broker says so and does not start.
    """
    with played_pod(containers, tmp_path, "overlays/state") as one:
        state = one.volumes / "token-broker-state" / "state"
        found_first = (state.stat().st_mode & 0o7777, state.stat().st_uid)
        one.stop()
        one.start_again()
        one.wait_as_the_kubelet()
        one.stop()
        open_to_group(one.volumes / "token-broker-state", GROUP)

        one.start_again()

        assert found_first == (0o700, 65_532)
        wait_until(lambda: "state_dir_unsafe" in one.log(BROKER), "the refusal")  # and again: it is started anew
        assert one.run_in(BROKER, *container(one.shipped, BROKER)["startupProbe"]["exec"]["command"]).returncode != 0


def waits(one: PlayedPod, tag: str) -> subprocess.Popen[bytes]:
    """
    Start a request that waits for another token, and give it when it is under way.

    It is the application's user and stands outside of the pod, because what is in a container ends with it.
    """
    directory = one.volumes / "token-broker-app" / "app"
    arguments = (str(directory), str(APPLICATION), str(GROUP))
    process = subprocess.Popen(
        (sys.executable, "-I", "-c", WAIT, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(request("/v1/tokens/directory?wait=60", If_None_Match=tag))
    process.stdin.close()
    process.stdin = None
    assert process.stderr.readline() == b"sent\n"
    assert one.ask("/livez").status == 200  # which is looked at after what came first
    assert process.poll() is None
    return process
