"""Where MongoDB and RabbitMQ come from, and what is said when a given one cannot be used."""

import socket
from pathlib import Path

import pytest

from postern_local import backends
from postern_local.faults import StackFault
from postern_local.given import check_amqp, check_mongodb, local_servers
from postern_local.keys import Keys
from postern_local.ports import Ports, free_ports


def fake_docker(directory: Path, script: str) -> None:
    program = directory / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_processes_of_this_machine_are_used_where_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_docker(tmp_path, "echo 'cannot connect to the daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    ports, keys = Ports.free(), Keys.make()
    chosen = backends.choose(tmp_path, ports, keys, {})
    assert (chosen.kind, chosen.private) == ("processes", True)
    assert [part.name for part in chosen.parts] == ["mongod", "epmd", "rabbitmq"]
    assert chosen.mongodb_uri == f"mongodb://127.0.0.1:{ports['MONGO']}/?replicaSet=postern&appName=postern-local"
    assert chosen.amqp_url == f"amqp://postern-local:{keys.amqp_password}@127.0.0.1:{ports['AMQP']}/%2F"


def test_given_servers_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "check_mongodb", lambda uri: None)
    monkeypatch.setattr(backends, "check_amqp", lambda url: None)
    given = {"MONGODB_URI": "mongodb://db/", "AMQP_URL": "amqp://mq/"}
    chosen = backends.choose(tmp_path, Ports.free(), Keys.make(), given)
    assert (chosen.mongodb_uri, chosen.amqp_url, chosen.parts) == ("mongodb://db/", "amqp://mq/", [])
    assert not chosen.private
    chosen = backends.choose(tmp_path, Ports.free(), Keys.make(), {"MONGODB_URI": "mongodb://db/"})
    assert [part.name for part in chosen.parts] == ["epmd", "rabbitmq"]


def test_servers_of_a_local_stack_are_never_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "docker_answers", lambda: False)
    monkeypatch.setattr(backends, "check_mongodb", lambda uri: None)
    first = backends.choose(tmp_path / "first", Ports.free(), Keys.make(), {})
    sourced = {"MONGODB_URI": first.mongodb_uri, "AMQP_URL": first.amqp_url}
    second = backends.choose(tmp_path / "second", Ports.free(), Keys.make(), sourced)
    assert (second.kind, second.private, second.ignored) == ("processes", True, ("MONGODB_URI", "AMQP_URL"))
    assert {second.mongodb_uri, second.amqp_url}.isdisjoint(sourced.values())
    mixed = backends.choose(tmp_path / "third", Ports.free(), Keys.make(), sourced | {"MONGODB_URI": "mongodb://db/"})
    assert (mixed.kind, mixed.mongodb_uri, mixed.ignored) == ("given", "mongodb://db/", ("AMQP_URL",))


@pytest.mark.parametrize(
    "uri", ["", "mongodb://[", "mongodb://db/?appName=other", "mongodb://postern-local@db/postern-local"]
)
@pytest.mark.parametrize("url", ["", "amqp://[", "amqp://postern:x@mq/", "amqp://guest:postern-local@mq/postern-local"])
def test_other_addresses_are_not_taken_for_a_local_stacks(uri: str, url: str):
    assert local_servers({"MONGODB_URI": uri, "AMQP_URL": url}) == ()


def test_a_taken_port_of_a_service_is_told_together_with_those_of_servers(tmp_path: Path):
    ports = Ports.free()
    with (
        socket.create_server(("127.0.0.1", ports["API"])),
        socket.create_server(("127.0.0.1", ports["MONGO"])),
        pytest.raises(StackFault, match=r"(?s)POSTERN_PORT_API.*POSTERN_PORT_MONGO"),
    ):
        backends.choose(tmp_path, ports, Keys.make(), {}, ("API",))


def test_docker_counts_only_when_its_daemon_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_docker(tmp_path, "exit 1")
    assert not backends.docker_answers()
    fake_docker(tmp_path, "echo 28.0.0")
    assert backends.docker_answers()


@pytest.mark.parametrize("uri", ["http://127.0.0.1/", "mongodb://", "mongodb://127.0.0.1:99999/"])
def test_a_malformed_mongodb_uri_is_told_by_its_variable(uri: str):
    with pytest.raises(StackFault, match="MONGODB_URI"):
        check_mongodb(uri)


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1/", "amqp://", "amqp://127.0.0.1:x/"])
def test_a_malformed_amqp_url_is_told_by_its_variable(url: str):
    with pytest.raises(StackFault, match="AMQP_URL"):
        check_amqp(url)


def test_a_broker_that_does_not_answer_is_told_without_its_password():
    with pytest.raises(StackFault, match="AMQP_URL is set, but nobody answers") as told:
        check_amqp(f"amqp://u:secret@127.0.0.1:{free_ports(1)[0]}/")
    assert "secret" not in str(told.value)
