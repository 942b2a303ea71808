"""The PROXY protocol's header, by which a load balancer tells whose connection it hands on (proxy-protocol.txt of
HAProxy, versions 1 and 2).

aiosmtpd reads the header's fields; here is decided where it ends and whether it may be believed.
"""

from dataclasses import dataclass
from typing import Final

from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, V2_SIGNATURE, ProxyData, get_proxy

V1_SIGNATURE: Final = b"PROXY"
V1_LONGEST: Final = 107  # section 2.1, with its CR LF
V2_FIXED: Final = 16  # section 2.2: signature, version and command, family and protocol, length
V2_LONGEST: Final = V2_FIXED + 4096  # addresses take 216 at most, the rest are TLVs such as a certificate's name


class BadHeader(Exception):
    """What came is no PROXY header."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client that the balancer speaks for, in words of the socket's `peername`."""

    address: str
    port: int


def header_end(data: bytes) -> int | None:
    """How long the header at the begin of `data` is; None while more must come. Raises `BadHeader`."""
    if data.startswith(V1_SIGNATURE):
        end = data.find(b"\r\n", 0, V1_LONGEST) + 2
        if end >= 2:
            return end
        if len(data) >= V1_LONGEST:
            raise BadHeader("version 1 without an end")
        return None
    if V1_SIGNATURE.startswith(data[: len(V1_SIGNATURE)]):
        return None
    if not (V2_SIGNATURE.startswith(data[: len(V2_SIGNATURE)]) or data.startswith(V2_SIGNATURE)):
        raise BadHeader("no signature")
    if len(data) < V2_FIXED:
        return None
    end = V2_FIXED + int.from_bytes(data[14:16], "big")
    if end > V2_LONGEST:
        raise BadHeader("version 2 that is too long")
    return end if len(data) >= end else None


def parse(header: bytes) -> Client | None:
    """The client; None where the balancer speaks for itself, as in its health checks. Raises `BadHeader`."""
    found = _read(header)
    if not found.valid:
        raise BadHeader(found.error)
    if found.command == V2_CMD.LOCAL or found.family == AF.UNSPEC:
        return None  # version 1 has UNKNOWN for it
    if found.family not in {AF.INET, AF.INET6} or found.protocol != PROTO.STREAM:
        raise BadHeader("not a TCP connection")
    return Client(str(found.src_addr), int(found.src_port or 0))


class _Whole:
    """A header that is there already, for a reader that expects a connection."""

    def __init__(self, header: bytes) -> None:
        self._left = header

    async def read(self, n: int = -1) -> bytes:
        taken, self._left = self._left[:n], self._left[n:]
        return taken

    async def readexactly(self, n: int) -> bytes:
        return await self.read(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        return await self.read(self._left.index(separator) + len(separator))


def _read(header: bytes) -> ProxyData:
    """Have it read; nothing is waited for."""
    reading = get_proxy(_Whole(header))
    try:
        reading.send(None)
    except StopIteration as done:
        found: ProxyData = done.value
        return found
    reading.close()
    raise BadHeader("shorter than it says")
