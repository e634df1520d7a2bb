"""
The files of ``deploy/kubernetes``: what a cluster would take, and what the broker in it needs.

They are rendered by kubectl and held to the schemas of each version of Kubernetes, to what no schema knows (values of
enumerations, names of other things), and to what keeps the application from the broker's files.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker import __version__
from broker.cli import parser
from tests.deploy.manifests import (
    BROKER,
    MONITORING,
    NATIVE,
    ORDINARY,
    SECRET,
    Manifest,
    container,
    containers,
    mounts,
    one,
    pod,
    rendered,
    settings_of,
    workload,
)
from tests.deploy.references import loose_ends
from tests.deploy.schemas import NEWEST, VERSIONS, RefusedError, check, name_of

SIDECARS_SINCE = (1, 29)
"""The version in which native sidecars are on without asking for them."""

ALL = (*NATIVE, *ORDINARY)

ENUMERATIONS: dict[str, frozenset[str]] = {
    "fsGroupChangePolicy": frozenset({"OnRootMismatch", "Always"}),
    "imagePullPolicy": frozenset({"Always", "IfNotPresent", "Never"}),
    "medium": frozenset({"", "Memory"}),
    "protocol": frozenset({"TCP", "UDP", "SCTP"}),
    "accessModes": frozenset({"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}),
    "policyTypes": frozenset({"Ingress", "Egress"}),
    "drop": frozenset({"ALL"}),
}
"""By the name of the field, wherever it stands; ``restartPolicy`` and ``type`` mean something else in each place."""

TYPES = {
    "strategy": frozenset({"RollingUpdate", "Recreate"}),
    "seccompProfile": frozenset({"RuntimeDefault", "Localhost"}),
}
"""Values of ``type``, by the field that it is in."""


@pytest.mark.parametrize("version", [v for v in VERSIONS if v >= SIDECARS_SINCE], ids=name_of)
@pytest.mark.parametrize("name", NATIVE)
def test_native_sidecars_are_valid_since_1_29(name: str, version: tuple[int, ...]) -> None:
    """No field is unknown to any version, nor has the wrong type."""
    check(rendered(name), version)


@pytest.mark.parametrize("version", VERSIONS, ids=name_of)
@pytest.mark.parametrize("name", ORDINARY)
def test_the_ordinary_form_is_valid_for_every_version(name: str, version: tuple[int, ...]) -> None:
    """It is there for the old ones, and lasts."""
    check(rendered(name), version)


def test_a_version_without_sidecars_refuses_the_native_form() -> None:
    """Or else the validation would say nothing about the difference."""
    with pytest.raises(RefusedError, match="restartPolicy"):
        check([workload(rendered("base"))], (1, 27))


def test_the_newest_version_refuses_a_field_that_it_does_not_know() -> None:
    """The validation is strict."""
    deployment = workload(rendered("base"))
    deployment["spec"]["template"]["spec"]["fsGroup"] = 10_000

    with pytest.raises(RefusedError, match="fsGroup"):
        check([deployment], NEWEST)


# --- What no schema of Kubernetes says ---


def wrong_values(node: Any, above: str = "") -> Iterator[str]:
    """Name fields whose value is none of its enumeration."""
    if isinstance(node, dict):
        for field, value in node.items():
            allowed = ENUMERATIONS.get(field) or (TYPES.get(above) if field == "type" else None)
            for entry in value if isinstance(value, list) else [value]:
                if allowed is not None and entry not in allowed:
                    yield f"{field}: {entry}"
            yield from wrong_values(value, field)
    elif isinstance(node, list):
        for entry in node:
            yield from wrong_values(entry, above)


def wrong_restarts(manifest: Manifest) -> Iterator[str]:
    """Name restart policies that the place where they stand does not have."""
    spec = manifest["spec"]["template"]["spec"]
    allowed = {"OnFailure", "Never"} if manifest["kind"] == "Job" else {"Always"}
    if spec.get("restartPolicy", "Always") not in allowed:
        yield f"pod: {spec.get('restartPolicy')}"
    for each in spec.get("initContainers", ()):
        if each.get("restartPolicy", "Always") != "Always":
            yield f"{each['name']}: {each['restartPolicy']}"
    yield from (f"{each['name']}: not an init container" for each in spec["containers"] if "restartPolicy" in each)


@pytest.mark.parametrize("name", ALL)
def test_values_of_enumerations_exist(name: str) -> None:
    """A schema takes any string for them."""
    manifests = rendered(name)

    assert list(wrong_values(manifests)) == []
    assert list(wrong_restarts(workload(manifests))) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda spec: spec["securityContext"].update(fsGroupChangePolicy="Never"), "fsGroupChangePolicy: Never"),
        (lambda spec: spec["securityContext"]["seccompProfile"].update(type="Runtime"), "type: Runtime"),
        (lambda spec: spec["volumes"][0]["emptyDir"].update(medium="RAM"), "medium: RAM"),
        (lambda spec: spec["containers"][0].update(imagePullPolicy="Sometimes"), "imagePullPolicy: Sometimes"),
        (lambda spec: spec["initContainers"][0].update(restartPolicy="Sometimes"), "token-broker: Sometimes"),
        (lambda spec: spec["containers"][0].update(restartPolicy="Always"), "app: not an init container"),
        (lambda spec: spec.update(restartPolicy="Never"), "pod: Never"),
    ],
)
def test_a_value_that_does_not_exist_is_found(change: Callable[[Manifest], None], found: str) -> None:
    """Each of these passes the schema."""
    manifests = rendered("base")
    change(pod(manifests))

    check([workload(manifests)], NEWEST)
    assert [*wrong_values(manifests), *wrong_restarts(workload(manifests))] == [found]


@pytest.mark.parametrize("name", ALL)
def test_what_a_pod_refers_to_is_there(name: str) -> None:
    """The Secret excepted, which people make."""
    assert list(loose_ends(rendered(name))) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda spec: spec["volumes"].append({"name": "more", "emptyDir": {}}), ["unused volume more"]),
        (lambda spec: spec["volumes"][1]["configMap"].update(name="other"), ["configMap other"]),
        (lambda spec: spec["volumes"][2]["secret"].update(secretName="other"), ["secret other"]),
        (
            lambda spec: spec["containers"][0]["volumeMounts"].append({"name": "none", "mountPath": "/x"}),
            ["volume none"],
        ),
        (lambda spec: spec["initContainers"][0]["ports"].clear(), ["port metrics"]),
    ],
)
def test_what_is_not_there_is_found(change: Callable[[Manifest], None], found: list[str]) -> None:
    """Each of these passes the schema."""
    manifests = rendered("base")
    change(pod(manifests))

    assert list(loose_ends(manifests)) == found


@pytest.mark.parametrize("name", ALL)
def test_selectors_find_the_pods(name: str) -> None:
    """The workload's own, and that of the network policy."""
    manifests = rendered(name)
    labels = workload(manifests)["spec"]["template"]["metadata"]["labels"].items()

    own = workload(manifests)["spec"].get("selector", {"matchLabels": {}})["matchLabels"]
    assert own.items() <= labels
    assert one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert one(rendered(MONITORING), "PodMonitor")["spec"]["selector"]["matchLabels"].items() <= labels


