#!/usr/bin/env python3
"""Makes the container image: image.py build <program> <archive> | image.py check <program>.

The image is from scratch: the program without its symbols, the libraries that it is linked against and the certificates
of Debian's packages, and what it is made of (CycloneDX). The same program and packages make the same image, byte for byte.
`check` makes it twice, compares, and runs it: on a root that nothing can be written to, as its user, beside a nats-server.

It takes Linux, Debian's buildah (or the one on PATH) and, to be run, root: it is put on its own root with unshare and chroot.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

from debian import download, install
from service import NATS_SERVER, ROOT, STOP_SECONDS, expect

USER = 10001
MOST_BYTES = 70 * 1024 * 1024
START_SECONDS = 90
PACKAGES = ("libc6", "libgcc-s1", "ca-certificates")
LIBRARIES = re.compile(r"(/\S+) \(0x")
# What is not linked in but needed where libraries of glibc look names up.
NSSWITCH = "hosts: files dns\n"
READ_ONLY = """
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -t tmpfs -o uid={user},gid={user},mode=0700 tmpfs "$root/var/lib/headwater"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
if touch "$root/etc/written" 2>/dev/null; then echo "the root can be written to" >&2; exit 1; fi
exec setpriv --no-new-privs chroot --userspec={user}:{user} "$root" "$@"
""".format(user=USER)


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("build", "check"):
        sys.exit(__doc__)
    program = pathlib.Path(sys.argv[2]).resolve()
    expect(program.exists(), f"{program} is not there")
    if sys.argv[1] == "build":
        archive = pathlib.Path(sys.argv[3]).resolve()
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            prepare(program, archive.parent / "image", pathlib.Path(folder))
        # What an engine loads by `docker load` beside what a registry takes.
        told = build(archive.parent / "image", archive, archive.parent / "headwater-docker.tar")
        print(f"{archive.name}: {told['digest']}, {told['bytes'] / 1e6:.1f} MB compressed")
    else:
        check(program)


def check(program):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        prepare(program, folder / "image", folder)
        first, second = (build(folder / "image", folder / f"{name}.tar") for name in ("first", "second"))
        expect(first["digest"] == second["digest"], f"built twice, it is {first['digest']} and {second['digest']}")
        expect(first["bytes"] <= MOST_BYTES, f"it has {first['bytes']} bytes compressed")
        expect(first["config"]["User"] == f"{USER}:{USER}", f"its user is {first['config']['User']}")
        expect(first["config"]["Labels"].get("org.opencontainers.image.version") == version(), "it has no version")
        root = folder / "root"
        unpack(folder / "first.tar", first, root)
        expect((root / "usr/share/doc/headwater/headwater.cdx.json").exists(), "it does not say what it is made of")
        run(root, first["config"])
        print(f"image: {first['digest']}, {first['bytes'] / 1e6:.1f} MB compressed, twice the same; ready as {USER} on a read-only root")


def prepare(program, folder, scratch):
    """The folder that the image is built from: `base`, which seldom changes, and `program`."""
    shutil.rmtree(folder, ignore_errors=True)
    base, own = folder / "base", folder / "program"
    for made in (own / "usr/bin", own / "usr/share/doc/headwater", base / "etc", base / "var/lib/headwater", base / "tmp",
                 base / "proc", base / "dev"):
        made.mkdir(parents=True)
    installed = own / "usr/bin/headwater"
    command("strip", "-o", installed, program)
    installed.chmod(0o755)
    shutil.copy(ROOT / "LICENSE", own / "usr/share/doc/headwater/LICENSE")
    packages = libraries(program, base, scratch)
    (base / "etc/passwd").write_text(f"headwater:x:{USER}:{USER}::/var/lib/headwater:/usr/bin/headwater\n")
    (base / "etc/group").write_text(f"headwater:x:{USER}:\n")
    (base / "etc/nsswitch.conf").write_text(NSSWITCH)
    made_of(own / "usr/share/doc/headwater/headwater.cdx.json", packages)
    (base / "tmp").chmod(0o1777)
    os.chown(base / "var/lib/headwater", USER, USER)


def libraries(program, base, scratch):
    """Copies what the program is linked against, and certificates, out of Debian's packages. Returns their versions."""
    needed = LIBRARIES.findall(command("ldd", program))
    scratch = scratch / "packages"
    scratch.mkdir()
    download(scratch, *PACKAGES)
    versions = {}
    for package in sorted(scratch.glob("*.deb")):
        name, version, architecture = (command("dpkg-deb", "--field", package, field).strip()
                                       for field in ("Package", "Version", "Architecture"))
        versions[name] = (version, architecture)
        command("dpkg-deb", "--extract", package, scratch / name)
    expect(set(versions) == set(PACKAGES), f"of the packages only {sorted(versions)} are there")
    for name in PACKAGES:
        copyright = base / f"usr/share/doc/{name}/copyright"
        copyright.parent.mkdir(parents=True)
        shutil.copy(scratch / terms(scratch, name), copyright)
    for library in needed:
        # Where libraries lie in /usr/lib the system has a link of the same name to them.
        places = [scratch / name / prefix / library.lstrip("/") for name in PACKAGES for prefix in ("", "usr")]
        places = [place for place in places if place.exists()]
        expect(places, f"{library}, which the program is linked against, is in none of {', '.join(PACKAGES)}")
        (base / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(places[0].resolve(), base / library.lstrip("/"))
        (base / library.lstrip("/")).chmod(0o755)
    certificates = sorted((scratch / "ca-certificates/usr/share/ca-certificates/mozilla").glob("*.crt"))
    expect(len(certificates) > 50, f"{len(certificates)} certificates were found")
    bundle = base / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(b"".join(file.read_bytes() for file in certificates))
    return versions


def terms(scratch, name):
    """Where a package says under which terms it is: some say that it is as with another package."""
    place = scratch / name / "usr/share/doc" / name
    if not place.is_symlink():
        return place / "copyright"
    other = os.readlink(place)
    folder = scratch / "other"
    folder.mkdir(exist_ok=True)
    download(folder, other)
    command("dpkg-deb", "--extract", next(folder.glob(f"{other}_*.deb")), folder)
    return folder / "usr/share/doc" / other / "copyright"


def made_of(file, packages):
    """The crates that are compiled in, and Debian's packages."""
    document = json.loads(command(sys.executable, ROOT / "tools" / "sbom.py"))
    for name, (version, architecture) in sorted(packages.items()):
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
        document["components"].append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def version():
    return re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def build(folder, archive, loadable=None):
    """Builds an archive, and tells its digest, its configuration and its size. Nothing is kept of earlier builds."""
    if not shutil.which("buildah"):
        install("buildah")
    buildah = shutil.which("buildah")
    # The time of all files, and of the image: that of the commit, or a fixed one where there is none.
    when = git("log", "-1", "--format=%ct") or "0"
    revision = git("rev-parse", "HEAD") or "unknown"
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as store:
        # The driver that needs nothing of the kernel; nothing is run, so isolation is only named.
        tool = [buildah, "--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "vfs"]
        command(*tool, "bud", "--isolation", "chroot", "--format", "oci", "--layers", "--timestamp", when,
                "--build-arg", f"VERSION={version()}", "--build-arg", f"REVISION={revision}",
                "--file", ROOT / "deploy" / "Dockerfile", "--tag", "headwater", folder)
        command(*tool, "push", "--quiet", "headwater", f"oci-archive:{archive}:headwater:{version()}")
        if loadable:
            loadable.unlink(missing_ok=True)
            command(*tool, "push", "--quiet", "headwater", f"docker-archive:{loadable}:headwater:{version()}")
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))
        digest = index["manifests"][0]["digest"]
        manifest = json.load(tar.extractfile(f"blobs/{digest.replace(':', '/')}"))
        config = json.load(tar.extractfile(f"blobs/{manifest['config']['digest'].replace(':', '/')}"))
    return {"digest": digest, "layers": [layer["digest"] for layer in manifest["layers"]], "config": config["config"],
            "bytes": sum(layer["size"] for layer in manifest["layers"])}


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def unpack(archive, image, root):
    """Lays the image's layers on each other, as whoever runs it does."""
    root.mkdir()
    with tarfile.open(archive) as tar:
        for digest in image["layers"]:
            blob = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            with tarfile.open(fileobj=blob, mode="r:gz") as layer:
                layer.extractall(root, filter="fully_trusted") if hasattr(tarfile, "fully_trusted_filter") else layer.extractall(root)


