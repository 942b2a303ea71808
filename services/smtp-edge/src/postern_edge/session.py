"""What is known of a client and of its transaction under way, as aiosmtpd's hooks receive them."""

from aiosmtpd.smtp import Envelope, Session

from postern_edge.interfaces import AcceptedRecipient, TlsInfo
from postern_edge.rules.parameters import NO_MAIL_PARAMETERS, MailParameters


class EdgeSession(Session):
    """A client: `host_name` is its HELO name, `extended_smtp` tells EHLO, `peer` is the socket's address."""

    peer_ip: str = ""
    tls: TlsInfo | None = None


class EdgeEnvelope(Envelope):
    """A transaction: `mail_from` is None before MAIL and "" for the null sender; `recipients` got 250."""

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__()
        self.parameters: MailParameters = NO_MAIL_PARAMETERS
        self.recipients: list[AcceptedRecipient] = []
        self.max_message_bytes = max_message_bytes  # the smallest limit among the recipients' customers (SPEC R13)
