"""Hostile clients in a process of their own: `python -m tests.servers.attackers KIND HOST PORT RECIPIENT`.

Each kind keeps its number of connections open and opens closed ones again, at a bounded rate; the first line printed
says that all of them were tried once. They run until they are ended.
"""

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

PER_SECOND: Final = 300.0  # connections that are opened, over all of a kind
_random: Final = Random(1)


class Opened:
    """A connection of an attacker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def say(self, line: str) -> None:
        """A line, and whatever comes back."""
        await self.write(line.encode() + b"\r\n")
        await self._reader.read(4096)

    async def begin_data(self, recipient: str) -> None:
        await self._reader.read(4096)
        for line in ("EHLO slow.test", "MAIL FROM:<a@far.test>", f"RCPT TO:<{recipient}>", "DATA"):
            await self.say(line)

    async def drip(self, octet: bytes, seconds: float) -> None:
        """One octet at a time, until the server closes."""
        reading = asyncio.create_task(self._reader.read())
        while not reading.done():
            await self.write(octet)
            await asyncio.wait([reading], timeout=seconds)

    async def hold(self) -> None:
        """Nothing, until the server closes."""
        await self._reader.read()

    async def pour(self, data: bytes, seconds: float) -> None:
        """The same again and again, until the server closes."""
        reading = asyncio.create_task(self._reader.read())
        while not reading.done():
            await self.write(data)
            await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Kind:
    """So many connections, what each does, and from where it comes."""

    count: int
    act: Callable[[Opened, str], Awaitable[None]]
    addresses: Callable[[], str] = lambda: "127.0.0.66"


async def _slow_command(opened: Opened, recipient: str) -> None:
    await opened.drip(b"E", 1.0)


async def _slow_message(opened: Opened, recipient: str) -> None:
    await opened.begin_data(recipient)
    await opened.drip(b"x", 1.0)


async def _hold(opened: Opened, recipient: str) -> None:
    await opened.hold()


async def _endless_command(opened: Opened, recipient: str) -> None:
    await opened.pour(b"x" * 4096, 0.05)


async def _endless_line(opened: Opened, recipient: str) -> None:
    await opened.begin_data(recipient)
    await opened.pour(b"x" * 65536, 0.1)


async def _endless_header(opened: Opened, recipient: str) -> None:
    await opened.begin_data(recipient)
    await opened.pour(b"X-Header: endless\r\n" * 2000, 0.1)


def _anywhere() -> str:
    return f"127.{_random.randrange(1, 250)}.{_random.randrange(1, 250)}.{_random.randrange(1, 250)}"


def _some() -> str:
    return f"127.0.66.{_random.randrange(1, 9)}"


KINDS: Final = {
    "slow-commands": Kind(500, _slow_command, _some),
    "slow-messages": Kind(500, _slow_message, _some),
    "one-address": Kind(1000, _hold),
    "many-addresses": Kind(1000, _hold, _anywhere),
    "endless-commands": Kind(50, _endless_command),
    "endless-lines": Kind(20, _endless_line),
    "endless-headers": Kind(20, _endless_header),
}


@contextlib.asynccontextmanager
async def _opened(host: str, port: int, address: str) -> AsyncIterator[Opened]:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
    try:
        yield Opened(reader, writer)
    finally:
        writer.close()


async def _attack(kind: Kind, host: str, port: int, recipient: str) -> None:
    turn = asyncio.Lock()
    tried = 0

    async def attacker() -> None:
        nonlocal tried
        while True:
            async with turn:
                await asyncio.sleep(1 / PER_SECOND)
            tried += 1
            if tried == kind.count:
                print("all tried", flush=True)
            with contextlib.suppress(OSError, TimeoutError):
                async with _opened(host, port, kind.addresses()) as opened:
                    await kind.act(opened, recipient)

    async with asyncio.TaskGroup() as attackers:
        for _ in range(kind.count):
            attackers.create_task(attacker())


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand connections and some
    asyncio.run(_attack(KINDS[sys.argv[1]], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
