"""
The Pod Security Standard "restricted", as a list of what a pod does against it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, as of Kubernetes 1.37; each check has the name of
its control there. "Baseline" is part of "restricted". No schema has any of this, and a cluster that enforces the
standard refuses the pod only when it is to be made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)

SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)

SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})

APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"

Spec = Mapping[str, Any]


def violations(spec: Spec, annotations: Mapping[str, str] | None = None) -> list[str]:
    """Name the controls that a pod of this spec violates, each with the place where it does."""
    found = [f"{control}: pod" for control in _of_pod(spec, annotations or {})]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for one in spec.get(kind) or ():
            found += [f"{control}: {one['name']}" for control in _of_container(one, spec.get("securityContext") or {})]
    return found


def _of_pod(spec: Spec, annotations: Mapping[str, str]) -> Iterator[str]:
    context: Spec = spec.get("securityContext") or {}
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "Host Namespaces"
    for volume in spec.get("volumes") or ():
        if not set(volume) - {"name"} <= VOLUMES:
            yield "HostPath Volumes, Volume Types"
    if any(sysctl["name"] not in SYSCTLS for sysctl in context.get("sysctls") or ()):
        yield "Sysctls"
    for key, value in annotations.items():
        if key.startswith(APPARMOR_ANNOTATION) and value != "runtime/default" and not value.startswith("localhost/"):
            yield "AppArmor"
    if context.get("runAsUser") == 0:
        yield "Running as Non-root user"
    yield from _of_context(context)


def _of_container(one: Spec, pod_context: Spec) -> Iterator[str]:
    context: Spec = one.get("securityContext") or {}
    capabilities: Spec = context.get("capabilities") or {}
    if context.get("privileged"):
        yield "Privileged Containers"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"} or "ALL" not in (capabilities.get("drop") or ()):
        yield "Capabilities"
    if any(port.get("hostPort") for port in one.get("ports") or ()):
        yield "Host Ports"
    if any(handler.get("host") for handler in _handlers(one)):
        yield "Host Probes / Lifecycle Hooks"
    if context.get("procMount", "Default") != "Default":
        yield "/proc Mount Type"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "Privilege Escalation"
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")) is not True:
        yield "Running as Non-root"
    if context.get("runAsUser") == 0:
        yield "Running as Non-root user"
    if (context.get("seccompProfile") or pod_context.get("seccompProfile") or {}).get("type") is None:
        yield "Seccomp"
    yield from _of_context(context)


def _of_context(context: Spec) -> Iterator[str]:
    """What is said of a pod and of a container alike."""
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "HostProcess"
    if (context.get("seccompProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield "Seccomp"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield "AppArmor"
    selinux: Spec = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "SELinux"


def _handlers(one: Spec) -> Iterator[Spec]:
    lifecycle: Spec = one.get("lifecycle") or {}
    probes = [one.get(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    for holder in (*probes, lifecycle.get("postStart"), lifecycle.get("preStop")):
        for kind in ("httpGet", "tcpSocket"):
            if holder and holder.get(kind):
                yield holder[kind]
