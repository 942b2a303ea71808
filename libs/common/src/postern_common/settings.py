"""Settings from the environment, checked whole before a service starts.

Every setting has a type, a description and a unit in its name. A secret may come from a file (`…_FILE`), as Kubernetes
mounts them. An unknown `POSTERN_*` variable stops the start, since it is most often a slip in a name; the names that
the outside contract reserves, and other services' settings, are let through. A bad environment ends the process with
status 78 and a line for each problem.
"""

import os
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from postern_common.netguard import Network

EX_CONFIG: Final = 78
PREFIX: Final = "POSTERN_"
SERVICE_PREFIXES: Final = ("API_", "EDGE_", "DNS_", "SYNC_", "DELETION_")
RESERVED: Final = frozenset(
    f"POSTERN_{name}"
    for name in (
        "API_URL",
        "API_TOKEN",
        "ADMIN_LOGIN",
        "ADMIN_PASSWORD",
        "CUSTOMER_ID",
        "SMTP_IN",
        "SMTP_OUT",
        "DNS",
        "DNS_UPDATE",
        "DNS_TSIG",
        "DNS_ZONES",
        "NEXT_HOP",
        "NEXT_HOP_DIR",
        "OPS_URLS",
        "LOCAL_DIR",
        "TEST_EXTERNAL",
    )
)
RESERVED_PREFIXES: Final = ("POSTERN_PORT_",)


class CommonSettings(BaseSettings):
    """What every service needs to know."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", populate_by_name=True, frozen=True)

    environment: Literal["production", "local", "test"] = Field(
        "production",
        description="Where this runs; `local` and `test` permit what production must not, such as a movable clock.",
    )
    mongodb_uri: SecretStr = Field(
        validation_alias="MONGODB_URI", description="MongoDB replica set, as a connection string.", min_length=1
    )
    mongodb_database: str = Field("postern", description="Name of the database.", pattern=r"^[A-Za-z0-9_-]{1,63}$")
    amqp_url: SecretStr = Field(validation_alias="AMQP_URL", description="RabbitMQ and its virtual host.", min_length=1)
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log event that is written."
    )
    ops_host: str = Field("0.0.0.0", description="Address of the operations port.")
    ops_port: int = Field(9100, ge=1, le=65535, description="Port of /livez, /readyz and /metrics.")
    secret_keys: SecretStr = Field(
        SecretStr(""),
        description="Encryption keys as `version:base64` of 32 bytes, comma separated; the highest version seals.",
    )
    secret_keys_file: Path | None = Field(None, description="File that holds `secret_keys`.")
    allow_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Inside networks that settings typed by a tenant may reach, as comma separated CIDRs (SPEC R12).",
    )
    dns_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Resolvers as comma separated `address:port`; empty means those of /etc/resolv.conf."
    )
    dns_authoritative_port: int = Field(
        53, ge=1, le=65535, description="Port at which authoritative name servers are asked."
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="How long a stopping service waits for work under way."
    )
    drain_notice_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="How long a stopping service says by `/readyz` that it stops, and works on as before: for load "
        "balancers that ask. Not needed where the platform waits itself.",
    )
    test_clock: Path | None = Field(None, description="File of seconds to add to the time; refused in production.")

    @field_validator("allow_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return networks_of(value)

    @field_validator("dns_servers", mode="before")
    @classmethod
    def _split_servers(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(_checked_server(part.strip()) for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_clock(self) -> Self:
        if self.test_clock is not None and self.environment == "production":
            raise ValueError("POSTERN_TEST_CLOCK is refused in production; set POSTERN_ENVIRONMENT to local or test")
        return self

    def secret_key_text(self) -> str:
        """The encryption keys' text, from the file where one is named."""
        return read_secret(self.secret_keys, self.secret_keys_file)


def networks_of(value: object) -> object:
    """Networks as comma separated CIDRs; anything else as it is."""
    if isinstance(value, str):
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    return value


def _checked_server(text: str) -> str:
    address, _, port = text.rpartition(":")
    ip_address(address.strip("[]"))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} needs the form address:port")
    return text


S = TypeVar("S", bound=CommonSettings)


def read_secret(value: SecretStr, file: Path | None) -> str:
    """The secret in `file`, without its line end, else the one given directly."""
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return value.get_secret_value()


def load(kind: type[S]) -> S:
    """Read the environment into `kind`; on any problem print them all and end the process with status 78."""
    problems = [f"{name}: unknown setting" for name in unknown_names(kind)]
    try:
        settings = kind()
    except ValidationError as error:
        problems += [_problem_line(kind, item["loc"], item["msg"]) for item in error.errors(include_input=False)]
    else:
        if not problems:
            return settings
    for line in problems:
        print(f"settings: {line}", file=sys.stderr)
    raise SystemExit(EX_CONFIG)


def unknown_names(kind: type[CommonSettings]) -> list[str]:
    """The `POSTERN_*` variables of the environment that no setting of this or another service explains."""
    known = {environment_name(kind, field) for field in kind.model_fields}
    own = _service_prefix(kind)
    others = tuple(PREFIX + prefix for prefix in SERVICE_PREFIXES if prefix != own)
    shared = {environment_name(CommonSettings, field) for field in CommonSettings.model_fields}
    names = (name for name in os.environ if name.startswith(PREFIX))
    return sorted(
        name
        for name in names
        if name not in known | shared | RESERVED
        and not name.startswith(RESERVED_PREFIXES)
        and not name.startswith(others)
    )


def environment_name(kind: type[CommonSettings], field: str) -> str:
    """The environment variable that sets `field`."""
    alias = kind.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else (PREFIX + field).upper()


def _service_prefix(kind: type[CommonSettings]) -> str:
    own = [field.upper() for field in kind.model_fields if field not in CommonSettings.model_fields]
    return next((prefix for prefix in SERVICE_PREFIXES if any(field.startswith(prefix) for field in own)), "")


def _problem_line(kind: type[CommonSettings], location: tuple[int | str, ...], message: str) -> str:
    field = str(location[0]) if location else ""
    if not field:
        return message
    return f"{environment_name(kind, field) if field in kind.model_fields else field}: {message}"


def describe(settings: CommonSettings) -> str:
    """The effective settings, one `NAME=value` a line, secrets masked."""
    kind = type(settings)
    lines = []
    for field in kind.model_fields:
        value = getattr(settings, field)
        if isinstance(value, tuple):
            value = ",".join(str(item) for item in value)
        lines.append(f"{environment_name(kind, field)}={'' if value is None else value}")
    return "\n".join(lines)
