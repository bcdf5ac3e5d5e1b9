"""Takes everything in the cluster in turn while it is under load, and proves that nobody was lied to."""

import itertools
import json
import random
import time

from clients import Http
from faults import Prober, all_faults
from links import HANG, REFUSE
from load import STOCKS, Load
from proof import percentile, prove, told

RECOVER_SECONDS = 90
QUIET_SECONDS = 5
KINDS = ("quiet", "roll", "kill", "pause", "partition")


def chaos(cluster, seconds, seed, writers, only):
    """Runs faults for so many seconds, in turn, and returns whether all was well at the end."""
    prober = Prober(cluster, seed)
    cluster.cut_states = [HANG, REFUSE]
    faults = [fault for fault in all_faults(cluster, prober) if only in fault.name]
    if not faults:
        raise SystemExit(f"no fault has {only} in its name")
    random.Random(seed).shuffle(faults)
    prepare(cluster)
    load = Load(cluster, cluster.folder, writers, seed)
    load.start()
    try:
        wrong, spans = run(cluster, seconds, faults)
        entries = load.stop() + prober.entries
    finally:
        load.end()
    number = len(spans) - 1
    wrong += end(cluster)
    found, events = prove(cluster, entries, cluster.folder)
    report(entries, spans, prober, events, number, seed, len(faults), cluster.folder)
    wrong += found
    print(told(wrong) if wrong else "nothing lost, nothing doubled, no read older than its position", flush=True)
    return not wrong


def run(cluster, seconds, faults):
    """Lets one fault happen after the other; returns what was wrong, and what happened from when to when."""
    begin = time.monotonic()
    time.sleep(QUIET_SECONDS)
    wrong, spans = [], [("quiet", begin, time.monotonic())]
    for fault in itertools.cycle(faults):
        if time.monotonic() - begin >= seconds:
            return wrong, spans
        wrong += happen(cluster, fault, spans)


def prepare(cluster):
    gateway = Http(cluster.http[0], cluster.tokens.get("staff"))
    for number in range(STOCKS):
        answer = gateway.command("stock", f"b_{number}", "receive", {"quantity": 1}, f"prepare-{number}", 30)
        if answer.status != 200:
            raise RuntimeError(f"stock/b_{number} is not received: {answer.status} {answer.body}")


def happen(cluster, fault, spans):
    """Lets one fault happen, and waits until all is well again."""
    began = time.monotonic()
    wrong = []
    try:
        fault.happen()
    except RuntimeError as error:
        wrong.append(f"{fault.name}: {error}")
    given_back = time.monotonic()
    try:
        cluster.wait("the cluster is well again", cluster.is_well, RECOVER_SECONDS)
    except TimeoutError as error:
        wrong.append(f"{fault.name}: {error}")
    ended = time.monotonic()
    spans.append((fault.name, began, ended))
    print(f"  {fault.name}: {ended - began:.1f} s, well again after {ended - given_back:.1f} s", flush=True)
    return wrong


def end(cluster):
    """Compares every document of every view with the log."""
    operator = cluster.operator()
    environment = {"HEADWATER_TOKEN": cluster.tokens["staff"]} if cluster.secure else {}
    wrong = []
    for view in ("product", "storefront", "order", "sales"):
        try:
            cluster.run("views", "verify", view, *operator, environment=environment)
        except RuntimeError as error:
            wrong.append(f"the view {view} is not what the log says: {error}")
    return wrong


def report(entries, spans, prober, events, number, seed, of, folder):
    commands = [entry for entry in entries if entry["kind"] == "command" and entry["surface"] != "minority"]
    reads = [entry for entry in entries if entry["kind"] == "read"]
    accepted = sum(entry["status"] == 200 for entry in commands)
    unknown = sum(entry["status"] in (0, 503) for entry in commands)
    print(f"{number} faults of {of}, seed {seed}; {accepted} commands accepted, {unknown} without a key not known, "
          f"{sum(entry['tries'] - 1 for entry in commands)} given again; {len(reads)} reads; {events} events in the log")
    figures = {"seed": seed, "faults": number, "accepted": accepted, "unknown": unknown, "reads": len(reads),
               "minority": {str(status): prober.statuses.count(status) for status in sorted(set(prober.statuses))}}
    print("  while            commands/s  p50 ms  p99 ms  longest ms  not at the first go")
    for kind in KINDS:
        of_kind = [span for span in spans if span[0].split()[0] == kind]
        time_taken = sum(end - begin for _, begin, end in of_kind)
        within = [entry for entry in commands if entry["key"]
                  and any(begin <= entry["began"] < end for _, begin, end in of_kind)]
        if not within:
            continue
        took = [(entry["ended"] - entry["began"]) * 1000 for entry in within]
        again = sum(entry["tries"] > 1 for entry in within)
        figures[kind] = {"seconds": round(time_taken, 1), "commands": len(within), "p50_ms": percentile(took, 0.5),
                         "p99_ms": percentile(took, 0.99), "longest_ms": max(took), "again": again}
        print(f"  {kind:16} {len(within) / time_taken:10.0f} {percentile(took, 0.5):7.1f} {percentile(took, 0.99):7.0f} "
              f"{max(took):11.0f} {again:11d}")
    if prober.statuses:
        print(f"  the minority answered {figures['minority']}")
    (folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
