"""A next hop that discards what it takes and counts it: Postfix's `smtp-sink -c`."""

import re
import subprocess
import time
from pathlib import Path


class CountingSink:
    """`smtp-sink` on `port`; `count()` is how many messages it took since it started."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._output = directory / "count"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait a moment until it listens."""
        self._output.parent.mkdir(parents=True)
        with self._output.open("wb") as output:
            command = ["smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{self.port}", "500"]
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        time.sleep(0.3)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    @property
    def pid(self) -> int:
        """Its process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def count(self) -> int:
        """Messages taken: the last counter that it wrote."""
        size = self._output.stat().st_size
        with self._output.open("rb") as output:
            output.seek(max(0, size - 200))
            found = re.findall(rb"mesg=(\d+)", output.read())
        return int(found[-1]) if found else 0
