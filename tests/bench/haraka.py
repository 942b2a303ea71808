"""Haraka as a peer that only discards: two workers, no plugins but what takes every message and drops it.

It is installed by npm into `.local/bench/`, once. Where there is no Node.js, or the install fails, `install` says why;
the benchmarks go on without it.
"""

import re
import shutil
import smtplib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from postern_local.files import write_text
from postern_local.process import Program

VERSION: Final = "3.3.4"
WORKERS: Final = 2
_FOLDER: Final = Path(__file__).resolve().parents[2] / ".local" / "bench" / f"haraka-{VERSION}"
_INSTALL_SECONDS: Final = 300
_OLDEST_NODE: Final = 20  # what this version of Haraka asks for

# Reverse look-ups are off for Postfix and not done by Postern; Haraka's own is answered by the plugin.
_PLUGIN: Final = """\
exports.hook_lookup_rdns = (next) => next(OK, 'client.test')
exports.hook_rcpt = (next) => next(OK)
"""
_FILES: Final = {
    "config/me": "haraka.test\n",
    "config/plugins": "take_all\nqueue/discard\n",
    "config/log.ini": "[main]\nlevel=ERROR\ntimestamps=false\nformat=default\n",
    "config/smtp.ini": "listen=127.0.0.1:{port}\nnodes={workers}\n",
    "plugins/take_all.js": _PLUGIN,
}


class NotHere(Exception):
    """Haraka cannot be had on this machine; the text says why."""


def install() -> Path:
    """Install it where it is missing; its program. Raises `NotHere`."""
    program = _FOLDER / "node_modules/Haraka/bin/haraka"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotHere("no Node.js: node and npm (Debian's nodejs and npm) are wanted on the PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.match(r"v(\d+)", version)
    if found is None or int(found[1]) < _OLDEST_NODE:
        raise NotHere(f"Haraka {VERSION} wants Node.js {_OLDEST_NODE}, here is {version.strip() or 'none that works'}")
    if not (_FOLDER / "installed").exists():
        _install_into(_FOLDER, npm)
    return program


def _install_into(folder: Path, npm: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "package.json", "{}\n")  # else npm looks for one further up
    words = ["install", "--omit=dev", "--no-audit", "--no-fund", "--no-package-lock", f"Haraka@{VERSION}"]
    try:
        done = subprocess.run(
            [npm, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NotHere(f"npm had not installed it after {_INSTALL_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotHere(f"npm failed with status {done.returncode}: {'; '.join(lines[:2]) or 'it said nothing'}")
    write_text(folder / "installed", VERSION)


@dataclass(frozen=True)
class Haraka:
    """The server as a part of the stack; its files stand in `directory`."""

    directory: Path
    port: int
    script: Path
    name: str = "haraka"

    def program(self) -> Program:
        """In the foreground; without the variable the plugin `queue/discard` would keep what it takes."""
        # Defaults are not built in: a folder without these files has no greeting and no limits.
        shutil.copytree(self.script.parents[1] / "config", self.directory / "config", dirs_exist_ok=True)
        for name, text in _FILES.items():
            write_text(self.directory / name, text.format(port=self.port, workers=WORKERS))
        argv = (shutil.which("node") or "node", str(self.script), "-c", str(self.directory))
        return Program(self.name, argv, env={"YES_REALLY_DO_DISCARD": "1"}, cwd=self.directory)

    def missing(self) -> str | None:
        """Ready when it greets."""
        try:
            with smtplib.SMTP(timeout=5) as client:
                client.connect("127.0.0.1", self.port)
                return None
        except (OSError, smtplib.SMTPException) as error:
            return f"no greeting on port {self.port} ({type(error).__name__})"
