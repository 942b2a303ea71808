"""The agent's settings: one TOML file; secrets stand in files of their own that nobody else may read."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from postern_sync.agent.adapters.urls import MAX_PORT, is_plain, proxy_url, server_url
from postern_sync.agent.wording import fault_of

DEFAULT_PATH: Final = Path("/etc/postern-sync-agent/config.toml")
DEFAULT_STATE: Final = Path("/var/lib/postern-sync-agent")
NO_CERTIFICATES: Final = "it holds no certificates that can be read; PEM is expected"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class ConfigFault(Exception):
    """The settings cannot be used; the message is for whoever wrote them."""


class LdapConfig(BaseModel):
    """How the directory is reached from here. What is read of it, the server says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1)
    second_host: str | None = None
    port: int | None = Field(None, ge=1, le=MAX_PORT)
    security: Literal["ldaps", "starttls", "none"] = "ldaps"
    ca_file: Path | None = None
    fingerprint: str | None = None
    user: str = ""
    password_file: Path | None = None
    base_dn: str = ""

    @field_validator("fingerprint")
    @classmethod
    def _check_fingerprint(cls, value: str | None) -> str | None:
        plain = value.replace(":", "").strip().lower() if value is not None else None
        if plain is not None and _FINGERPRINT.fullmatch(plain) is None:
            raise ValueError("must be the SHA-256 of a certificate, 64 hexadecimal digits")
        return plain

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        # RFC 4513 5.1.2: a bind with a name and no password succeeds as nobody, and proves nothing.
        if self.user and self.password_file is None:
            raise ValueError("a user needs a password_file")
        return self


class AgentConfig(BaseModel):
    """Where the server is, and where the directory is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    state_dir: Path = DEFAULT_STATE
    proxy: str | None = None
    ca_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    rotate_days: int = Field(7, ge=1, le=60)
    ldap: LdapConfig

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return server_url(value)

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, value: str | None) -> str | None:
        return None if value is None else proxy_url(value)

    @model_validator(mode="after")
    def _check_way(self) -> Self:
        # A proxy's 127.0.0.1 is another machine, and the token would get there in plain text.
        if self.is_plain and self.proxy is not None:
            raise ValueError("proxy: goes with an https:// url alone")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether the server is asked without TLS, on this machine."""
        return is_plain(self.url)


def load(path: Path) -> AgentConfig:
    """Read the settings. Raises `ConfigFault`."""
    try:
        with path.open("rb") as file:
            return AgentConfig.model_validate(tomllib.load(file))
    except OSError as error:
        raise ConfigFault(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigFault(f"{path}: it is no UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigFault(f"{path}: it is no TOML: {error}; texts stand in quotes") from None
    except ValidationError as error:
        raise ConfigFault(f"{path}: " + "; ".join(map(fault_of, error.errors()))) from None


def read_secret(path: Path) -> str:
    """The secret in a file that its owner alone may read. Raises `ConfigFault`."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigFault(f"{path}: others may read it; make it 0600")
            return file.read().rstrip("\r\n")
    except OSError as error:
        raise ConfigFault(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigFault(f"{path}: it is no UTF-8 text") from None


def write_secret(path: Path, text: str) -> None:
    """Put a secret into a file of its own, 0600, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # a token that came into use must not be the one before after a power cut
    finally:
        os.close(folder)
