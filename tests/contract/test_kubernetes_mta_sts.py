"""The component that serves MTA-STS policies in Kubernetes is valid, restricted, and fits the base."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import utils

from tools.pages import all_setting_names

COMPONENT = Path(__file__).resolve().parents[2] / "deploy/k8s/components/mta-sts"
BASE = COMPONENT.parents[1] / "base"
RESOURCES = list(yaml.safe_load_all((COMPONENT / "policies.yaml").read_text()))
KUSTOMIZATION = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
PATCHES = {patch["target"]["kind"]: yaml.safe_load(patch["patch"]) for patch in KUSTOMIZATION["patches"]}
RESTRICTED = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}  # what the restricted standard leaves


def find(kind, name):
    return next(one for one in RESOURCES if (one["kind"], one["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: f"{one['kind']}/{one['metadata']['name']}")
def test_resource_is_valid(resource):
    utils.validate(resource, utils.latest_version(), strict=True)
    assert resource["metadata"]["namespace"] == "postern"


def test_the_gateway_is_restricted():
    spec = find("Deployment", "policy-gateway")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = spec["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == RESTRICTED
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    assert all(port["containerPort"] > 1023 for port in container["ports"])


def test_each_setting_exists_and_the_port_is_the_one_that_the_service_leads_to():
    settings = {patch["path"].rsplit("/", 1)[-1]: patch["value"] for patch in PATCHES["ConfigMap"]}
    assert set(settings) - all_setting_names() == set()
    [patch] = PATCHES["Deployment"]
    assert patch["value"]["containerPort"] == int(settings["POSTERN_API_POLICY_PORT"])
    assert find("Service", "api-policies")["spec"]["ports"][0]["targetPort"] == patch["value"]["name"]
    [api] = (one for one in yaml.safe_load_all((BASE / "api.yaml").read_text()) if one["kind"] == "Deployment")
    assert api["spec"]["template"]["spec"]["containers"][0]["name"] == "api"


def test_the_gateway_asks_before_it_gets_a_certificate():
    text = (COMPONENT / "Caddyfile").read_text()
    assert "ask http://api-policies/ask" in text
    assert KUSTOMIZATION["configMapGenerator"][0]["files"] == ["Caddyfile"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_it_on_the_base(tmp_path):
    shutil.copytree(BASE, tmp_path / "base")
    shutil.copytree(COMPONENT, tmp_path / "mta-sts")
    (tmp_path / "kustomization.yaml").write_text("resources: [base]\ncomponents: [mta-sts]\n")
    command = ["kubectl", "kustomize", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    rendered = [one for one in yaml.safe_load_all(done.stdout) if one]
    config = next(one for one in rendered if one["metadata"]["name"] == "postern-settings")
    assert config["data"]["POSTERN_API_POLICY_HOST"]
    api = next(one for one in rendered if (one["kind"], one["metadata"]["name"]) == ("Deployment", "api"))
    ports = api["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert {"name": "policies", "containerPort": 8081} in ports
