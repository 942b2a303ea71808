"""The agent's unit, image, example settings and page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from postern_sync.agent.__main__ import main
from postern_sync.agent.config import AgentConfig, load
from tests.contract.test_images import read, values

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "deploy/agent"
UNIT = (AGENT / "postern-sync-agent.service").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/agent.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path):
    program = "/bin/true"  # the one that is installed need not be here
    unit = tmp_path / "postern-sync-agent.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", UNIT).replace("postern-agent", "root"))
    argv = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_unit_gives_nothing_away_and_stops_where_waiting_does_not_help():
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "UMask=0077"):
        assert f"\n{line}\n" in UNIT
    assert "\nRestartPreventExitStatus=77 78\n" in UNIT


def test_the_image_is_the_services_with_another_command():
    file = AGENT / "Dockerfile"
    service = ROOT / "services/directory-sync/Dockerfile"
    assert [one for one in read(file) if one.stage == 0] == [one for one in read(service) if one.stage == 0]
    assert values(file, "USER", 1) == ["10001:10001"]
    assert values(file, "ENTRYPOINT", 1) == ['["/opt/postern/bin/python", "-m", "postern_sync.agent"]']
    assert values(file, "EXPOSE", 1) == []


def test_the_example_is_taken_and_the_page_names_all_settings():
    config = load(AGENT / "config.toml")
    names = set(AgentConfig.model_fields) - {"ldap"} | {f"ldap.{name}" for name in type(config.ldap).model_fields}
    section = PAGE.partition("## Settings")[2].partition("## ")[0]
    assert set(re.findall(r"`((?:ldap\.)?[a-z_]+)`", section)) >= names


@pytest.mark.parametrize("preset, word", [("ad", "proxyAddresses"), ("openldap", "entryUUID")])
def test_the_command_tells_what_is_read(tmp_path, capsys, preset, word):
    file = tmp_path / "config.toml"
    file.write_text(f'url = "https://postern.example.com"\nstate_dir = "{tmp_path}"\n[ldap]\nhost = "dc1"')
    assert main(["--config", str(file), "attributes", "--preset", preset]) == 0
    said = capsys.readouterr().out
    assert word in said
    assert "userPassword" not in said
