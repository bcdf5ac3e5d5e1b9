"""Load on a cluster that remembers what it was answered, for `proof` to hold against the log.

Each writer gives one command after the other. Those with a key are given again, with it, until they are answered for
good, and some once more after that; those without are given once. A reader changes a product of its own and reads it
back, with the position that it was told, from whichever replica. Two claimants at a time want the same e-mail address.
"""

import json
import multiprocessing
import random
import signal
import threading
import time

from clients import Answer, Http, Nats

PATIENCE_SECONDS = 1.0
READ_SECONDS = 3.0
# As long as a command is given again: longer than anything is ever away.
GIVE_UP_SECONDS = 90
# As long as a replica that has not answered is left alone, as what stands before replicas does.
AVOID_SECONDS = 2
PAUSES = (0.02, 0.05, 0.1, 0.2)
STOCKS = 40
READERS, CLAIMANTS = 2, 2


class Load:
    """Processes with writers. Their answers are lines of files in a folder."""

    def __init__(self, cluster, folder, writers, seed):
        self.stopping = multiprocessing.Event()
        self.files = []
        self.processes = []
        nats = None if cluster.secure else cluster.clients
        for number in range(2):
            file = folder / f"load-{number}.ndjson"
            self.files.append(file)
            arguments = (number, cluster.http, nats, cluster.tokens.get("staff"), writers // 2, seed, file, self.stopping)
            self.processes.append(multiprocessing.Process(target=work, args=arguments, daemon=True))

    def start(self):
        for process in self.processes:
            process.start()

    def end(self):
        """Ends it wherever it is."""
        for process in self.processes:
            process.kill()

    def stop(self):
        """Returns all answers, when every command is answered for good."""
        self.stopping.set()
        for process in self.processes:
            process.join(GIVE_UP_SECONDS + 30)
            if process.exitcode != 0:
                raise RuntimeError(f"a process of the load has ended with {process.exitcode}")
        return [json.loads(line) for file in self.files for line in file.read_text().splitlines()]


def work(number, http, nats, token, writers, seed, file, stopping):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    avoided = {}
    with file.open("w") as lines:
        lock = threading.Lock()

        def told(entry):
            with lock:
                lines.write(json.dumps(entry) + "\n")

        pair = threading.Barrier(CLAIMANTS)
        jobs = [Writer(keyed=place % 2 == 0) for place in range(writers)]
        jobs += [Reader() for _ in range(READERS)]
        jobs += [Claimant(pair, side) for side in range(CLAIMANTS)]
        threads = []
        for place, job in enumerate(jobs):
            job.name = f"{seed}-{number}-{place}"
            job.chance = random.Random(job.name)
            job.ways = Ways(http, nats, token, place, avoided, job.chance)
            job.told, job.stopping = told, stopping
            threads.append(threading.Thread(target=job.run))
        failed = []
        threading.excepthook = lambda what: (failed.append(what), threading.__excepthook__(what))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise SystemExit(1)


class Ways:
    """The gateways of all replicas and, for every third thread, a connection to NATS."""

    def __init__(self, http, nats, token, place, avoided, chance):
        self.gateways = [Http(port, token) for port in http]
        self.nats = Nats(nats) if nats and place % 3 == 0 else None
        self.avoided, self.chance = avoided, chance

    def command(self, *command):
        if self.nats:
            return self.nats.command(*command, PATIENCE_SECONDS)
        return self.ask(lambda gateway: gateway.command(*command, PATIENCE_SECONDS))

    def document(self, *document):
        return self.ask(lambda gateway: gateway.document(*document, READ_SECONDS))

    def ask(self, question):
        now = time.monotonic()
        well = [gateway for gateway in self.gateways if self.avoided.get(gateway.port, 0) < now]
        gateway = self.chance.choice(well or self.gateways)
        answer = question(gateway)
        if answer.status in (0, 503):
            self.avoided[gateway.port] = time.monotonic() + AVOID_SECONDS
        return answer


class Job:
    def run(self):
        self.prepare()
        number = 0
        while not self.stopping.is_set():
            self.step(number)
            number += 1

    def prepare(self):
        pass

    def give(self, aggregate, id, command, fields, key, mark):
        """Gives a command until it is answered for good (once, without a key), and puts on record what came of it."""
        began = time.monotonic()
        tries, answer = 0, Answer(0)
        while True:
            tries += 1
            answer = self.ways.command(aggregate, id, command, fields, key)
            final = answer.status not in (0, 429, 503)
            if final or not key or time.monotonic() - began > GIVE_UP_SECONDS:
                break
            time.sleep(PAUSES[min(tries, len(PAUSES)) - 1])
        self.told({
            "kind": "command", "aggregate": aggregate, "id": id, "command": command, "key": key, "mark": mark,
            "began": began, "ended": time.monotonic(), "tries": tries, "status": answer.status,
            "code": answer.body.get("code"), "version": answer.body.get("version"),
            "position": answer.body.get("position"), "replayed": answer.body.get("replayed"),
            "surface": "nats" if self.ways.nats else "http",
        })
        return answer


class Writer(Job):
    """Changes stocks that all writers share."""

    def __init__(self, keyed):
        self.keyed = keyed

    def step(self, number):
        mark = f"{self.name}-{number}"
        stock = f"b_{self.chance.randrange(STOCKS)}"
        command = ("stock", stock, "adjust", {"delta": 1, "reason": mark})
        self.give(*command, mark if self.keyed else None, mark)
        if self.keyed and self.chance.randrange(16) == 0:
            self.give(*command, mark, mark)


class Reader(Job):
    """Changes the price of a product of its own, and reads it."""

    def prepare(self):
        self.give("product", self.name, "register", {"name": "read back", "price": 1, "category": "test"}, self.name, None)

    def step(self, number):
        price = number + 2
        key = f"{self.name}-{number}"
        answer = self.give("product", self.name, "reprice", {"price": price}, key, None)
        if answer.status == 200:
            self.read_back(answer.body["position"], price)

    def read_back(self, position, price):
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            answer = self.ways.document("product", self.name, f"product@{position}")
            if answer.status not in (0, 429, 503, 504) or time.monotonic() - began > GIVE_UP_SECONDS:
                break
            time.sleep(PAUSES[min(tries, len(PAUSES)) - 1])
        read = (answer.body.get("document") or {}).get("price")
        self.told({"kind": "read", "id": self.name, "position": position, "price": price, "read": read,
                   "applied": int(answer.headers.get("headwater-applied", 0)), "status": answer.status,
                   "began": began, "ended": time.monotonic(), "tries": tries})


class Claimant(Job):
    """Wants an e-mail address at the same time as another one."""

    def __init__(self, pair, side):
        self.pair, self.side = pair, side

    def step(self, number):
        try:
            self.pair.wait(timeout=5)
        except threading.BrokenBarrierError:
            self.pair.reset()
        # Both sides of a pair count alike, and so want the same one.
        email = f"{self.name.rsplit('-', 1)[0]}-{number}@example.com"
        member = f"{self.name}-{number}"
        self.give("member", member, "register", {"name": "claimant", "email": email}, member, email)
