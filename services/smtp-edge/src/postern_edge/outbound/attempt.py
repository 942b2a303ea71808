"""An attempt to hand one message to one of several servers, for recipients that go the same way (SPEC R3).

Servers are tried by priority, equal ones in turn. A clear word on a recipient settles it; what a server could not do
now, the next one is asked to do for the recipients that are left. Once the body was sent without a final word, no
other server is asked: the message may have been taken (RFC 1047).
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from postern_edge.adapters.smtp import Unusable
from postern_edge.outbound.servers import LeftOut, Servers
from postern_edge.outbound.transaction import Addressee, Exchange, Parcel, exchange
from postern_edge.rules.classify import Answer, Stage, is_servers_fault
from postern_edge.rules.conclusion import Tried
from postern_edge.rules.route import Server, in_order

Provide = Callable[[], Awaitable[Parcel]]
NO_SERVER = Answer(Stage.ROUTE, 0, "no mail server is configured")
ALL_LEFT_OUT = Answer(Stage.CONNECT, 0, "the mail server did not answer lately; it is left out for a while")


@dataclass(slots=True)
class _Open:
    """A recipient that is not settled yet, with the best answer so far."""

    index: int
    addressee: Addressee
    last: Tried | None = field(default=None)


async def attempt(
    servers: Servers, choice: Sequence[Server], parcel: Provide, recipients: Sequence[tuple[int, Addressee]]
) -> list[Tried]:
    """Try to deliver to all `recipients` (with their places in the message); one result for each.

    `parcel` is asked for the message once a connection is there, so that none is held in memory while it stands in
    line.
    """
    left = [_Open(index, addressee) for index, addressee in recipients]
    settled: list[Tried] = []
    for server in in_order(choice, random.shuffle):
        if servers.is_left_out(server):
            continue
        try:
            came = await _exchange(servers, server, parcel, [one.addressee for one in left])
        except LeftOut:
            continue
        except Unusable as error:
            came = Exchange([error.answer] * len(left), passes_dsn_on=False)
        still_left = []
        for one, given in zip(left, came.answers, strict=True):
            one.last = Tried(one.index, given, server.label, came.passes_dsn_on)
            if is_servers_fault(given) or given.permanent:
                still_left.append(one)
            else:
                settled.append(one.last)
        left = still_left
        if not left or any(given.stage is Stage.END and given.code == 0 for given in came.answers):
            break
    return settled + [one.last or _untried(one.index, choice) for one in left]


def _untried(index: int, choice: Sequence[Server]) -> Tried:
    if not choice:
        return Tried(index, NO_SERVER, "")
    return Tried(index, ALL_LEFT_OUT, choice[0].label)


async def _exchange(servers: Servers, server: Server, parcel: Provide, addressees: Sequence[Addressee]) -> Exchange:
    """One transaction; a connection that had gone stale is replaced, once, without a word."""
    was_used = False
    try:
        async with servers.use(server) as connection:
            was_used = connection.used
            return await exchange(connection, await parcel(), addressees)
    except Unusable:
        if not was_used:
            raise
    async with servers.use(server, fresh=True) as connection:
        return await exchange(connection, await parcel(), addressees)
