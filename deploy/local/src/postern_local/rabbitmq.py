"""RabbitMQ as a private node: own name, cookie, data, port mapper; no system-wide broker is touched."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from postern_local.faults import StackFault
from postern_local.files import write_private, write_text
from postern_local.process import Program

_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the script itself: Debian's wrapper in sbin changes the user
_HANDSHAKE = b"AMQP\x00\x00\x09\x01"
NAME_WRITTEN_SECONDS = 12.0


@dataclass(frozen=True)
class Epmd:
    """Erlang's port mapper in the foreground, so that it ends with the stack and not never."""

    port: int
    name: str = "epmd"

    def program(self) -> Program:
        """On 127.0.0.1 only."""
        return Program(self.name, ("epmd", "-port", str(self.port), "-address", "127.0.0.1"), grace_seconds=3)

    def missing(self) -> str | None:
        """Ready when it lists its names (NAMES_REQ)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as peer:
                peer.sendall(b"\x00\x01n")
                return None if len(peer.recv(64)) >= 4 else "no answer"
        except OSError as error:
            return f"no answer on port {self.port} ({type(error).__name__})"


@dataclass(frozen=True)
class RabbitMQ:
    """A broker on 127.0.0.1 with one user and the vhost `/`; `management_port` adds the HTTP interface."""

    directory: Path
    port: int
    epmd_port: int
    password: str
    cookie: str
    node: str
    distribution_port: int | None = None
    management_port: int | None = None
    user: str = "postern"
    name: str = "rabbitmq"

    @property
    def url(self) -> str:
        """The address for clients, vhost `/`."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """The address of a vhost."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    @property
    def management(self) -> str | None:
        """The management interface's URL, where it was asked for."""
        return f"http://127.0.0.1:{self.management_port}" if self.management_port else None

    def program(self) -> Program:
        """The node in the foreground, in the process that was started (no shell between)."""
        if not _SERVER.exists():
            raise StackFault("RabbitMQ is not installed: run deploy/local/bootstrap.sh")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        return Program(self.name, (str(_SERVER),), env=self._environment(), cwd=self.directory, grace_seconds=30)

    def missing(self) -> str | None:
        """Ready when it answers the protocol header with Connection.Start (AMQP 0-9-1, 2.2.4)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as peer:
                peer.settimeout(2)
                peer.sendall(_HANDSHAKE)
                start = peer.recv(11)
        except OSError as error:
            return f"no answer on port {self.port} ({type(error).__name__})"
        return None if start[:1] == b"\x01" and start[7:11] == b"\x00\x0a\x00\x0a" else "no Connection.Start"

    def queues_not_on_disk(self) -> list[str]:
        """Quorum queues whose names are not on the disk yet.

        RabbitMQ 3.10 writes them up to two seconds after the declaration, and a queue that a crash catches before never
        finds its leader again; so a stack counts as started only when there are none. What stands there for longer
        without a name is left of a removed queue.
        """
        waiting = []
        oldest = time.time() - NAME_WRITTEN_SECONDS
        for folder in (self.directory / "data").glob("*/quorum/*"):
            file = folder / "names.dets"
            names = file.read_bytes() if file.exists() else b""
            waiting += [
                entry.name
                for entry in folder.iterdir()
                if entry.is_dir() and entry.stat().st_mtime > oldest and entry.name.encode() not in names
            ]
        return waiting

    def _write_configuration(self) -> None:
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"default_user = {self.user}",
            f"default_pass = {self.password}",
            "default_user_tags.administrator = true",
            "loopback_users = none",
            "log.file = false",
            "log.console = true",
            "log.console.level = info",
            # Small machines: alarms at 200 MB of free disk, and quorum queues' log rolled at 64 MiB instead of 512.
            "disk_free_limit.absolute = 200MB",
            "vm_memory_high_watermark.relative = 0.4",
            "raft.wal_max_size_bytes = 67108864",
        ]
        if self.management_port:
            lines += [
                "management.tcp.ip = 127.0.0.1",
                f"management.tcp.port = {self.management_port}",
                "management_agent.disable_metrics_collector = true",
            ]
        write_private(self.directory / "rabbitmq.conf", "\n".join(lines) + "\n")
        write_text(self.directory / "enabled_plugins", "[rabbitmq_management].\n" if self.management_port else "[].\n")
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, self.cookie, mode=0o400)  # Erlang refuses a cookie that others can read

    def _environment(self) -> dict[str, str]:
        home = str(self.directory)
        distribution = self.distribution_port or _distribution_port(self.port)
        return {
            "HOME": home,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_BASE": home,
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": home,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/none.config",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/none.env",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{home}/node.pid",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/generated",
            "RABBITMQ_SCHEMA_DIR": f"{home}/schema",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
            "ERL_CRASH_DUMP": f"{home}/erl_crash.dump",
            "RUNNING_UNDER_SYSTEMD": "1",  # makes the script exec the node: one process, and it stops on SIGTERM
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }


def _distribution_port(port: int) -> int:
    """The port for Erlang's own traffic: RabbitMQ's usual distance above, while that stays below the kernel's range for
    outgoing connections, which would take it now and then; else as far below.
    """
    return port + 20000 if port + 20000 < 32768 else max(1024, port - 8000)
