"""What the inbound port counts. No address, domain or tenant is ever a label."""

from collections import Counter as TallyOf
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from postern_edge.replies import Reply

_SIZES: Final = (1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

# outcome: taken, refused
CONNECTIONS: Final = Counter("postern_edge_connections_total", "Connections by outcome.", ["outcome"])
SESSIONS: Final = Gauge("postern_edge_sessions", "Connections open now.")
# reply: an id of `replies`
CLOSED: Final = Counter("postern_edge_closed_total", "Connections that we closed, by our last reply.", ["reply"])
# verb: the SMTP verbs, `other`; class: 2xx, 3xx, 4xx, 5xx
COMMANDS: Final = Counter("postern_edge_commands_total", "Commands by verb and class of reply.", ["verb", "class"])
RECEIVED: Final = Counter("postern_edge_received_bytes_total", "Bytes read from clients.")
# outcome: accepted, refused, deferred
MESSAGES: Final = Counter("postern_edge_messages_total", "Messages by outcome.", ["outcome"])
MESSAGE_SIZE: Final = Histogram("postern_edge_message_size_bytes", "Size of accepted messages.", buckets=_SIZES)
# phase: data (from 354 to the end of the message), spool (until durable), tls (handshake)
PHASE: Final = Histogram("postern_edge_phase_seconds", "Time spent by phase.", ["phase"], buckets=_SECONDS)
HELD: Final = Gauge("postern_edge_held_bytes", "Bytes of messages held in memory.")
STREAMED: Final = Counter("postern_edge_streamed_bodies_total", "Bodies streamed to the store while they were read.")
CERTIFICATE_EXPIRY: Final = Gauge("postern_edge_certificate_expiry_seconds", "Unix time at which the certificate ends.")
# outcome: replaced, refused
CERTIFICATE_RELOADS: Final = Counter(
    "postern_edge_certificate_reloads_total", "Certificate reloads by outcome.", ["outcome"]
)

MESSAGES_ACCEPTED: Final = MESSAGES.labels("accepted")
MESSAGES_REFUSED: Final = MESSAGES.labels("refused")
MESSAGES_DEFERRED: Final = MESSAGES.labels("deferred")
PHASE_DATA: Final = PHASE.labels("data")
PHASE_SPOOL: Final = PHASE.labels("spool")
PHASE_TLS: Final = PHASE.labels("tls")

# What is counted for every packet or connection is kept in plain numbers and handed over by `publish`, several times a
# second.
_commands: Final[TallyOf[tuple[str, int]]] = TallyOf()
_connections: Final[TallyOf[str]] = TallyOf()
_closed: Final[TallyOf[str]] = TallyOf()


class _Octets:
    """Octets read from clients since the last `publish`."""

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = 0


OCTETS: Final = _Octets()


def count_connection(outcome: str) -> None:
    """Count one connection."""
    _connections[outcome] += 1


def count_closed(reply: Reply) -> None:
    """Count one connection that we closed, by our last reply."""
    _closed[reply.id] += 1


def count_command(verb: str, code: int) -> None:
    """Count one command; `verb` comes from the dispatch table, so the labels are bounded."""
    _commands[verb, code // 100] += 1


def publish() -> None:
    """Hand the tallies to the exporter."""
    RECEIVED.inc(OCTETS.received)
    OCTETS.received = 0
    for outcome, number in _connections.items():
        CONNECTIONS.labels(outcome).inc(number)
    _connections.clear()
    for reply_id, number in _closed.items():
        CLOSED.labels(reply_id).inc(number)
    _closed.clear()
    for (verb, leading), number in _commands.items():
        COMMANDS.labels(verb, f"{leading}xx").inc(number)
    _commands.clear()


def count_message(reply: Reply) -> None:
    """Count the outcome of one message."""
    if reply.ok:
        MESSAGES_ACCEPTED.inc()
    elif reply.permanent:
        MESSAGES_REFUSED.inc()
    else:
        MESSAGES_DEFERRED.inc()
