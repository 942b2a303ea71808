"""Publishing in batches: what the channel remembers of messages, and how long it takes at most."""

import asyncio
from collections import OrderedDict
from typing import Any

import pytest
from pamqp import commands

from postern_common.wire import Outgoing, publish_all


class Channel:
    """As much of aiormq's channel as publishing uses; nobody writes what is put, and tests confirm."""

    def __init__(self, room=0):
        self.number, self.delivery_tag, self.max_content_size = 1, 0, 4000
        self.confirmations, self.message_id_delivery_tag = OrderedDict(), {}
        self.write_queue, self.lock = asyncio.Queue(room), asyncio.Lock()

    def create_future(self):
        self.last_future = asyncio.get_running_loop().create_future()
        return self.last_future


def message(name):
    return Outgoing(b"{}", "Event", commands.Basic.Properties(message_id=name), mandatory=True)


async def begin(channel, *names, seconds=5.0):
    publishing = asyncio.create_task(publish_all(channel, "events", [message(name) for name in names], seconds))
    await asyncio.sleep(0.01)
    return publishing


@pytest.mark.spec("V3")
async def test_a_message_that_is_published_twice_at_once_is_known_by_its_later_number_until_that_is_confirmed():
    channel = Channel()
    first, second = await begin(channel, "a"), await begin(channel, "a")
    channel.confirmations.pop(1).set_result(None)
    assert await first == [None]
    assert channel.message_id_delivery_tag == {"a": 2}  # else the second one's return would be overlooked
    channel.confirmations.pop(2).set_exception(ConnectionError())
    assert [type(fault) for fault in await second] == [ConnectionError]
    assert channel.message_id_delivery_tag == {}


@pytest.mark.spec("V3")
async def test_what_a_closing_channel_has_not_confirmed_counts_as_not_published():
    channel = Channel()
    publishing = await begin(channel, "a", "b", "c")
    channel.confirmations.pop(2).set_result(None)
    channel.confirmations.pop(3).set_exception(ValueError())
    channel.last_future.set_exception(ConnectionError())
    assert [type(fault) for fault in await publishing] == [ConnectionError, type(None), ValueError]
    assert channel.confirmations.pop(1).done()  # a confirm that comes after all is ignored


@pytest.mark.spec("V3")
async def test_nothing_is_remembered_of_messages_that_nobody_waits_for_any_more():
    channel = Channel()
    publishing = await begin(channel, "a", "b")
    publishing.cancel()
    await asyncio.wait([publishing])
    assert (publishing.cancelled(), channel.message_id_delivery_tag) == (True, {})


@pytest.mark.spec("V3")
async def test_waiting_for_room_and_for_the_confirms_takes_no_longer_than_allowed_together():
    channel = Channel(room=1)
    channel.write_queue.put_nowait(None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    publishing = await begin(channel, "a", seconds=0.6)
    await asyncio.sleep(0.4)
    channel.write_queue.get_nowait()
    assert [type(fault) for fault in await publishing] == [TimeoutError]
    assert loop.time() - began < 0.8


@pytest.mark.spec("V3")
async def test_numbers_of_messages_that_were_not_sent_are_used_again():
    channel: Any = Channel(room=1)
    channel.write_queue.put_nowait(None)
    with pytest.raises(TimeoutError):
        await publish_all(channel, "events", [message("a"), message("b")], 0.05)
    assert (channel.delivery_tag, channel.confirmations, channel.message_id_delivery_tag) == (0, {}, {})
