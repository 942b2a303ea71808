"""A connection to a directory, with every setting that ldap3 leaves open (BEHAVIOURS 3.3), and its questions.

Runs in a thread. Referrals are not followed: a password goes to the server that the customer named, and nowhere else.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import ldap3
from ldap3.core.exceptions import LDAPException, LDAPInvalidFilterError

from postern_common.directory_documents import LdapDocument
from postern_common.netguard import NetGuard
from postern_sync.adapters.ldap import ber, network, tls
from postern_sync.adapters.ldap.faults import LOST, SILENT, SUCCESS, UNASKED, Fault, LdapFault, of_bind
from postern_sync.adapters.ldap.streaming import Streaming, StreamingConnection

CONNECT_SECONDS: Final = 10
RECEIVE_SECONDS: Final = 30
MAX_REPLY: Final = 1024 * 1024  # to a sign-in, or to the wish for encryption
PORTS: Final = {"ldaps": 636, "starttls": 389, "none": 389}
_START_TLS: Final = "1.3.6.1.4.1.1466.20037"  # RFC 4511 4.14
_BAD_FILTER: Final = Fault("filter", "filter", "The filter cannot be read.")
_NO_PASSWORD: Final = Fault("bind", "bind", "A password is needed to sign in.")
_NO_TLS: Final = Fault("tls", "tls", "The server offers no StartTLS.")
_INJECTED: Final = Fault("tls", "tls", "The server sent something before encryption began.")


def _ignore(_references: list[str]) -> None:
    return


@dataclass(frozen=True, slots=True)
class Question:
    """A search: below `base`, or of that entry alone; `limit` is how many entries are wanted, 0 all."""

    base: str
    filter_text: str
    attributes: Sequence[str]
    scope: Literal["BASE", "SUBTREE"] = "SUBTREE"
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is taken of an answer that is kept; a server that sends more is not listened to any further."""

    entries: int
    octets: int


@dataclass(frozen=True, slots=True)
class Access:
    """Where a directory is, how it is signed in to, and which addresses may be connected to.

    `deadline` is the moment of `time.monotonic` after which nothing is waited for, and `late` what is said then.
    """

    ldap: LdapDocument
    password: str = field(repr=False)
    guard: NetGuard
    deadline: float | None = None
    late: Fault = SILENT

    @property
    def port(self) -> int:
        """The port, or the usual one."""
        return self.ldap["port"] or PORTS[self.ldap["security"]]

    @property
    def hosts(self) -> list[str]:
        """The server, and the one that is asked where the first does not answer."""
        return [host for host in (self.ldap["host"], self.ldap["second_host"]) if host]

    def seconds(self, most: int) -> int:
        """How long may be waited: whole seconds, as ldap3 wants them, and never none."""
        if self.deadline is None:
            return most
        return max(1, min(most, int(self.deadline - time.monotonic())))


