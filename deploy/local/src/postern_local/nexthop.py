"""The demo customer's own mail server: Postfix's smtp-sink, which keeps each message it took as one file."""

import os
import shutil
import smtplib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from postern_local.faults import StackFault
from postern_local.process import Program

UNPACKED = Path("debian")  # below the virtual environment: where bootstrap.sh unpacks packages that it may not install
_LIBRARIES = "usr/lib/postfix"


@dataclass(frozen=True)
class SmtpSink:
    """smtp-sink on 127.0.0.1; `options` are its own flags for faults (`-r`, `-f`, `-w` …)."""

    directory: Path
    port: int
    options: Sequence[str] = ()
    name: str = "nexthop"
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def program(self) -> Program:
        """It runs as nobody where we are root, and reaches its folder as the working folder whatever lies above."""
        self.directory.mkdir(parents=True, exist_ok=True)
        program, libraries = sink_program()
        # An unpacked one finds its libraries only where it may read, and `nobody` may not read everybody's home.
        user, own = ("nobody", ()) if not libraries or os.geteuid() != 0 else (None, ("-u", "root"))
        if user is not None and os.geteuid() == 0:
            shutil.chown(self.directory, user)
        argv = (program, *own, "-h", "mail.demo.test", *self.options, "-d", "%Y%m%d-%H%M%S.", self.address, "256")
        return Program(self.name, argv, env=libraries, cwd=self.directory, user=user, grace_seconds=3)

    def missing(self) -> str | None:
        """Ready when it greets."""
        try:
            with smtplib.SMTP(timeout=2) as client:
                client.connect("127.0.0.1", self.port)
                return None
        except (OSError, smtplib.SMTPException) as error:
            return f"no greeting on port {self.port} ({type(error).__name__})"

    def messages(self) -> list[Path]:
        """The files of the messages taken so far, oldest first."""
        return sorted(
            (path for path in self.directory.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime_ns
        )


def sink_program() -> tuple[str, dict[str, str]]:
    """smtp-sink and the environment that it needs: installed, or unpacked beside the virtual environment."""
    found = shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if found is not None:
        return found, {}
    root = Path(sys.prefix) / UNPACKED
    if (root / "usr/sbin/smtp-sink").exists():
        return str(root / "usr/sbin/smtp-sink"), {"LD_LIBRARY_PATH": str(root / _LIBRARIES)}
    raise StackFault("smtp-sink (Debian's postfix) is not installed: run deploy/local/bootstrap.sh")
