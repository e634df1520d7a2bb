"""
The configuration in a pod of ``deploy/kubernetes`` and the manifest of the pod say the same.

Uid, group, paths, port and times stand in both, and no tool but these tests sees both.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from broker.config.settings import ListenerSettings, OpsSettings, Settings
from tests.deploy.manifests import (
    BROKER,
    CONFIGURATIONS,
    NATIVE,
    ORDINARY,
    Manifest,
    container,
    key_files,
    mounts,
    one,
    pod,
    rendered,
    settings_of,
    volume_at,
    workload,
)

ALL = (*NATIVE, *ORDINARY)

REFRESH_SECONDS = 15
"""Refreshes of grants are waited for so long, beyond ``drain_seconds`` (docs/reference/configuration.md)."""


def listener_of(settings: Settings) -> ListenerSettings:
    """Give the only listener, a socket."""
    (listener,) = settings.listeners
    assert isinstance(listener, ListenerSettings)
    return listener


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_configurations_pass_the_check_without_a_warning(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What people begin with is good."""
    code = main(["check", "--syntax", "--config", str(path)])

    assert (code, capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize("name", ALL)
def test_the_socket_is_where_the_application_looks(name: str) -> None:
    """In a directory that the broker makes, in the volume that the application has at the same place."""
    manifests = rendered(name)
    broker, app = container(pod(manifests), BROKER), container(pod(manifests), "app")
    path = listener_of(settings_of(manifests)).path

    assert volume_at(broker, path) == volume_at(app, path) == "token-broker-app"
    assert {mounts(each)["token-broker-app"]["mountPath"] for each in (broker, app)} == {str(path.parent.parent)}
    assert {"name": "TOKEN_BROKER_SOCKET", "value": f"unix://{path}"} in app["env"]
    assert all(
        broker[probe]["exec"]["command"][-2:] == ["--socket", str(path)] for probe in ("startupProbe", "livenessProbe")
    )


@pytest.mark.parametrize("name", ALL)
def test_the_workload_is_the_user_of_the_application_and_not_the_broker(name: str) -> None:
    """The kernel tells the broker the uid of the container; the group is the one that they share."""
    manifests = rendered(name)
    spec, settings = pod(manifests), settings_of(manifests)
    (known,) = settings.workloads

    assert known.uids == {container(spec, "app")["securityContext"]["runAsUser"]}
    assert container(spec, BROKER)["securityContext"]["runAsUser"] not in known.uids
    assert known.listeners == {listener_of(settings).name}
    assert listener_of(settings).gid == spec["securityContext"]["fsGroup"]
    assert listener_of(settings).mode == 0o660


@pytest.mark.parametrize("name", ALL)
def test_the_broker_finds_and_writes_its_files(name: str) -> None:
    """Keys in the Secret, which only it has; what it writes on volumes that it may write."""
    manifests = rendered(name)
    broker, settings = container(pod(manifests), BROKER), settings_of(manifests)
    assert settings.audit is not None
    written = {settings.audit.file: "token-broker-audit", listener_of(settings).path: "token-broker-app"}
    if settings.daemon.state_dir is not None:
        written[settings.daemon.state_dir] = "token-broker-state"

    assert {volume_at(broker, file) for file in key_files(settings)} == {"token-broker-keys"}
    assert volume_at(broker, Path(broker["args"][-1])) == "token-broker-config"
    assert {path: volume_at(broker, path) for path in written} == written
    read_only = {volume for volume, mount in mounts(broker).items() if mount.get("readOnly")}
    assert read_only == {"token-broker-keys", "token-broker-config"}


@pytest.mark.parametrize("name", ALL)
def test_the_port_is_one_that_the_kubelet_and_prometheus_reach(name: str) -> None:
    """And that the network policy opens."""
    manifests = rendered(name)
    (port,) = container(pod(manifests), BROKER)["ports"]
    (rule,) = one(manifests, "NetworkPolicy")["spec"]["ingress"]

    assert settings_of(manifests).ops == OpsSettings(host="0.0.0.0", port=port["containerPort"])
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.parametrize("name", ALL)
def test_the_network_policy_lets_nothing_out_but_names_and_https(name: str) -> None:
    """Also not to the metadata service of a cloud."""
    spec = one(rendered(name), "NetworkPolicy")["spec"]
    dns, https = spec["egress"]

    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert {port["port"] for port in dns["ports"]} == {53}
    assert https["ports"] == [{"protocol": "TCP", "port": 443}]
    excepted = [network for peer in https["to"] for network in peer["ipBlock"]["except"]]
    assert {"169.254.0.0/16", "fd00:ec2::254/128"} <= set(excepted)


@pytest.mark.parametrize("name", ALL)
def test_the_broker_has_the_time_to_drain(name: str) -> None:
    """Before the kubelet kills it."""
    manifests = rendered(name)

    needed = settings_of(manifests).daemon.drain_seconds + REFRESH_SECONDS
    assert needed < pod(manifests)["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", ALL)
def test_a_store_is_on_a_volume_of_one_pod(name: str) -> None:
    """No store, and as many pods as one likes; a store, and one that is gone before the next one comes."""
    manifests = rendered(name)
    settings, made = settings_of(manifests), workload(manifests)

    claims = {
        each["persistentVolumeClaim"]["claimName"]
        for each in pod(manifests)["volumes"]
        if "persistentVolumeClaim" in each
    }
    if settings.store is None:
        assert claims == set()
        assert settings.daemon.state_dir is None
        return
    assert made["kind"] == "Deployment"
    assert (made["spec"]["replicas"], made["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert claims == {"token-broker-state", "token-broker-audit"}


def test_a_job_ends() -> None:
    """Its container ends by itself and is not started again, its sidecar is native, and its time is limited."""
    job = workload(rendered("overlays/job"))
    spec: Manifest = job["spec"]["template"]["spec"]

    assert job["kind"] == "Job"
    assert spec["restartPolicy"] in {"Never", "OnFailure"}
    assert [each["name"] for each in spec["containers"]] == ["app"]
    assert spec["containers"][0]["command"][-1] == "--once"
    assert job["spec"]["activeDeadlineSeconds"] > 0
