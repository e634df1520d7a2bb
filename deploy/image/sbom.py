"""
Complete and check the bill of materials of the image (``make sbom``).

CycloneDX's own generator writes it from installed packages: names, versions, licences, who needs whom. This adds what
only the build knows, the hash of each wheel that is installed in the image, and the version of the broker. Then it
checks that the bill is whole: the packages of the lock and no others, each with a licence and with a hash that the lock
knows, and none below the floor that ``pyproject.toml`` has for it, where the advisories of a package are kept out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

LOCKED = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>(?: .*)?)$", re.MULTILINE)

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def main() -> None:
    """Rewrite the bill; exit 1 with every problem, a line for each, and leave it as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bill", type=Path, help="the CycloneDX file, in JSON")
    parser.add_argument("--version", required=True, help="the version of the broker")
    parser.add_argument("--lock", type=Path, required=True, help="what is locked for the image")
    parser.add_argument("--wheels", type=Path, required=True, help="the folder of the wheels that are installed")
    parser.add_argument("--project", type=Path, required=True, help="pyproject.toml, which has the floors")
    given = parser.parse_args()
    bill = json.loads(given.bill.read_text())
    lock = locked(given.lock.read_text())
    complete(bill, given.version, wheels(given.wheels))
    floors = tomllib.loads(given.project.read_text())["project"]["dependencies"]
    found = list(problems(bill, lock, [Requirement(line) for line in floors]))
    if found:
        raise SystemExit("\n".join(found))
    given.bill.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n")
    sys.stdout.write(f"{given.bill}: token-broker {given.version} and {len(bill['components'])} packages\n")


def locked(text: str) -> dict[tuple[str, str], frozenset[str]]:
    """Give the hashes of each package of a lock file, by its name and version."""
    lines = text.replace("\\\n", " ")
    return {
        (canonicalize_name(found["name"]), found["version"]): frozenset(HASH.findall(found["rest"]))
        for found in LOCKED.finditer(lines)
    }


def wheels(folder: Path) -> dict[tuple[str, str], str]:
    """Give the SHA-256 of each wheel, by name and version of its package."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(path.name)
        found[canonicalize_name(name), str(version)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def complete(bill: dict[str, Any], version: str, digests: Mapping[tuple[str, str], str]) -> None:
    """Add to *bill* the version of the broker and the hashes of what it needs."""
    broker = bill["metadata"]["component"]
    broker["version"] = version
    broker["purl"] = f"pkg:generic/token-broker@{version}"
    for component in bill["components"]:
        digest = digests.get(key(component))
        if digest is not None:
            component["hashes"] = [{"alg": "SHA-256", "content": digest}]


def problems(
    bill: Mapping[str, Any], lock: Mapping[tuple[str, str], frozenset[str]], floors: list[Requirement]
) -> Iterator[str]:
    """Say what is wrong with *bill*, a line for each."""
    components = {key(component): component for component in bill["components"]}
    for name, version in sorted(lock.keys() - components.keys()):
        yield f"{name} {version} is locked and not in the bill"
    for name, version in sorted(components.keys() - lock.keys()):
        yield f"{name} {version} is in the bill and not locked"
    for one, component in sorted(components.items()):
        hashes = {digest["content"] for digest in component.get("hashes", ())}
        if not hashes:
            yield f"{one[0]} {one[1]} has no hash: there is no wheel of it"
        elif not hashes <= lock.get(one, frozenset()):
            yield f"{one[0]} {one[1]} has a hash that is not locked"
        if not component.get("licenses"):
            yield f"{one[0]} {one[1]} has no licence"
    versions = dict(components.keys())
    for floor in floors:
        found = versions.get(canonicalize_name(floor.name))
        if found is None:
            yield f"{floor.name} is asked for and not in the bill"
        elif found not in floor.specifier:
            yield f"{floor.name} {found} is not {floor.specifier}, as pyproject.toml has it"


def key(component: Mapping[str, Any]) -> tuple[str, str]:
    """Give name and version of a component."""
    return canonicalize_name(component["name"]), str(component["version"])


if __name__ == "__main__":
    main()
