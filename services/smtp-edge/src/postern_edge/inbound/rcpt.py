"""RCPT TO: what is said to a recipient (SPEC D7, R4, R13)."""

import structlog

from postern_edge import replies
from postern_edge.interfaces import AcceptedRecipient, RecipientDirectory
from postern_edge.limits import Limits
from postern_edge.replies import Reply
from postern_edge.rules.parameters import BadParameter, RcptParameters, UnknownParameter, parse_rcpt_parameters
from postern_edge.rules.paths import BadPath, Mailbox, PathProblem, parse_forward_path, split_path
from postern_edge.rules.recipients import RecipientAnswer, Verdict
from postern_edge.session import EdgeEnvelope

log = structlog.get_logger(__name__)

_BAD_PATH = {
    PathProblem.SYNTAX: replies.RECIPIENT_SYNTAX,
    PathProblem.TOO_LONG: replies.RECIPIENT_TOO_LONG,
    PathProblem.NEEDS_SMTPUTF8: replies.RECIPIENT_NEEDS_UTF8,
}
_REFUSED = {
    Verdict.UNKNOWN_DOMAIN: replies.UNKNOWN_DOMAIN,
    Verdict.PENDING_DOMAIN: replies.DOMAIN_PENDING,
    Verdict.UNKNOWN_USER: replies.UNKNOWN_USER,
    Verdict.CANNOT_TELL: replies.CANNOT_TELL,
}


def rcpt(
    envelope: EdgeEnvelope,
    argument: str,
    directory: RecipientDirectory,
    *,
    limits: Limits,
    postmaster_domain: str,
    peer_ip: str,
) -> Reply:
    """Add the recipient in `argument`, the text after `RCPT TO:`, to the transaction, or say why not."""
    if envelope.mail_from is None:
        return replies.MAIL_FIRST
    try:
        path, rest = split_path(argument.strip(" "))
        parameters = parse_rcpt_parameters(rest)
        mailbox = parse_forward_path(path, smtputf8=envelope.smtp_utf8)
    except BadPath as error:
        return _BAD_PATH[error.problem]
    except BadParameter:
        return replies.BAD_PARAMETER
    except UnknownParameter:
        return replies.UNKNOWN_PARAMETER
    if len(envelope.recipients) >= limits.recipients:
        return replies.TOO_MANY_RECIPIENTS  # RFC 5321 4.5.3.1.10
    if not mailbox.domain:
        mailbox = Mailbox(mailbox.local, postmaster_domain)
    answer = directory.lookup(mailbox)
    if answer.verdict is not Verdict.ACCEPT:
        reply = _REFUSED[answer.verdict]
        log.info("rcpt_refused", reply=reply.id, customer_id=answer.customer_id, domain=mailbox.domain, peer_ip=peer_ip)
        return reply
    most = limits.max_message_bytes
    refusal = _fit_size(envelope, most if answer.max_message_bytes is None else min(answer.max_message_bytes, most))
    return refusal or _add(envelope, mailbox, path[1:-1], parameters, answer)


def _add(
    envelope: EdgeEnvelope, mailbox: Mailbox, original: str, parameters: RcptParameters, answer: RecipientAnswer
) -> Reply:
    address = str(mailbox)
    if address not in envelope.rcpt_tos:  # said twice, it is delivered once
        envelope.rcpt_tos.append(address)
        envelope.recipients.append(
            AcceptedRecipient(
                address, original, answer.customer_id, answer.user_id, parameters.notify, parameters.orcpt
            )
        )
    return replies.RECIPIENT_OK


def _fit_size(envelope: EdgeEnvelope, limit: int) -> Reply | None:
    """Bring the customer's own limit in, which is the port's where they have none.

    DATA has one reply for all recipients. So customers with different limits share a transaction only if the size that
    the client declared suits them all; else the later one is asked to come in another transaction.
    """
    declared = envelope.parameters.size
    if declared is not None and declared > limit:
        return replies.TOO_LARGE
    if limit == envelope.max_message_bytes:
        return None
    if declared is None and envelope.recipients:
        return replies.OTHER_SIZE_LIMIT
    envelope.max_message_bytes = min(limit, envelope.max_message_bytes)
    return None
