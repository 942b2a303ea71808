"""Plays scripts against the inbound port and its reference model, and makes a script that fails as small as it gets."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from tests.servers.edge_model import Model
from tests.servers.edge_scripts import script
from tests.servers.edge_wire import Script, Wire

SECONDS = 10.0  # for one script: longer is a hang


@dataclass(slots=True)
class Counts:
    """What a run of scripts came to."""

    scripts: int = 0
    octets: int = 0
    messages: int = 0
    said: set[str] = field(default_factory=set)


async def play(one: Script) -> Counts:
    """Play a script; raises when the port does what the model does not allow, hangs, or leaves something behind."""
    wire, model = Wire(one), Model(one)
    async with asyncio.timeout(SECONDS):
        steps = await wire.play()
    for step in steps:
        model.step(step)
    model.check_stored(wire.stored())
    left = (len(wire.port.sessions), wire.port.taken, wire.port.budget.used)
    assert left == (0, 0, 0), f"sessions, connections and bytes left behind: {left}"
    assert all(upload.aborted or upload.chunks for upload in wire.spool.uploads)
    octets = sum(len(event) for event in one.events if isinstance(event, bytes))
    return Counts(1, octets, len(wire.spool.messages), model.said)


async def play_all(first: int, count: int) -> Counts:
    """Play the scripts of these numbers; the first that fails is told with its smallest form."""
    total = Counts()
    for number in range(first, first + count):
        one = script(number)
        try:
            came = await play(one)
        except Exception as error:
            small, reason = await smallest(one, error)
            raise AssertionError(f"script {number}: {reason}\n{small}") from error
        total.scripts += 1
        total.octets += came.octets
        total.messages += came.messages
        total.said |= came.said
    return total


async def smallest(one: Script, error: Exception, tries: int = 2000) -> tuple[Script, Exception]:
    """The script without all that it fails without too, and why it fails then."""
    left = tries
    while left:
        for smaller in islice(_smaller(one), left):
            left -= 1
            try:
                await play(smaller)
            except Exception as again:  # noqa: BLE001 - whatever it is, it is the failure that is looked for
                one, error = smaller, again
                break
        else:
            break
    return one, error


def _smaller(one: Script) -> Iterator[Script]:
    """The script less an event, or with two pieces in one, or with a piece halved."""
    events = one.events
    for place in range(len(events)):
        yield replace(one, events=events[:place] + events[place + 1 :])
    for place in range(len(events) - 1):
        first, second = events[place : place + 2]
        if isinstance(first, bytes) and isinstance(second, bytes):
            yield replace(one, events=(*events[:place], first + second, *events[place + 2 :]))
    for place, event in enumerate(events):
        if isinstance(event, bytes) and len(event) > 1:
            half = len(event) // 2
            for part in (event[:half], event[half:]):
                yield replace(one, events=(*events[:place], part, *events[place + 1 :]))
