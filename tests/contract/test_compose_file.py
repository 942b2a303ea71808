"""docker-compose.yml fits the compose specification, starts in the right order, and holds no secret."""

import os
import re
import runpy
from pathlib import Path

import pytest
import yaml

from postern_common.settings import load
from tools.pages import all_setting_names, settings_of

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(TEXT)["services"]
PACKAGES = {
    "api": "api",
    "smtp-edge": "edge",
    "dns-verifier": "dns",
    "directory-sync": "sync",
    "deletion-scheduler": "deletion",
}
OURS = set(PACKAGES)

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_of_ours = pytest.mark.parametrize("name", sorted(OURS))


def test_file_fits_the_compose_specification():
    compose_spec = pytest.importorskip("compose_spec", reason="the compose-spec package is not installed")
    parsed = compose_spec.PyOptions(apply_merge=True).from_yaml(TEXT)
    parsed.validate()
    assert set(parsed.service_names()) == set(SERVICES)


def test_the_stack_has_the_five_services_and_what_they_stand_on():
    assert set(SERVICES) >= OURS | {"mongo", "rabbitmq", "dns", "next-hop"}


@each_service
def test_images_have_a_version(name):
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z0-9/-]+:v?\d[\w.-]*", image)


@each_service
def test_what_is_waited_for_can_be_waited_for(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        target = SERVICES[other]
        if how["condition"] == "service_healthy":
            assert "healthcheck" in target or "build" in target
        else:
            assert how["condition"] == "service_completed_successfully"
            assert "restart" not in target


@each_of_ours
def test_our_services_cannot_change_their_image_nor_gain_rights(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert service["build"] == {"context": ".", "dockerfile": f"services/{name}/Dockerfile"}
    assert (ROOT / service["build"]["dockerfile"]).is_file()


@each_of_ours
def test_every_setting_exists_and_none_holds_a_secret(name):
    environment = SERVICES[name]["environment"]
    assert set(environment) - all_setting_names() == set()
    secret = {key for key in environment if re.search(r"KEY|PASSWORD|TOKEN", key)}
    assert all(key.endswith("_FILE") for key in secret)


@each_of_ours
def test_a_service_accepts_its_environment(name, tmp_path, monkeypatch):
    runpy.run_path(str(ROOT / "deploy/compose/make_secrets.py"))["write"](tmp_path)
    for variable in [key for key in os.environ if key.startswith("POSTERN_")]:
        monkeypatch.delenv(variable)
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, value.replace("/run/postern", str(tmp_path)))
    settings = load(settings_of(PACKAGES[name]))
    assert settings.secret_key_text().startswith("1:")
    assert settings.environment == "local"


@each_of_ours
def test_a_service_has_time_to_drain(name):
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace > int(SERVICES[name]["environment"].get("POSTERN_DRAIN_SECONDS", 30)) + 5


@each_service
def test_ports_are_published_on_this_machine_only(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@each_service
def test_mounted_files_exist(name):
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert not source.startswith(".") or (ROOT / source).exists()


def test_secrets_are_made_once_and_kept_private(tmp_path):
    make_secrets = runpy.run_path(str(ROOT / "deploy/compose/make_secrets.py"))["write"]
    assert len(make_secrets(tmp_path)) == 4
    first = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert make_secrets(tmp_path) == []
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == first
    assert {file.name for file in tmp_path.iterdir() if file.stat().st_mode & 0o077} == {"tsig.conf"}
    for service in OURS:
        for key, value in SERVICES[service]["environment"].items():
            if key.endswith("_FILE"):
                assert Path(value).name in first
