"""The faults: each takes something from the cluster for a while, and gives it back."""

import signal
import time

from clients import Http
from links import HANG, MEND, REFUSE
from servers import COUNT

KILLED_SECONDS = 3
PAUSED_SECONDS = 6
CUT_SECONDS = 14
# From when on after a cut the minority must not accept: what was under way has been decided by then.
MINORITY_SECONDS = 3
PROBE_SECONDS = 12


class Fault:
    def __init__(self, name, happen):
        self.name, self.happen = name, happen


def all_faults(cluster, prober):
    """Every fault of every server and every replica, those of one kind after another."""
    faults = []

    def add(name, function, *arguments):
        faults.append(Fault(name, lambda: function(cluster, *arguments)))

    for number in range(COUNT):
        add(f"roll replica-{number}", roll_replica, number)
        add(f"roll nats-{number}", roll_nats, number)
    for number in range(COUNT):
        add(f"kill replica-{number}", kill, lambda n=number: cluster.replicas[n])
        add(f"kill nats-{number}", kill, lambda n=number: cluster.nats[n])
    add("kill surrealdb", kill, lambda: cluster.surreal)
    for number in range(COUNT):
        add(f"pause replica-{number}", pause, lambda n=number: cluster.replicas[n])
        add(f"pause nats-{number}", pause, lambda n=number: cluster.nats[n])
    add("pause surrealdb", pause, lambda: cluster.surreal)
    for number in range(COUNT):
        add(f"partition replica-{number}", cut_replica, number, prober)
        add(f"partition nats-{number}", cut_nats, number)
        add(f"partition nats-{number} with replica-{number}", cut_both, number, prober)
    return faults


def roll_replica(cluster, number):
    replica = cluster.replicas[number]
    if not replica.end():
        raise RuntimeError(f"{replica.name} did not end when it was told to")
    if replica.process.returncode != 0:
        raise RuntimeError(f"{replica.name} has ended with {replica.process.returncode}")
    replica.start()


def roll_nats(cluster, number):
    # A server that is a lame duck hands its leaderships over and sends its clients away before it ends.
    cluster.nats[number].end(signal.SIGUSR2)
    cluster.nats[number].start()


def kill(_cluster, server):
    server().kill()
    time.sleep(KILLED_SECONDS)
    server().start()


def pause(_cluster, server):
    server().send(signal.SIGSTOP)
    time.sleep(PAUSED_SECONDS)
    server().send(signal.SIGCONT)


def cut_replica(cluster, number, prober):
    """A replica that reaches neither NATS nor SurrealDB, while callers reach it."""
    names = [f"nats {number} {server}" for server in range(COUNT)] + [f"surreal {number}"]
    cut(cluster, names, lambda: prober.minority(number))


def cut_nats(cluster, number):
    """A server that reaches nobody, and nobody it."""
    names = routes_of(number) + [f"nats {replica} {number}" for replica in range(COUNT)]
    cut(cluster, names, lambda: time.sleep(CUT_SECONDS))


def cut_both(cluster, number, prober):
    """A server and a replica that reach each other, and nobody else."""
    others = [other for other in range(COUNT) if other != number]
    names = routes_of(number) + [f"surreal {number}"]
    names += [f"nats {number} {other}" for other in others] + [f"nats {other} {number}" for other in others]
    cut(cluster, names, lambda: prober.minority(number))


def routes_of(number):
    others = [other for other in range(COUNT) if other != number]
    return [f"route {number} {other}" for other in others] + [f"route {other} {number}" for other in others]


def cut(cluster, names, meanwhile):
    # A network that loses everything, or one that says no.
    state = cluster.cut_states[0]
    cluster.cut_states.reverse()
    cluster.links.set(names, state)
    try:
        meanwhile()
    finally:
        cluster.links.set(names, MEND)


class Prober:
    """Asks the replica on the smaller side of a cut, which must accept nothing."""

    def __init__(self, cluster, seed):
        self.cluster, self.seed = cluster, seed
        self.count = 0
        self.statuses = []
        self.entries = []

    def minority(self, number):
        began = time.monotonic()
        time.sleep(MINORITY_SECONDS)
        gateway = Http(self.cluster.http[number], self.cluster.tokens.get("staff"))
        ready = []
        while time.monotonic() - began < CUT_SECONDS:
            self.count += 1
            mark = f"{self.seed}-minority-{self.count}"
            given = time.monotonic()
            answer = gateway.command("stock", f"b_{self.count % 8}", "adjust", {"delta": 1, "reason": mark}, None,
                                     PROBE_SECONDS)
            self.statuses.append(answer.status)
            ready.append(gateway.request("GET", "/readyz", {}, None, PROBE_SECONDS).status)
            self.entries.append({
                "kind": "command", "aggregate": "stock", "id": f"b_{self.count % 8}", "command": "adjust", "key": None,
                "mark": mark, "status": answer.status, "code": answer.body.get("code"), "began": given,
                "ended": time.monotonic(), "version": answer.body.get("version"), "surface": "minority",
                "position": answer.body.get("position"), "replayed": None, "tries": 1})
            time.sleep(0.2)
        gateway.close()
        if any(status != 503 for status in self.statuses):
            raise RuntimeError(f"the minority answered {sorted(set(self.statuses))}, not 503 alone")
        if 200 in ready:
            raise RuntimeError("the minority said that it was ready")
