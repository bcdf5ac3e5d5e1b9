#!/usr/bin/env python3
"""Fetches the libraries that pages share, in these versions, into src/http/pages/assets/vendor.

    tools/vendor_pages.py           writes the files
    tools/vendor_pages.py --check   compares them with what it would write

There is no build step: what is written here is what is committed, and what is served. The archives come
from the npm registry by `npm pack`, and each is held to its hash.
"""

import hashlib
import pathlib
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "http" / "pages" / "assets" / "vendor"

# The package, its version, and the SHA-256 of its archive.
PACKAGES = {
    "preact": ("11.2.0", "3c4456766bd32b6b534d52bf4e9c2a29b33e7eedf6e96ed479300ba1a7888ebf"),
    "htm": ("3.1.1", "2425b9bee11409177bcabc7f32e319926fc6690c1701c0b257c88bdff2d5ba90"),
    "uplot": ("1.6.32", "4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d"),
}


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        files = written({name: unpacked(name, folder) for name in PACKAGES})
    if not sys.argv[1:]:
        TARGET.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (TARGET / name).write_text(text)
        return
    there = {path.name: path.read_text() for path in TARGET.iterdir()}
    differing = sorted(name for name in files.keys() | there if files.get(name) != there.get(name))
    if differing:
        sys.exit(f"differing from what is published: {', '.join(differing)}")


def unpacked(name, folder):
    """Returns what reads a file of a package, as it was published."""
    version, digest = PACKAGES[name]
    pack = ["npm", "pack", "--silent", f"{name}@{version}"]
    archive = subprocess.run(pack, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    archive = pathlib.Path(folder) / archive
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != digest:
        sys.exit(f"{name}@{version} has the hash {found}, not {digest}")

    def read(path):
        with tarfile.open(archive) as files:
            return files.extractfile(f"package/{path}").read().decode()
    return read


def written(read):
    """Returns what is served. A browser finds a module by its address: `preact` is no name there, and what
    is made for a <script> without modules exports nothing."""
    licences = [f"{name} {version}\n\n{read[name]('LICENSE').strip()}\n"
                for name, (version, _) in PACKAGES.items()]
    hooks = read["preact"]("hooks/dist/hooks.mjs")
    assert hooks.count('from"preact"') == 1, "hooks.mjs imports something else than it did"
    return {
        "preact.js": without_map(read["preact"]("dist/preact.mjs")),
        "hooks.js": without_map(hooks.replace('from"preact"', 'from"./preact.js"')),
        "htm.js": without_map(read["htm"]("dist/htm.mjs")),
        "uplot.js": without_map(read["uplot"]("dist/uPlot.iife.min.js")) + "export default uPlot;\n",
        "uplot.css": read["uplot"]("dist/uPlot.min.css").strip() + "\n",
        "licences.txt": "\n----\n\n".join(licences),
    }


def without_map(script):
    """Browsers ask for a source map when their tools are open; it is not served."""
    lines = script.strip().splitlines()
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL")) + "\n"


if __name__ == "__main__":
    main()
