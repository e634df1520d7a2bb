"""The schemas of Kubernetes, version by version: a field that is unknown to one, or has the wrong type, is refused."""

from __future__ import annotations

from kubernetes_validate import ValidationError, validate
from kubernetes_validate.utils import all_versions

from tests.deploy.manifests import Manifest

VERSIONS = sorted({tuple(int(part) for part in version.split(".")[:2]) for version in all_versions()})
"""Those that there are schemas of, the oldest first."""

NEWEST = VERSIONS[-1]

Version = tuple[int, ...]


class RefusedError(Exception):
    """A manifest that a version of Kubernetes does not take; the message says what of it."""


def check(manifests: list[Manifest], version: Version) -> None:
    """Hold manifests to a version. Raises RefusedError."""
    for manifest in manifests:
        try:
            validate(manifest, name_of(version), strict=True)
        except ValidationError as error:
            raise RefusedError(error.message) from error


def name_of(version: Version) -> str:
    """Write a version as people do."""
    return ".".join(map(str, version))
