"""The directory alone, in a process of its own: `python -m tests.bench.lookup` with a JSON object on its input.

The edge's own cache fills the edge's own index from the database; what that takes, and what a look-up takes then, is
printed as a JSON object. `run` starts it and gives back that object.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import uvloop

from postern_common.clock import Clock
from postern_edge.directory_cache import DirectoryCache
from postern_edge.directory_index import Directory
from postern_edge.rules.paths import Mailbox
from tests.bench.usage import resident_bytes
from tests.servers.stored import connect
from tests.servers.waiting import eventually_async

PASSES: Final = 5
TIMEOUT_SECONDS: Final = 900.0


def run(uri: str, database: str, recipients: Sequence[str]) -> dict[str, Any]:
    """Fill the directory from that database, and look those recipients up: `seconds`, `octets`, microseconds by kind.

    `octets` is what the process grew by, `known`, `unknown_user` and `unknown_domain` are medians for one look-up.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.lookup"],
        input=json.dumps({"uri": uri, "database": database, "recipients": recipients}),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode:
        raise RuntimeError(f"the directory was not read: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # before it stand the service's log lines
    return found


async def _main(settings: Mapping[str, Any]) -> None:
    clock = Clock()
    mongo = connect(settings["uri"], settings["database"], clock)
    directory = Directory(clock.now, fresh_seconds=TIMEOUT_SECONDS)
    before, began = resident_bytes(os.getpid()), time.perf_counter()
    following = asyncio.create_task(DirectoryCache(mongo, directory).run())
    await eventually_async(lambda: directory.loaded, TIMEOUT_SECONDS, 0.01)
    found: dict[str, float] = {"seconds": time.perf_counter() - began}
    found["octets"] = resident_bytes(os.getpid()) - before
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    mongo.close()
    directory.alive()
    known = [Mailbox(*address.split("@")) for address in settings["recipients"]]
    random.Random(1).shuffle(known)
    found["known"] = _microseconds(directory, known)
    found["unknown_user"] = _microseconds(directory, [Mailbox(f"no.{one.local}", one.domain) for one in known])
    found["unknown_domain"] = _microseconds(directory, [Mailbox(one.local, f"no.{one.domain}") for one in known])
    print(json.dumps(found))


def _microseconds(directory: Directory, mailboxes: Sequence[Mailbox]) -> float:
    """For one look-up: the median of several passes over all of them."""
    found = []
    for _ in range(PASSES):
        began = time.perf_counter()
        for mailbox in mailboxes:
            directory.lookup(mailbox)
        found.append((time.perf_counter() - began) / len(mailboxes) * 1e6)
    return statistics.median(found)


if __name__ == "__main__":
    uvloop.run(_main(json.load(sys.stdin)))
