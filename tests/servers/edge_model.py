"""What the inbound port owes a client, written down a second time and simply: the reference for its fuzz tests.

The model is told each step of a script after it was played, with the octets that came out. It accepts them only if
they are, octet for octet, replies of `replies.py` that the dialogue allows there; and it knows each message that must
now be in the spool. Where an argument is nobody's (the fuzzer changed it), any reply of its verb is allowed, and the
model goes on from the one that was given.
"""

import re
from collections.abc import Callable
from typing import Final

from postern_edge import replies
from postern_edge.limits import COMMAND_FLOOD
from postern_edge.replies import Reply
from tests.servers.edge_arguments import MAIL, MAIL_REPLIES, RCPT, RCPT_REPLIES, SMALL, Recipient, is_utf8
from tests.servers.edge_model_message import QUEUED, Mismatch, Taken, Transaction, check_stored, owed
from tests.servers.edge_wire import CLIENT, HOSTNAME, LIMITS, Script, Step, Stored

_BANNER: Final = replies.banner(HOSTNAME)
_HELO: Final = replies.helo_ok(HOSTNAME)
_EHLO: Final = {tls: replies.ehlo_ok(HOSTNAME, LIMITS.max_message_bytes, starttls=not tls) for tls in (False, True)}
_BARE: Final = re.compile(rb"\r(?=[^\n])|(?<!\r)\n", re.DOTALL)
_HELO_NAME: Final = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HTTP: Final = re.compile(rb"(?i:(GET|POST|PUT|HEAD|OPTIONS|CONNECT|DELETE|PATCH|TRACE|PRI) |.*HTTP/[0-9]|Host:)")
_VERBS: Final = frozenset(b"HELO EHLO MAIL RCPT DATA RSET NOOP HELP VRFY QUIT STARTTLS AUTH BDAT EXPN".split())
_PRODUCTIVE: Final = {b"MAIL", b"RCPT", b"DATA", b"QUIT"}
_FIXED: Final = {b"NOOP": replies.NOTHING_DONE, b"HELP": replies.HELP} | dict.fromkeys(
    (b"AUTH", b"BDAT", b"EXPN"), replies.NOT_IMPLEMENTED
)


