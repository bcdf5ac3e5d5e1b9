#!/usr/bin/env python3
"""Checks what is in deploy/: check_deploy.py [<headwater>]

Every alert parses, fires on its fault and is silent without it, and has a paragraph that says what to do;
every expression of the dashboard parses; and every metric that they use is one of docs/metrics.md. The chart is rendered in
many ways, and each object held against what takes it; the compose files are held against their specification; and the shell
scripts against shellcheck. With the program, what the compose files take is made and read too.

It takes promtool: the one on PATH, the one in .tools/, or, on Debian, the one of its package `prometheus`; shellcheck; and
what tools/deploy/requirements.txt names, which is installed into .tools/deploy.
"""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv

from debian import download, install

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "observability"
TARGET = ROOT / ".tools" / "promtool"
CHECKS = ROOT / "tools" / "deploy"
METRIC = re.compile(r"\bheadwater_[a-z_]+")
SUFFIXES = ("_bucket", "_sum", "_count")


def main():
    tool = promtool()
    check_alerts(tool)
    check_dashboard(tool)
    print("deploy/observability: well", flush=True)
    check_scripts()
    python = environment()
    nats_server = shutil.which("nats-server") or ROOT / ".tools" / "nats-server"
    headwater = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    program = headwater if headwater and headwater.exists() else "-"
    print(run(python, CHECKS / "check_compose.py", nats_server, tool, program), end="", flush=True)
    print(run(python, CHECKS / "check_kubernetes.py"), end="", flush=True)


def promtool():
    """Where promtool is; it is fetched first where it has to be and can be."""
    on_path = shutil.which("promtool")
    if on_path:
        return on_path
    if TARGET.exists():
        return TARGET
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        sys.exit("promtool is missing: install Prometheus, so that it is on PATH")
    print(f"fetching promtool to {TARGET.relative_to(ROOT)}", flush=True)
    TARGET.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
        folder = pathlib.Path(folder)
        download(folder, "prometheus")
        package = next(folder.glob("prometheus_*.deb"))
        run("dpkg-deb", "--extract", package, folder)
        (folder / "usr" / "bin" / "promtool").replace(TARGET)
    return TARGET


def check_alerts(tool):
    rules = FOLDER / "alerts.yaml"
    run(tool, "check", "rules", rules)
    run(tool, "test", "rules", FOLDER / "alerts.test.yaml")
    text = rules.read_text()
    tests = (FOLDER / "alerts.test.yaml").read_text()
    to_do = (FOLDER / "README.md").read_text()
    alerts = re.findall(r"- alert: (\w+)", text)
    expect(len(alerts) > 10, f"{len(alerts)} alerts were found")
    for alert in alerts:
        for tried in ("fires", "is silent"):
            expect(f"name: {alert} {tried}\n" in tests, f"no test in which {alert} {tried}")
        expect(f"\n## {alert}\n" in to_do, f"README.md does not say what to do about {alert}")
        runbook = f"runbook: deploy/observability/README.md#{alert.lower()}\n"
        expect(runbook in text, f"{alert} has no runbook of its own")
    known(text, "alerts.yaml")


def check_dashboard(tool):
    file = FOLDER / "grafana" / "headwater.json"
    text = file.read_text()
    panels = [panel for panel in json.loads(text)["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    expect(len(expressions) > 10, f"{len(expressions)} expressions were found")
    # As rules that record them: promtool has no other check of an expression.
    rules = "groups:\n  - name: dashboard\n    rules:\n"
    for number, expression in enumerate(expressions):
        expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
        rules += f"      - record: expression:{number}\n        expr: {json.dumps(expression)}\n"
    with tempfile.TemporaryDirectory() as folder:
        written = pathlib.Path(folder) / "dashboard.yaml"
        written.write_text(rules)
        run(tool, "check", "rules", written)
    known(text, file.name)


def check_scripts():
    if not shutil.which("shellcheck"):
        install("shellcheck")
    scripts = [ROOT / "src/dev/nats_server/guardian.sh", *sorted((ROOT / "deploy").rglob("*.sh"))]
    run("shellcheck", "--shell", "sh", *scripts)


def environment():
    """The Python that has what the checks take; it is made first where it has to be."""
    folder = ROOT / ".tools" / "deploy"
    requirements = CHECKS / "requirements.txt"
    stamp = folder / "requirements.stamp"
    # An environment is bound to the folder that it was made in.
    pinned = f"{hashlib.sha256(requirements.read_bytes()).hexdigest()} {folder}"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != pinned:
        print("installing what deployments are checked with", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=False)
        run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", "-r", requirements)
        stamp.write_text(pinned)
    return python


def known(text, where):
    """Holds the metrics against those that are described, each of which a test holds against the program."""
    described = set(METRIC.findall((ROOT / "docs" / "metrics.md").read_text()))
    for metric in set(METRIC.findall(text)):
        of_histogram = (metric.removesuffix(suffix) for suffix in SUFFIXES if metric.endswith(suffix))
        expect(metric in described or any(name in described for name in of_histogram),
               f"{where} uses {metric}, which docs/metrics.md does not have")


def run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(true, otherwise):
    if not true:
        sys.exit(otherwise)


if __name__ == "__main__":
    main()
