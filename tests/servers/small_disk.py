"""A file system of its own size for one server, to be filled by a test and freed again: needs root, for `mount`."""

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postern_local.unit import Unit

RESTART_SECONDS = 1.0
PIECE = 1 << 20


class SmallDisk:
    """A tmpfs of `megabytes` at `directory`; `fill` leaves so many bytes free, `free` gives the others back."""

    def __init__(self, directory: Path, megabytes: int) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"
        directory.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)], check=True)

    def fill(self, but: int = 0) -> int:
        """Take all that is free `but` so many bytes, while others write too; how many that was."""
        taken = 0
        with self._ballast.open("wb") as file:
            while (left := self._left() - but) > 0:
                try:
                    os.posix_fallocate(file.fileno(), taken, min(left, PIECE))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
                taken += min(left, PIECE)
        return taken

    def _left(self) -> int:
        state = os.statvfs(self.directory)
        return state.f_bavail * state.f_frsize

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink()

    def close(self) -> None:
        """Take it away, also from under a process that still holds it."""
        subprocess.run(["umount", "--lazy", str(self.directory)], check=True)


@contextmanager
def supervised(unit: Unit) -> Iterator[None]:
    """Within this a server that ends is started anew, again and again, as systemd or Kubernetes do it."""
    ends = threading.Event()

    def keep() -> None:
        while not ends.wait(RESTART_SECONDS):
            unit.launch()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(10)
