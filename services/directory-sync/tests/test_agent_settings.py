"""The agent's own settings: checked before it starts, and told in words of whoever wrote them."""

from typing import cast

import pytest
import structlog.testing

from postern_sync.agent.__main__ import main
from postern_sync.agent.config import ConfigFault, LdapConfig, load, write_secret
from postern_sync.agent.directory import Directory
from postern_sync.source import Reading, SourceFailed

WHOLE = {
    "preset": "openldap", "base_dn": "dc=test", "user_filter": "", "group_filter": "", "attributes": {},
    "primary_from_upn": False, "page_size": 500, "include_hidden": True, "include_public_folders": False,
}  # fmt: skip
READABLE = "others may read it; make it 0600"


@pytest.fixture(autouse=True)
def plain_log(monkeypatch):
    """Commands leave the log of the tests as it is."""
    monkeypatch.setattr("postern_sync.agent.__main__._log_to_stderr", lambda _level: None)


@pytest.fixture
def config(tmp_path):
    """Settings of an agent that is enrolled, whose server is nowhere."""
    (tmp_path / "state").mkdir(mode=0o700)
    write_secret(tmp_path / "state/token", "pagt_x")
    write_secret(tmp_path / "password", "secret")
    file = tmp_path / "config.toml"
    file.write_text(
        f'url = "https://localhost:1"\nstate_dir = "{tmp_path}/state"\n'
        f'[ldap]\nhost = "localhost"\nuser = "cn=reader"\npassword_file = "{tmp_path}/password"\n'
    )
    return file


def missing(file):
    file.unlink()


def open_to_all(file):
    file.chmod(0o644)


def emptied(file):
    file.write_text("\n")


@pytest.mark.spec("L4")
@pytest.mark.parametrize("command", ["run", "once"])
@pytest.mark.parametrize(
    "spoil, words",
    [(missing, "No such file"), (open_to_all, READABLE), (emptied, "put the account's password into it")],
)
def test_a_password_that_cannot_be_used_is_told_at_the_start(config, capsys, command, spoil, words):
    password = config.parent / "password"
    spoil(password)
    assert main(["--config", str(config), command]) == 78
    said = capsys.readouterr().err
    assert (f"{password}: " in said, words in said) == (True, True), said


@pytest.mark.spec("L4")
@pytest.mark.parametrize("text", [b"", b"no certificate", b"\x30\x82\xff"])
@pytest.mark.parametrize("of_directory", [True, False])
def test_authorities_that_cannot_be_read_are_told_at_the_start(config, capsys, text, of_directory):
    authorities = config.parent / "ca.pem"
    authorities.write_bytes(text)
    line = f'ca_file = "{authorities}"\n'
    plain = config.read_text()
    config.write_text(plain + line if of_directory else line + plain)
    assert main(["--config", str(config), "once"]) == 78
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(f"{authorities}: it holds no certificates that can be read; PEM is expected")
    )


@pytest.mark.spec("L4")
@pytest.mark.parametrize("token", ["", "pagt_x\npagt_y", "pagt_\u00e9"])
def test_a_token_that_cannot_be_one_is_told_at_the_start(config, capsys, token):
    write_secret(config.parent / "state/token", token)
    assert main(["--config", str(config), "once"]) == 78
    assert capsys.readouterr().err.endswith("state/token: it holds no token: enrol anew\n")


