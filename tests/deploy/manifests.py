"""
The manifests of ``deploy/kubernetes``, rendered as a cluster's own tool renders them, and how to find one's way there.

Nothing here judges: what a manifest should be is said by the tests.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.config.load import load_settings
from broker.config.settings import Settings

ROOT = Path(__file__).parents[2]

KUBERNETES = ROOT / "deploy" / "kubernetes"

CONFIGURATIONS = tuple(sorted(KUBERNETES.rglob("config.toml")))

BROKER = "token-broker"
"""The name of the broker's container, and of its image."""

SECRET = "token-broker-keys"
"""What people make by hand, and no manifest has."""

NATIVE = ("base", "overlays/state", "overlays/job")
"""What wants Kubernetes 1.29."""

ORDINARY = ("overlays/before-1.29",)

MONITORING = "monitoring"
"""What wants the kinds of the Prometheus Operator."""

WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job"})

PATIENCE = 60
"""Seconds; rendering takes a tenth of one."""

Manifest = dict[str, Any]


def kubectl() -> str:
    """Give the command: that of this environment, or the machine's; skips the test where there is none."""
    locked = Path(sys.prefix) / "bin" / "kubectl"
    found = str(locked) if locked.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl: it comes with the tools of the tests (make install them), or from the distribution")
    return found


@cache
def rendered_text(directory: Path) -> str:
    """Render a kustomization; a warning of kubectl is a failure, too."""
    done = subprocess.run(
        (kubectl(), "kustomize", str(directory)), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def rendered(name: str) -> list[Manifest]:
    """Render a folder of ``deploy/kubernetes``; each call gives manifests of its own, for a test to change."""
    return rendered_at(KUBERNETES / name)


def rendered_at(directory: Path) -> list[Manifest]:
    """Render a folder anywhere."""
    return [manifest for manifest in yaml.safe_load_all(rendered_text(directory)) if manifest]


def one(manifests: list[Manifest], *kinds: str) -> Manifest:
    """Give the only manifest of these kinds."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] in kinds]
    return found


def names(manifests: list[Manifest], kind: str) -> set[str]:
    """Give the names of all of a kind."""
    return {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == kind}


def workload(manifests: list[Manifest]) -> Manifest:
    """Give the only one that has pods."""
    return one(manifests, *WORKLOADS)


def pod(manifests: list[Manifest]) -> Manifest:
    """Give the spec of its pods."""
    spec: Manifest = workload(manifests)["spec"]["template"]["spec"]
    return spec


def containers(spec: Manifest) -> Iterator[Manifest]:
    """Give the containers of a pod, of every kind."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind, ())


def container(spec: Manifest, name: str) -> Manifest:
    """Give a container by its name."""
    (found,) = [one for one in containers(spec) if one["name"] == name]
    return found


def mounts(one: Manifest) -> dict[str, Manifest]:
    """Give the mounts of a container by the names of their volumes."""
    return {mount["name"]: mount for mount in one.get("volumeMounts", ())}


def volume_at(one: Manifest, path: Path) -> str | None:
    """Give the volume of a container in which *path* lies, below the place where it is mounted."""
    places = {Path(mount["mountPath"]): mount["name"] for mount in one.get("volumeMounts", ())}
    return next((places[above] for above in path.parents if above in places), None)


def settings_of(manifests: list[Manifest]) -> Settings:
    """Load the configuration that the pod mounts, from the file that its ConfigMap was made of."""
    (volume,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "token-broker-config"]
    name = volume["configMap"]["name"]
    (found,) = [one for one in manifests if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name]
    (file,) = [path for path in CONFIGURATIONS if path.read_text() == found["data"]["config.toml"]]
    return load_settings(file, credentials_directory=None)


def key_files(settings: Settings) -> set[Path]:
    """Give every file of a configuration that holds something secret, or belongs to something that is."""
    files = {key.file for key in settings.keys.values()}
    files |= {file for pair in settings.certificates.values() for file in (pair.cert_file, pair.key_file)}
    files |= {settings.audit.key_file} if settings.audit and settings.audit.key_file else set()
    return files | ({settings.store.key_file} if settings.store else set())
