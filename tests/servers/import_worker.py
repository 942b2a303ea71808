"""The API's import worker as a process of its own: does what waits, then prints seconds and peak memory as JSON."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

from postern_api.imports.worker import ImportWorker
from tests.servers.api import api_resources, api_settings


def peak_mebibytes() -> float:
    # Not getrusage: what that says begins with the parent's memory.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def work(place: tuple[str, str]) -> dict[str, float]:
    resources = api_resources(api_settings(place))
    await resources.mongo.ping()
    before, began = peak_mebibytes(), time.monotonic()
    worker = ImportWorker(resources)
    while await worker.work_once():
        pass
    return {"seconds": time.monotonic() - began, "idle_mebibytes": before, "peak_mebibytes": peak_mebibytes()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work((sys.argv[1], sys.argv[2])))))
