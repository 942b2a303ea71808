"""Which hosts a site may name (SPEC R1, R12): a host name or an address outside, and never this gateway itself.

A literal address is judged at once. A name is judged by what it resolves to, each time just before a connection is
made.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from postern_common.addresses import parse_domain
from postern_common.errors import Rejected
from postern_common.netguard import NetGuard

# RFC 1123 2.1: labels of letters, digits and hyphens; a single label is a name of the local network.
_LABELS: Final = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_WITH_PORT: Final = re.compile(r"(?:[^:\[\]]+|\[[^\]]*\]):[0-9]{1,5}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def parse_host(text: str, guard: NetGuard, own_mx: Collection[str], pointer: str) -> str:
    """The host in its stored form: an address as it is written shortest, a name as lower-case A-label."""
    name = text.strip().removesuffix(".")
    address = _address(name)
    host = address or _name(name, pointer)
    if host in own_mx:
        raise Rejected("own-mx", "This host is the gateway itself; mail would go in circles.", pointer=pointer)
    judged = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else address
    if judged is not None and not guard.permits(judged):
        message = (
            "This is not a public address: it lies in a private, reserved or documentation network, to which nothing "
            "is delivered from here."
        )
        raise Rejected("host-refused", message, pointer=pointer)
    return host


def _address(name: str) -> str | None:
    inner = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return str(ip_address(inner))
    except ValueError:
        return None


def _name(name: str, pointer: str) -> str:
    ascii_name = name.lower() if name.isascii() else parse_domain(name, pointer=pointer).ascii
    # Some resolvers read a last label in digits, decimal or hexadecimal, as an IPv4 address.
    if not _LABELS.fullmatch(ascii_name) or _NUMBER.fullmatch(ascii_name.rsplit(".", 1)[-1]):
        hint = " The port goes into `port`." if _WITH_PORT.fullmatch(ascii_name) else ""
        raise Rejected("invalid-host", f"This is neither an IP address nor a host name.{hint}", pointer=pointer)
    return ascii_name
