"""Ports of a stack, and what a person reads when one cannot be had."""

import contextlib
import re
import socket

import pytest

from postern_local.faults import StackFault
from postern_local.ports import DEFAULTS, Ports, free_ports, is_free


def test_the_usual_ports_are_used_when_nothing_is_said():
    assert Ports.from_environment({})["SMTP_IN"] == 2525
    assert Ports.from_environment({"POSTERN_PORT_API": " "})["API"] == 8080


def test_each_port_moves_by_its_variable():
    asked = {f"POSTERN_PORT_{name}": str(20000 + at) for at, name in enumerate(DEFAULTS)}
    assert dict(Ports.from_environment(asked).numbers) == {name: 20000 + at for at, name in enumerate(DEFAULTS)}


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "8080.5"])
def test_a_bad_port_is_refused_by_its_variable(value: str):
    with pytest.raises(StackFault, match="POSTERN_PORT_DNS"):
        Ports.from_environment({"POSTERN_PORT_DNS": value})


def test_an_unknown_port_variable_is_refused_with_the_known_names():
    with pytest.raises(StackFault, match=r"POSTERN_PORT_SMTP is no port.*SMTP_IN"):
        Ports.from_environment({"POSTERN_PORT_SMTP": "25"})


def test_one_port_for_two_parts_is_refused():
    with pytest.raises(StackFault, match=r"POSTERN_PORT_DNS and POSTERN_PORT_API are both 8080"):
        Ports.from_environment({"POSTERN_PORT_DNS": "8080"})


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_taken_port_is_named_by_its_variable(kind: socket.SocketKind):
    ports = Ports.free()
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", ports["NEXTHOP"]))
        if kind == socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(StackFault, match="POSTERN_PORT_NEXTHOP"):
            ports.refuse_taken(["API", "NEXTHOP"])
    ports.refuse_taken(["API", "NEXTHOP"])


def test_all_taken_ports_are_named_at_once():
    ports = Ports.free()
    names = ("API", "DNS", "OPS_SYNC")
    with contextlib.ExitStack() as held:
        for name in names:
            held.enter_context(socket.create_server(("127.0.0.1", ports[name])))
        with pytest.raises(StackFault) as told:
            ports.refuse_taken(DEFAULTS)
    assert re.findall(r"(\d+) on 127\.0\.0\.1, set by POSTERN_PORT_(\w+)", str(told.value)) == [
        (str(ports[name]), name) for name in names
    ]


def test_free_ports_are_free_and_different():
    found = free_ports(20)
    assert len(set(found)) == 20
    assert all(map(is_free, found))