class Session:
    """One connection, step by step: `connect`, `secure`, `bind`, then `search`."""

    def __init__(self, access: Access, host: str) -> None:
        self._access = access
        self._host = host
        self._connection: StreamingConnection | None = None
        self._is_aborted = False

    def connect(self, addresses: Sequence[str]) -> None:
        """Connect to the first address that answers."""
        for address in addresses:
            try:
                self._connection = self._dial(address)
            except LDAPException:
                continue
            if self._is_aborted:
                self.close()
                raise LdapFault(LOST)
            return
        message = f"No connection to port {self._access.port}: nothing answers there, or a firewall is between."
        raise LdapFault(Fault("connect", "connect", message))

    def _dial(self, address: str) -> StreamingConnection:
        server = ldap3.Server(
            address,
            port=self._access.port,
            use_ssl=False,  # `secure` does that, for the name and not for the address
            get_info=ldap3.NONE,
            connect_timeout=self._access.seconds(CONNECT_SECONDS),
            allowed_referral_hosts=[],
        )
        user = self._access.ldap["user"]
        connection = StreamingConnection(
            server,
            user=user or None,
            password=self._access.password if user else None,
            authentication=ldap3.SIMPLE if user else ldap3.ANONYMOUS,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            auto_range=False,  # `ranges` does that, with gaps and other orders
            check_names=False,
            read_only=True,
            raise_exceptions=False,  # the code of each result is looked at here
            receive_timeout=self._access.seconds(RECEIVE_SECONDS),
            return_empty_attributes=False,
        )
        connection.strategy.deadline, connection.strategy.late = self._access.deadline, self._access.late
        connection.open(read_server_info=False)
        return connection

    @property
    def _live(self) -> StreamingConnection:
        if self._connection is None or self._connection.closed:
            raise LdapFault(LOST)
        return self._connection

    def secure(self, trust: tls.Trust | None = None) -> None:
        """Encrypt as the settings say; `trust` takes the place of theirs."""
        security = self._access.ldap["security"]
        if security == "none":
            return
        if security == "starttls":
            self._start_tls()
        connection = self._live
        connection.socket = tls.secure(connection.socket, self._host, trust or tls.Trust.of(self._access.ldap))
        connection.tls_started = True

    def _start_tls(self) -> None:
        connection = self._live
        outcome = self._ask(lambda: connection.extended(_START_TLS))
        if outcome.code != SUCCESS:
            raise LdapFault(_NO_TLS)
        if connection.strategy.has_unread:
            raise LdapFault(_INJECTED)

    def certificate(self) -> dict[str, Any] | None:
        """The server's certificate, where the connection is encrypted."""
        found = self._connection.socket if self._connection is not None else None
        return tls.describe(found) if isinstance(found, ssl.SSLSocket) else None

    def bind(self) -> None:
        """Sign in. Without a password that would be a sign-in as nobody (RFC 4513 5.1.2), which finds less."""
        if self._access.ldap["user"] and not self._access.password:
            raise LdapFault(_NO_PASSWORD)
        connection = self._live
        outcome = self._ask(lambda: connection.bind(read_server_info=False))
        if outcome.code != SUCCESS:
            raise LdapFault(of_bind(outcome.code, outcome.diagnostic))

    def search(
        self,
        question: Question,
        on_entry: Callable[[ber.Object], None],
        *,
        page: int | None = None,
        cookie: bytes = b"",
        on_references: Callable[[list[str]], None] = _ignore,
        bounds: Bounds | None = None,
    ) -> ber.Result:
        """Ask once, for a page or for all; entries go to `on_entry` as they come. Whatever the result, look at it.

        Whoever keeps what comes gives `bounds`: a server need not keep to what it was asked for.
        """
        connection = self._live
        connection.strategy.on_entry = on_entry if bounds is None else _at_most(bounds.entries, on_entry)
        connection.strategy.on_references = on_references
        return self._ask(
            lambda: connection.search(
                question.base,
                question.filter_text,
                search_scope=question.scope,
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(question.attributes),
                size_limit=question.limit,
                paged_size=page,
                paged_criticality=True,
                paged_cookie=cookie or None,
                auto_escape=False,
            ),
            None if bounds is None else bounds.octets,
        )

    def _ask(self, question: Callable[[], Any], octets: int | None = MAX_REPLY) -> ber.Result:
        strategy: Streaming = self._live.strategy
        strategy.forget()
        strategy.octets_left = octets
        try:
            question()
        except LDAPInvalidFilterError:
            raise LdapFault(_BAD_FILTER) from None
        except LDAPException:
            raise LdapFault(LOST) from None
        return strategy.outcome()

    def close(self) -> None:
        """Hang up."""
        connection = self._connection
        if connection is not None:
            with suppress(LDAPException, OSError, LdapFault):
                connection.strategy.close()

    def abort(self) -> None:
        """Hang up from another thread: whoever waits for an answer gets an error."""
        self._is_aborted = True
        connection = self._connection
        if connection is not None and connection.socket is not None:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)


def _at_most(count: int, on_entry: Callable[[ber.Object], None]) -> Callable[[ber.Object], None]:
    left = count

    def take(found: ber.Object) -> None:
        nonlocal left
        if not left:
            raise LdapFault(UNASKED)
        left -= 1
        on_entry(found)

    return take


def open_session(access: Access, on_session: Callable[[Session], None]) -> Session:
    """A session that is signed in, at the first server that can be reached and trusted.

    A sign-in that is refused is not tried again elsewhere: that would lock the account the sooner.
    """
    first: LdapFault | None = None
    for host in access.hosts:
        session = Session(access, host)
        on_session(session)
        try:
            session.connect(network.resolve(host, access.port, access.guard))
            session.secure()
        except LdapFault as fault:
            session.close()
            first = first or fault
            continue
        except BaseException:
            session.close()
            raise
        try:
            session.bind()
        except BaseException:
            session.close()
            raise
        return session
    raise first or LdapFault(network.UNKNOWN)
