"""check_deploy.py: deploy/ by the schemas of what reads it, and by what the files say of each other.

Kubernetes' own schemas (kubernetes-validate), KEDA's (cloudcoil-models-keda), Compose's (check-jsonschema) and hadolint, all
without a field that they do not know. Then what no schema sees: labels, ports, names and numbers that stand in two places. Last
the same on files with a mistake each, which have to be refused. Nothing is started.
"""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile

import kubernetes_validate
import pydantic
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

import common

DEPLOY = common.ROOT / "deploy"
QUEUE = common.ROOT / "src/engine/ballista/queue.rs"
# The oldest that is still in use somewhere, and the newest that there is a schema of.
KUBERNETES = ("1.29", kubernetes_validate.latest_version())
TOOLS = pathlib.Path(sys.executable).parent


def by_schema(resource):
    what = f"{resource['kind']} {resource['metadata']['name']}"
    if resource["apiVersion"].startswith("keda.sh/"):
        try:
            keda.__dict__[resource["kind"]].model_validate(resource, strict=True, extra="forbid")
        except pydantic.ValidationError as error:
            yield f"{what}: {error}"
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{what}: Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"


def compose(text):
    return tool(["check-jsonschema", "--builtin-schema", "vendor.compose-spec"], "compose.yaml", text)


def dockerfile(text):
    return tool(["hadolint", "--no-color"], "Dockerfile", text)


