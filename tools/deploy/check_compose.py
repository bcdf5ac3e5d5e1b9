"""Holds the compose files against their specification, and against what they name: check_compose.py <nats-server> <promtool> <headwater or ->.

With the program, deploy/prepare.sh makes what the cluster takes, in a copy, twice; without, that is left out. Runs with what
requirements.txt names.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMA = pathlib.Path(__file__).resolve().parent / "compose-spec.json"
YAMLLINT = "{extends: default, rules: {line-length: disable, document-start: disable, braces: {max-spaces-inside: 1}, " \
    "indentation: {indent-sequences: consistent}}}"
# Made by deploy/prepare.sh, or by hand where the file says how.
MADE = ("secrets/", "secret")
SETTING = re.compile(r"\bHEADWATER_[A-Z_]+")
# For the compose files and for prepare.sh themselves.
OTHERS = {"HEADWATER_IMAGE"}


def main():
    nats_server, promtool, headwater = sys.argv[1:4]
    schema = json.loads(SCHEMA.read_text())
    for file in sorted(DEPLOY.glob("compose*.yaml")):
        compose = yaml.safe_load(file.read_text())
        try:
            jsonschema.validate(compose, schema)
        except jsonschema.ValidationError as error:
            sys.exit(f"{file.name}: {'.'.join(map(str, error.absolute_path))}: {error.message}")
        check(file.name, compose)
    settings()
    run(pathlib.Path(sys.executable).parent / "yamllint", "--strict", "-d", YAMLLINT, *sorted(
        file for file in DEPLOY.rglob("*.yaml") if "templates" not in file.parts and "kubernetes" not in file.parts))
    with tempfile.TemporaryDirectory() as folder:
        prepared(pathlib.Path(folder) / "deploy", nats_server, promtool, headwater)
    print("deploy/compose*.yaml: well")


def check(name, compose):
    services = compose["services"]
    for service, said in services.items():
        what = f"{name}: {service}"
        expect(":" in said["image"] and not said["image"].endswith(":latest"), f"{what} does not say which image")
        expect(said.get("read_only") and said.get("cap_drop") == ["ALL"], f"{what} may write on its root, or has capabilities")
        expect("no-new-privileges:true" in said.get("security_opt", []), f"{what} may get privileges")
        expect(set(said.get("depends_on", {})) <= set(services), f"{what} depends on what is not there")
        for port in said.get("ports", []):
            expect(port.startswith("127.0.0.1:"), f"{what} is published beyond this machine: {port}")
        for volume in said.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                there((DEPLOY / source).resolve(), what)
            else:
                expect(source in compose["volumes"], f"{what} mounts {source}, which is no volume")
        for secret in said.get("secrets", []):
            expect(secret in compose["secrets"], f"{what} takes {secret}, which is no secret")
        for file in said.get("env_file", []):
            there(DEPLOY / file, what)
    for secret in compose.get("secrets", {}).values():
        there(DEPLOY / secret["file"], name)


def there(file, what):
    within = str(file.relative_to(DEPLOY)) if file.is_relative_to(DEPLOY) else ""
    expect(file.exists() or within.startswith(MADE), f"{what} takes {file}, which is not there")


def settings():
    """Every variable that is given to the program is one that it knows."""
    known = {f"HEADWATER_{flag.upper().replace('-', '_')}" for flag in re.findall(r"`--([a-z-]+)", (ROOT / "docs/flags.md").read_text())}
    known |= {"HEADWATER_LOG", "HEADWATER_LOG_FORMAT"} | OTHERS
    expect(len(known) > 50, "docs/flags.md has no flags")
    for file in [*DEPLOY.glob("compose*.yaml"), *DEPLOY.glob("kubernetes/*.yaml"), *DEPLOY.glob("helm/templates/*"),
                 DEPLOY / "Dockerfile", DEPLOY / "prepare.sh"]:
        # A name that is put together has its parts looked at where it is rendered.
        for setting in set(SETTING.findall(file.read_text())):
            expect(setting in known, f"{file.relative_to(ROOT)} gives {setting}, which the program does not know")


def prepared(folder, nats_server, promtool, headwater):
    """What the cluster takes is made, kept the second time, and read by those that it is for."""
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets", "secret", "helm", "kubernetes"))
    (folder / "secrets").mkdir()
    if headwater != "-":
        environment = os.environ | {"HEADWATER": str(pathlib.Path(headwater).resolve())}
        run("sh", folder / "prepare.sh", env=environment)
        first = {file: file.read_bytes() for file in (folder / "secrets").rglob("*") if file.suffix != ".token" and file.is_file()}
        run("sh", folder / "prepare.sh", env=environment)
        expect(all(file.read_bytes() == was for file, was in first.items()), "prepare.sh makes anew what is there")
        compose = yaml.safe_load((folder / "compose.cluster.yaml").read_text())
        named = [secret["file"] for secret in compose["secrets"].values()]
        named += [file for service in compose["services"].values() for file in service.get("env_file", [])]
        missing = [file for file in named if not (folder / file).exists()]
        expect(not missing, f"prepare.sh does not make {missing}")
        (folder / "nats" / "users").mkdir()
        shutil.copy(folder / "secrets/nats/headwater.conf", folder / "nats/users")
        given = dict(line.split("=", 1) for line in (folder / "secrets/nats.env").read_text().splitlines())
        run(nats_server, "-c", folder / "nats/cluster.conf", "-t", env=os.environ | given | {"NATS_NAME": "nats-1"})
    run(promtool, "check", "config", "--syntax-only", folder / "observability/prometheus.yaml")


def run(*command, env=None):
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


def expect(true, otherwise):
    if not true:
        sys.exit(otherwise)


if __name__ == "__main__":
    main()
