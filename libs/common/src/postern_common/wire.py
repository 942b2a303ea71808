"""Publishing in batches on a channel with confirms: frames of many messages in one write, each confirmed by itself.

aiormq's `basic_publish` costs a lock, a timeout and a queue item for each message, which is most of what an event costs
the process that says 250. The same public parts of its channel (`lock`, `delivery_tag`, `confirmations`, `write_queue`)
are used here once a batch; what is a negative acknowledgement or a returned message there is one here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

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


class _Batch:
    """The confirms of a batch: how many are missing, and when that is over."""

    def __init__(self, channel: Channel, missing: int) -> None:
        self.over: asyncio.Future[object] = channel.create_future()  # the channel fails it when it closes
        self._missing = missing

    def settle(self) -> None:
        """One confirm less is missing."""
        self._missing -= 1
        if not self._missing and not self.over.done():
            self.over.set_result(None)

    @property
    def failure(self) -> BaseException:
        """What is wrong with those that are missing still."""
        if not self.over.done():
            return TimeoutError()
        return asyncio.CancelledError() if self.over.cancelled() else self.over.exception() or TimeoutError()


class _Confirm:
    """What the channel takes for the future of one message. A real one costs more than all else of a confirm."""

    __slots__ = ("_batch", "_settled", "fault")

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._settled = False
        self.fault: BaseException | None = None

    def done(self) -> bool:
        return self._settled

    def cancelled(self) -> bool:
        return self._settled

    def set_result(self, _frame: object) -> None:
        self._settled = True
        self._batch.settle()

    def set_exception(self, fault: BaseException) -> None:
        self.fault = fault
        self.set_result(None)

    def give_up(self) -> BaseException | None:
        """What was wrong, or is by now; what comes afterwards is ignored."""
        if not self._settled:
            self._settled = True
            self.fault = self._batch.failure
        return self.fault


async def publish_all(
    channel: Channel, exchange: str, messages: Sequence[Outgoing], seconds: float
) -> list[BaseException | None]:
    """Publish in order and wait for all confirms; for each what was wrong, None where the broker has it.

    What is not confirmed within `seconds` counts as not published, which it may be all the same. Raises what the
    channel raises where nothing was sent.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    batch = _Batch(channel, len(messages))
    try:
        async with asyncio.timeout_at(deadline), channel.lock:
            waiting = await _send(channel, exchange, messages, batch)
        try:
            await asyncio.wait({batch.over}, timeout=max(0.0, deadline - loop.time()))
        finally:
            _forget(channel, messages, waiting)
        return [confirm.give_up() for confirm in waiting.values()]
    finally:
        batch.over.cancel()


async def _send(channel: Channel, exchange: str, messages: Sequence[Outgoing], batch: _Batch) -> dict[int, _Confirm]:
    payload = b"".join(part for message in messages for part in _frames(channel, exchange, message))
    first = channel.delivery_tag
    confirmations = cast(dict[int, Any], channel.confirmations)
    waiting: dict[int, _Confirm] = {}
    for tag, message in enumerate(messages, start=first + 1):
        waiting[tag] = confirmations[tag] = _Confirm(batch)
        channel.message_id_delivery_tag[str(message.properties.message_id)] = tag  # by which a returned one is known
    channel.delivery_tag += len(messages)
    try:
        await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
    except BaseException:
        # The broker has seen none of them: the numbers are used again.
        channel.delivery_tag = first
        _forget(channel, messages, waiting)
        for tag in waiting:
            confirmations.pop(tag, None)
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
