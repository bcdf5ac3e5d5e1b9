"""Three NATS servers, a SurrealDB server and three replicas on this machine, with all that they keep in one folder."""

import json
import os
import pathlib
import random
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS = 90
STOP_SECONDS = 40
COUNT = 3
# A connection that is dead is found by its server within 6 s, instead of minutes: until then requests go there too.
NATS = """\
server_name: nats-{number}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{monitor}"
max_payload: 1048576
ping_interval: "2s"
ping_max: 2
write_deadline: "2s"
lame_duck_grace_period: "1s"
lame_duck_duration: "30s"
jetstream {{ store_dir: "{store}", sync_interval: always }}
cluster {{
  name: headwater
  listen: "127.0.0.1:{route}"
  advertise: "127.0.0.1:{nowhere}"
  no_advertise: true
  authorization {{ user: route, password: "{password}" }}
  routes: [{routes}]
}}
{users}
"""


class Server:
    """A process that is started, ended, killed, paused and started again."""

    def __init__(self, name, command, folder, environment=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.log = folder / f"{name}.log"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADWATER_")}
        self.environment |= environment or {}
        self.process = None

    def start(self):
        # In a session of its own: a Ctrl-C is for the cluster, which ends everything in its order.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, start_new_session=True)

    def send(self, number):
        self.process.send_signal(number)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.is_running():
            self.process.kill()
            self.process.wait()

    def end(self, number=signal.SIGTERM, seconds=STOP_SECONDS):
        """Ends it in good order, and returns whether it came to that."""
        if not self.is_running():
            return False
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False


class Cluster:
    """All of them. With `links` every connection between them can be cut."""

    def __init__(self, folder, programs, secure=False, links=None, drain_seconds=2):
        self.folder = pathlib.Path(folder).resolve()
        self.programs = programs
        self.secure = secure
        self.links = links
        self.drain_seconds = drain_seconds
        self.nats, self.replicas, self.surreal = [], [], None
        self.tokens = {}

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.secrets()
        ports = free_ports(COUNT * 4 + COUNT + 1)
        self.clients, self.monitors, self.routes, self.nowhere = (ports[n * COUNT:][:COUNT] for n in range(4))
        self.http, (self.surreal_port,) = ports[COUNT * 4:][:COUNT], ports[-1:]
        self.plan_nats()
        self.plan_surreal()
        self.plan_replicas()
        if self.links:
            self.links.start()
        for server in [*self.nats, self.surreal]:
            server.start()
        self.wait("the NATS servers have a leader", lambda: all(map(self.nats_is_well, range(COUNT))))
        self.wait("SurrealDB listens", lambda: listens(self.surreal_port))
        self.apply_topology()
        for replica in self.replicas:
            replica.start()
        self.wait("the replicas are ready", lambda: all(map(self.is_ready, range(COUNT))))

    def secrets(self):
        self.password = kept(self.folder / "password")
        kept(self.folder / "secret")
        if not self.secure:
            return
        self.run("nats-config", "--out", self.folder / "keys")
        for who, scopes in (("staff", "cmd:*,qry:*,ops:read,ops:write,staff"), ("prometheus", "ops:read")):
            token = self.run("token", "--signing-key", self.folder / "issuer.pem", "--new-key", "--subject", who,
                             "--scopes", scopes, "--lifetime", "24h")
            self.tokens[who] = token.strip().splitlines()[-1]

    def run(self, *arguments, environment=None):
        """Runs a command of the program, and returns what it writes."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HEADWATER_")}
        done = subprocess.run([self.programs.headwater, *map(str, arguments)], capture_output=True, text=True,
                              env=clean | (environment or {}), check=False)
        if done.returncode != 0:
            raise RuntimeError(f"headwater {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout

    def link(self, name, port):
        return self.links.add(name, port) if self.links else port

    def plan_nats(self):
        users = 'include "keys/headwater.conf"' if self.secure else ""
        for number in range(COUNT):
            routes = [self.link(f"route {number} {other}", self.routes[other]) for other in range(COUNT)
                      if other != number]
            config = self.folder / f"nats-{number}.conf"
            write_private(config, NATS.format(
                number=number, client=self.clients[number], monitor=self.monitors[number], route=self.routes[number],
                nowhere=self.nowhere[number], password=self.password, users=users, store=self.folder / f"nats-{number}",
                routes=", ".join(f'"nats-route://route:{self.password}@127.0.0.1:{port}"' for port in routes)))
            self.nats.append(Server(f"nats-{number}", [self.programs.nats_server, "-c", config], self.folder))

    def plan_surreal(self):
        command = [self.programs.surrealdb, "start", "--bind", f"127.0.0.1:{self.surreal_port}", "--no-banner",
                   "--log", "warn", f"surrealkv://{self.folder / 'surrealdb'}"]
        environment = {"SURREAL_USER": "root", "SURREAL_PASS": self.password, "SURREAL_ONLINE_VERSION_CHECK": "false"}
        self.surreal = Server("surrealdb", command, self.folder, environment)

    def plan_replicas(self):
        for number in range(COUNT):
            nats = [self.link(f"nats {number} {server}", self.clients[server]) for server in range(COUNT)]
            surreal = self.link(f"surreal {number}", self.surreal_port)
            command = [
                self.programs.headwater, "serve", "--log", "warn",
                "--nats", ",".join(f"nats://127.0.0.1:{port}" for port in nats),
                "--surreal", f"ws://127.0.0.1:{surreal}", "--surreal-user", "root",
                "--http-addr", f"127.0.0.1:{self.http[number]}", "--data-dir", self.folder / f"replica-{number}",
                "--secret-file", self.folder / "secret", "--drain-delay-seconds", self.drain_seconds,
            ]
            if self.secure:
                command += ["--nats-nkey", self.folder / "keys" / "replica.nk",
                            "--auth-jwks", self.folder / "issuer.pem.jwks.json"]
            environment = {"HEADWATER_SURREAL_PASSWORD": self.password}
            self.replicas.append(Server(f"replica-{number}", command, self.folder, environment))

    def operator(self):
        """What an operator's command needs to reach the log."""
        nats = ["--nats", ",".join(f"nats://127.0.0.1:{port}" for port in self.clients)]
        return nats + (["--nats-nkey", str(self.folder / "keys" / "operator.nk")] if self.secure else [])

    def apply_topology(self):
        # A server that has just found its leader refuses for a moment to place three copies.
        def applied():
            try:
                return self.run("topology", "apply", *self.operator(), "--stream-replicas", COUNT) or True
            except RuntimeError as error:
                self.said = error
                return False
        self.wait("the streams are there", applied)

    def nats_is_well(self, number):
        return answers(f"http://127.0.0.1:{self.monitors[number]}/healthz")

    def is_ready(self, number):
        return answers(f"http://127.0.0.1:{self.http[number]}/readyz")

    def wait(self, what, holds, seconds=START_SECONDS):
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                raise TimeoutError(f"not so after {seconds} s: {what}. The logs are in {self.folder}")
            time.sleep(0.1)

    def is_well(self):
        """Whether every server has all copies, and every replica is ready."""
        return all(self.nats_is_well(n) and self.is_ready(n) for n in range(COUNT)) and self.copies_are_current()

    def copies_are_current(self):
        """Whether all copies of every stream have all of it, as its leader says."""
        url = f"http://127.0.0.1:{self.monitors[0]}/jsz?streams=true&accounts=true"
        leaders = 0
        for number in range(COUNT):
            try:
                said = get_json(url.replace(str(self.monitors[0]), str(self.monitors[number])))
            except (OSError, ValueError):
                return False
            for account in said.get("account_details") or []:
                for stream in account.get("stream_detail") or []:
                    group = stream.get("cluster") or {}
                    if group.get("leader") == f"nats-{number}":
                        leaders += 1
                        copies = group.get("replicas") or []
                        if len(copies) != COUNT - 1 or not all(copy.get("current") for copy in copies):
                            return False
        return leaders > 0

    def stop(self):
        """Ends replicas before what they need; what does not end is killed."""
        for group in (self.replicas, [self.surreal] if self.surreal else [], self.nats):
            for server in group:
                if server.is_running():
                    server.send(signal.SIGCONT)
                    server.send(signal.SIGTERM)
            for server in group:
                server.end()
        if self.links:
            self.links.stop()


def kept(file):
    """A secret that is made once."""
    if not file.exists():
        write_private(file, secrets.token_hex(24))
    return file.read_text()


def write_private(file, text):
    with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
        opened.write(text)


def free_ports(count):
    """Ports that are free, below those that connections are given: one of those may take a port before its server does."""
    ports = []
    for port in random.sample(range(20_000, 32_000), 4_000):
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"there are no {count} ports free between 20000 and 32000")


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


def get_json(url):
    with urllib.request.urlopen(url, timeout=3) as answer:
        return json.load(answer)
