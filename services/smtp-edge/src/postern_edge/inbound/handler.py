"""The hooks of the inbound port, in the order of a transaction.

They are named and called as aiosmtpd's are (`server, session, envelope, …`), with two differences: they get the
text after `FROM:` and `TO:` unparsed and return a `Reply`. A hook that need not wait returns it at once, which
costs no task; one that must (a DNS look-up, a callout) returns an awaitable of it, and the session reads no further
command until it is there.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from postern_edge import replies
from postern_edge.inbound.data import Intake
from postern_edge.inbound.mail import mail
from postern_edge.inbound.rcpt import rcpt
from postern_edge.interfaces import RecipientDirectory, Spool
from postern_edge.replies import Reply
from postern_edge.session import EdgeEnvelope, EdgeSession

if TYPE_CHECKING:
    from postern_edge.protocol import EdgeSMTP


class InboundHandler:
    """Takes mail for the directory's recipients into the spool.

    `<postmaster>` without a domain goes to `postmaster_domain` (RFC 5321 4.5.1), else to the port's own host name.
    """

    def __init__(self, directory: RecipientDirectory, spool: Spool, *, postmaster_domain: str = "") -> None:
        self._directory = directory
        self._spool = spool
        self._postmaster_domain = postmaster_domain

    def handle_MAIL(
        self, server: "EdgeSMTP", session: EdgeSession, envelope: EdgeEnvelope, argument: str
    ) -> Reply | Awaitable[Reply]:
        """Answer MAIL FROM."""
        return mail(envelope, argument, server.port.limits.max_message_bytes)

    def handle_RCPT(
        self, server: "EdgeSMTP", session: EdgeSession, envelope: EdgeEnvelope, argument: str
    ) -> Reply | Awaitable[Reply]:
        """Answer RCPT TO."""
        port = server.port
        return rcpt(
            envelope,
            argument,
            self._directory,
            limits=port.limits,
            postmaster_domain=self._postmaster_domain or port.hostname,
            peer_ip=session.peer_ip,
        )

    def handle_DATA(
        self, server: "EdgeSMTP", session: EdgeSession, envelope: EdgeEnvelope
    ) -> Intake | Awaitable[Intake | Reply]:
        """Answer DATA with what takes the message in, when there is memory for it."""
        if server.port.budget.has_room:
            return self._intake(server, session, envelope)
        return self._intake_later(server, session, envelope)

    def _intake(self, server: "EdgeSMTP", session: EdgeSession, envelope: EdgeEnvelope) -> Intake:
        return Intake(server.port, session, envelope, self._spool, server.intake_has_room)

    async def _intake_later(self, server: "EdgeSMTP", session: EdgeSession, envelope: EdgeEnvelope) -> Intake | Reply:
        if not await server.port.budget.wait_for_room(server.port.limits.budget_wait_seconds):
            return replies.TOO_BUSY
        return self._intake(server, session, envelope)
