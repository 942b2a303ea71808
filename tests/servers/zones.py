"""Name servers with zones as a test writes them: several at one port of different loopback addresses, broken, silent.

Authoritative servers are all asked at one port. named listens only on addresses that an interface has, so a second one
runs at a port of its own and is lent an address such as 127.0.0.2 by `relay`.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from postern_local.files import write_private, write_text
from postern_local.process import Program

HEAD = "$TTL 2\n@ SOA ns1 hostmaster 1 600 60 86400 2\n"


@dataclass(frozen=True)
class ZoneServer:
    """A named with the given zones; a zone without text is configured but broken, which is SERVFAIL.

    `forward_to` makes it a caching resolver for zones of the server at the given port; with `trusted` (keys by zone, as
    `signed_zones.py` makes them) it validates, and calls other zones insecure.
    """

    directory: Path
    port: int
    zones: Mapping[str, str | None] = field(default_factory=dict)
    forward_to: Mapping[str, int] = field(default_factory=dict)
    trusted: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name among the processes."""
        return f"named-{self.port}"

    def program(self) -> Program:
        """named in the foreground."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = []
        for zone, text in self.zones.items():
            lines.append(f'zone "{zone}" {{ type primary; file "{zone}"; }};')
            if text is not None:
                write_text(self.directory / zone, f"$ORIGIN {zone}.\n{HEAD if 'SOA' not in text else ''}{text}\n")
        for zone, port in self.forward_to.items():
            forwarders = f"forwarders {{ 127.0.0.1 port {port}; }}"
            lines.append(f'zone "{zone}" {{ type forward; forward only; {forwarders}; }};')
        validates = "yes" if self.trusted else "no"
        options = f"""options {{
    directory "{self.directory}"; pid-file "named.pid"; session-keyfile "session.key";
    listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion {"yes" if self.forward_to else "no"}; dnssec-validation {validates}; empty-zones-enable no; notify no;
    check-names primary ignore;
}};
controls {{ }};
"""
        if self.trusted:
            keys = " ".join(f'"{zone}" static-key {key};' for zone, key in self.trusted.items())
            options += f"trust-anchors {{ {keys} }};\n"
        write_private(self.directory / "named.conf", options + "\n".join(lines) + "\n")
        argv = ("/usr/sbin/named", "-g", "-n", "1", "-U", "1", "-c", str(self.directory / "named.conf"))
        return Program(self.name, argv, cwd=self.directory, grace_seconds=5)

    def missing(self) -> str | None:
        """Ready when it answers for itself, which needs no other server."""
        question = dns.message.make_query("version.bind", dns.rdatatype.TXT, dns.rdataclass.CH)
        try:
            dns.query.udp(question, "127.0.0.1", timeout=1, port=self.port)
        except (OSError, dns.exception.DNSException) as error:
            return f"no answer ({type(error).__name__})"
        return None


@contextmanager
def silent_server(address: str, port: int) -> Iterator[list[bytes]]:
    """A server that takes questions and never answers; yields what it was asked."""
    asked: list[bytes] = []
    with _listening(address, port, asked.append):
        yield asked


@contextmanager
def relay(address: str, port: int, to_port: int, *, edns: bool = True, lossy: bool = False) -> Iterator[None]:
    """Answer at `address` and `port` (UDP) with what the server at `to_port` of 127.0.0.1 answers.

    Without `edns` it is an old server that calls EDNS a format error; a `lossy` one loses each question once.
    """
    lost: set[bytes] = set()

    def forward(question: bytes) -> bytes | None:
        message = dns.message.from_wire(question)
        key = message.question[0].to_text().encode()
        if lossy and key not in lost:
            lost.add(key)
            return None
        if not edns and message.edns >= 0:
            answer = dns.message.make_response(message)
            answer.use_edns(False)
            answer.set_rcode(dns.rcode.FORMERR)
            return answer.to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.settimeout(2)
            sending.sendto(question, ("127.0.0.1", to_port))
            try:
                return sending.recvfrom(4096)[0]
            except TimeoutError:
                return None

    with _listening(address, port, forward):
        yield


@contextmanager
def _listening(address: str, port: int, answer: Callable[[bytes], bytes | None]) -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((address, port))
        listening.settimeout(0.2)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    question, peer = listening.recvfrom(4096)
                except TimeoutError:
                    continue
                reply = answer(question)
                if reply is not None:
                    listening.sendto(reply, peer)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join(5)
