"""Looking at parked events, and giving them back to their consumer once the cause is mended.

    python -m postern_common.deadletters list directory-sync
    python -m postern_common.deadletters replay directory-sync

It reads `AMQP_URL`. An event leaves the dead-letter queue only after the broker confirmed its return to the service's
queue; consumers are idempotent, so that a replay that is cut off is simply run again.
"""

import argparse
import asyncio
import os
import sys
from typing import Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from postern_common import topology
from postern_common.bus import CONFIRM_SECONDS, CONNECT_SECONDS
from postern_common.envelope import Envelope
from postern_common.errors import Rejected
from postern_common.events import CATALOGUE

EX_USAGE: Final = 64
EX_UNAVAILABLE: Final = 69


async def listing(url: str, service: str, limit: int) -> list[str]:
    """One line for each parked event: when, which, whose, why. The events stay."""
    lines: list[str] = []
    async with await aio_pika.connect(url, timeout=CONNECT_SECONDS) as connection:
        # Closing the connection without acknowledging puts everything back.
        queue = await _dead_queue(connection, service)
        while len(lines) < limit and (message := await _take(queue)) is not None:
            lines.append(describe(message))
    return lines


async def replay(url: str, service: str, limit: int) -> int:
    """Give up to `limit` parked events back to `service`; how many."""
    moved = 0
    async with await aio_pika.connect(url, timeout=CONNECT_SECONDS) as connection:
        queue = await _dead_queue(connection, service)
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        while moved < limit and (message := await _take(queue)) is not None:
            copy = aio_pika.Message(
                message.body,
                content_type=message.content_type,
                message_id=message.message_id,
                type=message.type,
                app_id=message.app_id,
                timestamp=message.timestamp,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            target = topology.main_queue(service)
            await channel.default_exchange.publish(copy, target, mandatory=True, timeout=CONFIRM_SECONDS)
            await message.ack()
            moved += 1
    return moved


def describe(message: AbstractIncomingMessage) -> str:
    """A parked event in one line."""
    stated = message.headers.get(topology.REASON_HEADER)
    reason = stated if isinstance(stated, str) else "delivery limit reached"
    try:
        envelope = Envelope.parse(message.body)
    except Rejected:
        return f"{message.timestamp or '-'}  (not an event, {len(message.body)} octets)  {reason}"
    return f"{envelope.time.isoformat()}  {envelope.name}  {envelope.id}  {envelope.customer_id}  {reason}"


async def _dead_queue(connection: aio_pika.abc.AbstractConnection, service: str) -> AbstractQueue:
    channel = await connection.channel()
    return await channel.declare_queue(topology.dead_queue(service), passive=True)


async def _take(queue: AbstractQueue) -> AbstractIncomingMessage | None:
    return await queue.get(timeout=CONFIRM_SECONDS, fail=False)


def main() -> int:
    """Run the command; its exit status."""
    services = sorted({service for kind in CATALOGUE.values() for service in kind.consumers})
    parser = argparse.ArgumentParser(prog="postern_common.deadletters", description="List or replay parked events.")
    parser.add_argument("command", choices=["list", "replay"])
    parser.add_argument("service", choices=services)
    parser.add_argument("--limit", type=int, default=1000, help="at most this many (default 1000)")
    arguments = parser.parse_args()
    url = os.environ.get("AMQP_URL", "")
    if not url:
        print("AMQP_URL is not set", file=sys.stderr)
        return EX_USAGE
    try:
        if arguments.command == "list":
            lines = asyncio.run(listing(url, arguments.service, arguments.limit))
            print("\n".join(lines) if lines else "nothing is parked")
        else:
            print(f"{asyncio.run(replay(url, arguments.service, arguments.limit))} events given back")
    except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
        print(f"the broker cannot be used: {type(error).__name__}", file=sys.stderr)
        return EX_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
