"""A private Samba AD domain controller: Active Directory's schema, identities and errors over LDAP, for tests.

Its ports are fixed (389, 636, 3268), so each one takes a loopback address of its own; ports below 1024 want root.
`unusable()` says why a machine cannot run one: its tests are skipped with that reason.
"""

import os
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException

from postern_local.process import Program

REALM = "ad.postern.test"
BASE = "DC=ad,DC=postern,DC=test"
PASSWORD = "Passw0rd!x"
ADMINISTRATOR = f"Administrator@{REALM}"
ENABLED, DISABLED = 544, 546  # normal accounts that need no password
_PROVISION_SECONDS = 180
_HOST = "dc1"


def unusable() -> str | None:
    """Why no domain controller can run here; None where one can."""
    if os.geteuid() != 0:
        return "Samba's LDAP ports are fixed below 1024, which takes root"
    for program in ("samba", "samba-tool"):
        if shutil.which(program, path=_PATH) is None:
            return f"{program} is not installed (Debian's samba-ad-dc)"
    if not Path("/usr/share/samba/setup").is_dir():
        return "samba-ad-provision is not installed"
    return None


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C.UTF-8"}


def free_address() -> str:
    """A loopback address that no other test's domain controller is likely to have."""
    return f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}"


@dataclass(frozen=True)
class SambaDomain:
    """The domain `ad.postern.test`; `connect` gives an administrator's connection for changing it."""

    directory: Path
    host: str
    name: str = "samba"

    def program(self) -> Program:
        """Provision where that was not done, then serve LDAP alone, in one process group."""
        if not (self._state / "etc" / "smb.conf").exists():
            self._provision()
        options = {
            "server services": "ldap",
            "interfaces": f"{self.host}/8",
            "bind interfaces only": "yes",
            "ldap server require strong auth": "no",
            "pid directory": str(self._state),
            "log file": str(self.directory / "samba.log"),
            "ncalrpc dir": str(self._state / "ncalrpc"),
            "winbindd socket directory": str(self._state / "wb"),
        }
        argv = ["samba", "-s", str(self._state / "etc" / "smb.conf"), "-i", "-M", "single", "--debug-stdout"]
        argv += ["--no-process-group", *(f"--option={name}={value}" for name, value in options.items())]
        return Program(self.name, tuple(argv), env=_ENVIRONMENT, cwd=self.directory, grace_seconds=5)

    @property
    def _state(self) -> Path:
        return self.directory / "ad"

    @property
    def certificate_authority(self) -> str:
        """The PEM of the authority that Samba made for its own certificate."""
        return (self._state / "private" / "tls" / "ca.pem").read_text()

    def _provision(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        argv = ["samba-tool", "domain", "provision", f"--targetdir={self._state}", "--server-role=dc"]
        argv += [f"--realm={REALM.upper()}", "--domain=POSTERN", f"--adminpass={PASSWORD}", "--dns-backend=NONE"]
        argv += ["--host-ip=127.0.0.1", f"--host-name={_HOST}"]
        done = subprocess.run(
            argv, env=_ENVIRONMENT, capture_output=True, text=True, timeout=_PROVISION_SECONDS, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"samba-tool could not make the domain:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def missing(self) -> str | None:
        """Ready when the administrator can sign in over TLS."""
        try:
            self.connect().unbind()
        except LDAPException as error:
            return f"no sign-in yet ({type(error).__name__})"
        return None

    def connect(self) -> ldap3.Connection:
        """An administrator's connection over LDAPS."""
        server = ldap3.Server(
            self.host,
            port=636,
            use_ssl=True,
            tls=ldap3.Tls(validate=ssl.CERT_NONE),
            get_info=ldap3.NONE,
            connect_timeout=5,
        )
        return ldap3.Connection(
            server, ADMINISTRATOR, PASSWORD, auto_bind=True, receive_timeout=60, auto_referrals=False, check_names=False
        )

    def fill(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Add entries by their DN without the base, in order."""
        with self.connect() as connection:
            for name, attributes in entries:
                connection.add(f"{name},{BASE}", attributes=dict(attributes))
                assert connection.result["result"] == 0, (name, connection.result)

    def change(self, name: str, changes: Mapping[str, Sequence[Any]]) -> None:
        """Replace attributes of an entry; no values clears one."""
        with self.connect() as connection:
            replaced = {key: [(ldap3.MODIFY_REPLACE, list(values))] for key, values in changes.items()}
            connection.modify(f"{name},{BASE}", replaced)
            assert connection.result["result"] == 0, (name, connection.result)

    def move(self, name: str, new_rdn: str, parent: str | None = None) -> None:
        """Rename an entry, and put it below another one."""
        with self.connect() as connection:
            superior = f"{parent},{BASE}" if parent else None
            connection.modify_dn(f"{name},{BASE}", new_rdn, new_superior=superior)
            assert connection.result["result"] == 0, (name, connection.result)

    def remove(self, name: str) -> None:
        """Delete an entry."""
        with self.connect() as connection:
            connection.delete(f"{name},{BASE}")
            assert connection.result["result"] == 0, (name, connection.result)


def person(login: str, *, control: int = ENABLED, **attributes: Any) -> tuple[str, dict[str, Any]]:
    """An entry for `SambaDomain.fill`: a user in CN=Users."""
    fields = {"objectClass": ["user"], "sAMAccountName": login, "userAccountControl": control}
    return f"CN={login},CN=Users", fields | attributes
