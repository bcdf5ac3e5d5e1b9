"""Renders the chart in many ways, and holds every object against what Kubernetes, NACK and KEDA take.

check_kubernetes.py [--write]: with it, deploy/kubernetes is made anew. Runs with what requirements.txt names.
"""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile

import jsonschema
import yaml
from helm_python.chart import Chart
from helm_python.errors import HelmError
from kubernetes_validate.utils import validate

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm"
PLAIN = ROOT / "deploy" / "kubernetes"
CRDS = pathlib.Path(__file__).resolve().parent / "crds"
VERSIONS = ("1.35", "1.36", "1.37")
HEAD = "# The chart in deploy/helm, rendered{how}; made by tools/deploy/check_kubernetes.py --write.\n"
LOCAL = {"documents": {"kind": "local"}}
NACK = {"topology": {"nack": True}}
KEDA = {"keda": {"enabled": True}}
INSECURE = {"auth": {"insecure": True}}
OPEN_NATS = {"nats": {"seeds": ""}}
# What `deploy/kubernetes` has, and what it is rendered with.
FILES = {"shared.yaml": ({}, ""), "local.yaml": (LOCAL, ", with documents on the disk of each replica"),
         "nack-keda.yaml": ({**NACK, **KEDA}, ", with objects of NACK and of KEDA")}
# What checkov says against it, and why it is so.
EXCEPTIONS = {
    "CKV_K8S_43": "a digest is the installation's: image.digest",
    "CKV_K8S_35": "the password of SurrealDB is taken as a variable alone",
}
REFUSED = [
    {"nosuch": 1}, {"image": {"name": "x"}}, {"documents": {"kind": "elsewhere"}}, {"components": {"gateways": {}}},
    {"patches": {"Deplyoment/gateway": {}}}, {"auth": {"jwks": ""}}, {"image": {"digest": "latest"}}, {"drainSeconds": "ten"},
]


