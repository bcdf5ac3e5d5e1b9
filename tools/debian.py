"""Debian's packages: installed, where one may, or downloaded without that, which takes no root."""

import os
import shutil
import subprocess
import sys


def install(*packages):
    """Installs packages as root, or by sudo where it asks for no password."""
    missing = " and ".join(packages)
    if not shutil.which("apt-get"):
        sys.exit(f"{missing} missing: install by hand what has them here")
    print(f"installing {missing}", flush=True)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    sudo = ["sudo", "-n"] if os.geteuid() != 0 and shutil.which("sudo") else []
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run([*sudo, "apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0 and command[0] == "install":
            sys.exit(f"{missing} cannot be installed: install by hand what has them here")


def download(folder, *packages):
    """Downloads packages into a folder, as the machine knows them, or else as its sources have them now."""
    command = ["apt-get", "download", *packages]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
        return
    state = folder / "apt"
    (state / "lists" / "partial").mkdir(parents=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True)
    options = ["-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"]
    for words in (["update"], ["download", *packages]):
        done = subprocess.run(["apt-get", *options, *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"apt-get {' '.join(words)}:\n{done.stdout}{done.stderr}")
