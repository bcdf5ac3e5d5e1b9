"""Runs a command while a SurrealDB server runs: with_surrealdb_server.py <server> -- <command …>.

The command finds it by HEADWATER_TEST_SURREAL (ws://127.0.0.1:<port>, root/root). Everything is in
memory, and gone afterwards.
"""

import os
import socket
import subprocess
import sys
import time

START_SECONDS = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, server):
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("the server does not listen")


def main():
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit(__doc__)
    port = free_port()
    server = subprocess.Popen(
        [sys.argv[1], "start", "--bind", f"127.0.0.1:{port}", "--user", "root", "--pass", "root",
         "--no-banner", "--log", "warn", "memory"],
        env={**os.environ, "SURREAL_ONLINE_VERSION_CHECK": "false"},
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_for(port, server)
        command = sys.argv[3:]
        done = subprocess.run(
            command, env={**os.environ, "HEADWATER_TEST_SURREAL": f"ws://127.0.0.1:{port}"}, check=False
        )
        sys.exit(done.returncode)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
