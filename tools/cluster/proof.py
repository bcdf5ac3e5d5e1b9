"""Holds what the load was answered against the log: nothing lost, nothing doubled, nothing read that was too old."""

import collections
import json

MOST_TOLD = 5


def prove(cluster, entries, folder):
    """What is wrong, as lines; none if all is well. Second, the number of events that were looked at."""
    events, wrong = log(cluster, folder), []
    commands = [entry for entry in entries if entry["kind"] == "command"]
    wrong += list(versions(events))
    wrong += list(answered(commands, events))
    wrong += list(claimed(commands, events))
    wrong += list(read_back(entry for entry in entries if entry["kind"] == "read"))
    return wrong, len(events)


def log(cluster, folder):
    """All events, as the program exports them."""
    file = folder / "log.ndjson"
    file.unlink(missing_ok=True)
    cluster.run("events", "export", file, *cluster.operator())
    lines = map(json.loads, file.read_text().splitlines())
    return [line for line in lines if line["source"] != "/log"]


def versions(events):
    """Each aggregate's versions go up by one from 1, in the order of the log."""
    last = collections.Counter()
    for event in events:
        last[event["source"]] += 1
        if int(event["id"]) != last[event["source"]]:
            yield f"{event['source']} has version {event['id']} at {event['position']}, not {last[event['source']]}"
            last[event["source"]] = int(event["id"])


def answered(commands, events):
    """What was accepted stands once, where its answer says; what has a key is told alike; what was not done is not there."""
    by_key, by_reason = collections.defaultdict(list), collections.defaultdict(list)
    for event in events:
        by_key[event["source"], event["commandid"]].append(event)
        by_reason[event["data"].get("reason")].append(event)
    first = {}
    for given in commands:
        what = f"{given['command']} of {given['aggregate']}/{given['id']} ({given['key'] or given['mark']})"
        source = f"/{given['aggregate']}/{given['id']}"
        found = by_key.get((source, given["key"]), []) if given["key"] else by_reason.get(given["mark"], [])
        if given["key"] and given["status"] in (0, 429, 503):
            yield f"{what} was never answered: {given['status']}"
        elif given["status"] == 200:
            if len(found) != 1:
                yield f"{what} was accepted, and stands {len(found)} times in the log"
            elif (int(found[0]["position"]), int(found[0]["id"])) != (given["position"], given["version"]):
                yield f"{what} was answered with {given['version']} at {given['position']}, and is {found[0]}"
        elif given["status"] == 429 and found:
            yield f"{what} was refused as too much, and is in the log"
        elif len(found) > 1:
            yield f"{what} stands {len(found)} times in the log"
        elif given["status"] not in (0, 429, 503) and given["code"] != "claim_taken":
            yield f"{what} was refused with {given['status']} {given['code']}"
        elif given["code"] == "claim_taken" and found:
            yield f"{what} was refused, and is in the log"
        if given["key"]:
            answer = (given["status"], given["version"], given["position"])
            if first.setdefault(given["key"], answer) != answer:
                yield f"{what} was answered with {first[given['key']]}, and later with {answer}"
    known = {given["mark"] for given in commands}
    for reason, found in by_reason.items():
        if reason is not None and found[0]["type"].startswith("stock.adjusted") and reason not in known:
            yield f"nobody gave what stands at {found[0]['position']}"


def claimed(commands, events):
    """Each address is held by one member, whatever was answered."""
    holders = collections.Counter(event["data"]["email"] for event in events if event["type"].startswith("member.registered"))
    for email, count in holders.items():
        if count > 1:
            yield f"{email} is held by {count} members"
    wanted = collections.defaultdict(list)
    for given in commands:
        if given["aggregate"] == "member":
            wanted[given["mark"]].append(given["status"])
    for email, statuses in wanted.items():
        if len(statuses) > 1 and 200 not in statuses:
            yield f"{email} was refused to everybody: {statuses}"


def read_back(reads):
    for read in reads:
        what = f"product/{read['id']} at {read['position']}"
        if read["status"] != 200:
            yield f"{what} could not be read: {read['status']}"
        elif read["price"] != read["read"] or read["applied"] < read["position"]:
            yield f"{what} was read too old: {read['read']} instead of {read['price']}, applied {read['applied']}"


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def told(wrong):
    more = [f"… and {len(wrong) - MOST_TOLD} more"] if len(wrong) > MOST_TOLD else []
    return "\n".join(wrong[:MOST_TOLD] + more)