@pytest.mark.spec("L4")
def test_a_command_that_is_broken_off_says_nothing_more(config, capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin.readline", interrupt, raising=False)
    assert main(["--config", str(config), "enrol"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.spec("L4")
async def test_a_password_that_others_may_read_is_told_by_the_log_and_not_to_the_server(tmp_path):
    write_secret(tmp_path / "password", "very secret")
    directory = Directory(LdapConfig(host="localhost", user="cn=reader", password_file=tmp_path / "password"))
    directory.check()
    (tmp_path / "password").chmod(0o644)
    for ask in (directory.read(WHOLE, cast(Reading, None)), directory.answer("test", WHOLE, {})):
        with structlog.testing.capture_logs() as logs, pytest.raises(SourceFailed) as failed:
            await ask
        told = {"event": "settings_unusable", "log_level": "error", "reason": f"{tmp_path}/password: {READABLE}"}
        assert logs == [told]
        assert str(tmp_path) not in failed.value.message


LDAP = '[ldap]\nhost = "dc1"\n'
URL = 'url = "https://postern.example.com"\n'


@pytest.mark.spec("L4")
@pytest.mark.parametrize(
    "text, words",
    [
        ('url = "postern.example.com"\n' + LDAP, "url: must begin with https://"),
        ('url = "ftp://postern.example.com"\n' + LDAP, "url: must begin with https://"),
        ('url = "https://p.example.com/api"\n' + LDAP, "url: must be scheme, host and port alone, such as "),
        ('url = "https://p.example.com:99999"\n' + LDAP, "url: must have a host, and a port from 1 to 65535 if any"),
        ('url = "https://[::1]x"\n' + LDAP, "url: must have a host, and a port from 1 to 65535 if any"),
        ('url = "https://\uff0e"\n' + LDAP, "url: must have a host, and a port from 1 to 65535 if any"),
        ("url = 5\n" + LDAP, "url: must be text, in quotes"),
        ("url = https://p.example.com\n" + LDAP, "it is no TOML: Invalid value (at line 1, column 7); texts stand in "),
        (URL + 'urll = "x"\n' + LDAP, "urll: unknown setting"),
        (
            URL + "rotate_days = 0\nstate_dir = 5\n" + LDAP,
            "state_dir: must be a path, in quotes; rotate_days: must be 1 ",
        ),
        (URL + 'log_level = "all"\n' + LDAP, 'log_level: must be "debug", "info", "warning" or "error"'),
        (URL + 'proxy = "proxy:3128"\n' + LDAP, "proxy: must begin with http:// or https://"),
        (URL, "ldap: is missing"),
        (URL + "ldap = 5", "ldap: must be a section of its own, in square brackets"),
        (URL + '[ldap]\nhost = ""\nport = "x"', "ldap.host: must not be empty; ldap.port: must be a whole number"),
        (URL + LDAP + 'fingerprint = "aa:bb"', "ldap.fingerprint: must be the SHA-256 of a certificate, 64 hex"),
        (URL + LDAP + 'user = "x"', "ldap: a user needs a password_file"),
    ],
)
def test_each_setting_that_is_wrong_is_told_in_plain_words(tmp_path, text, words):
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigFault) as fault:
        load(file)
    assert str(fault.value).startswith(f"{file}: {words}")


@pytest.mark.spec("L4")
@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080/", "http://localhost"])
def test_this_machine_alone_is_asked_without_tls_and_that_is_told(config, url, capsys):
    config.write_text(config.read_text().replace("https://localhost:1", url))
    assert load(config).is_plain
    with structlog.testing.capture_logs() as logs:
        main(["--config", str(config), "once"])
    assert [(told["event"], told["log_level"], told["url"]) for told in logs] == [
        ("server_without_tls", "warning", url)
    ]


@pytest.mark.spec("L4", "T2")
@pytest.mark.parametrize(
    "url",
    [
        "http://postern.example.com", "http://localhost.example.com", "http://127.0.0.1.example.com", "http://10.0.0.1",
        "http://127.0.0.1@example.com", "http://127.0.0.1:80@example.com", "http://example.com#@127.0.0.1",
        "http://127.0.0.1\\\\@example.com", "http://127.0.0.2", "http://0.0.0.0", "http://[::1]x", "http://127.1",
        'http://localhost"\nproxy = "http://p',
    ],
)  # fmt: skip
def test_no_other_server_is_asked_without_tls(config, url):
    config.write_text(config.read_text().replace("https://localhost:1", url))
    with pytest.raises(ConfigFault, match=r"url: must|proxy: goes with an https:// url alone"):
        load(config)
