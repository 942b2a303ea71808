"""A replica set of three members on loopback, as in production: its members die and stand still one by one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from postern_local.mongod import REPLICA_SET, Mongod
from postern_local.ports import free_ports
from postern_local.process import Processes
from postern_local.unit import Unit
from tests.servers.waiting import eventually

MEMBERS = 3


@dataclass(frozen=True)
class Member(Mongod):
    """One of the set; ready as primary or secondary. It waits for `ReplicaSet.start` to make the set."""

    def missing(self) -> str | None:
        """Whether it answers; before the set is made that is all that it can do."""
        answer = hello(self.port)
        if not answer:
            return f"no answer on port {self.port}"
        if "setName" in answer and not (answer.get("isWritablePrimary") or answer.get("secondary")):
            return "it is catching up"
        return None


class ReplicaSet:
    """`uri` is the seed list; `primary()` and `others()` are units to kill, start and pause."""

    def __init__(self, directory: Path, processes: Processes) -> None:
        self._members = [
            Member(directory / f"{directory.name}-{number}", port, f"{directory.name}-{number}")
            for number, port in enumerate(free_ports(MEMBERS), start=1)
        ]
        self.units = [Unit(member, processes) for member in self._members]

    @property
    def uri(self) -> str:
        """All members as seeds."""
        seeds = ",".join(f"127.0.0.1:{member.port}" for member in self._members)
        return f"mongodb://{seeds}/?replicaSet={REPLICA_SET}"

    def start(self) -> None:
        """Start all, make the set, and wait for its primary."""
        for unit in self.units:
            unit.launch()
        for unit in self.units:
            unit.await_ready(60)
        members = [{"_id": number, "host": f"127.0.0.1:{one.port}"} for number, one in enumerate(self._members)]
        client: MongoClient[dict[str, Any]] = MongoClient("127.0.0.1", self._members[0].port, directConnection=True)
        try:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            eventually(lambda: _stands(client), timeout=30, pause=0.2)
        finally:
            client.close()
        eventually(self.find_primary, timeout=60, pause=0.2)
        for unit in self.units:
            unit.await_ready(60)

    def find_primary(self) -> Unit | None:
        """The member that takes writes now, if there is one. One that stands still does not answer in time."""
        for member, unit in zip(self._members, self.units, strict=True):
            if hello(member.port).get("isWritablePrimary"):
                return unit
        return None

    def close(self) -> None:
        """End all members."""
        for unit in self.units:
            unit.kill()


def _stands(client: MongoClient[dict[str, Any]]) -> bool:
    """Have a member stand for election, since nobody does in a new set's first ten seconds; whether it was elected."""
    try:
        client.admin.command("replSetStepUp")
    except OperationFailure:
        return False  # the others are not there yet
    return True


def hello(port: int) -> dict[str, Any]:
    """What a member says of itself; nothing where it does not answer at once."""
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500, socketTimeoutMS=1000
    )
    try:
        return client.admin.command("hello")
    except PyMongoError:
        return {}
    finally:
        client.close()
