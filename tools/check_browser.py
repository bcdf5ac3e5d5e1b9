#!/usr/bin/env python3
"""Checks the pages in a real browser: check_browser.py <headwater> [test file…]

The tests are in tests/browser. They take Chromium, Node.js of version 20 or later, and what
tests/browser/package-lock.json names. On Debian what is missing is installed, where one may.
HEADWATER_CHROMIUM names another Chromium. With `--pictures` those of docs/images are made anew.
"""

import os
import pathlib
import shutil
import subprocess
import sys

from debian import install

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "browser"
NATS_SERVER = ROOT / ".tools" / "nats-server"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OLDEST_NODE = 20
# A file is one to this bound: it takes some 40 seconds.
TEST_MS = 300_000


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--pictures"]
    if not arguments or arguments[0].startswith("-"):
        sys.exit(__doc__)
    program, *files = arguments
    environment = dict(os.environ, HEADWATER_PROGRAM=str(pathlib.Path(program).resolve()),
                       HEADWATER_CHROMIUM=chromium())
    if NATS_SERVER.exists():
        environment["HEADWATER_NATS_SERVER_FILE"] = str(NATS_SERVER)
    if "--pictures" in sys.argv:
        environment["HEADWATER_PICTURES"] = str(ROOT / "docs" / "images")
    node()
    libraries()
    files = [pathlib.Path(file).name for file in files] or sorted(path.name for path in TESTS.glob("*.test.mjs"))
    # One file at a time: each runs a service and a browser.
    command = ["node", "--test", "--test-concurrency=1", f"--test-timeout={TEST_MS}", *files]
    sys.exit(subprocess.run(command, cwd=TESTS, env=environment, check=False).returncode)


def chromium():
    """Where the browser is; it is installed first where it has to be and can be."""
    given = os.environ.get("HEADWATER_CHROMIUM")
    found = given or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        install("chromium")
        found = shutil.which("chromium") or sys.exit("chromium is installed and not on PATH")
    return found


def node():
    """Sees to Node.js with npm."""
    if not shutil.which("node"):
        install("nodejs", "npm")
    elif not shutil.which("npm"):
        install("npm")
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        sys.exit(f"node is {version}; the browser tests take version {OLDEST_NODE} or later")


def libraries():
    """Installs what the lock names, unless it is there."""
    lock = TESTS / "package-lock.json"
    stamp = TESTS / "node_modules" / ".lock"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return
    print("installing what the browser tests take", flush=True)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=TESTS, check=True)
    stamp.write_text(lock.read_text())


if __name__ == "__main__":
    main()
