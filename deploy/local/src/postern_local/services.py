"""The five services as processes: their environment is all that they are told, as in a container."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from postern_local.certificate import self_signed
from postern_local.files import write_private
from postern_local.keys import Keys
from postern_local.ports import Ports
from postern_local.process import Program

ADMIN_LOGIN = "admin@postern.test"
MX_NAME = "mx.demo.test"
MODULES: Mapping[str, str] = {
    "api": "postern_api",
    "edge": "postern_edge",
    "dns": "postern_dns",
    "sync": "postern_sync",
    "deletion": "postern_deletion",
}


@dataclass(frozen=True)
class Service:
    """One service; ready when its own /readyz says so."""

    name: str
    module: str
    ops_port: int
    env: Mapping[str, str]
    arguments: tuple[str, ...] = ()

    @property
    def ops_url(self) -> str:
        """Where /livez, /readyz and /metrics answer."""
        return f"http://127.0.0.1:{self.ops_port}"

    def program(self) -> Program:
        """`python -m` with the interpreter that runs us."""
        argv = (sys.executable, "-m", self.module, *self.arguments)
        return Program(self.name, argv, env={**self.env, "PYTHONUNBUFFERED": "1"}, grace_seconds=35)

    def missing(self) -> str | None:
        """The checks that do not pass yet."""
        try:
            answer = httpx2.get(f"{self.ops_url}/readyz?verbose", timeout=5, trust_env=False)
        except httpx2.HTTPError as error:
            return f"no answer on port {self.ops_port} ({type(error).__name__})"
        return None if answer.status_code == 200 else "; ".join(answer.text.split("\n")).strip("; ")


@dataclass(frozen=True)
class Surroundings:
    """What the services work with: the servers' addresses and the stack's own folder, keys and ports."""

    directory: Path
    ports: Ports
    keys: Keys
    mongodb_uri: str
    amqp_url: str
    dns_port: int
    next_hop_port: int
    environment: str = "local"
    extra: Mapping[str, str] = field(default_factory=dict)

    def services(self) -> list[Service]:
        """One of each."""
        return [self.service(kind, kind, self.ports["OPS_" + kind.upper()]) for kind in MODULES]

    def service(self, kind: str, name: str, ops_port: int, **overrides: str) -> Service:
        """A service of that kind under a name of its own; a second edge needs other ports."""
        own = self._own_settings(kind)
        env = {**self._common(), **own, "POSTERN_OPS_PORT": str(ops_port), **self.extra, **overrides}
        return Service(name, MODULES[kind], ops_port, env)

    def _common(self) -> dict[str, str]:
        return {
            "MONGODB_URI": self.mongodb_uri,
            "AMQP_URL": self.amqp_url,
            "POSTERN_ENVIRONMENT": self.environment,
            "POSTERN_ALLOW_NETWORKS": "127.0.0.0/8",
            "POSTERN_DNS_SERVERS": f"127.0.0.1:{self.dns_port}",
            "POSTERN_DNS_AUTHORITATIVE_PORT": str(self.dns_port),
            "POSTERN_SECRET_KEYS_FILE": str(self._secret("secret_keys", self.keys.encryption_key)),
            "POSTERN_OPS_HOST": "127.0.0.1",
        }

    def _own_settings(self, kind: str) -> dict[str, str]:
        if kind == "api":
            # No POSTERN_API_OWN_MX_HOSTS: here the next hop shares the gateway's address, and would be refused with it.
            return {
                "POSTERN_API_HOST": "127.0.0.1",
                "POSTERN_API_PORT": str(self.ports["API"]),
                "POSTERN_API_BOOTSTRAP_LOGIN": ADMIN_LOGIN,
                "POSTERN_API_BOOTSTRAP_PASSWORD_FILE": str(self._secret("admin_password", self.keys.admin_password)),
                "POSTERN_API_BOOTSTRAP_TOKEN_FILE": str(self._secret("api_token", self.keys.api_token)),
            }
        if kind == "edge":
            certificate, key = self_signed(self.directory / "keys", (MX_NAME, "localhost"))
            return {
                "POSTERN_EDGE_HOST": "127.0.0.1",
                "POSTERN_EDGE_PORT": str(self.ports["SMTP_IN"]),
                "POSTERN_EDGE_HOSTNAME": MX_NAME,
                "POSTERN_EDGE_MX_PORT": str(self.next_hop_port),
                "POSTERN_EDGE_TLS_CERTIFICATE_FILE": str(certificate),
                "POSTERN_EDGE_TLS_KEY_FILE": str(key),
            }
        return {"POSTERN_DNS_OWN_MX_HOSTS": MX_NAME} if kind == "dns" else {}

    def _secret(self, name: str, text: str) -> Path:
        path = self.directory / "keys" / name
        if not path.exists() or path.read_text() != text:
            write_private(path, text)
        return path


def own_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings of services that the person gave on the command line, such as POSTERN_LOG_LEVEL=debug."""
    prefixes = ("POSTERN_API_", "POSTERN_EDGE_", "POSTERN_DNS_", "POSTERN_SYNC_", "POSTERN_DELETION_")
    reserved = ("POSTERN_API_URL", "POSTERN_API_TOKEN", "POSTERN_DNS_UPDATE", "POSTERN_DNS_TSIG", "POSTERN_DNS_ZONES")
    names = ("POSTERN_LOG_LEVEL", "POSTERN_TEST_CLOCK", "POSTERN_DRAIN_SECONDS", "POSTERN_MONGODB_DATABASE")
    return {
        name: value
        for name, value in environment.items()
        if name in names or (name.startswith(prefixes) and name not in reserved)
    }
