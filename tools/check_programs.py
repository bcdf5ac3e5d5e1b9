#!/usr/bin/env python3
"""Checks programs of domains of one's own: check_programs.py <target folder>.

The example `ledger`, and a project that `headwater new` has just written: both are built, pass their own
tests, and are asked over HTTP, while they run, as README says. The new project gets Headwater's own lock
and profile, so that its dependencies are compiled once.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from service import ROOT, addresses, expect, running, without_settings

CARGO = os.environ.get("CARGO", "cargo")
REQUEST_SECONDS = 30


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[1]).resolve()
    os.environ["CARGO_TARGET_DIR"] = str(target)
    subprocess.run([CARGO, "build", "--bin", "headwater", "--example", "ledger"], cwd=ROOT, check=True)
    ask(target / "debug" / "examples" / "ledger")
    with tempfile.TemporaryDirectory() as folder:
        project = pathlib.Path(folder) / "shop-1"
        begin(target / "debug" / "headwater", project)
        subprocess.run([CARGO, "test", "--quiet"], cwd=project, check=True)
        subprocess.run([CARGO, "build", "--quiet"], cwd=project, check=True)
        ask(target / "debug" / "shop-1")


def begin(headwater, project):
    """A new project that stands on this checkout."""
    command = [headwater, "new", project.name, "--folder", project, "--path", ROOT]
    subprocess.run(command, env=without_settings(), check=True)
    manifest = (project / "Cargo.toml").read_text()
    profile = (ROOT / "Cargo.toml").read_text()
    own = manifest.split("[profile.")[0]
    ours = "[profile." + profile.split("[profile.", 1)[1].split("[lints]")[0]
    (project / "Cargo.toml").write_text(own + ours)
    shutil.copy(ROOT / "Cargo.lock", project)


def ask(program):
    """Runs everything of the program, and tries what it says can be tried."""
    with tempfile.TemporaryDirectory() as folder:
        with running(program, "--http-addr", "127.0.0.1:0", data=f"{folder}/data",
                     stdout=subprocess.PIPE, text=True) as service:
            http, nats = addresses(service)
            try_out(http)
            views = output(program, "views", "list", "--nats", nats)
            expect("balance" in views, f"views list says {views!r}")
            events = output(program, "events", "show", "account", "ada", "--nats", nats)
            expect("account.opened.v1" in events, f"events show says {events!r}")
        expect(service.returncode == 0, f"{program.name} ended with {service.returncode}")
    print(f"{program.name}: well")


def try_out(http):
    refused = urllib.request.Request(f"{http}/commands/account/ada/withdraw", b'{"amount": 1000}',
                                     {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(refused, timeout=REQUEST_SECONDS)
        sys.exit("more was withdrawn than there is")
    except urllib.error.HTTPError as error:
        expect(error.code == 409 and json.load(error)["code"] == "insufficient_funds", "it is refused")
    withdraw = urllib.request.Request(f"{http}/commands/account/ada/withdraw", b'{"amount": 30}',
                                      {"Content-Type": "application/json"})
    with urllib.request.urlopen(withdraw, timeout=REQUEST_SECONDS) as answer:
        position = answer.headers["Headwater-Position"]
    read = urllib.request.Request(f"{http}/views/balance/ada", headers={"Headwater-Min-Position": position})
    document = get_json(read)["document"]
    expect(document == {"owner": "Ada", "balance": 70}, f"the balance is {document}")
    paths = get_json(f"{http}/openapi.json")["paths"]
    expect("/commands/account/{id}/withdraw" in paths, f"{list(paths)} are described")
    for page in ("/", "/docs/", "/metrics"):
        urllib.request.urlopen(http + page, timeout=REQUEST_SECONDS).close()


def get_json(request):
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
        return json.load(answer)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, env=without_settings()).stdout


if __name__ == "__main__":
    main()
