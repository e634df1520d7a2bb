"""Pods of ``deploy/kubernetes`` keep to the Pod Security Standard "restricted", and the check sees each breach."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.deploy.manifests import NATIVE, ORDINARY, Manifest, containers, pod, rendered, workload
from tests.deploy.pod_security import violations

GOOD: Manifest = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "app",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": 8080}},
        }
    ],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}
"""The least that the standard asks for."""

POD_BREACHES = (
    ("Host Namespaces", ("hostNetwork",), True),
    ("Host Namespaces", ("hostPID",), True),
    ("Host Namespaces", ("hostIPC",), True),
    ("HostPath Volumes, Volume Types", ("volumes", 0), {"name": "host", "hostPath": {"path": "/"}}),
    ("HostPath Volumes, Volume Types", ("volumes", 0), {"name": "old", "nfs": {"server": "a", "path": "/"}}),
    ("Sysctls", ("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    ("Running as Non-root user", ("securityContext", "runAsUser"), 0),
    ("HostProcess", ("securityContext", "windowsOptions"), {"hostProcess": True}),
    ("Seccomp", ("securityContext", "seccompProfile"), {"type": "Unconfined"}),
    ("AppArmor", ("securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    ("SELinux", ("securityContext", "seLinuxOptions"), {"type": "spc_t"}),
    ("SELinux", ("securityContext", "seLinuxOptions"), {"user": "system_u"}),
    ("SELinux", ("securityContext", "seLinuxOptions"), {"role": "system_r"}),
)

CONTAINER_BREACHES = (
    ("Privileged Containers", ("securityContext", "privileged"), True),
    ("Capabilities", ("securityContext", "capabilities"), {"drop": ["ALL"], "add": ["CHOWN"]}),
    ("Capabilities", ("securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
    ("Capabilities", ("securityContext", "capabilities"), None),
    ("Host Ports", ("ports", 0, "hostPort"), 8080),
    ("Host Probes / Lifecycle Hooks", ("readinessProbe", "httpGet", "host"), "169.254.169.254"),
    ("Host Probes / Lifecycle Hooks", ("startupProbe",), {"tcpSocket": {"port": 1, "host": "elsewhere"}}),
    ("Host Probes / Lifecycle Hooks", ("livenessProbe",), {"tcpSocket": {"port": 1, "host": "elsewhere"}}),
    ("Host Probes / Lifecycle Hooks", ("lifecycle",), {"postStart": {"httpGet": {"port": 1, "host": "elsewhere"}}}),
    ("Host Probes / Lifecycle Hooks", ("lifecycle",), {"preStop": {"httpGet": {"port": 1, "host": "elsewhere"}}}),
    ("/proc Mount Type", ("securityContext", "procMount"), "Unmasked"),
    ("Privilege Escalation", ("securityContext", "allowPrivilegeEscalation"), True),
    ("Privilege Escalation", ("securityContext", "allowPrivilegeEscalation"), None),
    ("Running as Non-root", ("securityContext", "runAsNonRoot"), False),
    ("Running as Non-root user", ("securityContext", "runAsUser"), 0),
    ("HostProcess", ("securityContext", "windowsOptions"), {"hostProcess": True}),
    ("Seccomp", ("securityContext", "seccompProfile"), {"type": "Unconfined"}),
    ("AppArmor", ("securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    ("SELinux", ("securityContext", "seLinuxOptions"), {"type": "spc_t"}),
)


def changed(spec: Manifest, path: tuple[str | int, ...], value: Any) -> Manifest:
    """Give a copy of *spec* with *value* at *path*; None takes out what is there."""
    copied = copy.deepcopy(spec)
    place: Any = copied
    for step in path[:-1]:
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copied


@pytest.mark.parametrize("name", [*NATIVE, *ORDINARY])
def test_pods_are_restricted(name: str) -> None:
    """A namespace that enforces the standard lets them in."""
    manifests = rendered(name)

    annotations = workload(manifests)["spec"]["template"]["metadata"].get("annotations")
    assert len(list(containers(pod(manifests)))) == 2
    assert violations(pod(manifests), annotations) == []


def test_the_least_that_the_standard_asks_for_is_enough() -> None:
    """The check asks for no more, so that what it finds is a breach."""
    assert violations(GOOD) == []


@pytest.mark.parametrize(("control", "path", "value"), POD_BREACHES)
def test_a_breach_of_the_pod_is_found(control: str, path: tuple[str | int, ...], value: Any) -> None:
    """Each control of the standard can fail."""
    assert violations(changed(GOOD, path, value)) == [f"{control}: pod"]


@pytest.mark.parametrize("kind", ["initContainers", "containers", "ephemeralContainers"])
@pytest.mark.parametrize(("control", "path", "value"), CONTAINER_BREACHES)
def test_a_breach_of_a_container_is_found(kind: str, control: str, path: tuple[str | int, ...], value: Any) -> None:
    """Each control that is about containers can fail for each kind of them."""
    spec = {**GOOD, kind: [changed(GOOD["containers"][0], path, value)]}

    assert violations(spec) == [f"{control}: app"]


@pytest.mark.parametrize(("control", "field"), [("Running as Non-root", "runAsNonRoot"), ("Seccomp", "seccompProfile")])
def test_what_the_pod_does_not_say_each_container_must(control: str, field: str) -> None:
    """Where neither does, it is a breach."""
    silent = changed(GOOD, ("securityContext", field), None)
    said = changed(silent, ("containers", 0, "securityContext", field), GOOD["securityContext"][field])

    assert violations(silent) == [f"{control}: app"]
    assert violations(said) == []


@pytest.mark.parametrize(
    ("profile", "found"), [("runtime/default", []), ("localhost/x", []), ("unconfined", ["AppArmor: pod"])]
)
def test_the_old_annotation_of_apparmor_counts(profile: str, found: list[str]) -> None:
    """Clusters before 1.30 know no field for it."""
    assert violations(GOOD, {"container.apparmor.security.beta.kubernetes.io/app": profile}) == found
