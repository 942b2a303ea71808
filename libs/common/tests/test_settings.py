"""Settings: every problem at once, and no slip of a name unnoticed."""

import pytest
from pydantic import Field

from postern_common.settings import EX_CONFIG, CommonSettings, describe, load


class ProbeSettings(CommonSettings):
    edge_port: int = Field(2525, description="A port.", ge=1, le=65535)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("MONGODB_URI", "mongodb://user:hunter2@db.test/?replicaSet=rs0")
    monkeypatch.setenv("AMQP_URL", "amqp://guest:hunter2@mq.test/")
    return monkeypatch


def test_the_environment_is_read(environment):
    environment.setenv("POSTERN_EDGE_PORT", "2600")
    environment.setenv("POSTERN_ALLOW_NETWORKS", "127.0.0.0/8, ::1/128")
    environment.setenv("POSTERN_DNS_SERVERS", "127.0.0.1:5353")
    settings = load(ProbeSettings)
    assert settings.edge_port == 2600
    assert [str(network) for network in settings.allow_networks] == ["127.0.0.0/8", "::1/128"]
    assert settings.dns_servers == ("127.0.0.1:5353",)


@pytest.mark.parametrize("servers", ["127.0.0.1", "resolver.test:53", "127.0.0.1:0", "127.0.0.1:dns", "::1:53:"])
def test_a_resolver_needs_an_address_and_a_port(environment, capsys, servers):
    environment.setenv("POSTERN_DNS_SERVERS", servers)
    with pytest.raises(SystemExit):
        load(ProbeSettings)
    assert "POSTERN_DNS_SERVERS: " in capsys.readouterr().err


def test_all_problems_are_told_at_once_and_the_process_ends_with_78(environment, capsys):
    environment.setenv("POSTERN_EDGE_PORT", "99999")
    environment.setenv("POSTERN_EDGE_PROT", "1")
    environment.delenv("AMQP_URL")
    with pytest.raises(SystemExit) as ended:
        load(ProbeSettings)
    assert ended.value.code == EX_CONFIG
    told = capsys.readouterr().err
    for part in ("POSTERN_EDGE_PROT: unknown setting", "POSTERN_EDGE_PORT: ", "AMQP_URL: "):
        assert part in told


def test_reserved_names_and_other_services_settings_are_let_through(environment):
    for name in ("POSTERN_API_URL", "POSTERN_PORT_API", "POSTERN_DNS", "POSTERN_OPS_URLS", "POSTERN_API_PORT"):
        environment.setenv(name, "1")
    assert load(ProbeSettings).edge_port == 2525


def test_production_refuses_a_movable_clock(environment, capsys, tmp_path):
    environment.setenv("POSTERN_TEST_CLOCK", str(tmp_path / "clock"))
    with pytest.raises(SystemExit):
        load(ProbeSettings)
    assert "POSTERN_TEST_CLOCK is refused in production" in capsys.readouterr().err


def test_effective_settings_are_shown_without_secrets(environment):
    shown = describe(load(ProbeSettings))
    assert "hunter2" not in shown
    assert "POSTERN_EDGE_PORT=2525" in shown
