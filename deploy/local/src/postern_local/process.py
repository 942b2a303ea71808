"""Child processes that cannot outlive their launcher, and leftovers of a launcher that could not clean up.

Each child is a session of its own (Ctrl-C at the terminal reaches the launcher alone), is ended by the kernel when the
launcher dies, and carries MARKER in its environment. A process is ours only if it carries the marker of our folder: no
pid file and no program name is trusted to end a process.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MARKER = "LOCAL_STACK_DIR"

# The kernel sends the parent-death signal when the *thread* that forked ends, so one thread that lives as long as the
# process forks every child, whichever thread asks.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")
_write_lock = threading.Lock()


@dataclass(frozen=True)
class Program:
    """A program to start: its command line, its whole environment, and how it wants to be stopped."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None
    grace_seconds: float = 15.0


class Child:
    """A started program: alive or not, its log, and how to end it."""

    def __init__(self, program: Program, process: subprocess.Popen[bytes], log: Path) -> None:
        self.program = program
        self.process = process
        self.log = log
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        """The process id, which is its session's and group's too."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def terminate(self) -> None:
        """Ask it to stop, without waiting."""
        if self.alive:
            self.process.terminate()

    def join(self) -> int:
        """Wait for the end within the program's grace, then end the whole group; the exit status."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(self.program.grace_seconds)
        self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End the process and what it started at once (SIGKILL)."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


class Processes:
    """The processes of one stack folder: starts them, records them under `run/`, ends what an earlier launcher left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.logs = self.directory / "log"
        self.pids = self.directory / "run"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.pids.mkdir(parents=True, exist_ok=True)

    def start(self, program: Program) -> Child:
        """Start a program; its output is appended to `log/<name>.log`."""
        log = self.logs / f"{program.name}.log"
        return _forker.submit(self._fork, program, log).result()

    def _fork(self, program: Program, log: Path) -> Child:
        env = {**_plain_environment(), **program.env, MARKER: str(self.directory)}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*_death_with_parent(program.user), *program.argv],
                env=env,
                cwd=program.cwd or self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with _write_lock:
            (self.pids / f"{program.name}.pid").write_text(
                json.dumps({"pid": process.pid, "started": start_time(process.pid)})
            )
        return Child(program, process, log)

    def forget(self, name: str) -> None:
        """Take back the record of a program that was stopped."""
        (self.pids / f"{name}.pid").unlink(missing_ok=True)

    def recorded(self) -> dict[str, int | None]:
        """Each recorded program and its process id, None where that process is gone."""
        found: dict[str, int | None] = {}
        for path in sorted(self.pids.glob("*.pid")):
            try:
                entry = json.loads(path.read_text())
                pid, started = int(entry["pid"]), entry["started"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            same = started is not None and start_time(pid) == started and carries_marker(pid, self.directory)
            found[path.stem] = pid if same else None
        return found

    def leftovers(self) -> list[int]:
        """Processes that carry this folder's marker: with no launcher alive, an earlier run left them."""
        return [pid for pid in _all_pids() if pid != os.getpid() and carries_marker(pid, self.directory)]

    def sweep(self) -> int:
        """End all leftovers, politely first; how many there were. Call it only while holding the folder's lock."""
        found = self.leftovers()
        for sign, wait in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
            for pid in self.leftovers():
                _signal(pid, sign)
            deadline = time.monotonic() + wait
            while self.leftovers() and time.monotonic() < deadline:
                time.sleep(0.05)
        for path in self.pids.glob("*.pid"):
            path.unlink(missing_ok=True)
        return len(found)


def start_time(pid: int) -> str | None:
    """When a process started, in a form that no later process with the same id shares; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    after_name = stat.rpartition(")")[2].split()
    if after_name[0] == "Z":
        return None
    return f"{boot}:{after_name[19]}"


def carries_marker(pid: int, directory: Path) -> bool:
    """Whether a process was started for this stack folder (or by something that was)."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARKER}={directory}".encode() in environment.split(b"\0")


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  one call, no Path for each


def _signal(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def _plain_environment() -> dict[str, str]:
    """What every child may see of the launcher's environment: nothing that changes what a server does."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
    kept["PATH"] = kept.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    return kept


def _death_with_parent(user: str | None) -> list[str]:
    """The prefix that makes the kernel end the program with its launcher, as another user where one is wanted.

    SIGKILL, since every part must survive it anyway and a polite signal may go unheard. The user is changed here and
    not by the program: a change of credentials clears the parent-death signal.
    """
    setpriv = shutil.which("setpriv") or "/usr/bin/setpriv"
    prefix = [setpriv, "--pdeathsig", "KILL"]
    if user is not None and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        prefix += ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups"]
    return [*prefix, "--"]
