"""Publishing in batches on a channel with confirms: frames of many messages in one write, each confirmed by itself.

aiormq's `basic_publish` costs a lock, a timeout and a queue item for each message, which is most of what an event costs
the process that says 250. The same public parts of its channel (`lock`, `delivery_tag`, `confirmations`, `write_queue`)
are used here once a batch; what is a negative acknowledgement or a returned message there is one here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    body: bytes
    routing_key: str
    properties: commands.Basic.Properties
    mandatory: bool


async def publish_all(
    channel: Channel, exchange: str, messages: Sequence[Outgoing], seconds: float
) -> list[BaseException | None]:
    """Publish in order and wait for all confirms; for each what was wrong, None where the broker has it.

    What is not confirmed within `seconds` counts as not published, which it may be all the same. Raises what the
    channel raises where nothing was sent.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with asyncio.timeout_at(deadline), channel.lock:
        waiting = await _send(channel, exchange, messages)
    try:
        await asyncio.wait(waiting.values(), timeout=max(0.0, deadline - loop.time()))
    finally:
        _forget(channel, messages, waiting)
    return [_fault(confirmation) for confirmation in waiting.values()]


async def _send(channel: Channel, exchange: str, messages: Sequence[Outgoing]) -> dict[int, asyncio.Future[object]]:
    payload = b"".join(part for message in messages for part in _frames(channel, exchange, message))
    first = channel.delivery_tag
    waiting: dict[int, asyncio.Future[object]] = {}
    for tag, message in enumerate(messages, start=first + 1):
        waiting[tag] = channel.confirmations[tag] = channel.create_future()
        channel.message_id_delivery_tag[str(message.properties.message_id)] = tag  # by which a returned one is known
    channel.delivery_tag += len(messages)
    try:
        await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
    except BaseException:
        # The broker has seen none of them: the numbers are used again.
        channel.delivery_tag = first
        _forget(channel, messages, waiting)
        for tag, confirmation in waiting.items():
            channel.confirmations.pop(tag, None)
            confirmation.cancel()
        raise
    return waiting


def _forget(channel: Channel, messages: Sequence[Outgoing], tags: Iterable[int]) -> None:
    """A message that somebody published again meanwhile is still known by its later number."""
    for tag, message in zip(tags, messages, strict=True):
        message_id = str(message.properties.message_id)
        if channel.message_id_delivery_tag.get(message_id) == tag:
            del channel.message_id_delivery_tag[message_id]


def _frames(channel: Channel, exchange: str, message: Outgoing) -> list[bytes]:
    number = int(channel.number)
    header = ContentHeader(properties=message.properties, body_size=len(message.body))
    size = int(channel.max_content_size)
    pieces = [message.body[at : at + size] for at in range(0, len(message.body), size)]
    return [
        _publish_frame(number, exchange, message.routing_key, message.mandatory),
        frame.marshal(header, number),
        *(frame.marshal(ContentBody(piece), number) for piece in pieces),
    ]


@lru_cache(maxsize=512)
def _publish_frame(number: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Few events and few channels: each frame is made once."""
    publish = commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return frame.marshal(publish, number)


def _fault(confirmation: asyncio.Future[object]) -> BaseException | None:
    if not confirmation.done():
        confirmation.cancel()
        return TimeoutError()
    if confirmation.cancelled():
        return asyncio.CancelledError()
    return confirmation.exception()
