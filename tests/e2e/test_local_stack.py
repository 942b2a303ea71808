"""The commands as a person types them: run, up, down, status; two stacks side by side; crashes of the launcher."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dns.message
import dns.query
import httpx2
import pytest

from postern_local.launcher import Lock
from postern_local.ports import Ports
from postern_local.process import Processes
from postern_local.process import start_time as process_start
from tests.servers.waiting import eventually

pytestmark = pytest.mark.timeout(300)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Command:
    """`python -m postern_local` in a folder of its own with ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = Ports.free()
        ports = {f"POSTERN_PORT_{name}": str(number) for name, number in self.ports.numbers.items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = {**kept, **ports, "POSTERN_LOCAL_DIR": str(directory)}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "postern_local", *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=200)
        return process.returncode, ANSI.sub("", output)

    def done(self, *arguments: str) -> str:
        status, output = self(*arguments)
        assert status == 0, output
        return output

    def env(self) -> dict[str, str]:
        lines = (self.directory / "env").read_text().splitlines()
        words = [shlex.split(line)[0] for line in lines if not line.startswith(("export ", "#"))]
        return dict(word.split("=", 1) for word in words)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[str], Command]]:
    made: list[Command] = []

    def make(name: str) -> Command:
        made.append(Command(tmp_path / name))
        return made[-1]

    yield make
    for one in made:
        one("down")
        assert Processes(one.directory).leftovers() == []
        assert Processes(one.directory / "demo").leftovers() == []


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} did not appear in:\n{seen}")


def started_again(local: Command, name: str, pid: int | None) -> bool:
    return Processes(local.directory).recorded()[name] not in (None, pid)


def test_a_taken_port_stops_the_start_and_names_its_variable(command):
    local = command("one")
    with socket.create_server(("127.0.0.1", local.ports["OPS_SYNC"])):
        for verb in ("run", "up"):
            status, output = local(verb)
            assert status == 1
            assert "POSTERN_PORT_OPS_SYNC" in output


def test_a_bad_port_stops_the_start(command):
    status, output = command("one")("run", POSTERN_PORT_API="eighty")
    assert status == 1
    assert "POSTERN_PORT_API" in output
    assert "Traceback" not in output


def test_status_and_down_are_fine_when_nothing_runs(command):
    local = command("one")
    assert local("status")[0] == 3
    status, output = local("logs", "-f")
    assert (status, "nothing runs" in output) == (1, True)
    local.done("down")


def test_the_guided_setup_delivers_a_message_beside_a_stack_in_the_background(command):
    background, demo = command("background"), command("demo")
    background.done("up")
    first = background.env()
    status, output = demo("run", "--once")
    assert status == 0, output
    for words in ("verify the domain", "follow it in the trace until it is delivered", "delivered"):
        assert words in output
    assert "Traceback" not in output
    assert "docs/quickstart.md" in output.partition("The stack has ended. Where to look:")[2]
    assert not (demo.directory / "demo" / "env").exists()
    background.done("status")
    for url in json.loads(first["POSTERN_OPS_URLS"]).values():
        assert httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200
    status, output = background("up")
    assert (status, "Already up" in output) == (0, True)
    assert background("run")[0] == 1


def test_servers_that_the_environment_names_are_used_and_left_alone(command, mongod, database, vhost):
    local = command("one")
    given = {"MONGODB_URI": mongod, "AMQP_URL": vhost, "POSTERN_MONGODB_DATABASE": database}
    status, output = local("run", "--once", **given)
    assert status == 0, output
    assert "given" in output
    assert not (local.directory / "demo" / "mongod").exists()
    assert "delivered" in output


def test_a_given_server_that_does_not_answer_is_told_by_its_variable(command):
    status, output = command("one")("run", "--once", AMQP_URL="amqp://guest:secret@127.0.0.1:1/")
    assert status == 1
    assert "AMQP_URL" in output
    assert "secret" not in output


def test_a_background_stack_keeps_its_data_over_down_and_over_the_death_of_its_supervisor(command):
    local = command("one")
    local.done("up")
    first = local.env()
    supervisor = Lock(local.directory).holder()
    assert supervisor is not None
    children = [pid for pid in Processes(local.directory).recorded().values() if pid is not None]
    assert len(children) == 10
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: not Processes(local.directory).leftovers(), timeout=15)
    assert eventually(lambda: all(process_start(pid) is None for pid in children), timeout=5)  # and were reaped
    local.done("up")
    assert local.env() == first
    local.done("down")
    assert not (local.directory / "env").exists()
    local.done("up")
    assert local.env() == first


def test_a_shell_that_read_the_env_file_starts_the_same_stack_again_and_a_second_one_with_servers_of_its_own(command):
    one, two = command("one"), command("two")
    one.done("up")
    first = one.env()
    sourced = {**two.environment, **first, "POSTERN_LOCAL_DIR": str(two.directory)}
    status, output = two("up", **sourced)
    assert status == 0, output
    assert "MONGODB_URI in the environment is the address of a local stack's own server: not used." in output
    assert {"mongod", "rabbitmq"} <= set(Processes(two.directory).recorded())
    assert two.env()["MONGODB_URI"] != first["MONGODB_URI"]
    two.done("down")
    one.done("down")
    status, output = one("up", **first)
    assert status == 0, output
    assert one.env() == first


def test_publish_sets_a_record_that_the_name_server_answers(command):
    local = command("one")
    local.done("up")
    settings = local.env()
    status, output = local("publish", "a.scratch.test", "postern-verification=1", **settings)
    assert status == 0, output
    port = int(settings["POSTERN_DNS"].rpartition(":")[2])
    answer = dns.query.udp(dns.message.make_query("a.scratch.test", "TXT"), "127.0.0.1", timeout=3, port=port)
    assert answer.answer[0][0].strings == (b"postern-verification=1",)


def test_status_and_its_headline_agree_when_a_part_is_away(command):
    local = command("one")
    local.done("up")
    assert "is ready (process" in local.done("status")
    supervisor = Lock(local.directory).holder()
    sink = Processes(local.directory).recorded()["nexthop"]
    assert supervisor is not None
    assert sink is not None
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(sink, signal.SIGKILL)
        status, output = local("status")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert status == 3
    assert "is up, but not ready: nexthop (process" in output
    assert "ops port" in output


def test_a_part_that_dies_in_the_background_is_started_again(command):
    local = command("one")
    local.done("up")
    before = Processes(local.directory).recorded()
    for name in ("edge", "mongod"):
        pid = before[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    for name in ("edge", "mongod"):
        eventually(partial(started_again, local, name, before[name]), timeout=20)
    assert eventually(lambda: local("status")[0] == 0, timeout=60, pause=0.5)


def test_ctrl_c_stops_all_that_run_started(command):
    local = command("one")
    process = local.start("run")
    read_until(process, "It stays up until Ctrl-C")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert Processes(local.directory / "demo").leftovers() == []


def test_ctrl_c_during_the_start_stops_what_was_started(command):
    local = command("one")
    process = local.start("run")
    read_until(process, "Servers")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "failed" not in output
    assert re.search(r"interrupted.*Stopping ….*Stopped\.", output, re.DOTALL)
    assert Processes(local.directory / "demo").leftovers() == []