def run(root, config):
    """Runs it beside a nats-server until it is ready, and has it end."""
    expect(os.geteuid() == 0, "only root can run it on a root of its own")
    nats_server = shutil.which("nats-server") or NATS_SERVER
    with tempfile.TemporaryDirectory() as folder:
        ports = pathlib.Path(folder)
        nats = subprocess.Popen([nats_server, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", f"{folder}/store", "--ports_file_dir", folder],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        service, log = None, ports / "log"
        try:
            url = wait(lambda: [json.loads(file.read_text())["nats"][0] for file in ports.glob("*.ports")], "nats-server")[0]
            port = free_port()
            arguments = config["Entrypoint"] + config["Cmd"] + ["--nats", url, "--http-addr", f"127.0.0.1:{port}"]
            environment = dict(variable.split("=", 1) for variable in config["Env"])
            service = subprocess.Popen(["unshare", "--mount", "--fork", "--kill-child", "sh", "-c", READ_ONLY, "sh", root, *arguments],
                                       stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
                                       env=environment | {"PATH": os.environ["PATH"]})
            wait(lambda: ready(port, service, log), "the image is ready")
            own = pid_of(service.pid)
            status = pathlib.Path(f"/proc/{own}/status").read_text()
            expect(f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status, f"it does not run as {USER}")
            expect("CapEff:\t0000000000000000" in status, "it has capabilities")
            os.kill(own, 15)
            expect(service.wait(STOP_SECONDS) == 0, f"it has ended with {service.returncode}")
        finally:
            for process in filter(None, (service, nats)):
                process.kill()
                process.wait()


def pid_of(parent):
    """The process that was put on the root, under the one that has put it there."""
    return int(pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


def ready(port, service, log):
    expect(service.poll() is None, f"it has ended with {service.returncode}:\n{log.read_text()}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(holds, what):
    until = time.monotonic() + START_SECONDS
    while True:
        held = holds()
        if held:
            return held
        expect(time.monotonic() < until, f"not so after {START_SECONDS} s: {what}")
        time.sleep(0.1)


def command(*words):
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
