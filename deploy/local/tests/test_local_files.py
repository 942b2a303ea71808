"""Secrets, the env file and the settings handed to services."""

import json
import os
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path

from postern_local import envfile
from postern_local.files import make_folder
from postern_local.keys import Keys
from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.ports import Ports
from postern_local.services import MODULES, Surroundings, own_settings

PROMISED = {
    *("POSTERN_API_URL", "POSTERN_API_TOKEN", "POSTERN_ADMIN_LOGIN", "POSTERN_ADMIN_PASSWORD", "POSTERN_CUSTOMER_ID"),
    *("POSTERN_SMTP_IN", "POSTERN_SMTP_OUT", "POSTERN_DNS", "POSTERN_DNS_UPDATE", "POSTERN_DNS_TSIG"),
    *("POSTERN_DNS_ZONES", "POSTERN_NEXT_HOP", "POSTERN_NEXT_HOP_DIR", "POSTERN_OPS_URLS", "MONGODB_URI", "AMQP_URL"),
}


def surroundings(directory: Path) -> Surroundings:
    return Surroundings(directory, Ports.free(), Keys.of(directory), "mongodb://x/?a=b&c=d", "amqp://x/", 53, 25)


def written(directory: Path) -> Path:
    around = surroundings(directory)
    nameserver = Nameserver(directory, around.ports["DNS"], around.keys.tsig_key)
    settings = envfile.values(around, nameserver, SmtpSink(directory / "next hop", 25), "cus_1")
    envfile.write(directory / "env", settings)
    return directory / "env"


def test_secrets_are_made_once_and_are_nobody_elses(tmp_path: Path):
    assert Keys.of(tmp_path) == Keys.of(tmp_path)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert Keys.make().api_token != Keys.make().api_token


def test_the_env_file_holds_every_promised_name_and_is_private(tmp_path: Path):
    path = written(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("export ", "#"))]
    assert {line.partition("=")[0] for line in lines} == PROMISED


def test_the_env_file_says_that_outbound_mail_comes_later(tmp_path: Path):
    assert written(tmp_path).read_text().startswith("# Nothing listens at POSTERN_SMTP_OUT yet")


def test_a_stacks_folder_is_ignored_by_git_whatever_its_name(tmp_path: Path):
    make_folder(tmp_path / "any name")
    assert (tmp_path / "any name" / ".gitignore").read_text() == "*\n"
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "lock").touch()
    make_folder(tmp_path / "older")
    assert (tmp_path / "older" / ".gitignore").exists()


def test_a_folder_with_things_of_others_is_left_to_their_git(tmp_path: Path):
    (tmp_path / "thesis.txt").touch()
    make_folder(tmp_path)
    assert not (tmp_path / ".gitignore").exists()


def test_secrets_of_a_folder_from_before_the_brokers_user_had_its_name_still_serve(tmp_path: Path):
    older = {name: value for name, value in asdict(Keys.make()).items() if name != "amqp_user"}
    (tmp_path / "secrets.json").write_text(json.dumps(older))
    assert Keys.of(tmp_path).amqp_user == "postern"


def test_a_shell_that_sources_the_env_file_exports_its_values_unchanged(tmp_path: Path):
    path = written(tmp_path)
    script = f". {shlex.quote(str(path))} && printenv MONGODB_URI && sh -c 'echo \"$POSTERN_NEXT_HOP_DIR\"'"
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == ["mongodb://x/?a=b&c=d", str(tmp_path / "next hop")]


def test_services_get_their_own_settings_and_secrets_only_in_files(tmp_path: Path):
    around = surroundings(tmp_path)
    services = {service.name: service for service in around.services()}
    assert set(services) == set(MODULES)
    for service in services.values():
        values = " ".join(service.env.values())
        assert around.keys.admin_password not in values
        assert around.keys.encryption_key not in values
        assert service.env["POSTERN_ALLOW_NETWORKS"] == "127.0.0.0/8"
    assert "POSTERN_API_PORT" not in services["edge"].env
    secret = Path(services["api"].env["POSTERN_API_BOOTSTRAP_PASSWORD_FILE"])
    assert secret.read_text() == around.keys.admin_password
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_persons_settings_reach_the_services_but_the_env_files_names_do_not(tmp_path: Path):
    given = {
        "POSTERN_EDGE_MAX_ERRORS": "5",
        "POSTERN_LOG_LEVEL": "debug",
        "POSTERN_API_TOKEN": "t",
        "POSTERN_DNS_TSIG": "k",
        "POSTERN_PORT_API": "1",
        "HOME": os.sep,
    }
    assert own_settings(given) == {"POSTERN_EDGE_MAX_ERRORS": "5", "POSTERN_LOG_LEVEL": "debug"}
