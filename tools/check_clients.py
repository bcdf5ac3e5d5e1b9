#!/usr/bin/env python3
"""Checks the clients in examples/ and the description for NATS on a running mart: check_clients.py <headwater>.

The description is held against the official JSON schema of AsyncAPI.
The types of the one are made from the description that the mart serves, so what the client asks for is checked against
it before it runs. Both are installed from their registries, in the versions that they pin, into .tools/clients. Where there is
no npm, that is said, and the rest is checked. The one in Go is built by Debian's Go with Debian's client of NATS.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv

from debian import install
from service import ROOT, addresses, expect, running

TARGET = ROOT / ".tools" / "clients"
TYPESCRIPT = ROOT / "examples" / "typescript"
ASYNCAPI = ROOT / "tools" / "asyncapi"
PYTHON = ROOT / "examples" / "python"
GO = ROOT / "examples" / "go"
# Where Debian keeps what Go is built with.
GO_PATH = pathlib.Path("/usr/share/gocode")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        with running(sys.argv[1], "--http-addr", "127.0.0.1:0", data=f"{folder}/data",
                     stdout=subprocess.PIPE, text=True) as service:
            http, nats = addresses(service)
            asyncapi(http)
            typescript(http)
            python(nats)
            go(nats)


def asyncapi(http):
    npm = shutil.which("npm")
    if npm is None:
        print("asyncapi: not checked, since there is no npm")
        return
    folder = installed(npm, ASYNCAPI, "asyncapi")
    with urllib.request.urlopen(f"{http}/asyncapi.json", timeout=30) as answer:
        document = answer.read().decode()
    print(run("node", "check.mjs", cwd=folder, input=document).strip())


def installed(npm, source, name):
    """A copy of a package, with what its lock file names."""
    folder = TARGET / name
    for file in (file for file in source.rglob("*") if file.is_file() and "node_modules" not in file.parts):
        if file.name != "api.d.ts" and "dist" not in file.parts:
            copy = folder / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    stamp = folder / "lock.stamp"
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != lock:
        run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
        stamp.write_text(lock)
    return folder


def typescript(http):
    npm = shutil.which("npm")
    if npm is None:
        print("typescript: not checked, since there is no npm")
        return
    folder = installed(npm, TYPESCRIPT, "typescript")
    environment = os.environ | {"HEADWATER_URL": http}
    run(npm, "run", "types", cwd=folder, env=environment)
    run(npm, "run", "check", cwd=folder)
    done = run("node", "dist/example.js", http, cwd=folder)
    expect("live: it costs 6100 won" in done, f"the example says {done}")
    print("typescript: well")


def python(nats):
    folder = TARGET / "python"
    requirements = PYTHON / "requirements.txt"
    stamp = folder / "requirements.stamp"
    # An environment is bound to the folder that it was made in.
    pinned = f"{hashlib.sha256(requirements.read_bytes()).hexdigest()} {folder}"
    interpreter = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != pinned:
        shutil.rmtree(folder, ignore_errors=True)
        # pip may not be a part of the environments of this Python; the one that runs this installs into them.
        venv.create(folder, with_pip=False)
        run(sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet",
            "--disable-pip-version-check", "-r", requirements)
        stamp.write_text(pinned)
    done = run(interpreter, PYTHON / "example.py", nats)
    expect("it is refused: already_registered" in done, f"the example says {done}")
    print("python: well")


def go(nats):
    client = GO_PATH / "src" / "github.com" / "nats-io" / "nats.go"
    if not (shutil.which("go") and client.exists()):
        if not shutil.which("apt-get"):
            print("go: not checked, since there is no Go with a client of NATS of Debian's")
            return
        install("golang-go", "golang-github-nats-io-go-nats-dev")
    TARGET.mkdir(parents=True, exist_ok=True)
    program = TARGET / "go-example"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(TARGET / "go-cache")}
    run("go", "vet", GO / "main.go", env=environment)
    run("go", "build", "-o", program, GO / "main.go", env=environment)
    done = run(program, nats)
    expect("it is refused: already_registered" in done, f"the example says {done}")
    print("go: well")


def run(*command, cwd=None, env=None, input=None):
    done = subprocess.run(command, cwd=cwd, env=env, input=input, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
