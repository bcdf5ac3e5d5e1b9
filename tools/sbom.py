#!/usr/bin/env python3
"""Writes what the program is made of, as a CycloneDX 1.5 document: each crate with its version, hash and licence.

Of what Cargo.lock pins, it names what is compiled for this platform, tests aside. The same lock file makes the same
document. Usage: sbom.py [FILE]; standard output by default.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "headwater"


def main() -> None:
    document = json.dumps(bom(metadata(), checksums()), indent=1, sort_keys=True) + "\n"
    if len(sys.argv) > 1:
        pathlib.Path(sys.argv[1]).write_text(document)
    else:
        sys.stdout.write(document)


def metadata() -> dict:
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = next(line.split()[1] for line in host.splitlines() if line.startswith("host:"))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def checksums() -> dict:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}


def bom(metadata: dict, checksums: dict) -> dict:
    packages = {package["id"]: package for package in metadata["packages"]}
    linked = {node["id"]: needed(node) for node in metadata["resolve"]["nodes"]}
    root = next(id for id, package in packages.items() if package["name"] == PROGRAM)
    seen, found = {root}, [root]
    for id in found:
        new = [other for other in linked[id] if other not in seen]
        seen.update(new)
        found.extend(new)
    parts = sorted(seen - {root}, key=lambda id: purl(packages[id]))
    lock = hashlib.sha256((ROOT / "Cargo.lock").read_bytes()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, lock)}",
        "version": 1,
        "metadata": {"component": component(packages[root], checksums, "application")},
        "components": [component(packages[id], checksums, "library") for id in parts],
        "dependencies": [
            {"ref": purl(packages[id]), "dependsOn": sorted({purl(packages[other]) for other in linked[id]})}
            for id in [root, *parts]
        ],
    }


def needed(node: dict) -> list:
    """What a crate is compiled with, but for its tests."""
    return [
        dependency["pkg"]
        for dependency in node["deps"]
        if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
    ]


def component(package: dict, checksums: dict, kind: str) -> dict:
    told = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        told["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["license"]:
        # Some still write a slash for "or".
        told["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    elif package["license_file"]:
        told["licenses"] = [{"license": {"name": f"see {package['license_file']} of the crate"}}]
    if package["repository"]:
        told["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return told


def purl(package: dict) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"


if __name__ == "__main__":
    main()
