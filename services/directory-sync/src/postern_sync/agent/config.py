"""The agent's settings: one TOML file; secrets stand in files of their own that nobody else may read."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

DEFAULT_PATH: Final = Path("/etc/postern-sync-agent/config.toml")
DEFAULT_STATE: Final = Path("/var/lib/postern-sync-agent")
NO_CERTIFICATES: Final = "it holds no certificates that can be read; PEM is expected"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class ConfigFault(Exception):
    """The settings cannot be used; the message is for whoever wrote them."""


class LdapConfig(BaseModel):
    """How the directory is reached from here. What is read of it, the server says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1)
    second_host: str | None = None
    port: int | None = Field(None, ge=1, le=65535)
    security: Literal["ldaps", "starttls", "none"] = "ldaps"
    ca_file: Path | None = None
    fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    user: str = ""
    password_file: Path | None = None
    base_dn: str = ""

    @field_validator("fingerprint", mode="before")
    @classmethod
    def _plain_fingerprint(cls, value: object) -> object:
        return value.replace(":", "").strip().lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        # RFC 4513 5.1.2: a bind with a name and no password succeeds as nobody, and proves nothing.
        if self.user and self.password_file is None:
            raise ValueError("a user needs a password_file")
        return self


class AgentConfig(BaseModel):
    """Where the server is, and where the directory is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https://[^/?#@\s]+/?$")
    state_dir: Path = DEFAULT_STATE
    proxy: str | None = Field(None, pattern=r"^https?://")
    ca_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    rotate_days: int = Field(7, ge=1, le=60)
    ldap: LdapConfig


def load(path: Path) -> AgentConfig:
    """Read the settings. Raises `ConfigFault`."""
    try:
        with path.open("rb") as file:
            return AgentConfig.model_validate(tomllib.load(file))
    except OSError as error:
        raise ConfigFault(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFault(f"{path}: {error}") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()]
        raise ConfigFault(f"{path}: " + "; ".join(faults)) from None


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
