"""A program of the checks: started, found by what it prints, and stopped whatever comes of them."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NATS_SERVER = ROOT / ".tools" / "nats-server"
STOP_SECONDS = 60


@contextlib.contextmanager
def running(program, *flags, data, env=None, server=NATS_SERVER, **more):
    """`dev` of a program, with its documents in a folder, until the block ends."""
    command = [program, "dev", "--data-dir", data, *flags]
    if server is not None and server.exists():
        command += ["--nats-server", server]
    service = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env or without_settings(), **more)
    try:
        yield service
    finally:
        service.terminate()
        try:
            service.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()


def addresses(service):
    """Where it serves HTTP and NATS, of what it prints when it runs."""
    found = {}
    for line in service.stdout:
        match = re.match(r"\s+(HTTP|NATS)\s+(\S+)", line)
        if match:
            found[match[1]] = match[2]
        if len(found) == 2:
            return found["HTTP"], found["NATS"]
    sys.exit(f"the service ended with {service.wait()}")


def without_settings(*others):
    """The environment, without what the program, and others of these prefixes, would read from it."""
    settings = ("HEADWATER_", "OTEL_", *others)
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


def expect(true, otherwise):
    if not true:
        sys.exit(otherwise)
