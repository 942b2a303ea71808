"""Where MongoDB and RabbitMQ come from: those that the environment names, else containers, else processes here."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from postern_local.faults import StackFault
from postern_local.given import check_amqp, check_mongodb, local_servers
from postern_local.keys import Keys
from postern_local.mongod import APP_NAME, TRANSACTION_LIMIT, Mongod
from postern_local.ports import Ports
from postern_local.rabbitmq import Epmd, RabbitMQ
from postern_local.unit import Part


@dataclass
class Backends:
    """The two addresses, the parts to start for them, what ends containers, and variables that were not followed."""

    kind: str
    mongodb_uri: str
    amqp_url: str
    parts: list[Part] = field(default_factory=list)
    close: Callable[[], None] = lambda: None
    ignored: tuple[str, ...] = ()

    @property
    def private(self) -> bool:
        """Whether nobody else's data can be in them."""
        return self.kind != "given"


def choose(
    directory: Path, ports: Ports, keys: Keys, environment: Mapping[str, str], also: tuple[str, ...] = ()
) -> Backends:
    """The given servers where both are named; one alone is mixed with ours; else Docker, else processes.

    Raises a fault with every port that is taken, those of `also` among them. Addresses of a local stack are not given.
    """
    ignored = local_servers(environment)
    uri, url = (None if name in ignored else environment.get(name) for name in ("MONGODB_URI", "AMQP_URL"))
    if uri:
        check_mongodb(uri)
    if url:
        check_amqp(url)
    docker = not uri and not url and docker_answers()
    names = (*(() if uri else ("MONGO",)), *(() if url else ("AMQP",)), *(() if url or docker else ("EPMD",)))
    ports.refuse_taken((*also, *names))
    if docker:
        return replace(containers(ports, keys), ignored=ignored)
    if uri and url:
        return Backends("given", uri, url)
    mongod = Mongod(directory / "mongod", ports["MONGO"])
    epmd = Epmd(ports["EPMD"])
    node = (keys.amqp_password, keys.erlang_cookie, keys.node)
    rabbitmq = RabbitMQ(directory / "rabbitmq", ports["AMQP"], ports["EPMD"], *node, user=keys.amqp_user)
    parts: list[Part] = [] if uri else [mongod]
    parts += [] if url else [epmd, rabbitmq]
    kind = "given" if uri or url else "processes"
    return Backends(kind, uri or _marked(mongod.uri), url or rabbitmq.url, parts, ignored=ignored)


def _marked(uri: str) -> str:
    """The address of a server of ours, so that another start does not take it for a given one."""
    return f"{uri}&appName={APP_NAME}"


def docker_answers() -> bool:
    """Whether a Docker daemon answers within some seconds."""
    if shutil.which("docker") is None:
        return False
    try:
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        answer = subprocess.run(command, capture_output=True, timeout=5, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and bool(answer.stdout.strip())


def containers(ports: Ports, keys: Keys) -> Backends:
    """MongoDB and RabbitMQ by testcontainers, on the stack's own ports; its reaper ends them if we cannot."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  needed only where Docker is

    mongo = DockerContainer("mongo:7.0").with_command(
        " ".join(("mongod --replSet postern --bind_ip_all", *TRANSACTION_LIMIT))
    )
    rabbit = DockerContainer("rabbitmq:3.13").with_env("RABBITMQ_DEFAULT_USER", keys.amqp_user)
    rabbit = rabbit.with_env("RABBITMQ_DEFAULT_PASS", keys.amqp_password)
    started = []
    try:
        for container, inside, name in ((mongo, 27017, "MONGO"), (rabbit, 5672, "AMQP")):
            container.with_bind_ports(inside, ports[name]).start()
            started.append(container)
        uri = f"mongodb://127.0.0.1:{ports['MONGO']}/?directConnection=true"
        _initiate(uri)
    except Exception as error:
        for container in started:
            container.stop()
        raise StackFault(f"Docker answers, but its containers do not start: {error}") from error

    def close() -> None:
        for container in started:
            container.stop()

    url = f"amqp://{keys.amqp_user}:{keys.amqp_password}@127.0.0.1:{ports['AMQP']}/%2F"
    broker = RabbitMQ(Path(), ports["AMQP"], 0, "", "", "")
    _until(broker.missing, "RabbitMQ")
    return Backends("containers", _marked(uri), url, close=close)


def _initiate(uri: str) -> None:
    """Make the container a replica set of one; reached directly, so the name it gives itself does not matter."""

    def missing() -> str | None:
        client: MongoClient[dict[str, Any]] = MongoClient(uri, serverSelectionTimeoutMS=1000)
        try:
            if client.admin.command("hello").get("isWritablePrimary"):
                return None
            client.admin.command("replSetInitiate")
        except PyMongoError as error:
            return type(error).__name__
        finally:
            client.close()
        return "no primary yet"

    _until(missing, "MongoDB")


def _until(missing: Callable[[], str | None], name: str, timeout: float = 90) -> None:
    deadline = time.monotonic() + timeout
    while (reason := missing()) is not None:
        if time.monotonic() > deadline:
            raise StackFault(f"{name}'s container is not ready after {timeout:.0f} s: {reason}")
        time.sleep(0.3)
