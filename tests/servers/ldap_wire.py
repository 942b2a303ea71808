"""An LDAP server at the level of the wire: it says exactly what a test has it say, in BER over TCP.

For what real servers do that cannot be had here: ranges of members, odd domain controllers, referrals, answers that
stop, drip, or are none.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PAGED_RESULTS = b"1.2.840.113556.1.4.319"
Attributes = Mapping[str, Sequence[bytes | str]]


@dataclass(frozen=True)
class Search:
    """A search as it was asked; `cookie` None without paging; `number` counts the searches of all connections."""

    number: int
    base: str
    is_base: bool
    filter: bytes
    attributes: tuple[str, ...]
    cookie: bytes | None
    size: int


@dataclass(frozen=True)
class Entry:
    """A searchResEntry."""

    dn: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class Referral:
    """A searchResRef."""

    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """A searchResDone; `cookie` None leaves the control out."""

    code: int = 0
    cookie: bytes | None = b""
    diagnostic: str = ""
    referrals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Octets:
    """Bytes as they are; the connection stays."""

    data: bytes


class Close:
    """Hang up."""


class Hang:
    """Say nothing more, and stay."""


Answer = Entry | Referral | Done | Octets | Close | Hang
Behaviour = Callable[[Search], Iterable[Answer]]


def tlv(tag: int, content: bytes) -> bytes:
    """An element with its length in the shortest form."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def parts(content: bytes) -> list[tuple[int, bytes]]:
    """The elements one after another, each as tag and content."""
    found, at = [], 0
    while at < len(content):
        tag, size, start = content[at], content[at + 1], at + 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(content[at + 2 : start], "big")
        found.append((tag, content[start : start + size]))
        at = start + size
    return found


def _text(value: bytes | str) -> bytes:
    return tlv(0x04, value if isinstance(value, bytes) else value.encode())


def message(number: int, body: bytes, controls: bytes = b"") -> bytes:
    """An LDAPMessage."""
    return tlv(0x30, tlv(0x02, number.to_bytes(4, "big")) + body + controls)


def entry(number: int, dn: str, attributes: Attributes) -> bytes:
    """A searchResEntry in its message."""
    listed = b"".join(
        tlv(0x30, _text(name) + tlv(0x31, b"".join(map(_text, values)))) for name, values in attributes.items()
    )
    return message(number, tlv(0x64, _text(dn) + tlv(0x30, listed)))


def result(number: int, kind: int, done: Done) -> bytes:
    """What ends an operation, in its message."""
    content = tlv(0x0A, bytes([done.code])) + _text("") + _text(done.diagnostic)
    if done.referrals:
        content += tlv(0xA3, b"".join(map(_text, done.referrals)))
    controls = b""
    if kind == 0x65 and done.cookie is not None:
        value = tlv(0x30, tlv(0x02, b"\0") + _text(done.cookie))
        controls = tlv(0xA0, tlv(0x30, _text(PAGED_RESULTS) + _text(value)))
    return message(number, tlv(kind, content), controls)


class LdapWire:
    """The server; `behaviour` answers searches. `bind` is how everybody's sign-in ends, None with silence. It knows no
    TLS: `start_tls` is what it answers to that, with `injected` right behind it.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        bind: Done | None = Done(),
        start_tls: Done = Done(2),
        injected: bytes = b"",
    ) -> None:
        self._behaviour = behaviour
        self._bind = bind
        self._start_tls = start_tls
        self._injected = injected
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.searches: list[Search] = []
        self.signed_in: list[tuple[str, str]] = []
        self._connections: list[socket.socket] = []

    @contextlib.contextmanager
    def running(self) -> Iterator["LdapWire"]:
        """Serve until the end of the block."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            for one in (self._listener, *self._connections):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            while True:
                head = lines.read(2)
                if len(head) < 2 or head[0] != 0x30:
                    return
                more = lines.read(head[1] & 0x7F) if head[1] & 0x80 else b""
                size = int.from_bytes(more, "big") if more else head[1]
                content = lines.read(size)
                if len(content) < size or not self._answer(connection, parts(content)):
                    return

    def _answer(self, connection: socket.socket, asked: list[tuple[int, bytes]]) -> bool:
        number = int.from_bytes(asked[0][1], "big")
        kind, content = asked[1]
        if kind == 0x60:
            _, name, secret = parts(content)
            self.signed_in.append((name[1].decode(), secret[1].decode()))
            if self._bind is not None:
                connection.sendall(result(number, 0x61, self._bind))
            return True
        if kind == 0x77:
            connection.sendall(result(number, 0x78, self._start_tls) + self._injected)
            return True
        return kind == 0x63 and self._search(connection, number, asked)

    def _search(self, connection: socket.socket, number: int, asked: list[tuple[int, bytes]]) -> bool:
        base, scope, _deref, _size, _time, _types, wanted, attributes = parts(asked[1][1])
        cookie, size = _paging(asked[2][1] if len(asked) > 2 else b"")
        search = Search(
            number=len(self.searches),
            base=base[1].decode(),
            is_base=scope[1] == b"\0",
            filter=wanted[1],
            attributes=tuple(name.decode() for _, name in parts(attributes[1])),
            cookie=cookie,
            size=size,
        )
        self.searches.append(search)
        for answer in self._behaviour(search):
            if isinstance(answer, Entry):
                connection.sendall(entry(number, answer.dn, answer.attributes))
            elif isinstance(answer, Referral):
                connection.sendall(message(number, tlv(0x73, b"".join(map(_text, answer.addresses)))))
            elif isinstance(answer, Octets):
                connection.sendall(answer.data)
            elif isinstance(answer, Done):
                connection.sendall(result(number, 0x65, answer))
            else:
                return not isinstance(answer, Close)
        return True


def _paging(controls: bytes) -> tuple[bytes | None, int]:
    for _, control in parts(controls):
        fields = parts(control)
        if fields[0][1] == PAGED_RESULTS:
            size, cookie = parts(parts(fields[-1][1])[0][1])
            return cookie[1], int.from_bytes(size[1], "big")
    return None, 0


def settings(port: int, **fields: Any) -> Any:
    """How a customer would enter it: Active Directory without encryption."""
    return {
        "connection": "direct", "preset": "ad", "host": "127.0.0.1", "port": port, "second_host": None,
        "security": "none", "verify_certificate": True, "ca_certificates": None, "fingerprint": None,
        "user": "reader@demo.test", "password": None, "base_dn": "DC=demo,DC=test", "user_filter": "",
        "group_filter": "", "attributes": {}, "primary_from_upn": False, "page_size": 500,
    } | fields  # fmt: skip
