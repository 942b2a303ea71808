"""One question to one server, and what its reply means (RFC 1035, RFC 6891).

UDP with EDNS and a payload of 1232 octets, sent again if the first gets lost, TCP where the answer is truncated.
Every way of failing becomes a `Status`; nothing is raised for what a server or the network does.
"""

import asyncio
import errno
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from postern_dns.rules.answers import Status
from postern_dns.rules.ownership import text_of

Kind = dns.rdatatype.RdataType

PAYLOAD: Final = 1232
_NO_WAY: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EACCES, errno.EPERM}
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is asked. `recursive` asks it to find the answer elsewhere, as a resolver does."""

    address: str
    port: int
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The meaning of one reply, with the message where there is one."""

    status: Status
    records: tuple[str, ...] = ()
    target: dns.name.Name | None = None
    message: dns.message.Message | None = None

    @property
    def has_authority(self) -> bool:
        """True if the server answered for the zone itself, or asked others on our behalf."""
        return self.message is not None and bool(self.message.flags & (dns.flags.AA | dns.flags.RA))

    def kept_for(self) -> timedelta:
        """How long a cache may keep this reply: a negative one for its SOA minimum (RFC 2308 5)."""
        if self.message is None:
            return timedelta()
        seconds = [rrset.ttl for rrset in self.message.answer]
        soas = [rrset for rrset in self.message.authority if rrset.rdtype == dns.rdatatype.SOA]
        seconds += [min(rrset.ttl, *(soa.minimum for soa in rrset)) for rrset in soas]
        return timedelta(seconds=min(seconds, default=0))


async def ask(server: Endpoint, name: dns.name.Name, kind: Kind, seconds: float) -> Reply:
    """Ask `server`; answers within about `seconds`, twice that where TCP is needed."""
    reply = await _attempt(server, name, kind, seconds / 2)
    if reply.status is Status.TIMEOUT:
        reply = await _attempt(server, name, kind, seconds / 2)
    if reply.message is not None and reply.message.rcode() in {dns.rcode.FORMERR, dns.rcode.BADVERS}:
        reply = await _attempt(server, name, kind, seconds / 2, edns=False)  # RFC 6891 6.2.2
    return reply


async def _attempt(server: Endpoint, name: dns.name.Name, kind: Kind, seconds: float, *, edns: bool = True) -> Reply:
    question = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=PAYLOAD)
    if not server.recursive:
        question.flags &= ~dns.flags.RD
    try:
        # The second bound holds also where a server drips an answer over TCP.
        async with asyncio.timeout(seconds * 2):
            message, _ = await dns.asyncquery.udp_with_fallback(
                question, server.address, timeout=seconds, port=server.port, ignore_unexpected=True, ignore_errors=True
            )
    except TimeoutError:
        return Reply(Status.TIMEOUT)
    except OSError as error:
        return Reply(Status.UNREACHABLE if error.errno in _NO_WAY else Status.TIMEOUT)
    except dns.exception.Timeout:
        return Reply(Status.TIMEOUT)
    except (dns.exception.DNSException, EOFError):
        return Reply(Status.SERVFAIL)
    return _read(message, name, kind, recursive=server.recursive)


def _read(message: dns.message.Message, name: dns.name.Name, kind: Kind, *, recursive: bool) -> Reply:
    code = message.rcode()
    if code == dns.rcode.REFUSED:
        return Reply(Status.REFUSED, message=message)
    if code not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return Reply(Status.SERVFAIL, message=message)
    answer = message.get_rrset(message.answer, name, dns.rdataclass.IN, kind)
    if answer is not None:
        return Reply(Status.RECORDS, tuple(_text(rdata) for rdata in answer), message=message)
    alias = message.get_rrset(message.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
    if alias is not None:
        return Reply(Status.CNAME, target=alias[0].target, message=message)
    if code == dns.rcode.NXDOMAIN:
        return Reply(Status.NXDOMAIN, message=message)
    if _is_referral(message, recursive=recursive):
        return Reply(Status.LAME, message=message)
    return Reply(Status.NO_DATA, message=message)


def _is_referral(message: dns.message.Message, *, recursive: bool) -> bool:
    """A server that is not responsible for the name: no authority, no SOA, at most other servers' names."""
    if message.flags & dns.flags.AA or (recursive and message.flags & dns.flags.RA):
        return False
    return not any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)


def _text(rdata: dns.rdata.Rdata) -> str:
    if isinstance(rdata, TXT):
        return text_of(rdata.strings)
    if isinstance(rdata, MX):
        exchange = rdata.exchange
        return f"{rdata.preference} {exchange.to_text(omit_final_dot=exchange != dns.name.root).lower()}"
    return rdata.to_text()
