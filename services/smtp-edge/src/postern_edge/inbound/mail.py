"""MAIL FROM: what is said to a sender."""

from postern_edge import replies
from postern_edge.replies import Reply
from postern_edge.rules.parameters import BadParameter, UnknownParameter, parse_mail_parameters
from postern_edge.rules.paths import BadPath, PathProblem, parse_reverse_path, split_path
from postern_edge.session import EdgeEnvelope

_BAD_PATH = {
    PathProblem.SYNTAX: replies.SENDER_SYNTAX,
    PathProblem.TOO_LONG: replies.SENDER_TOO_LONG,
    PathProblem.NEEDS_SMTPUTF8: replies.SENDER_NEEDS_UTF8,
}


def mail(envelope: EdgeEnvelope, argument: str, max_message_bytes: int) -> Reply:
    """Begin a transaction with the sender in `argument`, the text after `MAIL FROM:`."""
    if envelope.mail_from is not None:
        return replies.NESTED_MAIL  # CASES 50: the first sender stays
    try:
        path, rest = split_path(argument.strip(" "))
        parameters = parse_mail_parameters(rest)
        sender = parse_reverse_path(path, smtputf8=parameters.smtputf8)
    except BadPath as error:
        return _BAD_PATH[error.problem]
    except BadParameter:
        return replies.BAD_PARAMETER
    except UnknownParameter:
        return replies.UNKNOWN_PARAMETER
    if parameters.size is not None and parameters.size > max_message_bytes:
        return replies.TOO_LARGE  # RFC 1870 6.1
    envelope.mail_from = str(sender) if sender else ""
    envelope.smtp_utf8 = parameters.smtputf8
    envelope.parameters = parameters
    return replies.SENDER_OK
