"""What the next hops get of a stored message: its bytes as they are, and what they demand of a server."""

from collections.abc import AsyncIterator

from postern_edge.bodies.store import BodyStore
from postern_edge.messages import Entry
from postern_edge.outbound.transaction import Addressee, Parcel
from postern_edge.rules.dsn import header_section


async def parcel_of(entry: Entry, bodies: BodyStore) -> Parcel:
    """The message for a transaction; a large body stays in the store and is read piece by piece for each server."""
    message = entry.document
    large = entry.body is None and message["body"] == "gridfs"
    if not large and entry.body is None:
        entry.body = await bodies.read(message)
    body = None if large else entry.body

    def pieces() -> AsyncIterator[bytes]:
        return bodies.chunks(entry.message_id)

    utf8_headers = False
    if message["smtputf8"]:
        utf8_headers = not header_section(await content_head(entry, bodies)).isascii()
    return Parcel(
        sender=message["sender"],
        size=message["size"],
        is_eight_bit=message["body_type"] == "8BITMIME" if body is None else not body.isascii(),
        utf8_headers=utf8_headers,
        body=body,
        pieces=pieces if large else None,
        envid=message["envid"],
        ret=message["ret"],
    )


async def content_head(entry: Entry, bodies: BodyStore) -> bytes:
    """The message's beginning, at least its headers; all of it where it is small."""
    return entry.body if entry.body is not None else await bodies.head(entry.document)


def addressee(entry: Entry, index: int) -> Addressee:
    """A recipient with its wishes."""
    recipient = entry.document["recipients"][index]
    return Addressee(recipient["address"], tuple(recipient["notify"]), recipient["orcpt"])
