"""The ports of a stack: from POSTERN_PORT_* for people, free ones for tests; a taken one is named by its variable."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from postern_local.faults import StackFault

PREFIX = "POSTERN_PORT_"

# Servers that people run themselves hold the well-known ports of MongoDB, RabbitMQ and epmd; ours stand beside them.
DEFAULTS: Mapping[str, int] = {
    "API": 8080,
    "SMTP_IN": 2525,
    "SMTP_OUT": 2526,
    "SUBMISSION": 2587,
    "DNS": 5353,
    "MONGO": 27117,
    "AMQP": 5772,
    "EPMD": 4469,
    "NEXTHOP": 2626,
    "OPS_API": 9101,
    "OPS_EDGE": 9102,
    "OPS_DNS": 9103,
    "OPS_SYNC": 9104,
    "OPS_DELETION": 9105,
}

# Below the range that the kernel gives to outgoing connections, so that nobody takes a free port by chance.
_FREE_RANGE = range(18000, 32000)
_reserved: list[IO[str]] = []


@dataclass(frozen=True)
class Ports:
    """A port for every name of DEFAULTS."""

    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Ports":
        """The ports that POSTERN_PORT_* ask for, else the usual ones; a bad value or a double use is a fault."""
        unknown = sorted(n for n in environment if n.startswith(PREFIX) and n.removeprefix(PREFIX) not in DEFAULTS)
        if unknown:
            known = ", ".join(DEFAULTS)
            raise StackFault(f"{unknown[0]} is no port of the local stack; the names after {PREFIX} are {known}")
        numbers = {
            name: _number(PREFIX + name, environment.get(PREFIX + name), usual) for name, usual in DEFAULTS.items()
        }
        holder: dict[int, str] = {}
        for name, number in numbers.items():
            if number in holder:
                raise StackFault(
                    f"{PREFIX}{name} and {PREFIX}{holder[number]} are both {number}; each needs a port of its own"
                )
            holder[number] = name
        return cls(numbers)

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody uses at this moment."""
        return cls(dict(zip(DEFAULTS, free_ports(len(DEFAULTS)), strict=True)))

    def refuse_taken(self, names: Iterable[str]) -> None:
        """Raise a fault that names the variable of every port which somebody else holds."""
        taken = [name for name in names if not is_free(self[name])]
        if taken:
            several = len(taken) > 1
            lines = "".join(f"\n  {self[name]} on 127.0.0.1, set by {PREFIX}{name}" for name in taken)
            raise StackFault(
                f"{'these ports are' if several else 'this port is'} in use by another program:{lines}\n"
                f"Set {'the variables to free ports' if several else 'the variable to a free port'}, or stop the "
                "program; deploy/local/README.md has every variable"
            )


def is_free(port: int) -> bool:
    """Whether TCP and UDP at this port of 127.0.0.1 can be had."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for a server
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(count: int) -> list[int]:
    """That many different ports which nobody uses, and which no other process gets from here while this one lives."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_FREE_RANGE, 40 * count):
        if is_free(port) and _reserve(port):
            found.append(port)
        if len(found) == count:
            return found
    raise StackFault("no free ports between 18000 and 32000")


def _reserve(port: int) -> bool:
    """Lock a file named by the port; the lock goes with this process, however it ends."""
    folder = Path(tempfile.gettempdir()) / f"postern-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = (folder / str(port)).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _reserved.append(file)
    return True


def _number(variable: str, text: str | None, usual: int) -> int:
    if text is None or not text.strip():
        return usual
    if not text.strip().isdigit() or not 1 <= int(text) <= 65535:
        raise StackFault(f"{variable}={text!r} is not a port number from 1 to 65535")
    return int(text)
