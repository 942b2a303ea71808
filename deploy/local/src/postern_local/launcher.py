"""One stack from start to end: takes the folder's lock, clears leftovers, starts servers and services, keeps them up.

Servers come first and services when those answer. At the end services drain before their servers go. Whatever ends the
launcher, its children end too (see `process`).
"""

import fcntl
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Self

from postern_local import backends, state
from postern_local.console import Progress
from postern_local.faults import StackFault
from postern_local.files import make_folder
from postern_local.keys import Keys
from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.ports import Ports
from postern_local.process import Processes
from postern_local.rabbitmq import RabbitMQ
from postern_local.services import Service, Surroundings, own_settings
from postern_local.unit import Part, Unit

_SERVICE_PORTS = ("API", "SMTP_IN", "OPS_API", "OPS_EDGE", "OPS_DNS", "OPS_SYNC", "OPS_DELETION")
_QUEUES_SECONDS = 15.0
_FIRST_PAUSE, _LONGEST_PAUSE, _SETTLED = 0.5, 30.0, 60.0


class Lock:
    """The right to run a stack from a folder; the kernel gives it back when its holder dies."""

    def __init__(self, directory: Path) -> None:
        make_folder(directory)
        self.path = directory / "lock"
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take it, or say who has it."""
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self.holder()
            file.close()
            raise StackFault(
                f"a stack already runs from {self.path.parent} (process {holder}): `make down` stops one that "
                "`make up` started; or set POSTERN_LOCAL_DIR and POSTERN_PORT_* to run a second one"
            )
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def check(self) -> None:
        """Say who has it, or return."""
        self.take()
        self.release()

    def holder(self) -> int | None:
        """The process that has it, None if nobody does."""
        try:
            with self.path.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read() or 0)
        except (OSError, ValueError):
            pass
        return None


class Launcher:
    """A stack of a folder; use as a context manager, then `start`."""

    def __init__(self, directory: Path, ports: Ports, environment: Mapping[str, str], progress: Progress) -> None:
        self.directory = directory.resolve()
        self.ports = ports
        self.environment = environment
        self.progress = progress
        self.lock = Lock(self.directory)
        self.units: list[Unit] = []
        self.backends: backends.Backends | None = None
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.lock.take()
        self.keys = Keys.of(self.directory)
        self.processes = Processes(self.directory)
        left = self.processes.sweep()
        if left:
            self.progress.say(f"Ended {left} processes that an earlier run left behind.")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.lock.release()

    def start(self) -> None:
        """Start everything; raises StackFault with the reason at the first part that does not come up."""
        progress = self.progress
        self.nameserver = Nameserver(self.directory / "named", self.ports["DNS"], self.keys.tsig_key)
        self.next_hop = SmtpSink(self.directory / "nexthop", self.ports["NEXTHOP"])
        others = ("DNS", "NEXTHOP", *_SERVICE_PORTS)
        self.backends = backends.choose(self.directory, self.ports, self.keys, self.environment, others)
        for name in self.backends.ignored:
            progress.say(f"{name} in the environment is the address of a local stack's own server: not used.")
        progress.title(f"Servers (MongoDB and RabbitMQ: {self.backends.kind})")
        self._bring_up([*self.backends.parts, self.nameserver, self.next_hop])
        progress.title("Services")
        self._bring_up(list(self.surroundings().services()))
        for part in self.backends.parts:
            if isinstance(part, RabbitMQ):
                self._await_queues(part)

    def surroundings(self) -> Surroundings:
        """What the services are told."""
        if self.backends is None:
            raise StackFault("the stack is not started")
        return Surroundings(
            self.directory,
            self.ports,
            self.keys,
            self.backends.mongodb_uri,
            self.backends.amqp_url,
            self.ports["DNS"],
            self.ports["NEXTHOP"],
            extra=own_settings(self.environment),
        )

    def _bring_up(self, parts: list[Part]) -> None:
        """Start these together, then wait for each."""
        fresh = [Unit(part, self.processes) for part in parts]
        for unit in fresh:
            self.units.append(unit)
            unit.launch()
        for unit in fresh:
            with self.progress.step(unit.name):
                unit.await_ready(90)

    def _await_queues(self, broker: RabbitMQ) -> None:
        with self.progress.step("queues on disk"):
            deadline = time.monotonic() + _QUEUES_SECONDS
            while broker.queues_not_on_disk() and time.monotonic() < deadline:
                time.sleep(0.1)

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep everything running until told otherwise: what dies is started again, ever later if it keeps dying."""
        while not until():
            for unit in self.units:
                if not unit.alive:
                    self._revive(unit)
            time.sleep(0.5)

    def _revive(self, unit: Unit) -> None:
        now = time.monotonic()
        if unit.name not in self._due:
            lived = now - unit.child.started_at if unit.child else 0.0
            pause = (
                _FIRST_PAUSE if lived > _SETTLED else min(_LONGEST_PAUSE, 2 * self._pause.get(unit.name, _FIRST_PAUSE))
            )
            self._pause[unit.name], self._due[unit.name] = pause, now + pause
            status = unit.child.process.returncode if unit.child else None
            self.progress.say(f"{unit.name} ended with status {status}; starting it again in {pause:.0f} s")
        if now >= self._due[unit.name]:
            del self._due[unit.name]
            unit.launch()

    def stop(self) -> None:
        """Stop everything: the services together, then the servers, each within its grace; never fails half way."""
        services, servers = self._by_kind()
        (self.directory / "env").unlink(missing_ok=True)
        if self.units:
            self.progress.say("Stopping …")
        try:
            for group in (services, servers):
                for unit in group:
                    unit.ask_to_stop()
                for unit in group:
                    unit.stop()
        finally:
            started = bool(self.units)
            for unit in self.units:
                unit.kill()
            self.units = []
            self.processes.sweep()
            state.clear(self.directory)
            if self.backends is not None:
                self.backends.close()
            if started:
                self.progress.say("Stopped.")

    def _by_kind(self) -> tuple[list[Unit], list[Unit]]:
        services = [unit for unit in self.units if isinstance(unit.part, Service)]
        return services, [unit for unit in self.units if unit not in services]