def combinations():
    """Ways to say what is wanted: each choice alone and with the others that it meets."""
    documents, topologies, scales = ({}, LOCAL), ({}, NACK, {"topology": {"job": False}}), ({}, KEDA)
    for one in documents:
        for other in topologies:
            for third in scales:
                yield merged(one, other, third)
    singles = [
        INSECURE, OPEN_NATS, {"tls": "headwater-tls"}, {"nats": {"ca": "nats-ca"}}, {"networkPolicy": {"enabled": False}},
        {"image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "pull"}]}}, {"otlp": "http://collector:4318"},
        {"auth": {"issuer": "https://issuer.example", "audience": "mart", "anonymousScopes": "qry:product"}},
        {"components": {"process": {"enabled": False}, "projector": {"enabled": False}}},
        {"components": {"command": {"args": ["--max-actors", "1000"]}}}, {"service": {"type": "LoadBalancer", "port": 443}},
        {"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "a", "operator": "Exists"}]}, {"nameOverride": "mart"},
        {"podLabels": {"team": "mart"}, "podAnnotations": {"a": "b"}}, {"drainSeconds": 30, "graceSeconds": 60},
        {"documents": {"kind": "local", "size": "1Ti", "storageClass": "fast"}}, {"allowOrigin": "https://shop.example"},
        {"extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"a": "b"}}]},
        {"podDisruptionBudget": {"maxUnavailable": "25%"}, "nats": {"replicas": 5}},
        merged(LOCAL, NACK, KEDA, INSECURE, OPEN_NATS, {"tls": "tls", "networkPolicy": {"enabled": False}}),
    ]
    yield from singles


def main():
    chart = Chart.load(CHART)
    if "--write" in sys.argv[1:]:
        return write(chart)
    same_streams()
    schemas = closed_crds()
    count, objects, checked = 0, 0, set()
    for values in combinations():
        count += 1
        rendered = render(chart, values)
        consistent(rendered, values)
        for thing in rendered:
            objects += 1
            text = json.dumps(thing, sort_keys=True)
            if text not in checked:
                checked.add(text)
                valid(thing, schemas)
    expect(count >= 24, f"only {count} combinations")
    patched(chart)
    refused(chart)
    for name, (values, how) in FILES.items():
        expect((PLAIN / name).read_text() == plain(chart, values, how),
               f"deploy/kubernetes/{name} is not what the chart renders: make it anew with check_kubernetes.py --write")
    checkov()
    print(f"deploy/helm: {count} ways to render it, {objects} objects valid in Kubernetes {', '.join(VERSIONS)}; "
          f"checkov: 0 failed but for {', '.join(EXCEPTIONS)}")


def merged(*layers):
    whole = {}
    for layer in layers:
        for key, value in layer.items():
            nested = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = merged(whole[key], value) if nested else copy.deepcopy(value)
    return whole


def render(chart, values):
    files = chart.render(values, name="headwater", namespace="headwater")
    texts = (text for name, text in sorted(files.items()) if not name.endswith(".txt"))
    return [thing for text in texts for thing in yaml.safe_load_all(text) if thing]


def plain(chart, values, how):
    documents = (yaml.safe_dump(thing, sort_keys=False, width=160) for thing in render(chart, values))
    return HEAD.format(how=how) + "---\n" + "---\n".join(documents)


def write(chart):
    for name, (values, how) in FILES.items():
        (PLAIN / name).write_text(plain(chart, values, how))


def same_streams():
    """The chart cannot read outside of its folder: its files are copies."""
    for file in [*(ROOT / "nats/streams").glob("*.json"), ROOT / "nats/kv/snapshots.json"]:
        name = json.loads(file.read_text())["name"]
        copied = CHART / "files" / f"{name}.json"
        expect(copied.exists() and copied.read_text() == file.read_text(), f"{copied} is not {file}")


def closed_crds():
    """By kind and version: what an object may hold, and nothing else."""
    schemas = {}
    for file in sorted(CRDS.glob("*.yaml")):
        for definition in yaml.safe_load_all(file.read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = close(version["schema"]["openAPIV3Schema"])
                for known in ("apiVersion", "kind"):
                    schema["properties"].setdefault(known, {"type": "string"})
                schema["properties"]["metadata"] = {"type": "object"}
                schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def close(schema):
    if isinstance(schema, list):
        return [close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        closed["additionalProperties"] = False
    return closed


def valid(thing, schemas):
    kind = (thing["apiVersion"], thing["kind"])
    what = f"{thing['kind']} {thing['metadata']['name']}"
    if kind in schemas:
        try:
            jsonschema.validate(thing, schemas[kind])
        except jsonschema.ValidationError as error:
            sys.exit(f"{what}: {'.'.join(map(str, error.absolute_path))}: {error.message}")
        return
    for version in VERSIONS:
        try:
            validate(thing, version, strict=True)
        except Exception as error:  # its own, and jsonschema's
            sys.exit(f"{what}, Kubernetes {version}: {error}")


def consistent(things, values):
    """What refers to something refers to something that is there."""
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in things]
    expect(len(names) == len(set(names)), f"{values}: an object is there twice: {sorted(names)}")
    workloads = [thing for thing in things if thing["kind"] in ("Deployment", "StatefulSet", "Job")]
    pods = [workload["spec"]["template"] for workload in workloads]
    labels = [pod["metadata"]["labels"] for pod in pods]
    for thing in things:
        spec = thing.get("spec") or {}
        selector = {"Service": spec.get("selector"), "NetworkPolicy": (spec.get("podSelector") or {}).get("matchLabels"),
                    "PodDisruptionBudget": (spec.get("selector") or {}).get("matchLabels")}.get(thing["kind"])
        if selector:
            met = [one for one in labels if selector.items() <= one.items()]
            expect(len(met) == 1, f"{values}: {thing['kind']} {thing['metadata']['name']} selects {len(met)} workloads")
        if thing["kind"] == "ScaledObject":
            expect(("Deployment", spec["scaleTargetRef"]["name"]) in names, f"{values}: nothing is there to scale")
            target = next(one for one in workloads if one["metadata"]["name"] == spec["scaleTargetRef"]["name"])
            expect("replicas" not in target["spec"], f"{values}: {target['metadata']['name']} says how many, and KEDA does too")
    for workload, pod in zip(workloads, pods):
        spec = pod["spec"]
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = sorted([volume["name"] for volume in spec.get("volumes", [])] + claims)
        for container in spec["containers"]:
            mounts = sorted(mount["name"] for mount in container["volumeMounts"])
            expect(mounts == volumes, f"{values}: {workload['metadata']['name']} has {volumes} and mounts {mounts}")
            expect(container["securityContext"]["capabilities"]["drop"] == ["ALL"], "capabilities")
        expect(spec["automountServiceAccountToken"] is False, "a pod has a token of its account")
    for workload in workloads:
        if workload["kind"] == "Job":
            continue
        environment = {one["name"]: one.get("value") for one in workload["spec"]["template"]["spec"]["containers"][0]["env"]}
        wait = sum(int(environment[f"HEADWATER_{name}_SECONDS"]) for name in ("DRAIN_DELAY", "GRACE"))
        expect(workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > wait, f"{values}: it is killed before it has ended")


def patched(chart):
    """Every object can be changed by values, and by its own name alone."""
    values = merged(NACK, KEDA)
    for thing in render(chart, values):
        name = thing["metadata"]["name"].removeprefix("headwater-")
        keys = [f"{thing['kind']}/{part}" for part in ("http" if name == "headwater" else name, name)]
        for key in keys:
            patch = {"metadata": {"annotations": {"patched": "yes"}}}
            changed = [one for one in render(chart, merged(values, {"patches": {key: patch}}))
                       if (one["metadata"].get("annotations") or {}).get("patched")]
            if changed:
                break
        expect([one["metadata"]["name"] for one in changed] == [thing["metadata"]["name"]],
               f"{keys} does not change {thing['kind']} {thing['metadata']['name']} alone")


def refused(chart):
    for values in REFUSED:
        try:
            render(chart, values)
        except HelmError:
            continue
        sys.exit(f"these values are not refused: {values}")


def checkov():
    with tempfile.TemporaryDirectory() as folder:
        command = [pathlib.Path(sys.executable).parent / "checkov", "--directory", PLAIN, "--framework", "kubernetes",
                   "--skip-download", "--compact", "--quiet", "--output", "json", "--skip-check", ",".join(EXCEPTIONS)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"checkov: {done.stdout}{done.stderr}")
    failed = {f"{one['check_id']} {one['check_name']}: {one['resource']}" for one in found["results"]["failed_checks"]}
    expect(not failed, "checkov:\n" + "\n".join(sorted(failed)))
    expect(found["summary"]["passed"] > 100, f"checkov has looked at {found['summary']}")


def expect(true, otherwise):
    if not true:
        sys.exit(otherwise)


if __name__ == "__main__":
    main()