def tool(call, name, text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_text(text, encoding="utf-8")
        done = subprocess.run([TOOLS / call[0], *call[1:], path], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


def by_each_other(resources):
    """What the resources say of each other, once each fits its schema."""
    kinds = {}
    for resource in resources:
        kinds.setdefault(resource["kind"], {})[resource["metadata"]["name"]] = resource
    pods = {name: deployment["spec"]["template"] for name, deployment in kinds["Deployment"].items()}

    def chosen(labels):
        return {name for name, pod in pods.items() if labels.items() <= pod["metadata"]["labels"].items()}

    def ports(name):
        return [port for container in pods[name]["spec"]["containers"] for port in container["ports"]]

    for name, deployment in kinds["Deployment"].items():
        if chosen(deployment["spec"]["selector"]["matchLabels"]) != {name}:
            yield f"deployment {name}: its selector is not its own"
        account = pods[name]["spec"].get("serviceAccountName")
        if account and account not in kinds["ServiceAccount"]:
            yield f"deployment {name}: no service account {account}"
        for container in pods[name]["spec"]["containers"]:
            for probe in ("livenessProbe", "readinessProbe"):
                asked = next(iter(container[probe].get(how) for how in ("httpGet", "tcpSocket") if how in container[probe]))
                if asked["port"] not in [port["name"] for port in container["ports"]]:
                    yield f"deployment {name}: {probe} asks a port that is not there"
            volumes = [volume["name"] for volume in pods[name]["spec"].get("volumes", [])]
            if [mount["name"] for mount in container.get("volumeMounts", [])] != volumes:
                yield f"deployment {name}: volumes are not those that are mounted"
    for name, service in kinds["Service"].items():
        behind = chosen(service["spec"]["selector"])
        numbers = {port["containerPort"] for pod in behind for port in ports(pod)}
        if len(behind) != 1 or not {port["port"] for port in service["spec"]["ports"]} <= numbers:
            yield f"service {name}: nothing listens behind it"
        for deployment, pod in pods.items():
            for word in pod["spec"]["containers"][0]["args"]:
                if word.startswith("--scheduler=") and word != f"--scheduler={name}:{service['spec']['ports'][0]['port']}":
                    yield f"deployment {deployment}: {word} is no service"
    open_for = {}
    for name, policy in kinds["NetworkPolicy"].items():
        behind = chosen(policy["spec"]["podSelector"]["matchLabels"])
        if not behind:
            yield f"network policy {name}: nobody is protected"
        for rule in policy["spec"]["ingress"]:
            for pod in behind:
                open_for.setdefault(pod, set()).update(port["port"] for port in rule["ports"])
    for name in pods:
        if open_for.get(name) != {port["containerPort"] for port in ports(name)}:
            yield f"deployment {name}: its ports are not those of its network policies"
    for name, scaled in kinds["ScaledObject"].items():
        target = pods.get(scaled["spec"]["scaleTargetRef"]["name"])
        if not target:
            yield f"scaled object {name}: no such deployment"
            continue
        settings = scaled["spec"]["triggers"][0]["metadata"]
        if f"--slots={settings['targetValue']}" not in target["spec"]["containers"][0]["args"]:
            yield f"scaled object {name}: targetValue is not the slots of an executor"
        if f'"{settings["valueLocation"].removeprefix("simdrop_")}"' not in QUEUE.read_text(encoding="utf-8"):
            yield f"scaled object {name}: the scheduler does not tell {settings['valueLocation']}"
        service = kinds["Service"]["simdrop-scheduler"]["spec"]["ports"][0]["port"]
        if settings["url"] != f"http://simdrop-scheduler.default.svc:{service}/api/metrics":
            yield f"scaled object {name}: its address is not the scheduler's"


def problems(resources):
    found = [problem for resource in resources for problem in by_schema(resource)]
    return found or list(by_each_other(resources))


def changed(resources, kind, name, path, value):
    """The resources with one field put otherwise, or taken away."""
    resources = copy.deepcopy(resources)
    place = next(each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name))
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return resources


CONTAINER = ("spec", "template", "spec", "containers", 0)
MISTAKES = {
    "a field that is not there": ("Deployment", "simdrop-scheduler", (*CONTAINER, "livenesProbe"), {}),
    "a word in place of a number": ("Deployment", "simdrop-executor", ("spec", "replicas"), "two"),
    "a selector that is missing": ("Deployment", "simdrop-executor-gpu", ("spec", "selector"), None),
    "a truth in place of a word": (
        "Deployment", "simdrop-executor-gpu", ("spec", "template", "spec", "nodeSelector", "nvidia.com/gpu.present"), True,
    ),
    "a policy of another kind": ("NetworkPolicy", "simdrop-executor", ("spec", "podSelector"), []),
    "a field of KEDA's that is not there": ("ScaledObject", "simdrop-executor", ("spec", "minReplicas"), 1),
    "a number in place of a word": (
        "ScaledObject", "simdrop-executor", ("spec", "triggers", 0, "metadata", "targetValue"), 4,
    ),
    "executors that overlap": (
        "Deployment", "simdrop-executor", ("spec", "selector", "matchLabels"), {"app": "simdrop-executor"},
    ),
    "a port that is closed": ("NetworkPolicy", "simdrop-executor", ("spec", "ingress", 0, "ports"), [{"port": 50051}]),
    "a metric that is not told": (
        "ScaledObject", "simdrop-executor", ("spec", "triggers", 0, "metadata", "valueLocation"), "simdrop_jobs",
    ),
    "more slots than are asked for": (
        "ScaledObject", "simdrop-executor", ("spec", "triggers", 0, "metadata", "targetValue"), "8",
    ),
}


def main():
    files = sorted(DEPLOY.glob("kubernetes*.yaml"))
    resources = [resource for path in files for resource in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    compose_text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    dockerfile_text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    found = problems(resources) + compose(compose_text) + dockerfile(dockerfile_text)
    if found:
        sys.exit("deploy/ is not as it should be:\n" + "\n".join(found))
    passed = [what for what, mistake in MISTAKES.items() if not problems(changed(resources, *mistake))]
    services = yaml.safe_load(compose_text)
    services["services"]["executor"]["comand"] = ["executor"]
    passed += [] if compose(json.dumps(services)) else ["a field of Compose's that is not there"]
    passed += [] if dockerfile(dockerfile_text.replace("FROM", "FORM")) else ["an instruction that is not there"]
    if passed:
        sys.exit(f"mistakes that were not seen: {passed}")
    versions = " and ".join(KUBERNETES)
    print(f"deploy: {len(resources)} resources fit Kubernetes {versions} and KEDA; compose.yaml and Dockerfile are valid; "
          f"{len(MISTAKES) + 2} mistakes are seen")


if __name__ == "__main__":
    main()
