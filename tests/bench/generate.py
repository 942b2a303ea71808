"""Load in a process of its own: `python -m tests.bench.generate open|closed|large` with a JSON object on its input.

It prints a JSON object with what it measured. `run` starts it and gives back that object.

- `open`: one message each 1/`rate` s for `seconds`, whatever becomes of those before it, so that a server that stands
  still is charged with all that should have come meanwhile. New connections, or `connections` that are kept (`reuse`).
- `closed`: `sessions` connections send `messages` one after the other, each to a recipient drawn from a file.
- `large`: `sessions` connections send one message of `octets` each, all at once.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench.client import Client, Refused, content

WARM_UP: Final = 0.1  # of an open load's time: sent, and left out of what is told
LINES: Final = 840  # of 78 octets, in a piece of nearly 64 KiB
DIFFERENT_PIECES: Final = 16  # together far more than a compressor of the database looks back
_TROUBLE: Final = (Refused, OSError, TimeoutError)


def run(kind: str, timeout: float, /, **settings: Any) -> dict[str, Any]:
    """Make the load and wait for it; raises where the generator itself fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.generate", kind],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class OpenLoad:
    """An open load: what is late counts from the moment that it was planned for (no coordinated omission)."""

    def __init__(self, port: int, recipient: str, octets: int, *, reuse: bool, connections: int) -> None:
        self._port = port
        self._recipient = recipient
        self._pieces = [content(octets)]
        self._reuse = reuse
        self._count = connections
        self._free: asyncio.Queue[Client] = asyncio.Queue()
        self.answered: list[float] = []  # seconds from the end of data to the 250
        self.whole: list[float] = []  # seconds from the planned moment to the 250
        self.behind: list[float] = []  # seconds from the planned moment to our beginning
        self.failed: Counter[str] = Counter()

    async def make(self, rate: float, seconds: float) -> dict[str, Any]:
        """Send at that rate for so long, and wait for the last reply."""
        for _ in range(self._count if self._reuse else 0):
            self._free.put_nowait(await Client.open(self._port))
        begin = time.perf_counter() + 0.1
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                planned = begin + number / rate
                if (wait := planned - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(self._one(planned, told=planned - begin >= WARM_UP * seconds))
        while not self._free.empty():
            await self._free.get_nowait().close()
        return {
            "answered": self.answered,
            "whole": self.whole,
            "behind": self.behind,
            "failed": dict(self.failed.most_common(5)),
        }

    async def _one(self, planned: float, *, told: bool) -> None:
        began = time.perf_counter()
        client: Client | None = None
        try:
            client = await (self._free.get() if self._reuse else Client.open(self._port))
            answered = await client.send(self._recipient, self._pieces)
            now = time.perf_counter()
        except _TROUBLE as error:
            self.failed[f"{type(error).__name__} {error}"[:80]] += 1
        else:
            if told:
                self.answered.append(answered)
                self.whole.append(now - planned)
                self.behind.append(began - planned)
        if client is not None:
            await self._give_back(client)

    async def _give_back(self, client: Client) -> None:
        if self._reuse and not client.is_closed:
            self._free.put_nowait(client)
            return
        await client.close()
        if self._reuse:
            self._free.put_nowait(await Client.open(self._port))


async def _open(settings: Mapping[str, Any]) -> dict[str, Any]:
    load = OpenLoad(
        settings["port"],
        settings["recipient"],
        settings["octets"],
        reuse=settings["reuse"],
        connections=settings["connections"],
    )
    return await load.make(settings["rate"], settings["seconds"])


async def _closed(settings: Mapping[str, Any]) -> dict[str, Any]:
    recipients = settings["recipients"]
    pieces = [content(settings["octets"])]
    draw = random.Random(settings["seed"])
    left = settings["messages"]

    async def one(client: Client) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await client.send(draw.choice(recipients), pieces)
        await client.close()

    clients = [await Client.open(settings["port"]) for _ in range(settings["sessions"])]
    began = time.perf_counter()
    await asyncio.gather(*(one(client) for client in clients))
    return {"seconds": time.perf_counter() - began}


async def _large(settings: Mapping[str, Any]) -> dict[str, Any]:
    pieces = _incompressible(settings["octets"])
    outcomes: Counter[str] = Counter()

    async def one() -> None:
        try:
            client = await Client.open(settings["port"])
            await client.send(settings["recipient"], pieces)
        except _TROUBLE as error:
            outcomes[f"{type(error).__name__} {error}"[:80]] += 1
            return
        outcomes["accepted"] += 1
        await client.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(settings["sessions"])))
    return {"seconds": time.perf_counter() - began, "outcomes": dict(outcomes)}


def _incompressible(octets: int) -> list[bytes]:
    """A message in pieces of whole lines, which all sessions share: random letters, as an attachment's are."""
    draw = random.Random(octets)
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" * 4
    different = [
        b"".join(draw.randbytes(76).translate(letters) + b"\r\n" for _ in range(LINES)) for _ in range(DIFFERENT_PIECES)
    ]
    count = -(-octets // len(different[0]))
    return [content(0), *(different[number % DIFFERENT_PIECES] for number in range(count))]


_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]] = {
    "open": _open,
    "closed": _closed,
    "large": _large,
}


async def _main(kind: str, settings: Mapping[str, Any]) -> None:
    print(json.dumps(await _KINDS[kind](settings)))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], json.load(sys.stdin)))
