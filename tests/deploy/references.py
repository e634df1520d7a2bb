"""What a pod refers to by name, held to what there is: no schema knows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.deploy.manifests import SECRET, Manifest, containers, mounts, names, pod


def loose_ends(manifests: list[Manifest]) -> Iterator[str]:
    """Name what refers to something that is not there, and volumes that nobody mounts."""
    spec = pod(manifests)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    known = {
        ("configMap", "name"): names(manifests, "ConfigMap"),
        ("persistentVolumeClaim", "claimName"): names(manifests, "PersistentVolumeClaim"),
        ("secret", "secretName"): {SECRET},
    }
    for name, volume in volumes.items():
        for (kind, field), there in known.items():
            if kind in volume and volume[kind][field] not in there:
                yield f"{kind} {volume[kind][field]}"
        if not any(name in mounts(each) for each in containers(spec)):
            yield f"unused volume {name}"
    for each in containers(spec):
        yield from (f"volume {name}" for name in mounts(each) if name not in volumes)
        ports = {port["name"] for port in each.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = each.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield f"port {port}"
