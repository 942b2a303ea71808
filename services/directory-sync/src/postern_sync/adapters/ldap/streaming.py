"""ldap3's connection, made to hand entries on as they arrive.

ldap3 keeps a whole page of decoded entries, reads as much as a server sends, and waits for as long as some octet comes
now and then. Here each entry goes to its taker and is forgotten, a message has a largest size, and waiting has an end.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import ldap3
from ldap3.core.results import RESULT_CODES
from ldap3.strategy.base import RESPONSE_COMPLETE, SESSION_TERMINATED_BY_SERVER
from ldap3.strategy.sync import SyncStrategy

from postern_sync.adapters.ldap import ber
from postern_sync.adapters.ldap.faults import GARBLED, LOST, SILENT, SLOW, TOO_LARGE, Fault, LdapFault
from postern_sync.adapters.ldap.pace import Pace

MAX_MESSAGE: Final = 64 * 1024 * 1024  # a group of half a million members
MAX_MESSAGES: Final = 2_000_000  # answers to one question
_CHUNK: Final = 256 * 1024
_KINDS: Final = {
    ber.BIND_RESPONSE: "bindResponse",
    ber.SEARCH_DONE: "searchResDone",
    ber.EXTENDED_RESPONSE: "extendedResp",
}


def _ignore(_thing: Any) -> None:
    return


class Streaming(SyncStrategy):
    """Reads the answers of one connection. `deadline` is the moment after which nothing is waited for, and `late` what
    is said then; `octets_left` is how much more of the present answer is taken, None for whatever comes.
    """

    def __init__(self, connection: "StreamingConnection") -> None:
        super().__init__(connection)
        self.on_entry: Callable[[ber.Object], None] = _ignore
        self.on_references: Callable[[list[str]], None] = _ignore
        self.deadline: float | None = None
        self.late: Fault = SILENT
        self.octets_left: int | None = None
        self._pace = Pace()
        self._last: ber.Result | None = None
        self._buffer = bytearray()

    @property
    def has_unread(self) -> bool:
        """Whether more came than was asked for; before encryption starts that is somebody else's work."""
        return bool(self._buffer)

    def forget(self) -> None:
        """Before a question: no earlier outcome is taken for its own."""
        self._last = None

    def outcome(self) -> ber.Result:
        """How the last question ended."""
        if self._last is None:
            raise LdapFault(GARBLED)
        return self._last

    def _get_response(self, message_id: int, timeout: float) -> Any:
        for _ in range(MAX_MESSAGES):
            data = self._message()
            if data is None:
                return SESSION_TERMINATED_BY_SERVER
            try:
                message = ber.parse(data)
                if message.number == 0:  # RFC 4511 4.4.1: the server says that it hangs up
                    return SESSION_TERMINATED_BY_SERVER
                if message.number != message_id:
                    raise LdapFault(GARBLED)
                if message.kind in _KINDS:
                    self._last = ber.result(message)
                    return [_as_ldap3(self._last, _KINDS[message.kind]), RESPONSE_COMPLETE]
                self._hand_on(message)
            except ber.Malformed:
                raise LdapFault(GARBLED) from None
        raise LdapFault(TOO_LARGE)

    def _hand_on(self, message: ber.Message) -> None:
        if message.kind == ber.SEARCH_ENTRY:
            self.on_entry(ber.entry(message))
        elif message.kind == ber.SEARCH_REFERENCE:
            self.on_references(ber.references(message))
        elif message.kind != ber.INTERMEDIATE:
            raise LdapFault(GARBLED)

    def _message(self) -> bytes | None:
        """The next message; None where the connection has ended."""
        while True:
            try:
                length = ber.length_of(self._buffer)
            except ber.Malformed:
                raise LdapFault(GARBLED) from None
            if length is not None and length > self._longest:
                raise LdapFault(TOO_LARGE)
            if length is not None and len(self._buffer) >= length:
                data = bytes(memoryview(self._buffer)[:length])
                del self._buffer[:length]
                if self.octets_left is not None:
                    self.octets_left -= length
                return data
            more = self._receive()
            if not more:
                return None
            self._buffer += more

    @property
    def _longest(self) -> int:
        return MAX_MESSAGE if self.octets_left is None else min(MAX_MESSAGE, self.octets_left)

    def _receive(self) -> bytes:
        connection = self.connection
        seconds, fault = self._patience()
        if seconds <= 0:
            raise LdapFault(fault)
        self._pace.waits()
        try:
            connection.socket.settimeout(seconds)
            more = bytes(connection.socket.recv(_CHUNK))
        except TimeoutError:
            raise LdapFault(fault) from None
        except (OSError, AttributeError):  # ldap3 takes the socket away when it closes
            raise LdapFault(LOST) from None
        self._pace.took(len(more))
        return more

    def _patience(self) -> tuple[float, Fault]:
        """How long may be waited for the next octets, and what is wrong where none come."""
        limits = [(float(self.connection.receive_timeout), SILENT), (self._pace.left, SLOW)]
        if self.deadline is not None:
            limits.append((self.deadline - time.monotonic(), self.late))
        return min(limits, key=lambda limit: limit[0])


class StreamingConnection(ldap3.Connection):
    """A connection of ldap3 that answers through `Streaming`."""

    def __init__(self, server: ldap3.Server, **settings: Any) -> None:
        super().__init__(server, client_strategy=ldap3.SYNC, **settings)
        self.strategy = Streaming(self)
        # ldap3 binds these to the strategy that it made itself.
        self.send = self.strategy.send
        self.open = self.strategy.open
        self.get_response = self.strategy.get_response
        self.post_send_single_response = self.strategy.post_send_single_response
        self.post_send_search = self.strategy.post_send_search


def _as_ldap3(result: ber.Result, kind: str) -> dict[str, Any]:
    """The result in the form that ldap3 looks at."""
    return {
        "result": result.code,
        "description": RESULT_CODES.get(result.code, "other"),
        "dn": "",
        "message": result.diagnostic,
        "referrals": list(result.referrals) or None,
        "saslCreds": None,
        "responseName": None,
        "responseValue": None,
        "type": kind,
    }
