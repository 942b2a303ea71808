"""An attempt to hand one message to one of several servers, for recipients that go the same way (SPEC R3).

Servers are tried by priority, equal ones in turn. A clear word on a recipient settles it; what a server could not do
now, the next one is asked to do for the recipients that are left. Once the body was sent without a final word, no
other server is asked: the message may have been taken (RFC 1047). That a server cannot carry the message is final
only when every server said so. What is settled stays so, whatever goes wrong afterwards: else it would go out twice.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from postern_edge.adapters.smtp import Unusable
from postern_edge.outbound.servers import ForCustomer, LeftOut
from postern_edge.outbound.transaction import Addressee, Exchange, Parcel, exchange
from postern_edge.rules.classify import Answer, Stage, is_servers_fault
from postern_edge.rules.conclusion import Tried
from postern_edge.rules.route import Server, in_order

Provide = Callable[[], Awaitable[Parcel]]
NO_SERVER: Final = Answer(Stage.ROUTE, 0, "no mail server is configured")
ALL_LEFT_OUT: Final = Answer(Stage.CONNECT, 0, "the mail server did not answer lately; it is left out for a while")
IN_ONE_TRANSACTION: Final = 100  # recipients; RFC 5321 4.5.3.1.8: every server takes so many

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Open:
    """A recipient that is not settled yet, with the best answer so far."""

    index: int
    addressee: Addressee
    last: Tried | None = field(default=None)

    def hear(self, tried: Tried) -> None:
        """Keep an answer; "not now" of one server outweighs "I cannot carry this" of another."""
        if self.last is None or not tried.answer.permanent or self.last.answer.permanent:
            self.last = tried


async def attempt(
    servers: ForCustomer, choice: Sequence[Server], parcel: Provide, recipients: Sequence[tuple[int, Addressee]]
) -> list[Tried]:
    """Try to deliver to all `recipients` (with their places in the message); one result for each.

    `parcel` is asked for the message once a connection is there, so that none is held in memory while it stands in
    line.
    """
    settled: list[Tried] = []
    for start in range(0, len(recipients), IN_ONE_TRANSACTION):
        left = [_Open(index, addressee) for index, addressee in recipients[start : start + IN_ONE_TRANSACTION]]
        try:
            await _offer(servers, choice, parcel, left, settled)
        except (Exception, asyncio.CancelledError) as error:
            if not settled:
                raise
            log.warning("attempt_broken_off", error=type(error).__name__)
            return settled  # the others stay due
        settled += [one.last or Tried(one.index, NO_SERVER, "") for one in left]
    return settled


async def _offer(
    servers: ForCustomer, choice: Sequence[Server], parcel: Provide, left: list[_Open], settled: list[Tried]
) -> None:
    """Offer the message to one server after the other; who is settled moves from `left` to `settled`."""
    for server in in_order(choice, random.shuffle):
        if servers.is_left_out(server):
            _hear_of_absence(left, server)
            continue
        try:
            came = await _exchange(servers, server, parcel, [one.addressee for one in left])
        except LeftOut:
            _hear_of_absence(left, server)
            continue
        except Unusable as error:
            came = Exchange([error.answer] * len(left), passes_dsn_on=False)
        for one, given in zip(tuple(left), came.answers, strict=True):
            tried = Tried(one.index, given, server.label, came.passes_dsn_on, came.tls)
            if is_servers_fault(given) or given.permanent:
                one.hear(tried)
            else:
                settled.append(tried)
                left.remove(one)
        if not left or any(given.stage is Stage.END and given.code == 0 for given in came.answers):
            return


def _hear_of_absence(left: Sequence[_Open], server: Server) -> None:
    """A server that is left out now may yet carry what another cannot."""
    for one in left:
        if one.last is None or one.last.answer.permanent:
            one.hear(Tried(one.index, ALL_LEFT_OUT, server.label))


async def _exchange(servers: ForCustomer, server: Server, parcel: Provide, addressees: Sequence[Addressee]) -> Exchange:
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