class Model:
    """The dialogue as it must be; `step` for each step, then `check_stored`."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.said: set[str] = set()  # the ids of the replies that came
        self._out = b""
        self._state = "proxy" if script.header else "command"
        self._buffer = b""
        self._raw = b""  # of the message under way
        self._received = 0
        self._then: Callable[[], None] | None = None  # what is said when the wait is over
        self._heard = self._paused = self._draining = self._half_closed = self._tls = self._handshake = (
            self._closing
        ) = False
        self._greeted = False
        self._bad = self._errors = self._idle = 0
        self._messages_left = LIMITS.messages
        self._taken_messages: list[Taken] = []
        self._pending: bytes | None = None  # a message whose reply is being waited for
        self._transaction = Transaction()

    # -- Steps ---------------------------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Follow one step, and refuse any octet too many or too few."""
        self._out, self._closing = step.out, step.closing
        if self._script.header is not None and self._script.header.good is None:
            self._accept_any()
            return
        event = step.event
        if isinstance(event, bytes):
            self._octets(event)
        elif event == "connect":
            if self._state == "command":
                self._say(_BANNER)
        else:
            getattr(self, "_on_" + event.replace("-", "_"))()
        if self._out:
            raise Mismatch(f"said beyond what is owed: {self._out[:200]!r}")
        if self._closing is not (self._state == "closed"):
            raise Mismatch(f"closing is {self._closing} in the state {self._state}")

    def _on_pause(self) -> None:
        self._paused = True

    def _on_resume(self) -> None:
        self._paused = False
        self._pump()

    def _on_late(self) -> None:
        if self._state == "command":
            self._close(replies.IDLE_TOO_LONG)
        elif self._state == "data":
            self._close(replies.DATA_TOO_SLOW)
        elif self._state == "proxy":
            self._state = "closed"  # nobody is there to be answered

    def _on_drain(self) -> None:
        self._draining = True
        if self._state == "command":
            self._close(replies.GOING_DOWN)

    def _on_eof(self) -> None:
        self._half_closed = True

    def _on_eof_lost(self) -> None:
        if self._state == "waiting" and not self._tls and not self._handshake:
            raise Mismatch("a client that waits for its reply was cut off")
        self._state = "closed"

    def _on_settled(self) -> None:
        """A hasty script is over: what was waited for is answered now."""
        self._go_on()

    def _octets(self, octets: bytes) -> None:
        if self._state == "closed":
            return
        if self._state == "data":
            self._message(octets)
            return
        self._buffer += octets
        if self._state == "proxy":
            self._proxy()
        elif self._state == "command":
            self._pump()

    def _proxy(self) -> None:
        header = self._script.header
        assert header is not None
        if not header.good:
            if len(self._buffer) >= len(header.octets) or self._closing:
                self._state = "closed"
        elif len(self._buffer) >= len(header.octets):
            self._buffer = self._buffer[len(header.octets) :]
            self._state = "command"
            self._say(replies.GOING_DOWN if self._draining else _BANNER)
            if self._draining:
                self._state = "closed"
            elif self._buffer:
                self._pump()

    # -- Commands ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        if self._state == "command" and self._draining:
            self._close(replies.GOING_DOWN)
        elif self._state == "command" and not self._heard and self._buffer:
            self._heard = True
            if self._buffer[0] in {0x16, 0x80}:
                self._close(replies.NOT_SMTP)
        while self._state == "command" and not self._paused:
            line, lf, rest = self._buffer.partition(b"\n")
            if not lf:
                if len(line) > COMMAND_FLOOD:
                    self._close(replies.LINE_WITHOUT_END)
                break
            self._buffer = rest
            self._line(line + lf)
        if self._state == "command" and self._half_closed and not self._paused:
            self._close(replies.BYE)

    def _line(self, line: bytes) -> None:
        text = line[:-2]
        if line != text + b"\r\n" or b"\r" in text:
            self._close(replies.BARE_LINE_END)
            return
        word, _, argument = text.partition(b" ")
        verb = word.upper()
        if verb not in _VERBS:
            self._unknown(text)
        elif len(line) > (2048 if verb in {b"MAIL", b"RCPT"} else 512):
            self._answer(verb, replies.COMMAND_TOO_LONG)
        elif _CONTROL.search(argument) or not is_utf8(argument):
            self._answer(verb, replies.COMMAND_SYNTAX)
        elif verb in _FIXED:
            self._answer(verb, _FIXED[verb])
        else:
            getattr(self, "_" + verb.decode().lower())(argument.strip(b" "))

    def _unknown(self, text: bytes) -> None:
        if _HTTP.match(text) or (not self._greeted and (not text.isascii() or _CONTROL.search(text))):
            self._close(replies.NOT_SMTP)
            return
        self._bad += 1
        if self._bad > LIMITS.bad_commands:
            self._close(replies.TOO_MANY_BAD_COMMANDS)
        else:
            self._answer(b"", replies.COMMAND_TOO_LONG if len(text) > 510 else replies.NOT_RECOGNISED)

    def _helo(self, argument: bytes) -> None:
        self._hello(b"HELO", argument, _HELO)

    def _ehlo(self, argument: bytes) -> None:
        self._hello(b"EHLO", argument, _EHLO[self._tls])

    def _hello(self, verb: bytes, argument: bytes, answer: bytes) -> None:
        if not _HELO_NAME.fullmatch(argument.strip(b" \t").split(b" ")[0]):
            self._answer(verb, replies.BAD_HELO)
            return
        self._greeted = True
        self._reset()
        self._answer(verb, answer)

    def _mail(self, argument: bytes) -> None:
        if argument[:5].upper() != b"FROM:":
            self._answer(b"MAIL", replies.SENDER_SYNTAX)
        elif not self._greeted:
            self._answer(b"MAIL", replies.HELLO_FIRST)
        elif self._messages_left <= 0:
            self._close(replies.TOO_MANY_MESSAGES)
        elif self._transaction.has_sender:
            self._answer(b"MAIL", replies.NESTED_MAIL)
        else:
            known = MAIL.get(argument[5:])
            given = self._answer(b"MAIL", *([known.reply] if known else MAIL_REPLIES))
            if given is replies.SENDER_OK:
                sure = Transaction(True, known.sender, known.size, known.utf8) if known else None
                self._transaction = sure or Transaction(True, sure=False)

    def _rcpt(self, argument: bytes) -> None:
        if argument[:3].upper() != b"TO:":
            self._answer(b"RCPT", replies.RECIPIENT_SYNTAX)
        elif not self._greeted:
            self._answer(b"RCPT", replies.HELLO_FIRST)
        else:
            self._wait(lambda: self._recipient(argument[3:]), late=b"later" in argument)

    def _recipient(self, argument: bytes) -> None:
        if not self._transaction.has_sender:
            self._answer(b"RCPT", replies.MAIL_FIRST)
            return
        known = RCPT.get(argument)
        if known is None or not self._transaction.sure:
            broken = (replies.SOME_FAILURE,) if b"broken" in argument else ()
            given = self._answer(b"RCPT", *RCPT_REPLIES, *broken)
            self._transaction.sure = self._transaction.sure and given is not replies.RECIPIENT_OK
        else:
            given = self._answer(b"RCPT", self._fits(known))
            if given is replies.RECIPIENT_OK and known.domain == SMALL:
                self._transaction.max_size = 2000
        if given is replies.RECIPIENT_OK:
            address = known.address if known else None
            if address is None or address not in self._transaction.recipients:
                self._transaction.recipients.append(address)

    def _fits(self, known: Recipient) -> Reply:
        """What a recipient gets in this transaction: first for its form, then for the count, then for what it is."""
        if known.malformed:
            return known.reply
        if not known.address.isascii() and not self._transaction.utf8:
            return replies.RECIPIENT_NEEDS_UTF8
        if len(self._transaction.recipients) >= LIMITS.recipients:
            return replies.TOO_MANY_RECIPIENTS
        if known.reply is not replies.RECIPIENT_OK:
            return known.reply
        limit = 2000 if known.domain == SMALL else LIMITS.max_message_bytes
        if self._transaction.size is not None and self._transaction.size > limit:
            return replies.TOO_LARGE
        if limit != self._transaction.max_size and self._transaction.size is None and self._transaction.recipients:
            return replies.OTHER_SIZE_LIMIT
        return replies.RECIPIENT_OK

    def _data(self, argument: bytes) -> None:
        if argument:
            self._answer(b"DATA", replies.BAD_ARGUMENT)
        elif not self._greeted:
            self._answer(b"DATA", replies.HELLO_FIRST)
        elif not self._transaction.has_sender:
            self._answer(b"DATA", replies.MAIL_FIRST)
        elif not self._transaction.recipients:
            self._answer(b"DATA", replies.RECIPIENT_FIRST)
        elif self._buffer:
            self._close(replies.NOT_SYNCHRONISED)
        else:
            self._state, self._raw, self._received = "data", b"\r\n", 0
            self._answer(b"DATA", replies.GO_AHEAD)

    def _rset(self, argument: bytes) -> None:
        if not argument:
            self._reset()
        self._answer(b"RSET", replies.BAD_ARGUMENT if argument else replies.RESET)

    def _vrfy(self, argument: bytes) -> None:
        self._answer(b"VRFY", replies.CANNOT_VERIFY if argument else replies.BAD_ARGUMENT)

    def _quit(self, argument: bytes) -> None:
        self._close(replies.BYE)

    def _starttls(self, argument: bytes) -> None:
        if self._tls:
            self._answer(b"STARTTLS", replies.TLS_ALREADY)
        elif argument:
            self._answer(b"STARTTLS", replies.BAD_ARGUMENT)
        else:
            self._buffer = b""  # what was said in clear is not heard after the handshake (CASES 48)
            self._say(replies.READY_FOR_TLS)
            self._handshake = True
            self._wait(self._secured, late=True)

    def _secured(self) -> None:
        self._tls, self._greeted, self._handshake = True, False, False
        self._paused = False  # it is another transport
        self._reset()

    # -- The message ---------------------------------------------------------------------------------------------------

    def _message(self, octets: bytes) -> None:
        self._raw += octets
        self._received += len(octets)
        end = self._raw.find(b"\r\n.\r\n")
        bare = _BARE.search(self._raw)
        if bare and not 0 <= end < bare.start():
            self._close(replies.BARE_LINE_END)
        elif self._received > 4 * LIMITS.max_message_bytes and (end < 0 or self._closing):
            self._close(replies.TOO_LARGE)
        elif end >= 0:
            content, self._buffer = self._raw[2 : end + 2], self._raw[end + 5 :]
            lines = content.split(b"\r\n")
            body = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
            self._pending = body
            self._wait(lambda: self._taken(body), late=True)

    def _taken(self, body: bytes) -> None:
        """The end of a message has come: what is owed now."""
        self._pending = None
        transaction = self._transaction
        refusals = owed(body, transaction, self._script.failure)
        self._reset()
        self._messages_left -= 1
        queued = QUEUED.match(self._out)
        if queued and None in refusals:
            self._idle = 0
            self._taken_messages.append(Taken(queued[1], transaction, body))
            self._answer(b"DATA", queued[0])
        else:
            self._answer(b"DATA", *[one for one in refusals if one is not None])

    def check_stored(self, stored: list[Stored]) -> None:
        """The spool holds the messages that got 250, each octet for octet, in order, and no other."""
        client = self._script.header.client if self._script.header else CLIENT[0]
        if self._script.header is None or self._script.header.good is not None:
            check_stored(stored, self._taken_messages, self._pending, client)

    # -- What is said --------------------------------------------------------------------------------------------------

    def _wait(self, then: Callable[[], None], *, late: bool) -> None:
        """What is said `late` is, in a hasty script, said when all was sent, if it was not said at once."""
        if late and self._script.hasty and not self._out:
            self._state, self._then = "waiting", then
            return
        if late:
            self._state = "command"
        then()
        if late:
            self._pump()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            self._state = "command"
            then()
            self._pump()

    def _answer(self, verb: bytes, *allowed: Reply | bytes) -> Reply | None:
        """One of these answers to a command, and the last word if there were too many of its kind."""
        given = self._say(*allowed)
        if verb not in _PRODUCTIVE:
            self._idle += 1
        if given is not None and given.permanent:
            self._errors += 1
        if self._errors > LIMITS.errors:
            self._close(replies.TOO_MANY_ERRORS)
        elif self._idle > LIMITS.idle_commands:
            self._close(replies.TOO_MANY_COMMANDS)
        return given

    def _close(self, reply: Reply) -> None:
        self._say(reply)
        self._state = "closed"

    def _say(self, *allowed: Reply | bytes) -> Reply | None:
        for reply in allowed:
            wire = reply if isinstance(reply, bytes) else reply.wire
            if self._out.startswith(wire):
                self._out = self._out[len(wire) :]
                if isinstance(reply, bytes):
                    return None
                self.said.add(reply.id)
                return reply
        owed = ", ".join(str(one) for one in allowed)
        raise Mismatch(f"owed {owed}; said {self._out[:200]!r}")

    def _accept_any(self) -> None:
        """Nobody can say what is owed, but it is replies of ours."""
        fixed = [*(reply.wire for reply in replies.CATALOGUE.values()), _BANNER, _HELO, *_EHLO.values()]
        while self._out:
            queued = QUEUED.match(self._out)
            wire = queued[0] if queued else next((one for one in fixed if self._out.startswith(one)), b"")
            if not wire:
                raise Mismatch(f"no reply of ours: {self._out[:200]!r}")
            self._out = self._out[len(wire) :]

    def _reset(self) -> None:
        """No transaction is under way."""
        self._transaction = Transaction()
