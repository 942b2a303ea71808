"""`make status` and `make logs`: what runs from a folder, asked of the parts themselves."""

import os
from pathlib import Path

from postern_local import state
from postern_local.console import Progress
from postern_local.faults import StackFault
from postern_local.keys import Keys
from postern_local.launcher import Lock
from postern_local.mongod import Mongod
from postern_local.nameserver import Nameserver
from postern_local.nexthop import SmtpSink
from postern_local.ports import Ports
from postern_local.process import Processes
from postern_local.rabbitmq import Epmd, RabbitMQ
from postern_local.services import MODULES, Service
from postern_local.unit import Part


def show(directory: Path, progress: Progress) -> bool:
    """Print a table of the parts; whether all are ready."""
    holder = Lock(directory).holder()
    entry = state.read(directory)
    if holder is None:
        progress.say(f"Nothing runs from {directory}. `make up` starts the stack.")
        return False
    if "ports" not in entry:
        progress.say(f"The stack in {directory} is just starting (process {holder}).")
        return False
    ports = Ports(entry["ports"])
    recorded = Processes(directory).recorded()
    rows, unready = [], []
    for part, port in _parts(directory, ports):
        pid = recorded.get(part.name)
        if part.name not in recorded and part.name not in MODULES:
            continue  # a server that was given, or runs in a container
        missing = part.missing() if pid is not None else "not running"
        unready += [] if missing is None else [part.name]
        ops_port = str(part.ops_port) if isinstance(part, Service) else "-"
        rows.append((part.name, str(pid or "-"), str(port or "-"), ops_port, missing or "ready"))
    progress.say(f"The stack in {directory} is {headline(entry.get('phase'), unready)} (process {holder}).")
    progress.table(("part", "process", "port", "ops port", "state"), rows)
    return not unready


def headline(phase: str | None, unready: list[str]) -> str:
    """What holds for the stack as a whole, given its parts that are not ready."""
    if not unready:
        return "ready" if phase == "ready" else "starting"
    return f"{'up' if phase == 'ready' else 'starting'}, but not ready: {', '.join(unready)}"


def _parts(directory: Path, ports: Ports) -> list[tuple[Part, int | None]]:
    keys = Keys.of(directory)
    node = (keys.amqp_password, keys.erlang_cookie, keys.node)
    return [
        (Mongod(directory / "mongod", ports["MONGO"]), ports["MONGO"]),
        (Epmd(ports["EPMD"]), ports["EPMD"]),
        (RabbitMQ(directory / "rabbitmq", ports["AMQP"], ports["EPMD"], *node), ports["AMQP"]),
        (Nameserver(directory / "named", ports["DNS"], keys.tsig_key), ports["DNS"]),
        (SmtpSink(directory / "nexthop", ports["NEXTHOP"]), ports["NEXTHOP"]),
        *(
            (Service(kind, module, ports["OPS_" + kind.upper()], {}), _main_port(kind, ports))
            for kind, module in MODULES.items()
        ),
    ]


def _main_port(kind: str, ports: Ports) -> int | None:
    """Where a service serves others; some have an ops port alone."""
    name = {"api": "API", "edge": "SMTP_IN"}.get(kind)
    return ports[name] if name else None


def follow_logs(directory: Path, parts: list[str], follow: bool) -> None:
    """Become `tail` on the logs of these parts, or of all; following ends with the stack."""
    holder = Lock(directory).holder()
    if follow and holder is None:
        raise StackFault(f"nothing runs from {directory}; logs of an earlier run, if any, are in {directory / 'log'}")
    files = sorted((directory / "log").glob("*.log"))
    if parts:
        files = [path for path in files if path.stem in parts]
    if not files:
        known = ", ".join(path.stem for path in sorted((directory / "log").glob("*.log"))) or "none yet"
        raise StackFault(f"no such log in {directory / 'log'}; there are: {known}")
    os.execvp("tail", ["tail", "-n", "40", *(["-F", f"--pid={holder}"] if follow else []), *map(str, files)])  # noqa: S606  no shell
