"""A cluster on this machine: three NATS servers with three copies of everything, three replicas, one SurrealDB server.

  cluster run FOLDER PROGRAMS     starts it, and ends it at Ctrl-C or `cluster stop`
  cluster stop FOLDER             ends the one that was started in this folder
  cluster chaos FOLDER PROGRAMS   takes everything in turn, under load, and proves that nothing was lost or doubled
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from chaos import chaos  # noqa: E402
from links import Links  # noqa: E402
from servers import COUNT, Cluster  # noqa: E402

STOP_SECONDS = 90


def main():
    arguments = parsed()
    if arguments.what == "stop":
        return stop(arguments.folder)
    programs = types.SimpleNamespace(headwater=arguments.headwater, nats_server=arguments.nats_server,
                                     surrealdb=arguments.surrealdb)
    for name, program in vars(programs).items():
        setattr(programs, name, shutil.which(program) or sys.exit(f"{program} is not there"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(arguments, programs) if arguments.what == "run" else try_it(arguments, programs)
    except KeyboardInterrupt:
        return 130


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    of = parser.add_subparsers(dest="what", required=True)
    for name in ("run", "stop", "chaos"):
        command = of.add_parser(name)
        if name != "chaos":
            command.add_argument("--folder", type=pathlib.Path, default="data/cluster", help="what holds everything")
        if name == "stop":
            continue
        command.add_argument("--headwater", required=True, help="the program")
        command.add_argument("--nats-server", default=".tools/nats-server")
        command.add_argument("--surrealdb", required=True, help="the SurrealDB server")
        command.add_argument("--secure", action="store_true", help="users at NATS, and tokens")
        if name == "chaos":
            command.add_argument("--seconds", type=float, default=60)
            command.add_argument("--seed", type=int, help="repeats the order of the faults")
            command.add_argument("--only", default="", help="the faults whose names have this in them: roll, nats-1, …")
            command.add_argument("--writers", type=int, default=16)
            command.add_argument("--keep", action="store_true", help="leave the folder, logs in it, also if all is well")
    return parser.parse_args()


def run(arguments, programs):
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if running(folder):
        sys.exit(f"a cluster runs in {folder}; end it with: make cluster-stop")
    cluster = Cluster(folder, programs, arguments.secure)
    (folder / "pid").write_text(str(os.getpid()))
    try:
        cluster.start()
        (folder / "cluster.json").write_text(json.dumps(addresses(cluster), indent=1) + "\n")
        tell(cluster)
        watch(cluster)
    finally:
        # Once more is not waited for.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("ending it", flush=True)
        cluster.stop()
        (folder / "pid").unlink(missing_ok=True)
    return 0


def addresses(cluster):
    return {"http": [f"http://127.0.0.1:{port}" for port in cluster.http],
            "nats": [f"nats://127.0.0.1:{port}" for port in cluster.clients],
            "monitor": [f"http://127.0.0.1:{port}" for port in cluster.monitors],
            "surrealdb": f"ws://127.0.0.1:{cluster.surreal_port}", "secured": cluster.secure}


def tell(cluster):
    said = addresses(cluster)
    print(f"a cluster runs: {COUNT} NATS servers, {COUNT} replicas, 1 SurrealDB server; Ctrl-C ends it")
    print(f"  HTTP       {' '.join(said['http'])}")
    print(f"  NATS       {','.join(said['nats'])}")
    print(f"  SurrealDB  {said['surrealdb']} (root, the password is in {cluster.folder / 'password'})")
    print(f"  folder     {cluster.folder} (logs too; the addresses are in cluster.json)")
    if cluster.secure:
        print(f"  secured    users at NATS: {cluster.folder / 'keys'}; HTTP takes a token:")
        print(f"  staff      TOKEN={cluster.tokens['staff']}")
    else:
        print("  open       whoever reaches these ports on this machine may do everything (SECURE=1 closes them)")
    sys.stdout.flush()


def watch(cluster):
    """Waits, and says so when something ends that was not told to."""
    ended = set()
    wake = threading.Event()
    while not wake.wait(0.5):
        for server in [*cluster.nats, cluster.surreal, *cluster.replicas]:
            if not server.is_running() and server.name not in ended:
                ended.add(server.name)
                print(f"{server.name} has ended with {server.process.returncode}; see {server.log}", flush=True)


def running(folder):
    """The process that runs a cluster in this folder, if there is one."""
    try:
        process = int((folder / "pid").read_text())
        command = pathlib.Path(f"/proc/{process}/cmdline")
        os.kill(process, 0)
        return process if not command.exists() or b"cluster" in command.read_bytes() else None
    except (OSError, ValueError):
        return None


def stop(folder):
    process = running(folder)
    if process is None:
        print(f"no cluster runs in {folder}")
        return 0
    os.kill(process, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while running(folder):
        if time.monotonic() > until:
            sys.exit(f"process {process} has not ended after {STOP_SECONDS} s")
        time.sleep(0.1)
    return 0


def try_it(arguments, programs):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 31)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="headwater-cluster-"))
    cluster = Cluster(folder, programs, arguments.secure, Links())
    well = False
    try:
        cluster.start()
        well = chaos(cluster, arguments.seconds, seed, arguments.writers, arguments.only)
    finally:
        cluster.stop()
        if well and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"everything is left in {folder}; SEED={seed} repeats the order")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
