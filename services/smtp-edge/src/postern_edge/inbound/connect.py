"""Which connections are taken: so many in all, so many from one address, none while the service stops."""

from dataclasses import dataclass
from ipaddress import IPv6Address

from postern_edge import replies
from postern_edge.replies import Reply


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections may be open at once."""

    total: int = 2000
    per_address: int = 250  # an IPv6 client counts by its /64


def counted_as(peer_ip: str) -> str:
    """The address, or for IPv6 the network of one subscriber, under which connections are counted."""
    if ":" not in peer_ip:
        return peer_ip
    address = IPv6Address(peer_ip.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.exploded[:19]


def admit(limits: ConnectionLimits, total: int, from_address: int, *, draining: bool) -> Reply | None:
    """The reply that refuses one more connection, or None; the counts do not hold it yet."""
    if draining:
        return replies.GOING_DOWN
    if from_address >= limits.per_address:
        return replies.TOO_MANY_FROM_ADDRESS  # said first: nobody else makes way for one more from there
    if total >= limits.total:
        return replies.TOO_MANY_CONNECTIONS
    return None
