"""
In what a pod that podman plays differs from the manifest that ships, and why.

podman 4.3 is no kubelet. What it plays is made of the rendered manifest by these functions and nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tests.deploy.manifests import BROKER, KUBERNETES, Manifest, containers, rendered_at
from tests.machines.container_place import ContainerPlace


def ordinary(name: str, directory: Path) -> list[Manifest]:
    """
    Render a folder of ``deploy/kubernetes`` in the form for clusters before 1.29, by way of a file in *directory*.

    podman knows no native sidecars; they differ in their place only (``tests/deploy/test_manifests.py``).
    """
    directory.mkdir()
    there = Path(os.path.relpath(KUBERNETES, directory))
    made = {"resources": [str(there / name)], "components": [str(there / "ordinary")]}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return rendered_at(directory)


def played_spec(shipped: Manifest, place: ContainerPlace, volumes: Path) -> Manifest:
    """Change the spec of a pod into what podman plays, and give it."""
    take_local_images(shipped, place)
    leave_out_probes(shipped)
    leave_out_ports(shipped)
    share_group(shipped)
    mount_directories(shipped, volumes)
    return shipped


def take_local_images(spec: Manifest, place: ContainerPlace) -> None:
    """The image of the broker is the one that was just built; the application's is its base. Nothing is pulled."""
    for each in containers(spec):
        each["imagePullPolicy"] = "Never"
        if each["name"] == BROKER:
            each["image"] = place.image
        assert each["image"] in {place.image, place.base}


def leave_out_probes(spec: Manifest) -> None:
    """podman has the systemd of the machine run probes, and knows no hooks; the tests run the commands themselves."""
    for each in containers(spec):
        for field in ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle"):
            each.pop(field, None)


def leave_out_ports(spec: Manifest) -> None:
    """podman takes a port for one to publish, and the pod has no network but its loopback."""
    for each in containers(spec):
        each.pop("ports", None)


def share_group(spec: Manifest) -> None:
    """podman ignores fsGroup: the group becomes a supplementary one, which is what the kubelet makes of it, too."""
    context = spec["securityContext"]
    context["supplementalGroups"] = [context.pop("fsGroup")]
    del context["fsGroupChangePolicy"]


def mount_directories(spec: Manifest, volumes: Path) -> None:
    """Volumes are directories of the machine, with the owners and modes that the kubelet gives: podman gives others."""
    spec["volumes"] = [
        {"name": volume["name"], "hostPath": {"path": str(volumes / volume["name"]), "type": "Directory"}}
        for volume in spec["volumes"]
    ]


def for_sandbox(text: str, issuer: str) -> str:
    """Put a sandbox in the place of the issuer in the configuration that ships, and its client in that of ours."""
    changes = {
        'issuer = "https://as.bank.example"': f'issuer = "{issuer}"\n'
        'ca_file = "/etc/token-broker-keys/ca.pem"\nsandbox = true',
        'client_id = "app-1"': 'client_id = "sandbox-demo"',
        'scope = ["directory:software"]': 'scope = ["hello:read"]',
    }
    for shipped, played in changes.items():
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, played)
    return text
