"""Opens a connection to a server as its TLS policy wants it, and tells what came of it (SPEC R11).

Where a policy insists, there is no way round it: the message waits. Where it does not, a server whose TLS fails or
stalls is reached in clear, and one whose certificate a policy in testing would refuse is reached all the same; both
are remembered for a while, so that not every delivery tries again what fails (CASES 60).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from prometheus_client import Counter

from postern_edge.adapters.smtp import Connection, Unusable
from postern_edge.rules.classify import Answer, Stage
from postern_edge.rules.route import Server
from postern_edge.rules.tls_policy import NO_STARTTLS, Level, PolicyName, Reported, Requirement, TlsFault, TlsPolicy

REMEMBERED_SECONDS: Final = 3600.0  # how long TLS that failed is not tried again, where it is not insisted on
_LABELS: Final[dict[PolicyName, str]] = {"dane": "DANE: ", "encrypt": "DANE: ", "mta-sts": "MTA-STS: "}

log = structlog.get_logger(__name__)
# policy: opportunistic, required, encrypt, dane, mta-sts; result: met, clear, failed, refused
_SESSIONS: Final = Counter(
    "postern_edge_tls_sessions_total", "Connections by TLS policy and by whether it was met.", ["policy", "result"]
)


class Record(Protocol):
    """Takes the result of a session; see `counts.py`."""

    def add(self, reported: Reported, fault: TlsFault | None, host: str, ends: tuple[str, str]) -> None:
        """Count one session."""


@dataclass(slots=True)
class Memory:
    """What failed lately with one server: TLS at all, and TLS as a policy in testing wants it."""

    clear_until: float = 0.0
    clear_fault: TlsFault | None = None
    untrusted_until: float = 0.0
    untrusted_fault: TlsFault | None = None


class Opener:
    """Opens connections; `dial` connects to a server and says EHLO."""

    def __init__(self, dial: Callable[[Server], Awaitable[Connection]], record: Record) -> None:
        self._dial = dial
        self._record = record

    async def open(self, server: Server, policy: TlsPolicy, memory: Memory) -> Connection:
        """A connection that meets the policy; raises `Unusable`."""
        fault = None
        if policy.trial is not None:
            connection, fault = await self._try(server, policy, policy.trial, memory)
            if connection is not None:
                self._opened(server, policy, connection, None)
                return connection
        if policy.requirement.level > Level.MAY:
            connection = await self._insist(server, policy, fault)
            self._opened(server, policy, connection, fault)
        else:
            connection, clear_fault = await self._may(server, memory)
            self._opened(server, policy, connection, clear_fault or fault)
        return connection

    def refuse(self, server: Server, policy: TlsPolicy, reason: str) -> Unusable:
        """What becomes of a delivery to a server that its policy rules out."""
        _SESSIONS.labels(policy.name, "refused").inc()
        self._count(server, policy, None, ("", ""))
        return Unusable(Answer(Stage.TLS, 0, reason), policy.fault)

    async def _try(
        self, server: Server, policy: TlsPolicy, trial: Requirement, memory: Memory
    ) -> tuple[Connection | None, TlsFault | None]:
        """Meet what a policy in testing wants; no connection, and why, where that fails."""
        now = asyncio.get_running_loop().time()
        if now < memory.untrusted_until:
            return None, memory.untrusted_fault
        connection = await self._dial(server)
        fault: TlsFault | None = NO_STARTTLS
        if connection.offers("starttls"):
            try:
                await connection.start_tls(server.host, trial)
            except Unusable as error:
                log.info("tls_policy_in_testing_failed", policy=policy.name, reason=str(error))
                fault = error.fault
            else:
                connection.policy = policy.name
                return connection, None
        else:
            await connection.quit()
        memory.untrusted_until, memory.untrusted_fault = now + REMEMBERED_SECONDS, fault
        return None, fault

    async def _insist(self, server: Server, policy: TlsPolicy, tried: TlsFault | None) -> Connection:
        label = _LABELS.get(policy.name, "")
        connection = await self._dial(server)
        try:
            if not connection.offers("starttls"):
                await connection.quit()
                reason = f"{label}the mail server offers no TLS, which is required"
                raise Unusable(Answer(Stage.TLS, 0, reason), NO_STARTTLS)
            await connection.start_tls(policy.server_name or server.host, policy.requirement)
        except Unusable as error:
            _SESSIONS.labels(policy.name, "failed").inc()
            self._count(server, policy, tried or error.fault, connection.ends)
            if label and not error.answer.code and not error.answer.text.startswith(label):
                raise Unusable(Answer(Stage.TLS, 0, label + error.answer.text), error.fault) from error
            raise
        connection.policy = policy.name if policy.trial is None else "encrypt"
        return connection

    async def _may(self, server: Server, memory: Memory) -> tuple[Connection, TlsFault | None]:
        loop = asyncio.get_running_loop()
        connection = await self._dial(server)
        if loop.time() < memory.clear_until:
            return connection, memory.clear_fault
        if not connection.offers("starttls"):
            return connection, NO_STARTTLS
        try:
            await connection.start_tls(server.host, Requirement())
        except Unusable as error:
            log.info("tls_failed_going_clear", reason=str(error))
            memory.clear_until, memory.clear_fault = loop.time() + REMEMBERED_SECONDS, error.fault
            return await self._dial(server), error.fault
        return connection, None

    def _opened(self, server: Server, policy: TlsPolicy, connection: Connection, fault: TlsFault | None) -> None:
        _SESSIONS.labels(policy.name, _result(connection, policy.fault or fault)).inc()
        self._count(server, policy, fault, connection.ends)

    def _count(self, server: Server, policy: TlsPolicy, fault: TlsFault | None, ends: tuple[str, str]) -> None:
        """A fault of the policy itself comes before one of the session. That there is no policy, as it could not be
        fetched, is counted beside the session.
        """
        if policy.reported is None:
            return
        self._record.add(policy.reported, policy.fault or fault, server.host, ends)
        receiving = server.receiving
        if receiving is not None and receiving.sts_fault is not None and policy.reported.policy_type != "tlsa":
            self._record.add(Reported(receiving.domain, "sts"), receiving.sts_fault, "", ("", ""))


def _result(connection: Connection, fault: TlsFault | None) -> str:
    """What a session has: all that its policy wants, TLS all the same, or none."""
    if not connection.secure:
        return "clear"
    return "met" if fault is None else "failed"
