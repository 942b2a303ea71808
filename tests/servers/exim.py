"""A private Exim as Debian ships it, relaying what it takes to a sink.

Debian's Exim cannot be installed beside Postfix, so bootstrap.sh only unpacks it. Its user is compiled in by name:
nss_wrapper tells this one process that there is such a user, namely one that may do nothing else here.
"""

import os
import pwd
import shutil
import smtplib
import sys
from dataclasses import dataclass
from pathlib import Path

from postern_local.nexthop import UNPACKED
from postern_local.process import Program

_CONFIGURATION = """\
primary_hostname = exim.test
exim_path = {binary}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
keep_environment = LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
host_lookup =
tls_advertise_hosts =
deliver_drop_privilege = true
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = take

begin acl
take:
  accept domains = {domain}

begin routers
onwards:
  driver = manualroute
  transport = relay
  route_list = * 127.0.0.1
  self = send

begin transports
relay:
  driver = smtp
  port = {sink}
  allow_localhost
"""
_USERS = """\
root:x:0:0:root:/root:/bin/sh
Debian-exim:x:{user}:{group}::/nonexistent:/usr/sbin/nologin
"""
_GROUPS = """\
root:x:0:
Debian-exim:x:{group}:
"""


def _binary() -> Path | None:
    candidates = [Path("/usr/sbin/exim4"), Path(sys.prefix) / UNPACKED / "usr/sbin/exim4"]
    return next((path for path in candidates if path.exists()), None)


def _wrapper() -> Path | None:
    return next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None)


def unusable() -> str | None:
    """Why no Exim can run here; None where one can."""
    if _binary() is None:
        return "exim4 is not there (bootstrap.sh unpacks Debian's exim4-daemon-light for the tests)"
    return None if _wrapper() is not None else "libnss-wrapper is not installed"


@dataclass(frozen=True)
class Exim:
    """Exim on 127.0.0.1 that takes mail for `domain` and hands it to the port `sink`."""

    directory: Path
    port: int
    domain: str
    sink: int
    name: str = "exim"

    def program(self) -> Program:
        """It runs as nobody where we are root, else as ourselves; its binary lies where either may read it."""
        binary, wrapper = _binary(), _wrapper()
        assert binary is not None, unusable()
        assert wrapper is not None, unusable()
        own = self.directory / "exim4"
        for folder in (self.directory / "spool", self.directory / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(binary, own)
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        configuration = self.directory / "exim.conf"
        values = {"binary": own, "directory": self.directory, "port": self.port, "sink": self.sink}
        configuration.write_text(_CONFIGURATION.format(domain=self.domain, **values))
        configuration.chmod(0o644)  # it refuses one that others may write
        users, groups = self.directory / "passwd", self.directory / "group"
        users.write_text(_USERS.format(user=account.pw_uid, group=account.pw_gid))
        groups.write_text(_GROUPS.format(group=account.pw_gid))
        for folder in (self.directory, self.directory / "spool", self.directory / "log"):
            os.chown(folder, account.pw_uid, account.pw_gid)
        environment = {"LD_PRELOAD": str(wrapper), "NSS_WRAPPER_PASSWD": str(users), "NSS_WRAPPER_GROUP": str(groups)}
        return Program(self.name, (str(own), "-C", str(configuration), "-bdf"), env=environment, grace_seconds=3)

    def missing(self) -> str | None:
        """Ready when it greets."""
        try:
            with smtplib.SMTP(timeout=2) as client:
                client.connect("127.0.0.1", self.port)
                return None
        except (OSError, smtplib.SMTPException) as error:
            return f"no greeting on port {self.port} ({type(error).__name__})"
