"""The Kubernetes base is valid for the newest schemas, and every pod keeps what docs/security.md promises."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import utils

from postern_common.settings import load
from tools.pages import all_setting_names, settings_of

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy/k8s/base"
SERVICES = {
    "api": "api",
    "smtp-edge": "edge",
    "dns-verifier": "dns",
    "directory-sync": "sync",
    "deletion-scheduler": "deletion",
}
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "component", "part-of", "version")}


def manifests() -> list[dict]:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [document for name in listed for document in yaml.safe_load_all((BASE / name).read_text())]


RESOURCES = manifests()
DEPLOYMENTS = [one for one in RESOURCES if one["kind"] == "Deployment"]


def identity(resource: dict) -> str:
    return f"{resource['kind']}/{resource['metadata']['name']}"


def pod(deployment: dict) -> dict:
    return deployment["spec"]["template"]["spec"]


each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=identity)


@pytest.mark.parametrize("resource", RESOURCES, ids=identity)
def test_resource_is_valid(resource):
    utils.validate(resource, utils.latest_version(), strict=True)


def test_every_manifest_is_listed_and_no_name_stands_twice():
    listed = set(yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"])
    assert listed == {file.name for file in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    names = [identity(resource) for resource in RESOURCES]
    assert len(names) == len(set(names))


def test_each_service_has_deployment_account_and_disruption_budget():
    for kind in ("Deployment", "ServiceAccount", "PodDisruptionBudget"):
        assert {one["metadata"]["name"] for one in RESOURCES if one["kind"] == kind} == set(SERVICES)


def test_namespace_enforces_the_restricted_standard():
    labels = next(one for one in RESOURCES if one["kind"] == "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each_deployment
def test_pod_is_restricted(deployment):
    spec = pod(deployment)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= {"emptyDir", "secret", "configMap"}
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["tmp"] == "/tmp"


@each_deployment
def test_probes_ask_the_ops_port(deployment):
    container = pod(deployment)["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["ops"] == 9100
    paths = {"livenessProbe": "/livez", "startupProbe": "/livez", "readinessProbe": "/readyz"}
    assert {probe: container[probe]["httpGet"] for probe in paths} == {
        probe: {"path": path, "port": "ops"} for probe, path in paths.items()
    }


@each_deployment
def test_grace_period_is_longer_than_pause_and_drain(deployment):
    spec = pod(deployment)
    container = spec["containers"][0]
    drain = next(int(item["value"]) for item in container["env"] if item["name"] == "POSTERN_DRAIN_SECONDS")
    command = " ".join(container["lifecycle"]["preStop"]["exec"]["command"])
    pause = int(command.partition("sleep(")[2].partition(")")[0])
    assert spec["terminationGracePeriodSeconds"] >= drain + pause + 5
    if deployment["metadata"]["name"] == "smtp-edge":
        assert spec["terminationGracePeriodSeconds"] >= 150


@each_deployment
def test_image_has_a_version_and_memory_is_bounded(deployment):
    container = pod(deployment)["containers"][0]
    assert re.fullmatch(r"postern/[a-z-]+:\d+\.\d+\.\d+", container["image"])
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]


@each_deployment
def test_a_rollout_never_has_fewer_pods(deployment):
    assert deployment["spec"]["replicas"] >= 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("resource", [one for one in RESOURCES if one["kind"] != "Namespace"], ids=identity)
def test_labels_and_selectors_agree(resource):
    metadata = resource["metadata"]
    assert metadata["namespace"] == "postern"
    if resource["kind"] != "ConfigMap":
        assert set(metadata["labels"]) >= LABELS
    selector = resource.get("spec", {}).get("selector", {})
    wanted = selector.get("matchLabels", selector)
    if wanted:
        target = next(one for one in DEPLOYMENTS if one["metadata"]["name"] == metadata["name"])
        assert wanted.items() <= target["spec"]["template"]["metadata"]["labels"].items()


@each_deployment
def test_kubernetes_own_variables_cannot_pass_for_settings(deployment):
    assert pod(deployment)["enableServiceLinks"] is False


def test_every_setting_exists():
    config = next(one for one in RESOURCES if one["kind"] == "ConfigMap")
    names = set(config["data"])
    for deployment in DEPLOYMENTS:
        names |= {item["name"] for item in pod(deployment)["containers"][0]["env"]}
    assert names - all_setting_names() == set()


@each_deployment
def test_a_service_accepts_its_environment(deployment, tmp_path, monkeypatch):
    container = pod(deployment)["containers"][0]
    config = next(one for one in RESOURCES if one["kind"] == "ConfigMap")["data"]
    given = config | {item["name"]: item["value"] for item in container["env"]}
    given |= {"MONGODB_URI": "mongodb://a,b,c/?replicaSet=rs0", "AMQP_URL": "amqps://rabbit/"}
    for variable in [key for key in os.environ if key.startswith("POSTERN_")]:
        monkeypatch.delenv(variable)
    for variable, value in given.items():
        if variable.endswith("_FILE"):
            (tmp_path / Path(value).name).write_text("1:" + "A" * 43 + "=")
            value = str(tmp_path / Path(value).name)
        monkeypatch.setenv(variable, value)
    settings = load(settings_of(SERVICES[deployment["metadata"]["name"]]))
    assert settings.environment == "production"
    assert settings.ops_port == 9100
    assert settings.test_clock is None


def test_every_secret_is_explained():
    text = (BASE.parent / "README.md").read_text(encoding="utf-8")
    for deployment in DEPLOYMENTS:
        spec = pod(deployment)
        named = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        sources = spec["containers"][0]["envFrom"]
        named |= {source["secretRef"]["name"] for source in sources if "secretRef" in source}
        assert named
        assert all(f"`{name}`" in text for name in named)
    assert not [one for one in RESOURCES if one["kind"] == "Secret"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders_the_base():
    done = subprocess.run(["kubectl", "kustomize", str(BASE)], check=True, capture_output=True, text=True, timeout=60)
    rendered = list(yaml.safe_load_all(done.stdout))
    assert sorted(map(identity, rendered)) == sorted(map(identity, RESOURCES))