def test_the_image_has_the_version_of_this_tree() -> None:
    """A tag that stands still, so that a restart is no update."""
    for name in ALL:
        assert container(pod(rendered(name)), BROKER)["image"] == f"{BROKER}:{__version__}"


# --- What the broker needs, and what keeps others out ---


@pytest.mark.parametrize("name", ALL)
def test_containers_are_hardened_beyond_the_standard(name: str) -> None:
    """A root file system that nobody writes, limits on what they use, nothing secret in an environment."""
    for each in containers(pod(rendered(name))):
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
        assert each["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert each["securityContext"]["runAsNonRoot"] is True
        assert set(each["resources"]["limits"]) == set(each["resources"]["requests"]) == {"cpu", "memory"}
        assert "envFrom" not in each
        assert all(set(variable) == {"name", "value"} for variable in each.get("env", ()))


@pytest.mark.parametrize("name", ALL)
def test_the_pod_gives_the_broker_no_more_than_it_needs(name: str) -> None:
    """No token of the API server, no addresses of services, no process of another container."""
    spec = pod(rendered(name))

    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not spec.get("shareProcessNamespace", False)
    assert spec["securityContext"]["fsGroup"] == 10_000
    assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


@pytest.mark.parametrize("name", ALL)
def test_only_the_broker_has_its_files_and_the_application_cannot_write_the_socket(name: str) -> None:
    """The application has the volume of the socket, for reading, and of the broker's other files nothing."""
    spec = pod(rendered(name))

    shared = mounts(container(spec, BROKER)).keys() & mounts(container(spec, "app")).keys()
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert shared == {"token-broker-app"}
    assert mounts(container(spec, "app"))["token-broker-app"]["readOnly"] is True
    assert volumes["token-broker-app"] == {
        "name": "token-broker-app",
        "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"},
    }
    assert volumes["token-broker-keys"]["secret"] == {"secretName": SECRET, "defaultMode": 0o440}
    assert all("subPath" not in mount for mount in mounts(container(spec, BROKER)).values())


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_sidecar_is_the_first_of_the_init_containers(name: str) -> None:
    """So that those of the application have it, too; and it is told from them by its restart policy."""
    spec = pod(rendered(name))

    first = spec["initContainers"][0]
    assert (first["name"], first["restartPolicy"]) == (BROKER, "Always")
    assert first["startupProbe"]["exec"]["command"][:2] == [BROKER, "health"]


