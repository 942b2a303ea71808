"""Arguments of MAIL and RCPT with what is owed for each: the tables that the reference model goes by.

The keys are what stands behind `FROM:` and `TO:`, to the octet. What is owed is written down from RFC 5321, RFC 1870,
RFC 3461 and RFC 6531, not computed.
"""

from dataclasses import dataclass
from typing import Final

from postern_edge import replies
from postern_edge.replies import Reply

SMALL: Final = "small.test"  # takes 2,000 octets


@dataclass(frozen=True, slots=True)
class Sender:
    """An argument of MAIL FROM: its reply, and for a sender that is taken what is known of it then."""

    reply: Reply
    sender: str = ""
    size: int | None = None
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Recipient:
    """An argument of RCPT TO: its reply, and its address; the directory is asked for a well-formed one while there is
    room for it.
    """

    reply: Reply
    address: str = ""
    malformed: bool = False

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def _taken(sender: str, size: int | None = None) -> Sender:
    return Sender(replies.SENDER_OK, sender, size)


def is_utf8(octets: bytes) -> bool:
    """Whether octets are text at all."""
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


MAIL: Final[dict[bytes, Sender]] = {
    b"<a@far.test>": _taken("a@far.test"),
    b"<>": _taken(""),
    b" <a@far.test>": _taken("a@far.test"),
    b"<A.b+c@Far.TEST>": _taken("A.b+c@far.test"),
    b"<a@far.test> SIZE=100": _taken("a@far.test", 100),
    b"<a@far.test> size=2500": _taken("a@far.test", 2500),
    b"<a@far.test> BODY=8BITMIME": _taken("a@far.test"),
    b"<a@far.test>  RET=HDRS ENVID=x+2By": _taken("a@far.test"),
    b"<a@far.test> SMTPUTF8": Sender(replies.SENDER_OK, "a@far.test", utf8=True),
    "<bjørn@far.test> SMTPUTF8".encode(): Sender(replies.SENDER_OK, "bjørn@far.test", utf8=True),
    b"<@relay.test:a@far.test>": _taken("a@far.test"),
    b'<"a b"@far.test>': _taken('"a b"@far.test'),
    b'<"a>b"@far.test>': _taken('"a>b"@far.test'),
    b"<a@[127.0.0.1]>": _taken("a@[127.0.0.1]"),
    b"": Sender(replies.SENDER_SYNTAX),
    b"a@far.test": Sender(replies.SENDER_SYNTAX),
    b"<a@far.test": Sender(replies.SENDER_SYNTAX),
    b"<a b@far.test>": Sender(replies.SENDER_SYNTAX),
    b"<a@far.test>x": Sender(replies.SENDER_SYNTAX),
    b"<a@far..test>": Sender(replies.SENDER_SYNTAX),
    b"<" + b"a" * 65 + b"@far.test>": Sender(replies.SENDER_TOO_LONG),
    "<bjørn@far.test>".encode(): Sender(replies.SENDER_NEEDS_UTF8),
    b"<a@far.test> SIZE=4000": Sender(replies.TOO_LARGE),
    b"<a@far.test> SIZE=x": Sender(replies.BAD_PARAMETER),
    b"<a@far.test> SIZE=1 SIZE=1": Sender(replies.BAD_PARAMETER),
    b"<a@far.test> BODY=BINARYMIME": Sender(replies.BAD_PARAMETER),
    b"<a@far.test> FOO=1": Sender(replies.UNKNOWN_PARAMETER),
    b"<a@far.test> AUTH=<>": Sender(replies.UNKNOWN_PARAMETER),
}
RCPT: Final[dict[bytes, Recipient]] = {
    b"<ann@example.test>": Recipient(replies.RECIPIENT_OK, "ann@example.test"),
    b" <Ann+x@Example.TEST>": Recipient(replies.RECIPIENT_OK, "Ann+x@example.test"),
    b"<bob@example.test> NOTIFY=NEVER": Recipient(replies.RECIPIENT_OK, "bob@example.test"),
    b"<c@example.test> ORCPT=rfc822;a@b": Recipient(replies.RECIPIENT_OK, "c@example.test"),
    b"<later@example.test>": Recipient(replies.RECIPIENT_OK, "later@example.test"),
    b"<ann@strict.test>": Recipient(replies.RECIPIENT_OK, "ann@strict.test"),
    b"<ann@small.test>": Recipient(replies.RECIPIENT_OK, "ann@small.test"),
    b"<postmaster>": Recipient(replies.RECIPIENT_OK, "postmaster@example.test"),
    b"<@relay.test:ann@example.test>": Recipient(replies.RECIPIENT_OK, "ann@example.test"),
    b'<"a>b c"@example.test>': Recipient(replies.RECIPIENT_OK, '"a>b c"@example.test'),
    "<änn@example.test>".encode(): Recipient(replies.RECIPIENT_OK, "änn@example.test"),
    b"": Recipient(replies.RECIPIENT_SYNTAX, malformed=True),
    b"<>": Recipient(replies.RECIPIENT_SYNTAX, malformed=True),
    b"ann@example.test": Recipient(replies.RECIPIENT_SYNTAX, malformed=True),
    b"<ann@example.test>,<bob@example.test>": Recipient(replies.RECIPIENT_SYNTAX, malformed=True),
    b"<later@example.test": Recipient(replies.RECIPIENT_SYNTAX, malformed=True),
    b"<" + b"a" * 65 + b"@example.test>": Recipient(replies.RECIPIENT_TOO_LONG, malformed=True),
    b"<ann@example.test> NOTIFY=NEVER,FAILURE": Recipient(replies.BAD_PARAMETER, malformed=True),
    b"<ann@example.test> FOO": Recipient(replies.UNKNOWN_PARAMETER, malformed=True),
    b"<ann@unknown.test>": Recipient(replies.UNKNOWN_DOMAIN),
    b"<ann@expired.test>": Recipient(replies.UNKNOWN_DOMAIN),
    b"<ann@pending.test>": Recipient(replies.DOMAIN_PENDING),
    b"<bob@strict.test>": Recipient(replies.UNKNOWN_USER),
    b"<broken@example.test>": Recipient(replies.SOME_FAILURE),
    b"<ann@[127.0.0.1]>": Recipient(replies.UNKNOWN_DOMAIN),
}
MAIL_REPLIES: Final = (
    replies.SENDER_OK, replies.SENDER_SYNTAX, replies.SENDER_TOO_LONG, replies.SENDER_NEEDS_UTF8,
    replies.BAD_PARAMETER, replies.UNKNOWN_PARAMETER, replies.TOO_LARGE,
)  # fmt: skip
RCPT_REPLIES: Final = (
    replies.RECIPIENT_OK, replies.RECIPIENT_SYNTAX, replies.RECIPIENT_TOO_LONG, replies.RECIPIENT_NEEDS_UTF8,
    replies.BAD_PARAMETER, replies.UNKNOWN_PARAMETER, replies.TOO_MANY_RECIPIENTS, replies.UNKNOWN_DOMAIN,
    replies.DOMAIN_PENDING, replies.UNKNOWN_USER, replies.TOO_LARGE, replies.OTHER_SIZE_LIMIT,
)  # fmt: skip