def test_the_ordinary_form_is_the_native_one_but_for_its_place() -> None:
    """It starts before the application, which waits for it, and goes on a little when the pod is told to stop."""
    native, ordinary = pod(rendered("base")), pod(rendered("overlays/before-1.29"))
    moved = container(ordinary, BROKER)
    hooks = moved.pop("lifecycle")

    assert [each["name"] for each in ordinary["containers"]] == [BROKER, "app"]
    assert ordinary["initContainers"] == []
    assert {**moved, "restartPolicy": "Always"} == container(native, BROKER)
    assert set(hooks) == {"postStart", "preStop"}
    grace = int(hooks["preStop"]["exec"]["command"][1])
    assert grace + settings_of(rendered("base")).daemon.drain_seconds < ordinary["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", ALL)
def test_commands_of_the_pod_are_commands_of_the_broker(name: str) -> None:
    """A probe that names none would restart the broker for ever."""
    each = container(pod(rendered(name)), BROKER)
    lines = [[BROKER, *each["args"]]]
    lines += [each[probe]["exec"]["command"] for probe in ("startupProbe", "livenessProbe")]
    if "lifecycle" in each:
        words = shlex.split(each["lifecycle"]["postStart"]["exec"]["command"][-1].replace(";", " ;"))
        assert (words[0], words[-1]) == ("until", "done")
        lines.append(words[1 : words.index(";")])

    for words in lines:
        assert words[0] == BROKER
        parser().parse_args(words[1:])


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_a_required_token_takes_a_pod_out_of_service(name: str) -> None:
    """Start and life are that the socket serves; readiness is what the broker computes, and no token is required."""
    manifests = rendered(name)
    each = container(pod(manifests), BROKER)

    assert "--ready" not in each["startupProbe"]["exec"]["command"] + each["livenessProbe"]["exec"]["command"]
    assert each["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert not any(token.required for token in settings_of(manifests).tokens)
